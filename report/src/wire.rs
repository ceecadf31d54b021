//! A report to bytes and back. `open` believes nothing: lengths first, then the tag, and only then the content.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize};

use super::key::TAG_BYTES;
use super::{Key, Load, MOST_LOADS, Name, Refusal, Report};

/// The longest datagram: with IPv6 and UDP headers it still fits into the MTU of any Ethernet tunnel in use.
pub const LONGEST_BYTES: usize = 1400;

/// 3 since a load has workers and those at work, 2 since it has its port and whether anybody listens there.
const VERSION: u8 = 3;
/// Version, length of the name.
const HEADER_BYTES: usize = 2;
const SHORTEST_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;

/// The limit keeps a length in the body from reserving more memory than a datagram has bytes.
const ENCODING: Configuration<LittleEndian, Varint, Limit<LONGEST_BYTES>> =
    bincode::config::standard().with_limit::<LONGEST_BYTES>();

/// A report without the agent's name.
#[derive(Serialize, Deserialize)]
struct Body {
    boot_epoch: u64,
    sequence: u64,
    period_ms: u16,
    loads: Vec<Load>,
}

/// Why a report can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// More back-ends than a datagram surely has room for.
    #[error("a report of {0} back-ends, {MOST_LOADS} at the most; run a second agent for the others")]
    TooManyLoads(usize),
    /// What the encoder said.
    #[error("cannot encode a report: {0}")]
    Encoding(#[from] bincode::error::EncodeError),
}

/// The datagram of a report.
pub fn seal(report: &Report, key: &Key) -> Result<Vec<u8>, SealError> {
    if report.loads.len() > MOST_LOADS {
        return Err(SealError::TooManyLoads(report.loads.len()));
    }
    let Report { agent, boot_epoch, sequence, period_ms, loads } = report.clone();
    let name = agent.as_str().as_bytes();
    // A name has at most 31 bytes.
    let mut datagram = vec![VERSION, name.len() as u8];
    datagram.extend_from_slice(name);
    datagram.extend(bincode::serde::encode_to_vec(Body { boot_epoch, sequence, period_ms, loads }, ENCODING)?);
    datagram.extend(key.tag(&datagram));
    Ok(datagram)
}

/// The report in a datagram, if it is authentic by the key that `key_of` has for the agent it names. Whether it is new is
/// for the agent's [`super::ReplayWindow`] to say.
pub fn open<'k>(datagram: &[u8], key_of: impl FnOnce(&Name) -> Option<&'k Key>) -> Result<Report, Refusal> {
    if datagram.len() < SHORTEST_BYTES {
        return Err(Refusal::TooShort);
    }
    if datagram.len() > LONGEST_BYTES {
        return Err(Refusal::TooLong);
    }
    let (message, tag) = datagram.split_at(datagram.len() - TAG_BYTES);
    let (name, body) = split(message)?;
    let key = key_of(&name).ok_or(Refusal::UnknownAgent)?;
    if !key.is_tag(message, tag) {
        return Err(Refusal::Forged);
    }
    decode(name, body).ok_or(Refusal::Malformed)
}

/// The agent that a datagram names as its sender, authentic or not.
pub fn claimed(datagram: &[u8]) -> Option<Name> {
    split(datagram).ok().map(|(name, _)| name)
}

fn split(message: &[u8]) -> Result<(Name, &[u8]), Refusal> {
    let [VERSION, name_bytes, rest @ ..] = message else {
        return Err(Refusal::Version);
    };
    let (name, body) = rest.split_at_checked(usize::from(*name_bytes)).ok_or(Refusal::TooShort)?;
    let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(Refusal::UnknownAgent)?;
    Ok((name, body))
}

fn decode(agent: Name, body: &[u8]) -> Option<Report> {
    let (Body { boot_epoch, sequence, period_ms, loads }, read) =
        bincode::serde::decode_from_slice(body, ENCODING).ok()?;
    // Bytes after the report would be a hiding place, and a sign that writer and reader disagree.
    let good = read == body.len() && loads.len() <= MOST_LOADS;
    good.then_some(Report { agent, boot_epoch, sequence, period_ms, loads })
}

#[cfg(test)]
mod tests;
