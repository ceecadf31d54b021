//! The regions, one per writer. Each consists of a header, its shape (capacities), and parts on their own cache lines. The
//! keeper creates them; other processes attach by name or by a descriptor received from the keeper.

mod connections;
mod control;
mod keeper;
mod store;
mod switcher;

pub use connections::{ConnectionsHead, ConnectionsRegion, ConnectionsShape};
pub use control::{ControlHead, ControlRegion, ControlShape, HOST_ADDRESSES};
pub use keeper::{
    InterfaceRecord, InterfaceSide, KeeperHead, KeeperRegion, KeeperShape, PORT_BUSY_POLLS, PORT_RECEIVES,
    PORT_THREADED, PortKind, PortMode, PortRecord, SwitcherRecord,
};
pub use store::{
    DaemonDrop, IfdaemonHead, IfdaemonRegion, IfdaemonShape, StoreDaemon, StoreRegion, StoreShape, StoreSwitcher,
};
pub use switcher::{
    BackendCounters, FRAMES_IN_HAND, InterfaceCounters, PORTS, RINGS, ResolveRequest, ServiceCounters, SocketReading,
    SwitcherHead, SwitcherRegion, SwitcherShape, connections_in_flight,
};

use crate::access::{Access, Reader, Writer};
use crate::header::{AttachError, Header, Kind};
use crate::layout::{Described, hash};
use crate::map::{Mapping, Parts, Region};
use crate::record::Record;
use std::os::fd::OwnedFd;
use std::path::Path;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A typed view of a region, with certain accesses.
pub trait Typed: Sized {
    /// The region's kind.
    const KIND: Kind;
    /// The mapping that these accesses need.
    const MAPPING: Mapping;
    /// Capacities, eight words.
    type Shape: FromBytes + IntoBytes + Immutable + Copy + Described + 'static;

    /// Takes the parts in order. Also called with a measuring [`Parts`]; the result is then ignored.
    fn carve(parts: &mut Parts, shape: &Self::Shape) -> Option<Self>;

    /// Name of the shape's first invalid number; `None` if all are valid.
    fn fault(shape: &Self::Shape) -> Option<&'static str>;

    /// Measures a region of this shape, without memory.
    fn measure(shape: &Self::Shape) -> Parts {
        let mut parts = after_shape::<Self::Shape, Reader>(Parts::measure()).1;
        let _ = Self::carve(&mut parts, shape);
        parts
    }

    /// Length of a region of this shape, bytes.
    fn length(shape: &Self::Shape) -> usize {
        Self::measure(shape).length()
    }

    /// A shape with a large power of two in each field.
    fn reference_shape() -> Self::Shape {
        Self::Shape::read_from_bytes([1u64 << 20; 8].as_bytes()).unwrap_or_else(|_| Self::Shape::new_zeroed())
    }

    /// Hash of the region's layout, computed from the parts of a region of the reference shape. Their counts and offsets
    /// reflect how they depend on the shape.
    fn layout_hash() -> u64 {
        hash(Self::measure(&Self::reference_shape()).taken())
    }

    /// Attaches by name.
    fn attach(name: &str) -> Result<(Self, OwnedFd), AttachError> {
        let (region, fd) = Region::attach(name, Self::KIND, Self::layout_hash(), Self::MAPPING)?;
        Ok((Self::read_shape(&region, name)?.0, fd))
    }

    /// Attaches by a descriptor; `name` is for messages.
    fn from_fd(fd: &OwnedFd, name: &str) -> Result<(Self, Self::Shape), AttachError> {
        let region = Region::from_fd(fd, Path::new(name), Self::KIND, Self::layout_hash(), Self::MAPPING)?;
        Self::read_shape(&region, name)
    }

    #[doc(hidden)]
    fn read_shape(region: &Region, name: &str) -> Result<(Self, Self::Shape), AttachError> {
        let (words, mut parts) = after_shape::<Self::Shape, Reader>(region.parts());
        let shape = words.ok_or_else(|| invalid_field(name, "size"))?.load();
        if let Some(field) = Self::fault(&shape) {
            return Err(invalid_field(name, field));
        }
        let view = Self::carve(&mut parts, &shape);
        let fits = parts.length() == region.length();
        view.filter(|_| fits).map(|view| (view, shape)).ok_or_else(|| invalid_field(name, "size"))
    }
}

/// A region with the accesses of all its writers: the view of its creator, and of private memory.
pub trait Whole: Typed {
    /// Creates the region, zeroed. `prepare` writes initial content before the region becomes ready.
    fn create(name: &str, shape: &Self::Shape, prepare: impl FnOnce(&Self)) -> Result<(Self, OwnedFd), AttachError> {
        let (region, fd) = Region::create(name, Self::KIND, Self::layout_hash(), Self::length(shape))?;
        let view = Self::write_shape(&region, shape).ok_or_else(|| invalid_field(name, "shape"))?;
        prepare(&view);
        region.make_ready();
        Ok((view, fd))
    }

    /// Creates the region in private memory, for tests and benchmarks.
    fn anonymous(shape: &Self::Shape) -> std::io::Result<Self> {
        let region = Region::anonymous(Self::KIND, Self::layout_hash(), Self::length(shape))?;
        Self::write_shape(&region, shape).ok_or_else(|| std::io::Error::other("the shape is impossible"))
    }

    /// Creates the region in private memory of which only written pages are allocated, for dry runs.
    fn scratch(shape: &Self::Shape) -> std::io::Result<Self> {
        let region = Region::scratch(Self::KIND, Self::layout_hash(), Self::length(shape))?;
        Self::write_shape(&region, shape).ok_or_else(|| std::io::Error::other("the shape is impossible"))
    }

    #[doc(hidden)]
    fn write_shape(region: &Region, shape: &Self::Shape) -> Option<Self> {
        let (words, mut parts) = after_shape::<Self::Shape, Writer>(region.parts());
        words?.store(shape);
        Self::carve(&mut parts, shape)
    }
}

type ShapeRecord<S, A> = Record<S, 8, A>;

fn after_shape<S: FromBytes + Described, A: Access>(mut parts: Parts) -> (Option<&'static ShapeRecord<S, A>>, Parts) {
    let _ = parts.one::<Header<A>>();
    let words = parts.one();
    (words, parts)
}

/// The mapping for a view that does or does not write.
const fn mapping(writes: bool) -> Mapping {
    if writes { Mapping::Writable } else { Mapping::ReadOnly }
}

fn invalid_field(name: &str, field: &'static str) -> AttachError {
    AttachError::Field {
        path: name.into(),
        field,
        found: "a number out of range".into(),
        expected: "the creator's value".into(),
        advice: "stop Shunt and start it again to recreate the memory",
    }
}

#[cfg(test)]
mod tests;
