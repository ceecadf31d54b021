//! Converts the configuration's types to those of shared memory; each conversion is total.

use shunt_shmlayout::address::Protocol;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::service::{Algorithm, OnBackendDown, Target};

pub(super) const fn protocol(protocol: shunt_config::Protocol) -> Protocol {
    match protocol {
        shunt_config::Protocol::Tcp => Protocol::Tcp,
        shunt_config::Protocol::Udp => Protocol::Udp,
    }
}

pub(super) const fn mode(mode: shunt_config::Mode) -> Mode {
    match mode {
        shunt_config::Mode::Nat => Mode::Nat,
        shunt_config::Mode::Dsr => Mode::Dsr,
    }
}

pub(super) const fn target(target: shunt_config::Target) -> Target {
    match target {
        shunt_config::Target::Backends => Target::Backends,
        shunt_config::Target::Host => Target::Host,
    }
}

pub(super) const fn algorithm(algorithm: shunt_config::Algorithm) -> Algorithm {
    match algorithm {
        shunt_config::Algorithm::Static => Algorithm::Static,
        shunt_config::Algorithm::Even => Algorithm::Even,
        shunt_config::Algorithm::SourceHash => Algorithm::SourceHash,
        shunt_config::Algorithm::Lightest => Algorithm::Lightest,
        shunt_config::Algorithm::LeastConnections => Algorithm::LeastConnections,
        shunt_config::Algorithm::Latency => Algorithm::Latency,
    }
}

pub(super) const fn on_backend_down(on_backend_down: shunt_config::OnBackendDown) -> OnBackendDown {
    match on_backend_down {
        shunt_config::OnBackendDown::Keep => OnBackendDown::Keep,
        shunt_config::OnBackendDown::Move => OnBackendDown::Move,
        shunt_config::OnBackendDown::Reset => OnBackendDown::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_algorithm_has_the_configuration_s_word() {
        let words = shunt_config::Algorithm::WORDS.map(|(word, configured)| (word, algorithm(configured)));
        assert_eq!(by_word(words), by_word(Algorithm::ALL.iter().map(|algorithm| (algorithm.name(), *algorithm))));
    }

    #[test]
    fn every_mode_has_the_configuration_s_word() {
        let words = shunt_config::Mode::WORDS.map(|(word, configured)| (word, mode(configured)));
        assert_eq!(by_word(words), by_word(Mode::ALL.iter().map(|mode| (mode.name(), *mode))));
    }

    /// Pairs of a word and what it stands for, by word.
    fn by_word<T>(pairs: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<&'static str, T> {
        pairs.into_iter().collect()
    }
}
