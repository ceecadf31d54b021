//! The interface daemon as a process. This test plays keeper and switcher; the device is a pair of sockets that keep
//! packets apart, and bears the name `lo`, so that 127.0.0.1 is the host's own address. Needs root; says so and passes
//! without.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket, socketpair};
use nix::unistd::{read, write};
use shunt_packet::checksum;
use shunt_packet::tcp::ACK;
use shunt_packet::testing::{tcp, udp};
use shunt_protocol::handover::ifdaemon::DeviceManifest;
use shunt_protocol::handover::{Request, Response, accept, receive, send};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{DaemonDrop, IfdaemonRegion, IfdaemonShape, StoreRegion, StoreShape, Whole};
use shunt_shmlayout::store::PACKET_BYTES;

/// Only to end a test that has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const HOST: [u8; 4] = [127, 0, 0, 1];
const CLIENT: [u8; 4] = [198, 18, 0, 1];
const VNET: usize = 10;

/// What a keeper has: memory, wake-up, device; and the kernel's end of the device.
struct Keeper {
    instance: String,
    listener: OwnedFd,
    region: (IfdaemonRegion<Writer>, OwnedFd),
    stores: Vec<(StoreRegion<Writer, Writer>, OwnedFd)>,
    wake: EventFd,
    device: OwnedFd,
    kernel: OwnedFd,
    has_offloads: bool,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.directory());
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(&format!("shunt.{}.", self.instance)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The daemon, killed with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Keeper {
    fn new(name: &str, switchers: usize, has_offloads: bool) -> Option<Keeper> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: /run/shunt and the change of user need root");
            return None;
        }
        let instance = format!("store-{name}-{}", std::process::id());
        let directory = Path::new("/run/shunt").join(&instance);
        std::fs::create_dir_all(&directory).expect("a directory");
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
        let address = UnixAddr::new(&directory.join("keeper.sock")).expect("a short path");
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &address).expect("bound");
        listen(&listener, Backlog::new(4).expect("a number")).expect("listening");
        let name = |region: &str| format!("/shunt.{instance}.{region}");
        let region = IfdaemonRegion::create(&name("ifdaemon"), &IfdaemonShape::default(), |_| {}).expect("memory");
        let stores = (0..switchers)
            .map(|number| StoreRegion::create(&name(&format!("store.{number}")), &StoreShape::new(64), |_| {}));
        let stores = stores.collect::<Result<_, _>>().expect("memory");
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags | SockFlag::SOCK_NONBLOCK);
        let (device, kernel) = pair.expect("a pair of sockets");
        Some(Keeper { instance, listener, region, stores, wake, device, kernel, has_offloads })
    }

    fn directory(&self) -> PathBuf {
        Path::new("/run/shunt").join(&self.instance)
    }

    /// Starts a daemon and hands it everything.
    fn start(&self) -> Daemon {
        let generation = self.region.0.head.generation.get();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt-ifdaemon"));
        let daemon = Daemon(command.args(["--instance", &self.instance]).spawn().expect("a daemon"));
        let connection = accept(self.listener.as_fd()).expect("the daemon's request");
        let (request, _) = receive::<Request>(connection.as_fd()).expect("a request");
        assert!(matches!(request, Request::Ifdaemon), "{request:?}");
        let manifest = DeviceManifest {
            user: "nobody".into(),
            device: "lo".into(),
            mtu: 1500,
            has_offloads: self.has_offloads,
            switchers: self.stores.len() as u16,
        };
        let regions = std::iter::once(&self.region.1).chain(self.stores.iter().map(|(_, fd)| fd)).map(AsFd::as_fd);
        let descriptors: Vec<_> = regions.chain([self.wake.as_fd(), self.device.as_fd()]).collect();
        send(connection.as_fd(), &Response::Granted(Some(manifest)), &descriptors).expect("sent");
        wait("the daemon runs", || self.region.0.head.generation.get() > generation);
        daemon
    }

    /// Plays switcher `number`: a packet for the host.
    fn deliver(&self, number: usize, packets: &[Vec<u8>]) {
        let store = &self.stores[number].0;
        let (mut ring, mut ringer) =
            (store.to_host.producer(), shunt_shmlayout::store::Ringer::new(&store.daemon.doorbell));
        packets.iter().for_each(|packet| ring.push(packet).expect("room"));
        if ring.publish() && ringer.must_ring() {
            self.wake.write(1).expect("a signal");
        }
    }

    /// Plays the kernel: the next packet that the host gets, with its vnet header if there are offloads.
    fn host_receives(&self) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let mut length = None;
        wait("a packet at the host", || {
            length = match read(&self.kernel, &mut bytes) {
                Ok(length) => Some(length),
                Err(Errno::EAGAIN) => None,
                Err(errno) => panic!("the device: {errno}"),
            };
            length.is_some()
        });
        bytes.truncate(length.expect("waited for"));
        bytes
    }

    /// Plays the kernel: the host sends, behind an empty vnet header if there are offloads.
    fn host_sends(&self, packet: &[u8]) {
        let header: &[u8] = if self.has_offloads { &[0; VNET] } else { &[] };
        write(&self.kernel, &[header, packet].concat()).expect("sent");
    }

    /// The next packet that a switcher gets from the host, and which one.
    fn switcher_receives(&self) -> (usize, Vec<u8>) {
        let (mut packet, mut found) = (vec![0; PACKET_BYTES], None);
        wait("a packet at a switcher", || {
            let stores = self.stores.iter().enumerate();
            found = stores
                .filter_map(|(number, (store, _))| Some((number, store.from_host.consumer().pop(&mut packet)?)))
                .next();
            found.is_some()
        });
        let (number, length) = found.expect("waited for");
        packet.truncate(length);
        (number, packet)
    }

    fn dropped(&self, reason: DaemonDrop) -> u64 {
        self.region.0.head.drops[reason as usize].get()
    }
}

fn wait(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn to_host(payload: &[u8]) -> Vec<u8> {
    udp((CLIENT, 4000), (HOST, 53)).payload(payload).build()[14..].to_vec()
}

fn from_host(port: u16, payload: &[u8]) -> Vec<u8> {
    udp((HOST, 53), (CLIENT, port)).payload(payload).build()[14..].to_vec()
}

#[test]
fn packets_go_both_ways_and_a_successor_goes_on() {
    let Some(keeper) = Keeper::new("both", 2, false) else { return };
    let daemon = keeper.start();
    for number in 0..2 {
        // Asleep: only the wake-up, or the longest nap, gets it going.
        wait("the daemon sleeps", || keeper.stores[number].0.daemon.doorbell.is_armed());
        keeper.deliver(number, &[to_host(b"first"), to_host(b"second")]);
        assert_eq!([keeper.host_receives(), keeper.host_receives()], [to_host(b"first"), to_host(b"second")]);
    }
    let mut ways = Vec::new();
    for port in 0..32 {
        keeper.host_sends(&from_host(4000 + port, b"answer"));
        let (number, packet) = keeper.switcher_receives();
        assert_eq!(packet, from_host(4000 + port, b"answer"));
        ways.push(number);
    }
    assert!(ways.contains(&0) && ways.contains(&1), "connections are spread over the switchers: {ways:?}");

    // Killed, and what waits meanwhile isn't lost: neither in the store nor in the device.
    drop(daemon);
    keeper.deliver(1, &[to_host(b"meanwhile")]);
    keeper.host_sends(&from_host(4000, b"meanwhile"));
    let _daemon = keeper.start();
    assert_eq!(keeper.host_receives(), to_host(b"meanwhile"));
    assert_eq!(keeper.switcher_receives(), (ways[0], from_host(4000, b"meanwhile")));
    let head = keeper.region.0.head;
    assert_eq!((head.generation.get(), head.packets_in.get(), head.packets_out.get()), (2, 5, 33));
}

#[test]
fn what_the_host_may_not_send_is_dropped_by_reason() {
    let Some(keeper) = Keeper::new("drops", 1, false) else { return };
    let _daemon = keeper.start();
    let foreign = udp((CLIENT, 1), (HOST, 2)).payload(b"forged").build()[14..].to_vec();
    let mut malformed = from_host(1, b"short");
    malformed[3] = 200;
    let bad = [foreign, [0x60; 40].to_vec(), from_host(1, &[0; 1480]), malformed];
    bad.iter().for_each(|packet| keeper.host_sends(packet));
    keeper.host_sends(&from_host(4000, b"good"));
    assert_eq!(keeper.switcher_receives().1, from_host(4000, b"good"));
    let reasons = [DaemonDrop::ForeignSource, DaemonDrop::Ipv6, DaemonDrop::Oversized, DaemonDrop::Malformed];
    assert_eq!(reasons.map(|reason| keeper.dropped(reason)), [1, 1, 1, 1]);

    // A switcher that takes nothing (the ring has 64 cells) is waited for a while, then its packets are dropped.
    (0..80).for_each(|_| keeper.host_sends(&from_host(4000, b"too many")));
    wait("the ring is full", || keeper.dropped(DaemonDrop::RingFull) == 80 - 64);
    assert_eq!(keeper.stores[0].0.from_host.depth(), 64);
    assert_eq!(keeper.stores[0].0.daemon.dropped.get(), 80 - 64);
}

#[test]
fn with_offloads_a_train_arrives_as_one_packet_and_a_large_one_leaves_in_segments() {
    let Some(keeper) = Keeper::new("offload", 1, true) else { return };
    let _daemon = keeper.start();
    let segment = |number: u32, payload: &[u8]| {
        let mut packet =
            tcp((CLIENT, 4000), (HOST, 80), ACK).sequence(1000 * number).payload(payload).build()[14..].to_vec();
        packet[6] = 0x40; // don't fragment
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    keeper.deliver(0, &[0, 1, 2].map(|number| segment(number, &[number as u8; 1000])));
    let whole = keeper.host_receives();
    assert_eq!((whole[1], whole.len()), (1, VNET + 40 + 3000), "one packet of segmentation type TCP over IPv4");
    assert_eq!(whole[VNET + 40..], [[0; 1000], [1; 1000], [2; 1000]].concat());

    // What the host received it sends back: the kernel hands over large packets in the same form.
    let mut large = whole.clone();
    large[VNET + 12..VNET + 16].copy_from_slice(&HOST);
    large[VNET + 16..VNET + 20].copy_from_slice(&CLIENT);
    write(&keeper.kernel, &large).expect("sent");
    for number in 0..3u32 {
        let (_, packet) = keeper.switcher_receives();
        assert_eq!(packet[40..], [number as u8; 1000]);
        assert_eq!(packet[24..28], (1000 * number).to_be_bytes());
        let pseudo = checksum::pseudo_header(HOST, CLIENT, 6, 1020);
        assert!(checksum::verify(pseudo + checksum::sum(&packet[20..])));
    }
    let head = keeper.region.0.head;
    assert_eq!((head.writes.get(), head.packets_in.get(), head.reads.get(), head.packets_out.get()), (1, 3, 1, 3));
}

#[test]
fn a_second_daemon_is_told_who_runs() {
    let Some(keeper) = Keeper::new("second", 1, false) else { return };
    let daemon = keeper.start();
    let second = Command::new(env!("CARGO_BIN_EXE_shunt-ifdaemon")).args(["--instance", &keeper.instance]).output();
    let second = second.expect("a second daemon");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains(&format!("shunt-ifdaemon is already running as pid {}", daemon.0.id())), "{text}");
    assert_eq!(second.status.code(), Some(78));
}
