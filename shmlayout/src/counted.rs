//! Enums of counters: a variant is a counter, and its name is the column, the metric label and the JSON key.

/// Defines a counted enum: description and name, then each variant with its meaning and name.
macro_rules! counted {
    ($what:literal $Enum:ident: $($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $Enum { $($(#[doc = $doc])* $variant,)* }

        impl $Enum {
            /// All variants, in the order of the counters.
            pub const ALL: &[$Enum] = &[$($Enum::$variant,)*];

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $($Enum::$variant => $name,)* }
            }

            /// What it means: its doc comment.
            pub const fn meaning(self) -> &'static str {
                match self { $($Enum::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

pub(crate) use counted;
