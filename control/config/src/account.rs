//! The account that switchers and the interface daemon run as.

use crate::Config;
use nix::unistd::User;

impl Config {
    /// Why `user` can't be used on this machine: the field, what is wrong, and what to do.
    pub fn account_fault(&self) -> Option<String> {
        let exists = matches!(User::from_name(&self.user), Ok(Some(_)));
        (!exists).then(|| format!("user: there is no account \"{}\"; name one that has no rights (nobody)", self.user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_missing_is_told_by_name() {
        let text = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n";
        let config = |user: &str| Config::parse(&format!("user = {user:?}\n{text}"), "shunt.toml").unwrap();
        assert_eq!(config("nobody").account_fault(), None);
        let fault = config("no-such-account").account_fault().expect("a fault");
        assert!(fault.starts_with("user: there is no account \"no-such-account\"; name one"), "{fault}");
    }
}
