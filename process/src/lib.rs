//! What all of Shunt's processes do alike, whatever they are for.
//!
//! Which instance a process belongs to and where that one's files are (`paths`), that it is the only one of its kind
//! (`lock`, `file`), where its log and its last message go (`stderr`, `exit`), and the account and the CPU that it runs with
//! (`account`, `privileges`, `scheduling`). It knows no configuration and no other crate of Shunt.

mod account;
mod duration;
mod exit;
mod file;
mod lock;
mod paths;
pub mod privileges;
pub mod scheduling;
mod stderr;

pub use account::{AccountError, find_account};
pub use duration::duration;
pub use exit::{REFUSED, give_up};
pub use file::{inode, is_at, open_locked};
pub use lock::{Lock, LockError};
pub use paths::{
    Instance, InstanceError, accepted_configuration, bpf_directory, claim_lock, control_lock, control_socket,
    health_notes, ifdaemon_lock, instances, keeper_lock, keeper_socket, region_name, runtime_directory,
    supervisor_lock, supervisor_pid,
};
pub use stderr::{say, start_log};
