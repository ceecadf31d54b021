//! The account that switchers and the interface daemon run as.

use nix::unistd::User;

/// Returns why the account `user` cannot be used on this machine, with a remedy; `None` if it can.
pub fn account_fault(user: &str) -> Option<String> {
    let exists = matches!(User::from_name(user), Ok(Some(_)));
    (!exists).then(|| format!("there is no account \"{user}\"; name an unprivileged one (nobody)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_is_named() {
        assert_eq!(account_fault("nobody"), None);
        let fault = account_fault("no-such-account").expect("a fault");
        assert!(fault.starts_with("there is no account \"no-such-account\"; name an unprivileged one"), "{fault}");
    }
}
