//! Tracks whether a process listens on a back-end's port. Logs each change once.
//!
//! ```text
//!  Never --seen--> Yes <--seen again-- NoLonger
//!                    \----not seen----------^
//! ```

use log::{info, warn};

use crate::settings::Backend;
use shunt_report::{ConfigName, Listening};

/// The observed state of one back-end's port.
#[derive(Debug)]
pub struct Listener {
    backend: ConfigName,
    /// Text for messages: "TCP port 8080".
    port: String,
    seen: Option<Listening>,
}

impl Listener {
    /// Not yet observed.
    pub fn new(backend: &Backend) -> Self {
        let protocol = if backend.is_tcp { "TCP" } else { "UDP" };
        Self { backend: backend.name.clone(), port: format!("{protocol} port {}", backend.port), seen: None }
    }

    /// Updates the state with the number of listening sockets; `None` if they cannot be observed.
    pub fn observe(&mut self, listeners: Option<u32>) -> Listening {
        let now = match (listeners, self.seen) {
            (None, _) => Listening::Unobserved,
            (Some(1..), _) => Listening::Yes,
            (Some(0), Some(Listening::Yes | Listening::NoLonger)) => Listening::NoLonger,
            (Some(0), _) => Listening::Never,
        };
        if self.seen != Some(now) {
            self.tell(now);
        }
        self.seen = Some(now);
        now
    }

    fn tell(&self, now: Listening) {
        let Self { backend, port, .. } = self;
        match now {
            Listening::Unobserved => info!("backend {backend}: who listens on {port} is not observed"),
            Listening::Never => warn!(
                "backend {backend}: no process has listened on {port} yet, so control ignores its load; correct \
                 backend.port, or write listener = \"elsewhere\" if another network namespace serves it"
            ),
            Listening::Yes => info!("backend {backend}: {port} is listened on"),
            Listening::NoLonger => {
                warn!("backend {backend}: no process listens on {port} any more; it is reported down")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        Listener { backend: "b1".parse().unwrap(), port: "TCP port 8080".to_owned(), seen: None }
    }

    #[test]
    fn never_yes_and_no_longer_are_told_apart() {
        let mut listener = listener();
        let seen = [0, 0, 1, 0, 0, 2, 0].map(|listeners| listener.observe(Some(listeners)));
        use Listening::{Never, NoLonger, Yes};
        assert_eq!(seen, [Never, Never, Yes, NoLonger, NoLonger, Yes, NoLonger]);
    }

    #[test]
    fn what_cannot_be_seen_is_not_held_against_it() {
        let mut listener = listener();
        let seen = [None, None, Some(0)].map(|listeners| listener.observe(listeners));
        assert_eq!(seen, [Listening::Unobserved, Listening::Unobserved, Listening::Never]);
    }
}
