//! The secret that one agent shares with control; each machine has it in a file.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of an authentication tag.
pub(super) const TAG_BYTES: usize = 32;
/// The hash length: a shorter key weakens the tag (RFC 2104 section 3).
const SHORTEST_BYTES: usize = 32;
const LONGEST_BYTES: usize = 1024;
/// Mode bits that are refused: group write and every access by others.
const MODE_REFUSED: u32 = 0o027;

/// An HMAC key; its block is hashed once.
#[derive(Clone)]
pub struct AgentKey(Hmac<Sha256>);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be opened or read.
    #[error("cannot be read: {0}; check the path and its permissions")]
    Unreadable(#[from] io::Error),
    /// Not a regular file.
    #[error("is not a regular file; give the path of the key file itself")]
    NotAFile,
    /// Other users can read or change the key.
    #[error("has mode {:04o}, so that others may read or write it; run: chmod 0600", .0)]
    Open(u32),
    /// The length is out of range.
    #[error(
        "holds {0} bytes without the line's end, not {SHORTEST_BYTES} to {LONGEST_BYTES}; make one: openssl rand -hex 32"
    )]
    Length(usize),
}

impl AgentKey {
    /// Reads the key from a file and trims trailing white space.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        // A plain open of a FIFO would block until a writer opens it.
        let file =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(KeyError::NotAFile);
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & MODE_REFUSED != 0 {
            return Err(KeyError::Open(mode));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_BYTES as u64 + 2).read_to_end(&mut bytes)?;
        Self::new(bytes.trim_ascii_end())
    }

    /// Checks the length and prepares the key.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        let wrong = KeyError::Length(bytes.len());
        if !(SHORTEST_BYTES..=LONGEST_BYTES).contains(&bytes.len()) {
            return Err(wrong);
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| wrong)
    }

    /// Identifies this agent's persistent state; never 0. It reveals nothing about the key and changes with it.
    pub fn identity(&self, agent: &str) -> u64 {
        // No datagram starts with this text: its first byte is the format version.
        let tag = self.tag(format!("identity of {agent}").as_bytes());
        let first = tag.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        first.max(1)
    }

    pub(super) fn tag(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        self.0.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// Constant-time comparison, so that a tag cannot be guessed byte by byte.
    pub(super) fn is_tag(&self, message: &[u8], tag: &[u8]) -> bool {
        self.0.clone().chain_update(message).verify_slice(tag).is_ok()
    }
}

/// Keys are equal if they produce equal tags.
impl PartialEq for AgentKey {
    fn eq(&self, other: &Self) -> bool {
        self.is_tag(&[], &other.tag(&[]))
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    /// RFC 4231 section 4.4, whose key has 25 bytes, is too short for us; section 4.7 has one of 131.
    #[test]
    fn tags_are_those_of_rfc_4231() {
        let key = AgentKey::new(&[0xaa; 131]).unwrap();
        let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let found: String = key.tag(message).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected);
        assert!(key.is_tag(message, &key.tag(message)));
        assert!(!key.is_tag(message, &key.tag(message)[..16]), "a shortened tag");
    }

    #[test]
    fn a_line_s_end_does_not_belong_to_the_key() {
        let key = AgentKey::load(file(&[b'k'; 32], 0o600).path()).unwrap();
        let with_newline = AgentKey::load(file(&[&[b'k'; 32][..], b"\r\n"].concat(), 0o440).path()).unwrap();
        assert_eq!(key.tag(b"x"), with_newline.tag(b"x"));
    }

    #[test]
    fn keys_are_told_apart() {
        let key = |byte| AgentKey::new(&[byte; 32]).unwrap();
        assert_eq!(key(b'k'), key(b'k'));
        assert_ne!(key(b'k'), key(b'l'));
    }

    #[test]
    fn an_identity_is_that_of_key_and_name() {
        let [k, l] = [b'k', b'l'].map(|byte| AgentKey::new(&[byte; 32]).unwrap());
        assert_eq!(k.identity("a"), k.clone().identity("a"));
        assert!(k.identity("a") != k.identity("b") && k.identity("a") != l.identity("a"));
    }

    #[test]
    fn keys_that_are_no_secret_are_refused() {
        for mode in [0o604, 0o620, 0o666, 0o601] {
            let refused = AgentKey::load(file(&[b'k'; 32], mode).path());
            assert!(matches!(refused, Err(KeyError::Open(found)) if found == mode), "{mode:o}");
        }
        for content in [&b""[..], &[b'\n'; 64], &[b'k'; 31], &[b'k'; 1025]] {
            assert!(matches!(AgentKey::load(file(content, 0o600).path()), Err(KeyError::Length(_))), "{content:?}");
        }
        assert!(matches!(AgentKey::load(Path::new("/dev/null")), Err(KeyError::NotAFile)));
        assert!(matches!(AgentKey::load(Path::new("/nonexistent")), Err(KeyError::Unreadable(_))));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", AgentKey::new(&[b'k'; 32]).unwrap()), "Key(secret)");
    }
}
