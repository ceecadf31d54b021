//! The connection table (patent Fig. 4, connection table 66), shared by all switchers.
//!
//! ```text
//!  client side  (client, port, service)  --keyed hash-->  bucket (7 slots, one cache line) --+
//!                                                                                            +--> entry (one cache line)
//!  backend side (client, port, backend)  --keyed hash-->  bucket (7 slots, one cache line) --+
//! ```
//!
//! Any switcher may find, update and unlink any connection; only the owner of an entry's chunk claims and frees it
//! (`owner.rs`). An entry goes FREE -> CLAIMED -> filled -> LIVE -> indexed -> RECORDED, and back: unlinked from both indexes,
//! then FREE. The next claim increments the generation. A reader copies the entry between two loads of its control word. A
//! switcher that dies at any instruction leaves either a partly recorded entry, which its successor withdraws or completes, or
//! a recorded one, which expires. A found connection is named by a [`Handle`]: entry and generation.
//!
//! 64 bytes per entry and twice 64 * 4 / 17 for the indexes: 94.1 bytes per connection.

mod activity;
mod entry;
mod eviction;
mod hash;
mod in_flight;
mod index;
mod owner;
mod rivals;
mod table;

pub use activity::{Activity, LastHop, State};
pub use entry::{Entry, EntryGeneration, Snapshot};
pub use hash::{HashKey, Key, Side};
pub use in_flight::{CountJournal, InFlight};
pub use index::{Bucket, ENTRIES_MAX, PROBES, SLOTS};
pub use owner::{Owner, RecordError, SideHashes};
pub use table::{CHUNK, Connections, EntryId, Found, Handle};
