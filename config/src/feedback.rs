//! The load-feedback part of a configuration: who reports, how far a report is trusted, and how a service uses it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// How control receives reports, and limits on their effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Address for agents' reports (UDP); `None` if no agent reports.
    pub listen: Option<SocketAddr>,
    /// After this time without a report, a back-end counts as silent and returns to its configured weight.
    pub silence_ms: u32,
    /// Time constant of the smoothing: after this time, 63 % of a step is visible.
    pub smoothing_ms: u32,
    /// Maximum change of a learnt weight per second, in thousandths of itself; also for its return to the configured
    /// weight.
    pub slew_permille_per_s: u32,
    /// Agents that may report, and their back-ends.
    pub agents: Vec<Agent>,
}

impl Default for Feedback {
    fn default() -> Self {
        Self { listen: None, silence_ms: 2000, smoothing_ms: 200, slew_permille_per_s: 2000, agents: Vec::new() }
    }
}

/// An agent on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Name in its reports; unique.
    pub name: String,
    /// File with its signing key.
    pub key_file: PathBuf,
    /// The back-ends that it reports about; no other agent may.
    pub backends: Vec<String>,
}

/// How a service distributes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// By configured weight.
    #[default]
    Static,
    /// By weights that control moves until all back-ends are equally loaded.
    Even,
    /// The less loaded of two chosen at random.
    Lightest,
    /// The one with the fewest open connections relative to its weight.
    LeastConnections,
    /// The one with the shortest expected wait, from requests in flight and execution time.
    Latency,
    /// By the client's address alone.
    SourceHash,
}

impl Algorithm {
    /// Every algorithm with its word.
    pub const WORDS: [(&'static str, Self); 6] = [
        (Self::Static.word(), Self::Static),
        (Self::Even.word(), Self::Even),
        (Self::Lightest.word(), Self::Lightest),
        (Self::LeastConnections.word(), Self::LeastConnections),
        (Self::Latency.word(), Self::Latency),
        (Self::SourceHash.word(), Self::SourceHash),
    ];

    /// The word that the configuration has for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Even => "even",
            Self::Lightest => "lightest",
            Self::LeastConnections => "least-connections",
            Self::Latency => "latency",
            Self::SourceHash => "source-hash",
        }
    }
}

/// Sends certain clients to certain back-ends of a service. The first rule that matches a client applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The clients that it matches.
    pub clients: Vec<Network>,
    /// Names of the back-ends that these clients may use; at least one.
    pub backends: Vec<String>,
}

/// How control polls HAProxy agent-check agents beside a service's back-ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCheck {
    /// Port of the agents, at each back-end's address.
    pub port: u16,
    /// Polling interval.
    pub interval_ms: u32,
}

/// A network prefix, as `198.18.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// First address.
    pub address: Ipv4Addr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl Network {
    /// Every client.
    pub const ALL: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };

    /// Last address.
    pub fn last(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is not a network, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Invalid syntax.
    #[error("is not a network; write for example \"198.18.0.0/16\"")]
    Malformed,
    /// IPv6.
    #[error("can't be used: IPv6 clients are not supported yet; write for example \"198.18.0.0/16\"")]
    Ipv6,
    /// Bits beyond the prefix are set.
    #[error("has bits set beyond its prefix; write \"{0}\"")]
    HostBits(Network),
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address = match address.parse().map_err(|_| NetworkError::Malformed)? {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => return Err(NetworkError::Ipv6),
        };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or(NetworkError::Malformed)?;
        let first = Ipv4Addr::from_bits(address.to_bits() & mask(prefix));
        match first == address {
            true => Ok(Self { address, prefix }),
            false => Err(NetworkError::HostBits(Self { address: first, prefix })),
        }
    }
}

/// The network mask. A shift by 32, for prefix 0, would overflow.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_end_where_their_prefix_says() {
        let network = |text: &str| text.parse::<Network>();
        assert_eq!(network("198.18.0.0/15").unwrap().last(), Ipv4Addr::new(198, 19, 255, 255));
        assert_eq!(network("198.18.0.9").unwrap().last(), Ipv4Addr::new(198, 18, 0, 9));
        assert_eq!(network("0.0.0.0/0"), Ok(Network::ALL));
        assert_eq!(Network::ALL.last(), Ipv4Addr::BROADCAST);
        assert_eq!(network("2001:db8::/32"), Err(NetworkError::Ipv6));
        assert_eq!(network("198.18.1.0/15"), Err(NetworkError::HostBits(network("198.18.0.0/15").unwrap())));
        for text in ["", "/", "198.18.0.0/33", "198.18.0.0/-1", "198.18.0/16", "198.18.0.0/"] {
            assert_eq!(network(text), Err(NetworkError::Malformed), "{text}");
        }
    }
}
