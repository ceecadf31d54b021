//! Names of services, backends and interfaces.

use crate::layout::described;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A zero-padded name of at most 31 bytes.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Name(pub [u8; 32]);

described!(Name { 0 });

impl Name {
    /// Copies at most 31 bytes of `text`.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; 32];
        let length = text.len().min(31);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self(bytes)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.pad(&String::from_utf8_lossy(text))
    }
}
