//! Encodes and decodes a report. `open` trusts no input: it checks lengths, then the tag, then the content.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize};

use super::key::TAG_BYTES;
use super::{AgentKey, ConfigName, LoadReport, MOST_LOADS, ReportRefusal, ReportedLoad};

/// Longest datagram: with IPv6 and UDP headers it fits the MTU of every common Ethernet tunnel.
pub const LONGEST_BYTES: usize = 1400;

/// Version 2 added port and listener, version 3 workers and executing requests.
const VERSION: u8 = 3;
/// Version, length of the name.
const HEADER_BYTES: usize = 2;
const SHORTEST_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;

/// The limit prevents a length in the body from reserving more memory than a datagram has bytes.
const ENCODING: Configuration<LittleEndian, Varint, Limit<LONGEST_BYTES>> =
    bincode::config::standard().with_limit::<LONGEST_BYTES>();

/// A report without the agent's name.
#[derive(Serialize, Deserialize)]
struct Body {
    boot_epoch: u64,
    sequence: u64,
    period_ms: u16,
    loads: Vec<ReportedLoad>,
}

/// Why a report cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// More back-ends than a datagram has room for.
    #[error("a report of {0} back-ends, {MOST_LOADS} at the most; run a second agent for the others")]
    TooManyLoads(usize),
    /// The encoder's error.
    #[error("cannot encode a report: {0}")]
    Encoding(#[from] bincode::error::EncodeError),
}

/// Encodes and authenticates a report.
pub fn seal(report: &LoadReport, key: &AgentKey) -> Result<Vec<u8>, SealError> {
    if report.loads.len() > MOST_LOADS {
        return Err(SealError::TooManyLoads(report.loads.len()));
    }
    let LoadReport { agent, boot_epoch, sequence, period_ms, loads } = report.clone();
    let name = agent.as_str().as_bytes();
    // A name has at most 31 bytes.
    let mut datagram = vec![VERSION, name.len() as u8];
    datagram.extend_from_slice(name);
    datagram.extend(bincode::serde::encode_to_vec(Body { boot_epoch, sequence, period_ms, loads }, ENCODING)?);
    datagram.extend(key.tag(&datagram));
    Ok(datagram)
}

/// Decodes a report after verifying it with the key that `key_of` returns for its agent. The agent's
/// [`super::ReplayWindow`] checks whether it is new.
pub fn open<'k>(
    datagram: &[u8],
    key_of: impl FnOnce(&ConfigName) -> Option<&'k AgentKey>,
) -> Result<LoadReport, ReportRefusal> {
    if datagram.len() < SHORTEST_BYTES {
        return Err(ReportRefusal::TooShort);
    }
    if datagram.len() > LONGEST_BYTES {
        return Err(ReportRefusal::TooLong);
    }
    let (message, tag) = datagram.split_at(datagram.len() - TAG_BYTES);
    let (name, body) = split(message)?;
    let key = key_of(&name).ok_or(ReportRefusal::UnknownAgent)?;
    if !key.is_tag(message, tag) {
        return Err(ReportRefusal::Forged);
    }
    decode(name, body).ok_or(ReportRefusal::Malformed)
}

/// The agent that a datagram names, before authentication.
pub fn claimed(datagram: &[u8]) -> Option<ConfigName> {
    split(datagram).ok().map(|(name, _)| name)
}

fn split(message: &[u8]) -> Result<(ConfigName, &[u8]), ReportRefusal> {
    let [VERSION, name_bytes, rest @ ..] = message else {
        return Err(ReportRefusal::Version);
    };
    let (name, body) = rest.split_at_checked(usize::from(*name_bytes)).ok_or(ReportRefusal::TooShort)?;
    let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(ReportRefusal::UnknownAgent)?;
    Ok((name, body))
}

fn decode(agent: ConfigName, body: &[u8]) -> Option<LoadReport> {
    let (Body { boot_epoch, sequence, period_ms, loads }, read) =
        bincode::serde::decode_from_slice(body, ENCODING).ok()?;
    // Trailing bytes could carry hidden data, and show that encoder and decoder disagree.
    let good = read == body.len() && loads.len() <= MOST_LOADS;
    good.then_some(LoadReport { agent, boot_epoch, sequence, period_ms, loads })
}

#[cfg(test)]
mod tests;
