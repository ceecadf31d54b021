//! Enums stored in shared memory as one byte: one line per variant, with its byte and its name.
//!
//! A record holds the byte, which is decoded once, when the record is read. The reader decides what an unknown byte means;
//! there is no default.

use crate::address::Protocol;
use core::fmt;
use core::marker::PhantomData;

/// An enum with a one-byte code for each variant.
pub trait Code: Copy {
    /// Decodes a byte; `None` if this build does not know it.
    fn decode(code: u8) -> Option<Self>;

    /// The variant's byte.
    fn encode(self) -> u8;
}

impl Code for Protocol {
    #[inline]
    fn decode(code: u8) -> Option<Self> {
        Self::of(code)
    }

    #[inline]
    fn encode(self) -> u8 {
        self.code()
    }
}

/// A byte that is decoded on demand, for fields that are copied more often than read. Only the decoded variant is accessible.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Coded<T>(u8, PhantomData<T>);

impl<T: Code> Coded<T> {
    /// Wraps a byte read from memory.
    #[inline]
    pub(crate) const fn from_byte(byte: u8) -> Self {
        Self(byte, PhantomData)
    }

    /// The byte to store in memory.
    #[inline]
    pub(crate) const fn byte(self) -> u8 {
        self.0
    }

    /// Decodes the byte; `None` if this build does not know it.
    #[inline]
    pub fn get(self) -> Option<T> {
        T::decode(self.0)
    }

    /// A byte of no variant.
    pub const UNKNOWN: Self = Self(0, PhantomData);
}

impl<T: Code> From<T> for Coded<T> {
    #[inline]
    fn from(variant: T) -> Self {
        Self(variant.encode(), PhantomData)
    }
}

impl<T: Code + fmt::Debug> fmt::Debug for Coded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(variant) => variant.fmt(f),
            None => write!(f, "unknown ({})", self.0),
        }
    }
}

/// Defines a coded enum: description and name, then each variant with its description, byte and name.
macro_rules! coded {
    ($what:literal $Enum:ident: $($(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal;)*) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $Enum { $($(#[doc = $doc])* $variant = $code,)* }

        impl $Enum {
            /// All variants.
            pub const ALL: &[$Enum] = &[$($Enum::$variant,)*];

            /// Its byte in shared memory.
            #[inline]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// Decodes a byte; `None` if this build does not know it.
            #[inline]
            pub const fn of(code: u8) -> Option<Self> {
                match code {
                    $($code => Some($Enum::$variant),)*
                    _ => None,
                }
            }

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $($Enum::$variant => $name,)* }
            }
        }

        impl $crate::coded::Code for $Enum {
            #[inline]
            fn decode(code: u8) -> Option<Self> {
                Self::of(code)
            }

            #[inline]
            fn encode(self) -> u8 {
                self.code()
            }
        }
    };
}

pub(crate) use coded;

#[cfg(test)]
mod tests {
    use super::*;

    coded! {
        "A bird." Bird:
        /// Flies.
        Swift = 1, "swift";
        /// Doesn't.
        Kiwi = 7, "kiwi";
    }

    #[test]
    fn every_variant_survives_its_byte_and_no_other_byte_is_one() {
        for bird in Bird::ALL {
            assert_eq!(Bird::of(bird.code()), Some(*bird));
        }
        let known: Vec<u8> = (0..=u8::MAX).filter(|code| Bird::of(*code).is_some()).collect();
        assert_eq!(known, [1, 7]);
        assert_eq!((Bird::Swift.name(), Bird::Kiwi.name()), ("swift", "kiwi"));
        assert_eq!((Coded::from(Bird::Kiwi).get(), Coded::<Bird>::from_byte(2).get()), (Some(Bird::Kiwi), None));
        assert_eq!(format!("{:?} {:?}", Coded::from(Bird::Swift), Coded::<Bird>::UNKNOWN), "Swift unknown (0)");
    }
}
