//! What every process of Shunt needs.
//!
//! The instance's name and paths (`paths`), the lock that keeps a second process out (`lock`, `file`), the log and the last
//! message (`stderr`, `exit`), and the account and CPU of a process (`account`, `privileges`, `scheduling`). This crate
//! depends on no configuration and no other crate of Shunt.

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
