//! The account that switchers and the interface daemon run as.

use nix::unistd::User;

/// Why an account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No account has that name.
    #[error("there is no account \"{0}\"; name an unprivileged one (nobody)")]
    Missing(String),
    /// The look-up failed, so the account may exist.
    #[error("account \"{name}\" cannot be looked up: {error}; check /etc/nsswitch.conf, or name a local one (nobody)")]
    LookUp {
        /// The account's name.
        name: String,
        /// The system's error.
        error: nix::Error,
    },
}

/// Looks an account up by name.
pub fn find_account(name: &str) -> Result<User, AccountError> {
    account_of(name, User::from_name(name))
}

fn account_of(name: &str, found: nix::Result<Option<User>>) -> Result<User, AccountError> {
    match found {
        Ok(Some(account)) => Ok(account),
        // Both errors can mean "not found" (getpwnam_r(3)).
        Ok(None) | Err(nix::Error::ENOENT | nix::Error::ESRCH) => Err(AccountError::Missing(name.into())),
        Err(error) => Err(AccountError::LookUp { name: name.into(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_is_named() {
        assert!(find_account("nobody").is_ok());
        let fault = find_account("no-such-account").expect_err("a fault").to_string();
        assert!(fault.starts_with("there is no account \"no-such-account\"; name an unprivileged one"), "{fault}");
    }

    #[test]
    fn a_failed_look_up_is_not_a_missing_account() {
        let fault = |found| account_of("nobody", found).expect_err("a fault");
        for missing in [Ok(None), Err(nix::Error::ENOENT), Err(nix::Error::ESRCH)] {
            assert!(matches!(fault(missing), AccountError::Missing(_)));
        }
        assert!(matches!(fault(Err(nix::Error::EIO)), AccountError::LookUp { .. }));
    }
}
