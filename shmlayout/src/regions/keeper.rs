//! The region that the keeper writes: interfaces, ports, switchers. Everybody else reads it.

use super::{Typed, Whole, mapping};
use crate::access::{Access, Lends, Reader, Writer};
use crate::coded::coded;
use crate::config_table::Name;
use crate::header::{Kind, is_alive, lives_here};
use crate::layout::described;
use crate::map::{Mapping, Parts, lend, lend_one};
use crate::record::{Counter, Record};
use crate::word::Word;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How much the region has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct KeeperShape {
    /// Network interfaces.
    pub interfaces: u64,
    /// Switchers.
    pub switchers: u64,
    /// Ports, of all switchers.
    pub ports: u64,
    /// Room for later numbers.
    pub reserved: [u64; 5],
}

described!(KeeperShape { interfaces, switchers, ports, reserved });

coded! {
    "Where an interface leads." Side:
    /// To clients: service addresses are answered for and announced here.
    Client = 1, "client";
    /// To backends.
    Backend = 2, "backend";
    /// Both.
    Both = 3, "both";
}

impl Side {
    /// Whether clients are reached by it.
    pub const fn has_clients(self) -> bool {
        match self {
            Self::Client | Self::Both => true,
            Self::Backend => false,
        }
    }
}

/// A network interface (patent: network interface 37).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InterfaceRecord {
    /// Its name in the system; at most 15 bytes.
    pub name: Name,
    /// Its index in the system; 0 says that the record is empty.
    pub ifindex: u32,
    /// Largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// [`Side`].
    pub side: u8,
    /// Room for later fields.
    pub reserved: [u8; 17],
}

described!(InterfaceRecord { name, ifindex, mtu, mac, side, reserved });

impl InterfaceRecord {
    /// Where it leads; `None` if the record has a number that this build doesn't know.
    pub const fn side(&self) -> Option<Side> {
        Side::of(self.side)
    }
}

coded! {
    "How a port reaches its queue." PortKind:
    /// AF_XDP socket.
    AfXdp = 1, "af_xdp";
    /// AF_PACKET socket with memory-mapped rings.
    AfPacket = 2, "af_packet";
}

coded! {
    "How the kernel and a port share the frames." PortMode:
    /// The device reads and writes the frame pool.
    ZeroCopy = 1, "zero-copy";
    /// The driver runs the XDP program; the kernel copies.
    NativeCopy = 2, "native-copy";
    /// The kernel runs the XDP program on its own buffers, and copies.
    GenericCopy = 3, "generic-copy";
    /// AF_PACKET's rings, received and sent.
    Mmap = 4, "mmap";
    /// AF_PACKET's ring, only sent: the switcher has no queue of its own on the interface.
    TransmitOnly = 5, "transmit-only";
}

/// In [`PortRecord::flags`]: frames are received, not only sent.
pub const PORT_RECEIVES: u8 = 1;

/// In [`PortRecord::flags`]: the switcher fetches the queue's packets itself (`SO_PREFER_BUSY_POLL`).
pub const PORT_BUSY_POLLS: u8 = 2;
/// A thread of the kernel's on the switcher's CPU receives for the port.
pub const PORT_THREADED: u8 = 4;

/// One interface queue, and the switcher that polls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRecord {
    /// The switcher.
    pub switcher: u16,
    /// The interface, by its index in this region.
    pub interface: u16,
    /// The queue of the interface.
    pub queue: u16,
    /// [`PortKind`]; 0 says that the record is empty.
    pub kind: u8,
    /// [`PortMode`].
    pub mode: u8,
    /// [`PORT_RECEIVES`], [`PORT_BUSY_POLLS`], [`PORT_THREADED`].
    pub flags: u8,
    /// Room for later fields.
    pub reserved: [u8; 23],
}

described!(PortRecord { switcher, interface, queue, kind, mode, flags, reserved });

impl PortRecord {
    /// How it reaches its queue; `None` if the record has a number that this build doesn't know.
    pub const fn kind(&self) -> Option<PortKind> {
        PortKind::of(self.kind)
    }

    /// How it shares the frames with the kernel; `None` as in [`PortRecord::kind`], and before it is decided.
    pub const fn mode(&self) -> Option<PortMode> {
        PortMode::of(self.mode)
    }
}

/// A switcher as the keeper knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SwitcherRecord {
    /// The CPU it is pinned to.
    pub cpu: u32,
    /// Its process id; 0 while none is connected.
    pub pid: u32,
    /// When that process started ([`crate::header::start_time`]).
    pub start_time: u64,
    /// How often one has been handed the descriptors.
    pub handovers: u64,
    /// Room for later fields.
    pub reserved: u64,
}

described!(SwitcherRecord { cpu, pid, start_time, handovers, reserved });

impl SwitcherRecord {
    /// Whether the process that the keeper gave the descriptors to still is.
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid.into(), self.start_time)
    }
}

/// Numbers before the tables.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct KeeperHead<A = Reader> {
    /// The `prepared` word of control whose addresses the XDP maps hold.
    pub owned: Word<A>,
    /// Process id of the keeper.
    pub pid: Counter<A>,
    /// When that process started.
    pub start_time: Counter<A>,
    /// CLOCK_MONOTONIC in milliseconds, at the keeper's last turn.
    pub heartbeat_ms: Counter<A>,
    /// Process id of the interface daemon that has the device; 0 while none does.
    pub ifdaemon_pid: Counter<A>,
    /// When that process started.
    pub ifdaemon_start_time: Counter<A>,
    /// Index of the pseudo-interface in the system; 0 if none is configured.
    pub device_index: Counter<A>,
    /// 1 if the kernel hands over and takes packets larger than the device's MTU.
    pub device_offloads: Counter<A>,
    /// Its name, padded with zeros, as two words in memory order: the operator's shell may be in another network namespace.
    pub device_name: [Counter<A>; 2],
    _reserved: [Counter<A>; 6],
}

described!(KeeperHead<A> {
    owned, pid, start_time, heartbeat_ms, ifdaemon_pid, ifdaemon_start_time, device_index, device_offloads,
    device_name, _reserved,
});

impl KeeperHead<Writer> {
    /// The keeper's: notes the pseudo-interface's name, of which the system takes 15 bytes at most.
    pub fn set_device_name(&self, name: &str) {
        let mut bytes = [0; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        for (word, bytes) in self.device_name.iter().zip(bytes.as_chunks::<8>().0) {
            word.set(u64::from_ne_bytes(*bytes));
        }
    }
}

impl<A> KeeperHead<A> {
    /// The pseudo-interface's name.
    pub fn device_name(&self) -> String {
        let bytes = self.device_name.each_ref().map(|word| word.get().to_ne_bytes()).concat();
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

/// A view of the keeper region.
#[derive(Clone, Copy)]
pub struct KeeperRegion<A: Access = Reader> {
    /// Numbers.
    pub head: &'static KeeperHead<A>,
    /// [`InterfaceRecord`] by interface id.
    pub interfaces: &'static [Record<InterfaceRecord, 8, A>],
    /// [`SwitcherRecord`] by switcher number.
    pub switchers: &'static [Record<SwitcherRecord, 4, A>],
    /// [`PortRecord`].
    pub ports: &'static [Record<PortRecord, 4, A>],
}

impl<A: Access> KeeperRegion<A> {
    /// The interfaces that exist, with their ids.
    pub fn interfaces(&self) -> impl Iterator<Item = (u16, InterfaceRecord)> + '_ {
        let all = self.interfaces.iter().enumerate().map(|(id, record)| (id as u16, record.load()));
        all.filter(|(_, record)| record.ifindex != 0)
    }

    /// Whether the keeper or a switcher of this instance lives, and in this process's network namespace.
    pub fn lives_here(&self) -> bool {
        let switchers = self.switchers.iter().map(|record| record.load());
        let switchers = switchers.map(|record| (record.pid.into(), record.start_time));
        let keeper = (self.head.pid.get(), self.head.start_time.get());
        switchers.chain([keeper]).any(|(pid, start_time)| lives_here(pid, start_time))
    }

    /// Whether a switcher lives.
    pub fn has_living_switcher(&self) -> bool {
        self.switchers.iter().any(|record| record.load().is_alive())
    }

    /// Whether the keeper lives.
    pub fn keeper_lives(&self) -> bool {
        is_alive(self.head.pid.get(), self.head.start_time.get())
    }

    /// The interface daemon that has the device, if one lives.
    pub fn living_daemon(&self) -> Option<u32> {
        let pid = self.head.ifdaemon_pid.get();
        is_alive(pid, self.head.ifdaemon_start_time.get()).then_some(pid as u32)
    }

    /// The ports that exist.
    pub fn ports(&self) -> impl Iterator<Item = PortRecord> + '_ {
        self.ports.iter().map(|record| record.load()).filter(|record| record.kind != 0)
    }
}

impl<A: Access> KeeperRegion<A> {
    /// The same region with no more rights.
    pub fn lend<B: Access>(&self) -> KeeperRegion<B>
    where
        A: Lends<B>,
    {
        KeeperRegion {
            head: lend_one(self.head),
            interfaces: lend(self.interfaces),
            switchers: lend(self.switchers),
            ports: lend(self.ports),
        }
    }
}

impl Whole for KeeperRegion<Writer> {}

impl<A: Access> Typed for KeeperRegion<A> {
    const KIND: Kind = Kind::Keeper;
    const MAPPING: Mapping = mapping(A::WRITES);
    type Shape = KeeperShape;

    fn carve(parts: &mut Parts, shape: &KeeperShape) -> Option<Self> {
        let head = parts.one();
        let interfaces = parts.take(shape.interfaces as usize);
        let switchers = parts.take(shape.switchers as usize);
        let ports = parts.take(shape.ports as usize);
        Some(Self { head: head?, interfaces, switchers, ports })
    }

    fn fault(shape: &KeeperShape) -> Option<&'static str> {
        let over = |value: u64| value > 1 << 16;
        let interfaces = over(shape.interfaces).then_some("interfaces");
        interfaces.or(over(shape.switchers).then_some("switchers")).or(over(shape.ports).then_some("ports"))
    }
}

const _: () = assert!(size_of::<InterfaceRecord>() == 64);
const _: () = assert!(size_of::<PortRecord>() == 32 && size_of::<SwitcherRecord>() == 32);
