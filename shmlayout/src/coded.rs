//! Enums that shared memory holds as one byte: the variant, its byte and its name in one line each.
//!
//! A record keeps the byte. It is decoded once, when the record is read; what to do about a byte that no variant has is
//! the reader's decision, never a default.

use crate::address::Protocol;
use core::fmt;
use core::marker::PhantomData;

/// An enum that has a byte for each variant.
pub trait Code: Copy {
    /// The variant that a byte stands for; `None` if this build knows none.
    fn decode(code: u8) -> Option<Self>;

    /// The byte that stands for it.
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

/// A byte that was read and not decoded yet, for what is copied more often than it is asked for. Shows nothing but the
/// variant that it stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Coded<T>(u8, PhantomData<T>);

impl<T: Code> Coded<T> {
    /// The byte as it stands in memory.
    #[inline]
    pub(crate) const fn from_byte(byte: u8) -> Self {
        Self(byte, PhantomData)
    }

    /// The byte for memory.
    #[inline]
    pub(crate) const fn byte(self) -> u8 {
        self.0
    }

    /// The variant; `None` if this build knows none for the byte.
    #[inline]
    pub fn get(self) -> Option<T> {
        T::decode(self.0)
    }

    /// Of no variant.
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

/// Defines such an enum: what it is and its name, then each variant with its meaning, its byte and its name.
macro_rules! coded {
    ($what:literal $Enum:ident: $($(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal;)*) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $Enum { $($(#[doc = $doc])* $variant = $code,)* }

        impl $Enum {
            /// All of them.
            pub const ALL: &[$Enum] = &[$($Enum::$variant,)*];

            /// The byte that stands for it in shared memory.
            #[inline]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The variant that a byte stands for; `None` if this build knows none.
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
