//! What a structure in shared memory looks like, taken from the structure itself: the name, offset and layout of each field.
//!
//! [`described!`] lists a structure's fields; the compiler refuses a list that isn't complete. A field's type has to be
//! described, too, and `map.rs` views only what is described. So a region's hash ([`hash`]) covers all that is in it, and
//! two builds whose structures differ in any name, size, offset or order don't attach each other's memory.

/// A type in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Whether every byte belongs to an atomic: there is neither plain data nor padding.
    pub is_atomic: bool,
    /// Its fields; none if it is a number. An array has its element as one.
    pub fields: &'static [Field],
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it begins.
    pub offset: usize,
    /// What it is.
    pub layout: &'static Layout,
}

/// Part of a region: so many values, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where the first one begins.
    pub offset: usize,
    /// How many there are.
    pub count: usize,
    /// What each one is.
    pub layout: &'static Layout,
}

/// What has a layout.
pub trait Described {
    /// The layout.
    const LAYOUT: &'static Layout;
}

impl Layout {
    /// Of a structure: it is atomic if fields that are fill it.
    pub const fn of_fields(name: &'static str, size: usize, fields: &'static [Field]) -> Self {
        let (mut is_atomic, mut covered, mut at) = (true, 0, 0);
        while at < fields.len() {
            is_atomic = is_atomic && fields[at].layout.is_atomic;
            covered += fields[at].layout.size;
            at += 1;
        }
        Self { name, size, is_atomic: is_atomic && covered == size, fields }
    }
}

impl<T: Described, const N: usize> Described for [T; N] {
    const LAYOUT: &'static Layout = &Layout {
        name: "array",
        size: size_of::<Self>(),
        is_atomic: T::LAYOUT.is_atomic,
        fields: &[Field { name: "element", offset: 0, layout: T::LAYOUT }],
    };
}

/// The layout of a field, which `_of` leads to.
pub const fn field_layout<S, F: Described>(_of: fn(&S) -> &F) -> &'static Layout {
    F::LAYOUT
}

/// Describes types: `plain` numbers, `atomic` cells with an access, and structures by all of their fields.
macro_rules! described {
    (plain $($Type:ty),*) => { $(
        impl crate::layout::Described for $Type {
            const LAYOUT: &'static crate::layout::Layout = &crate::layout::Layout {
                name: stringify!($Type),
                size: size_of::<Self>(),
                is_atomic: false,
                fields: &[],
            };
        }
    )* };
    (atomic $Type:ident<$A:ident>) => {
        impl<$A> crate::layout::Described for $Type<$A> {
            const LAYOUT: &'static crate::layout::Layout = &crate::layout::Layout {
                name: stringify!($Type),
                size: size_of::<Self>(),
                is_atomic: true,
                fields: &[],
            };
        }
    };
    ($Type:ident $(<$($A:ident),*>)? { $($field:tt),* $(,)? }) => {
        #[cfg(not(loom))]
        impl $(<$($A),*>)? crate::layout::Described for $Type $(<$($A),*>)? {
            const LAYOUT: &'static crate::layout::Layout = {
                let _complete = |it: &Self| {
                    let $Type { $($field: _),* } = it;
                };
                &crate::layout::Layout::of_fields(
                    stringify!($Type),
                    size_of::<Self>(),
                    &[$(crate::layout::Field {
                        name: stringify!($field),
                        offset: core::mem::offset_of!(Self, $field),
                        layout: crate::layout::field_layout(|it: &Self| &it.$field),
                    }),*],
                )
            };
        }
    };
}

pub(crate) use described;

described!(plain u8, u16, u32, u64, crate::address::Address, crate::address::PortBe);

/// FNV-1a over a region's parts and all that is in them.
pub fn hash(parts: &[Part]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| {
        hash_layout(hash_numbers(hash, &[part.offset, part.count]), part.layout)
    })
}

fn hash_layout(hash: u64, layout: &Layout) -> u64 {
    let numbers = [layout.size, layout.is_atomic.into(), layout.fields.len()];
    let hash = hash_numbers(hash_text(hash, layout.name), &numbers);
    layout
        .fields
        .iter()
        .fold(hash, |hash, field| hash_layout(hash_numbers(hash_text(hash, field.name), &[field.offset]), field.layout))
}

fn hash_text(hash: u64, text: &str) -> u64 {
    hash_bytes(hash_numbers(hash, &[text.len()]), text.as_bytes())
}

fn hash_numbers(hash: u64, numbers: &[usize]) -> u64 {
    numbers.iter().fold(hash, |hash, number| hash_bytes(hash, &number.to_le_bytes()))
}

fn hash_bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(all(test, not(loom)))]
mod tests;
