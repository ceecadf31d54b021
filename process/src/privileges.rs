//! CPU pinning, real-time scheduling, and dropping privileges to an ordinary user without capabilities.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, setgroups, setresgid, setresuid};

use crate::account::{AccountError, find_account};
use crate::scheduling;

/// Failure to set up the CPU, the scheduling or the account of a process.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The thread could not be pinned to its CPU.
    #[error("pin to CPU {cpu}: {error}; name a CPU of this machine that the process may use in switchers.cpus")]
    Pin {
        /// The CPU's number.
        cpu: u32,
        /// The system's error.
        error: nix::Error,
    },
    /// Real-time scheduling was refused.
    #[error(
        "set real-time priority: {0}; a flood of packets may starve the switcher; give it CAP_SYS_NICE and, with real-time group scheduling, a real-time runtime for its cgroup"
    )]
    RealTime(std::io::Error),
    /// The account does not exist, or cannot be looked up.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The system refused a step of dropping privileges.
    #[error("drop privileges ({step}): {error}; start the switcher as root")]
    Refused {
        /// The system call that failed.
        step: &'static str,
        /// The system's error.
        error: nix::Error,
    },
    /// User id 0 could be set again.
    #[error("privileges could be regained after they were dropped")]
    Regained,
}

impl PrivilegeError {
    /// Whether a restart would fail in the same way. A failed account look-up may succeed later.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Account(AccountError::LookUp { .. }))
    }
}

/// Pins the calling thread to one CPU (patent: the switching program runs exclusively on its processor).
pub fn pin(cpu: u32) -> Result<(), PrivilegeError> {
    let pin = || {
        let mut set = CpuSet::new();
        set.set(cpu as usize)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    };
    pin().map_err(|error| PrivilegeError::Pin { cpu, error })
}

/// Gives the calling thread real-time priority, above the kernel's receive threads on its CPU. Those run while it sleeps, so
/// a flood of packets overflows the interface's queue, where a drop costs least, and never starves the switcher.
pub fn set_real_time() -> Result<(), PrivilegeError> {
    scheduling::set_real_time().map_err(PrivilegeError::RealTime)
}

/// Permanently switches to `user`, without supplementary groups or capabilities. Executed programs cannot regain them.
pub fn drop_to(user: &str) -> Result<(), PrivilegeError> {
    let refused = |step| move |error| PrivilegeError::Refused { step, error };
    let account = find_account(user)?;
    nix::sys::prctl::set_no_new_privs().map_err(refused("no_new_privs"))?;
    setgroups(&[]).map_err(refused("setgroups"))?;
    setresgid(account.gid, account.gid, account.gid).map_err(refused("setresgid"))?;
    // Leaving user id 0 clears the permitted, effective and ambient capabilities (capabilities(7)).
    setresuid(account.uid, account.uid, account.uid).map_err(refused("setresuid"))?;
    match setresuid(nix::unistd::Uid::from_raw(0), nix::unistd::Uid::from_raw(0), nix::unistd::Uid::from_raw(0)) {
        Ok(()) if !account.uid.is_root() => Err(PrivilegeError::Regained),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_look_up_is_retried() {
        let look_up = AccountError::LookUp { name: "nobody".into(), error: nix::Error::EIO };
        assert!(!PrivilegeError::Account(look_up).is_refusal());
        assert!(PrivilegeError::Account(AccountError::Missing("nobody".into())).is_refusal());
        assert!(PrivilegeError::Regained.is_refusal());
    }
}
