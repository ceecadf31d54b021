//! The region that the keeper writes: interfaces, ports, switchers. All other processes read it.

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

/// Capacities of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct KeeperShape {
    /// Network interfaces.
    pub interfaces: u64,
    /// Switchers.
    pub switchers: u64,
    /// Ports of all switchers.
    pub ports: u64,
    /// Reserved.
    pub reserved: [u64; 5],
}

described!(KeeperShape { interfaces, switchers, ports, reserved });

coded! {
    "Where an interface leads." InterfaceSide:
    /// To clients: ARP requests for service addresses are answered, and the addresses announced, here.
    Client = 1, "client";
    /// To backends.
    Backend = 2, "backend";
    /// Both.
    Both = 3, "both";
}

impl InterfaceSide {
    /// Whether the interface leads to clients.
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
    /// Name in the kernel; at most 15 bytes.
    pub name: Name,
    /// Index in the kernel; 0 in an empty record.
    pub ifindex: u32,
    /// MTU: largest IP packet that it sends, bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// [`InterfaceSide`].
    pub side: u8,
    /// Reserved.
    pub reserved: [u8; 17],
}

described!(InterfaceRecord { name, ifindex, mtu, mac, side, reserved });

impl InterfaceRecord {
    /// Where it leads; `None` if this build does not know the code.
    pub const fn side(&self) -> Option<InterfaceSide> {
        InterfaceSide::of(self.side)
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
    "How the kernel and a port share frames." PortMode:
    /// The device reads and writes the frame pool.
    ZeroCopy = 1, "zero-copy";
    /// The driver runs the XDP program; the kernel copies frames.
    NativeCopy = 2, "native-copy";
    /// The kernel runs the XDP program on its own buffers and copies frames.
    GenericCopy = 3, "generic-copy";
    /// AF_PACKET's receive and transmit rings.
    Mmap = 4, "mmap";
    /// AF_PACKET's transmit ring only: the switcher has no queue of its own on the interface.
    TransmitOnly = 5, "transmit-only";
}

/// Flag in [`PortRecord::flags`]: the port receives and sends; without it, it only sends.
pub const PORT_RECEIVES: u8 = 1;

/// Flag in [`PortRecord::flags`]: the switcher busy-polls the queue (`SO_PREFER_BUSY_POLL`).
pub const PORT_BUSY_POLLS: u8 = 2;
/// Flag in [`PortRecord::flags`]: a kernel thread on the switcher's CPU receives for the port.
pub const PORT_THREADED: u8 = 4;

/// One interface queue, and the switcher that polls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRecord {
    /// Number of the switcher.
    pub switcher: u16,
    /// Index of the interface in this region.
    pub interface: u16,
    /// Queue of the interface.
    pub queue: u16,
    /// [`PortKind`]; 0 in an empty record.
    pub kind: u8,
    /// [`PortMode`].
    pub mode: u8,
    /// [`PORT_RECEIVES`], [`PORT_BUSY_POLLS`], [`PORT_THREADED`].
    pub flags: u8,
    /// Reserved.
    pub reserved: [u8; 23],
}

described!(PortRecord { switcher, interface, queue, kind, mode, flags, reserved });

impl PortRecord {
    /// How it reaches its queue; `None` if this build does not know the code.
    pub const fn kind(&self) -> Option<PortKind> {
        PortKind::of(self.kind)
    }

    /// How it shares frames with the kernel; `None` if undecided or if this build does not know the code.
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
    /// Its process id; 0 while no process is connected.
    pub pid: u32,
    /// Start time of that process ([`crate::header::start_time`]).
    pub start_time: u64,
    /// Number of handovers of the descriptors to a process.
    pub handovers: u64,
    /// Reserved.
    pub reserved: u64,
}

described!(SwitcherRecord { cpu, pid, start_time, handovers, reserved });

impl SwitcherRecord {
    /// Whether the process that received the descriptors is running.
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid.into(), self.start_time)
    }
}

/// The keeper's state: XDP epoch, process identities, pseudo-interface.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct KeeperHead<A = Reader> {
    /// Control's `prepared` word for the addresses in the XDP maps.
    pub owned: Word<A>,
    /// Process id of the keeper.
    pub pid: Counter<A>,
    /// Start time of the keeper.
    pub start_time: Counter<A>,
    /// Time of the keeper's last turn, in milliseconds of CLOCK_MONOTONIC.
    pub heartbeat_ms: Counter<A>,
    /// Process id of the interface daemon that has the device; 0 if none does.
    pub ifdaemon_pid: Counter<A>,
    /// Start time of the interface daemon.
    pub ifdaemon_start_time: Counter<A>,
    /// Kernel index of the pseudo-interface; 0 if none is configured.
    pub device_index: Counter<A>,
    /// 1 if the kernel sends and accepts packets larger than the device's MTU (segmentation offload).
    pub device_offloads: Counter<A>,
    /// The pseudo-interface's name, zero-padded, as two words in memory order. The operator's shell may be in another network
    /// namespace and unable to look it up by index.
    pub device_name: [Counter<A>; 2],
    _reserved: [Counter<A>; 6],
}

described!(KeeperHead<A> {
    owned, pid, start_time, heartbeat_ms, ifdaemon_pid, ifdaemon_start_time, device_index, device_offloads,
    device_name, _reserved,
});

impl KeeperHead<Writer> {
    /// Keeper only: sets the pseudo-interface's name, truncated to 15 bytes.
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
    /// XDP epoch, process identities, pseudo-interface.
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

    /// Whether the keeper or a switcher of this instance is running in the caller's network namespace.
    pub fn lives_here(&self) -> bool {
        let switchers = self.switchers.iter().map(|record| record.load());
        let switchers = switchers.map(|record| (record.pid.into(), record.start_time));
        let keeper = (self.head.pid.get(), self.head.start_time.get());
        switchers.chain([keeper]).any(|(pid, start_time)| lives_here(pid, start_time))
    }

    /// Whether any switcher is running.
    pub fn has_living_switcher(&self) -> bool {
        self.switchers.iter().any(|record| record.load().is_alive())
    }

    /// Whether the keeper is running.
    pub fn keeper_lives(&self) -> bool {
        is_alive(self.head.pid.get(), self.head.start_time.get())
    }

    /// Process id of the interface daemon that has the device, if it is running.
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
    /// The same region with equal or fewer rights.
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
