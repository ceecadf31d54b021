//! The account that switchers and the interface daemon run as.

use nix::unistd::User;

/// Why an account can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is none of that name.
    #[error("there is no account \"{0}\"; name one that has no rights (nobody)")]
    Missing(String),
    /// Nobody knows whether there is one.
    #[error("account \"{name}\" can't be looked up: {error}; see /etc/nsswitch.conf, or name a local one (nobody)")]
    LookUp {
        /// Of the account.
        name: String,
        /// The system's answer.
        error: nix::Error,
    },
}

/// The account of that name.
pub fn find_account(name: &str) -> Result<User, AccountError> {
    account_of(name, User::from_name(name))
}

fn account_of(name: &str, found: nix::Result<Option<User>>) -> Result<User, AccountError> {
    match found {
        Ok(Some(account)) => Ok(account),
        // The two errors are "not found", too (getpwnam_r(3)).
        Ok(None) | Err(nix::Error::ENOENT | nix::Error::ESRCH) => Err(AccountError::Missing(name.into())),
        Err(error) => Err(AccountError::LookUp { name: name.into(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_missing_is_told_by_name() {
        assert!(find_account("nobody").is_ok());
        let fault = find_account("no-such-account").expect_err("a fault").to_string();
        assert!(fault.starts_with("there is no account \"no-such-account\"; name one"), "{fault}");
    }

    #[test]
    fn a_look_up_that_fails_is_not_an_account_that_is_missing() {
        let fault = |found| account_of("nobody", found).expect_err("a fault");
        for missing in [Ok(None), Err(nix::Error::ENOENT), Err(nix::Error::ESRCH)] {
            assert!(matches!(fault(missing), AccountError::Missing(_)));
        }
        assert!(matches!(fault(Err(nix::Error::EIO)), AccountError::LookUp { .. }));
    }
}
