//! Enums that shared memory holds as one byte: the variant, its byte and its name in one line each.
//!
//! A record keeps the byte. It is decoded once, when the record is read; what to do about a byte that no variant has is
//! the reader's decision, never a default.

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
    };
}

pub(crate) use coded;

#[cfg(test)]
mod tests {
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
    }
}
