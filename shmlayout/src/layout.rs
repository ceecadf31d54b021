//! Layouts of shared-memory structures, derived from the structures: name, offset and layout of each field.
//!
//! [`described!`] lists a structure's fields; an incomplete list does not compile. Field types must be described, too, and
//! `map.rs` gives views of described types only. A region's hash ([`hash`]) therefore covers its entire content: two builds
//! whose structures differ in a name, size, offset or order cannot attach each other's memory.

/// The layout of a type in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The type's name.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Whether every byte belongs to an atomic: no plain data and no padding.
    pub is_atomic: bool,
    /// Its fields; empty for a number. An array has its element as the only field.
    pub fields: &'static [Field],
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Offset in the structure, bytes.
    pub offset: usize,
    /// Layout of the field's type.
    pub layout: &'static Layout,
}

/// Part of a region: an array of values.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Offset of the first value, bytes.
    pub offset: usize,
    /// Number of values.
    pub count: usize,
    /// Layout of a value.
    pub layout: &'static Layout,
}

/// A type with a known layout.
pub trait Described {
    /// The type's layout.
    const LAYOUT: &'static Layout;
}

impl Layout {
    /// The layout of a structure. It is atomic if its fields are atomic and leave no padding.
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

/// The layout of the field that `_of` projects to.
pub const fn field_layout<S, F: Described>(_of: fn(&S) -> &F) -> &'static Layout {
    F::LAYOUT
}

/// Describes types: `plain` numbers, `atomic` cells with an access, and structures by all their fields.
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

/// FNV-1a over a region's parts and their layouts, recursively.
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
