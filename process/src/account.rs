//! The account that switchers and the interface daemon run as.

use nix::unistd::User;

/// Why the account `user` can't be used on this machine: what is wrong, and what to do.
pub fn account_fault(user: &str) -> Option<String> {
    let exists = matches!(User::from_name(user), Ok(Some(_)));
    (!exists).then(|| format!("there is no account \"{user}\"; name one that has no rights (nobody)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_missing_is_told_by_name() {
        assert_eq!(account_fault("nobody"), None);
        let fault = account_fault("no-such-account").expect("a fault");
        assert!(fault.starts_with("there is no account \"no-such-account\"; name one"), "{fault}");
    }
}
