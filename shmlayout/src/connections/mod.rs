//! The connection table (patent Fig. 4, connection table 66): one for all switchers.
//!
//! ```text
//!  client side  (client, port, service)  --keyed hash-->  bucket (7 slots, one cache line) --+
//!                                                                                            +--> entry (one cache line)
//!  backend side (client, port, backend)  --keyed hash-->  bucket (7 slots, one cache line) --+
//! ```
//!
//! Any switcher finds, updates and unlinks any connection; only the owner of an entry's chunk claims and frees it
//! (`owner.rs`). An entry goes FREE -> CLAIMED -> filled -> LIVE -> indexed -> RECORDED, and back: unlinked from both indexes,
//! then FREE; the next claim counts the generation up. A reader copies the entry between two looks at its control word. So a
//! switcher that dies at any instruction leaves either something half recorded, which its successor takes back, or a
//! recorded entry, which expires. Whoever found a connection names it by a [`Handle`]: entry and generation.
//!
//! 64 bytes an entry and twice 64 * 4 / 17 for the indexes: 94.1 bytes a connection.

mod activity;
mod entry;
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
pub use owner::{Owner, Refusal, SideHashes};
pub use table::{CHUNK, Connections, EntryId, Found, Handle};
