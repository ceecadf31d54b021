//! How a switcher gives up what it started with: a CPU to run on, before others where it
//! waits, then an ordinary user without a capability.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, setgroups, setresgid, setresuid};

use crate::account::{AccountError, find_account};
use crate::scheduling;

/// Why the switcher can't run as it should.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Not pinned.
    #[error("pin to CPU {cpu}: {error}; name a CPU of this machine that the process may use in switchers.cpus")]
    Pin {
        /// The CPU.
        cpu: u32,
        /// The system's answer.
        error: nix::Error,
    },
    /// Not scheduled before others.
    #[error(
        "run before others on its CPU: {0}; a flood of packets may keep the switcher from working them off; give it CAP_SYS_NICE, and real-time time where the kernel groups it"
    )]
    First(std::io::Error),
    /// No such user, or none that can be looked up.
    #[error("become the user that the configuration names: {0}")]
    Account(#[from] AccountError),
    /// Refused by the system.
    #[error("give up privileges ({step}): {error}; start the switcher as root")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// The system's answer.
        error: nix::Error,
    },
    /// Root came back.
    #[error("privileges could be taken back after they were given up")]
    Regained,
}

impl PrivilegeError {
    /// Whether a restart would fail in the same way. A directory service that didn't answer may answer again.
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

/// Makes the calling thread run as soon as it can, before the kernel's receive threads on its CPU: they go on when it
/// waits, so that a flood of packets fills the interface's queue, where it costs least, and never starves the switcher.
pub fn go_first() -> Result<(), PrivilegeError> {
    scheduling::set_real_time().map_err(PrivilegeError::First)
}

/// Becomes `user`, without supplementary groups and, with the user id, without any capability; for good, and for
/// whatever would be executed.
pub fn give_up(user: &str) -> Result<(), PrivilegeError> {
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
    fn only_a_look_up_that_fails_is_tried_again() {
        let look_up = AccountError::LookUp { name: "nobody".into(), error: nix::Error::EIO };
        assert!(!PrivilegeError::Account(look_up).is_refusal());
        assert!(PrivilegeError::Account(AccountError::Missing("nobody".into())).is_refusal());
        assert!(PrivilegeError::Regained.is_refusal());
    }
}
