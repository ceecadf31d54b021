//! The regions, one per writer, each made of a header, its shape (how many of what), and parts on cache lines of their
//! own. The keeper creates them; everybody attaches by name or by a descriptor that the keeper handed over.

mod connections;
mod control;
mod keeper;
mod store;
mod switcher;

pub use connections::{ConnectionsHead, ConnectionsRegion, ConnectionsShape};
pub use control::{ControlHead, ControlRegion, ControlShape, HOST_ADDRESSES};
pub use keeper::{
    InterfaceRecord, KeeperHead, KeeperRegion, KeeperShape, PORT_BUSY_POLLS, PORT_RECEIVES, PORT_THREADED, PortKind,
    PortMode, PortRecord, Side, SwitcherRecord,
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

/// A region of known content, as one who has certain accesses to it sees it.
pub trait Typed: Sized {
    /// Which region.
    const KIND: Kind;
    /// How it has to be mapped for these accesses.
    const MAPPING: Mapping;
    /// How many of what; eight words.
    type Shape: FromBytes + IntoBytes + Immutable + Copy + Described + 'static;

    /// Takes the parts one after the other. Called with a measuring [`Parts`] too, then the result is not used.
    fn carve(parts: &mut Parts, shape: &Self::Shape) -> Option<Self>;

    /// The first number of the shape that can't be, by name.
    fn fault(shape: &Self::Shape) -> Option<&'static str>;

    /// All parts of a region of this shape, without memory.
    fn measure(shape: &Self::Shape) -> Parts {
        let mut parts = after_shape::<Self::Shape, Reader>(Parts::measure()).1;
        let _ = Self::carve(&mut parts, shape);
        parts
    }

    /// Bytes that a region of this shape takes.
    fn length(shape: &Self::Shape) -> usize {
        Self::measure(shape).length()
    }

    /// A shape with a large power of two in each place.
    fn reference_shape() -> Self::Shape {
        Self::Shape::read_from_bytes([1u64 << 20; 8].as_bytes()).unwrap_or_else(|_| Self::Shape::new_zeroed())
    }

    /// Hash of all that is in it: the parts of a region of the reference shape, so that their counts and offsets tell how
    /// they depend on the shape.
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
        let shape = words.ok_or_else(|| unfit(name, "size"))?.load();
        if let Some(field) = Self::fault(&shape) {
            return Err(unfit(name, field));
        }
        let view = Self::carve(&mut parts, &shape);
        let fits = parts.length() == region.length();
        view.filter(|_| fits).map(|view| (view, shape)).ok_or_else(|| unfit(name, "size"))
    }
}

/// A region as its creator sees it, and whoever has memory of its own: with the accesses of all of its writers.
pub trait Whole: Typed {
    /// Creates the region; what it holds is zero. `prepare` fills in what stands there before it is ready.
    fn create(name: &str, shape: &Self::Shape, prepare: impl FnOnce(&Self)) -> Result<(Self, OwnedFd), AttachError> {
        let (region, fd) = Region::create(name, Self::KIND, Self::layout_hash(), Self::length(shape))?;
        let view = Self::write_shape(&region, shape).ok_or_else(|| unfit(name, "shape"))?;
        prepare(&view);
        region.make_ready();
        Ok((view, fd))
    }

    /// In memory of this process alone, for tests and benchmarks.
    fn anonymous(shape: &Self::Shape) -> std::io::Result<Self> {
        let region = Region::anonymous(Self::KIND, Self::layout_hash(), Self::length(shape))?;
        Self::write_shape(&region, shape).ok_or_else(|| std::io::Error::other("the shape is impossible"))
    }

    /// In memory of this process alone that takes no more than is written, to try something out.
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

/// How a region has to be mapped whose writers' accesses are these.
const fn mapping(writes: bool) -> Mapping {
    if writes { Mapping::Writable } else { Mapping::ReadOnly }
}

fn unfit(name: &str, field: &'static str) -> AttachError {
    AttachError::Field {
        path: name.into(),
        field,
        found: "a number that doesn't fit".into(),
        expected: "what its creator wrote".into(),
        advice: "stop Shunt and start it again, so that the memory is made anew",
    }
}

#[cfg(test)]
mod tests;
