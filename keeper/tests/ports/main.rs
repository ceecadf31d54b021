//! The ports on real interfaces: network namespaces, veth, raw frames, kill -9. Needs root; says so and passes without.

mod echo;
mod lab;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use echo::{Kept, SLOTS};
use lab::{INTERFACE, Lab, Peer, index, inside, run};
use shunt_keeper::bpf::{self, AttachMode, Redirect, Sizes};
use shunt_keeper::port::af_packet;
use shunt_keeper::port::af_xdp::{self, BindMode, Sharing};
use shunt_packet::Buffer;
use shunt_packet::testing::udp;
use shunt_protocol::port::Role;
use shunt_shmlayout::address::Address;
use shunt_switcher::port::af_packet::PacketPort;
use shunt_switcher::port::af_xdp::XdpPort;
use shunt_switcher::port::{Pool, Port};

const CLIENT: [u8; 4] = [198, 18, 0, 1];
const SERVICE: [u8; 4] = [198, 18, 0, 100];
const BOX: [u8; 4] = [198, 18, 0, 2];
const QUEUES: u32 = 2;
/// Where the payload of a UDP frame begins.
const PAYLOAD: usize = 14 + 20 + 8;

/// Only to end a test that has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a program of ours is on the interface, and stays there without us.
fn is_pinned(directory: &std::path::Path, interface: u32) -> bool {
    directory.join(format!("if{interface}/link")).exists()
}

#[test]
#[ignore = "the echo process of the other tests"]
fn echo_process() {
    echo::main();
}

fn packet(to: [u8; 4], source_port: u16, number: u32) -> Vec<u8> {
    udp((CLIENT, source_port), (to, 53)).payload(&number.to_be_bytes()).build()
}

/// The number in one of our frames.
fn number(frame: &[u8]) -> Option<u32> {
    let is_udp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17;
    let number = frame.get(PAYLOAD..PAYLOAD + 4)?;
    is_udp.then(|| u32::from_be_bytes(number.try_into().expect("four bytes")))
}

/// Receives until `count` of our frames have come.
fn collect(peer: &mut Peer, count: usize) -> Vec<u32> {
    let (mut numbers, start) = (Vec::new(), Instant::now());
    while numbers.len() < count && start.elapsed() < PATIENCE {
        numbers.extend(peer.receive().iter().filter_map(|frame| number(frame)));
        std::thread::yield_now();
    }
    numbers
}

/// How many of our frames still come, until the wire is silent.
fn rest(peer: &mut Peer) -> usize {
    const SILENCE: Duration = Duration::from_millis(500);
    let (mut count, mut last) = (0, Instant::now());
    while last.elapsed() < SILENCE {
        let came = peer.receive().iter().filter(|frame| number(frame).is_some()).count();
        if came > 0 {
            (count, last) = (count + came, Instant::now());
        }
        std::thread::yield_now();
    }
    count
}

/// A bpffs, unmounted with the value.
struct Pins(tempfile::TempDir);

impl Pins {
    fn new() -> Pins {
        let directory = tempfile::tempdir().expect("a directory");
        bpf::mount(directory.path()).expect("a bpffs");
        Pins(directory)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Both queues of the interface as AF_XDP sockets, redirected to.
fn open_xdp(lab: &Lab, pins: &Pins, mode: AttachMode, kept: &mut Kept) -> Redirect {
    let interface = inside(&lab.lb, || index(INTERFACE));
    for queue in 0..QUEUES {
        let sharing = match kept.sockets.first() {
            None => Sharing::Register(&kept.frames),
            Some(first) => Sharing::With(first.as_fd()),
        };
        let socket = inside(&lab.lb, || af_xdp::open(interface, queue, SLOTS, sharing, BindMode::Copy));
        kept.sockets.push(socket.expect("an AF_XDP socket"));
    }
    let sizes = Sizes { queues: QUEUES, services: 16, backends: 16, local: 1 };
    let directory = pins.0.path();
    let mut redirect = inside(&lab.lb, || Redirect::attach(directory, interface, mode, sizes)).expect("attached");
    redirect.set_services([Address::from_v4(SERVICE)]).expect("room");
    for (queue, socket) in (0..).zip(&kept.sockets) {
        redirect.set_port(queue, socket.as_fd()).expect("room");
    }
    redirect
}

/// Echo, kill -9, packets meanwhile, a successor: nothing that the ring can hold is lost or out of order; and kills under
/// traffic lose at most what the dead process had in hand.
fn outlives_its_switcher(lab: &Lab, kept: &Kept) {
    const MEANWHILE: u32 = 200;
    let mut peer = lab.peer();
    let process = kept.start();
    (0..100).for_each(|n| peer.send(&packet(SERVICE, 4000, n)));
    assert_eq!(collect(&mut peer, 100), (0..100).collect::<Vec<_>>(), "the first process echoes");
    process.kill();
    (0..MEANWHILE).for_each(|n| peer.send(&packet(SERVICE, 4000, n)));
    let mut process = kept.start();
    assert_eq!(collect(&mut peer, MEANWHILE as usize), (0..MEANWHILE).collect::<Vec<_>>(), "the successor has all");

    const KILLS: u32 = 20;
    const BURST: u32 = 128;
    let mut back = 0;
    for kill in 0..KILLS {
        for n in 0..BURST {
            peer.send(&packet(SERVICE, 4000 + (n % 7) as u16, n));
            if n == BURST / 2 {
                process.kill();
                process = kept.start();
            }
            back += peer.receive().iter().filter(|frame| number(frame).is_some()).count();
        }
        // One more goes through: everything before it in its queue came or is lost.
        (0..8).for_each(|flow| peer.send(&packet(SERVICE, 4000 + flow, u32::MAX - kill)));
        back += collect(&mut peer, 1).len();
    }
    back += rest(&mut peer);
    let lost = ((BURST + 8) * KILLS) as usize - back;
    assert!(lost <= 64 * 2 * KILLS as usize, "{lost} lost in {KILLS} kills");
    eprintln!("{KILLS} kills under traffic: {lost} of {} packets lost", (BURST + 8) * KILLS);
    process.kill();
}

#[test]
fn af_xdp_native_queue_outlives_its_switcher() {
    let Some(lab) = Lab::new("native") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("native", true));
    let redirect = open_xdp(&lab, &pins, AttachMode::Native, &mut kept);
    outlives_its_switcher(&lab, &kept);
    redirect.detach().expect("detached");
}

#[test]
fn af_xdp_generic_queue_outlives_its_switcher() {
    let Some(lab) = Lab::new("generic") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("generic", true));
    let _redirect = open_xdp(&lab, &pins, AttachMode::Generic, &mut kept);
    outlives_its_switcher(&lab, &kept);
}

#[test]
fn af_packet_port_outlives_its_switcher() {
    let Some(lab) = Lab::new("packet") else { return };
    let mut kept = Kept::new("packet", false);
    let socket = inside(&lab.lb, || af_packet::open(index(INTERFACE), SLOTS, Role::Both, None));
    kept.sockets.push(socket.expect("an AF_PACKET socket"));
    outlives_its_switcher(&lab, &kept);
}

/// One port in this process.
fn own_port(kept: &mut Kept) -> (XdpPort, Pool) {
    let ledger = kept.ledger();
    let socket = kept.sockets[0].try_clone().expect("a copy");
    let port = XdpPort::map(socket, 0, SLOTS, &ledger, kept.region.sockets).expect("mapped");
    let memory = std::mem::replace(&mut kept.frames, memmap2::MmapMut::map_anon(4096).expect("memory").into());
    let pool = Pool::recover(memory, ledger, &[port.standing(&ledger).expect("rings")]).expect("sizes agree");
    (port, pool)
}

#[test]
fn kernel_keeps_what_is_not_shunts_and_a_restarted_keeper_takes_over() {
    let Some(lab) = Lab::new("pass") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("pass", true));
    drop(open_xdp(&lab, &pins, AttachMode::Native, &mut kept));
    let interface = inside(&lab.lb, || index(INTERFACE));
    assert!(is_pinned(pins.0.path(), interface), "pinned: it survives the one who loaded it");
    // The kernel's stack as a tap sees it: behind XDP.
    let tap = inside(&lab.lb, || af_packet::open(interface, SLOTS, Role::Both, None)).expect("a tap");
    let (mut tap, mut peer, process) = (Peer::new(tap), lab.peer(), kept.start());
    peer.send(&packet(SERVICE, 4000, 1));
    peer.send(&packet(BOX, 4000, 2));
    assert_eq!((collect(&mut peer, 1), collect(&mut tap, 1)), (vec![1], vec![2]));

    let sizes = Sizes { queues: QUEUES, services: 16, backends: 16, local: 1 };
    let attach = || Redirect::attach(pins.0.path(), interface, AttachMode::Native, sizes);
    let mut redirect = inside(&lab.lb, attach).expect("takes over");
    peer.send(&packet(SERVICE, 4000, 3));
    assert_eq!(collect(&mut peer, 1), [3], "maps and sockets are those from before");
    redirect.set_services([Address::from_v4(BOX)]).expect("room");
    peer.send(&packet(SERVICE, 4000, 4));
    peer.send(&packet(BOX, 4000, 5));
    assert_eq!((collect(&mut peer, 1), collect(&mut tap, 1)), (vec![5], vec![4]));

    redirect.detach().expect("detached");
    assert!(!is_pinned(pins.0.path(), interface));
    // The kernel takes the program off a little later, and a veth drops what it holds at that moment.
    let start = Instant::now();
    while tap.receive().iter().all(|frame| number(frame) != Some(6)) {
        assert!(start.elapsed() < PATIENCE, "the kernel has all packets again");
        peer.send(&packet(BOX, 4000, 6));
        std::thread::yield_now();
    }
    process.kill();
}

#[test]
fn losses_are_counted_once_whoever_has_the_socket() {
    let Some(lab) = Lab::new("losses") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("losses", true));
    let _redirect = open_xdp(&lab, &pins, AttachMode::Native, &mut kept);
    let mut peer = lab.peer();
    let map = |port: u8| {
        let socket = kept.sockets[usize::from(port)].try_clone().expect("a copy");
        XdpPort::map(socket, port, SLOTS, &kept.ledger(), kept.region.sockets).expect("mapped")
    };
    // A new switcher each time; packets go to either queue.
    let count = |mut port: XdpPort| {
        let lost = port.losses();
        port.commit_losses();
        lost.no_frame + lost.invalid
    };
    let look = || (0..QUEUES as u8).map(|port| count(map(port))).sum::<u64>();
    for round in ["first", "second"] {
        // Nobody offers the kernel a frame.
        (0..200).for_each(|n| peer.send(&packet(SERVICE, 4000 + n as u16, n)));
        let (mut lost, start) = (0, Instant::now());
        while lost < 200 && start.elapsed() < PATIENCE {
            std::thread::yield_now();
            lost += look();
        }
        assert_eq!((lost, look()), (200, 0), "{round} round");
        peer.send(&packet(SERVICE, 4000, 0));
        let uncounted = || (0..QUEUES as u8).map(|port| map(port).losses().no_frame).sum::<u64>();
        while uncounted() == 0 && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        assert_eq!((uncounted(), look()), (1, 1), "killed before it counted, {round} round");
    }
}

#[test]
fn interface_down_up_and_gone_is_survived() {
    let Some(lab) = Lab::new("down") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("down", true));
    let _redirect = open_xdp(&lab, &pins, AttachMode::Native, &mut kept);
    let (mut port, mut pool) = own_port(&mut kept);
    let mut peer = lab.peer();
    let link = |state| run(&["ip", "-n", &lab.lb, "link", "set", INTERFACE, state]);
    link("down");
    for n in 0..100_000 {
        if let Some(frame) = pool.copy_in(&packet(CLIENT, 53, n))
            && let Err(frame) = port.send(&mut pool, frame)
        {
            pool.give(frame);
        }
        port.flush(&mut pool);
    }
    let errors = port.losses().send_errors;
    assert!((1..1000).contains(&errors), "{errors} failed kicks in 100000 turns");
    link("up");
    let start = Instant::now();
    let mut came = Vec::new();
    while came.len() < SLOTS as usize && start.elapsed() < PATIENCE {
        port.flush(&mut pool);
        came.extend(peer.receive().iter().filter_map(|frame| number(frame)));
    }
    assert_eq!(came.len(), SLOTS as usize, "what stood in the ring goes out");
    run(&["ip", "-n", &lab.lb, "link", "del", INTERFACE]);
    for n in 0..10_000 {
        if let Some(frame) = pool.copy_in(&packet(CLIENT, 53, n))
            && let Err(frame) = port.send(&mut pool, frame)
        {
            pool.give(frame);
        }
        echo::turn(&mut port, &mut pool);
    }
    assert!(port.losses().send_errors > 0);
}

/// A header of 20 bytes before each frame leaves with it, and each frame comes back: it starts where no received one does.
fn sends_pushed_headers(port: &mut dyn Port, pool: &mut Pool, peer: &mut Peer) {
    /// Ethernet with a type for local experiments (IEEE 802), and 6 bytes.
    const OUTER: [u8; 20] = *b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5header";
    port.flush(pool);
    let free = pool.free();
    for n in 0..3 * SLOTS {
        let inner = packet(CLIENT, 53, n);
        let frame = pool.copy_in(&inner).expect("a free frame");
        let push = |buffer: &mut Buffer<'_>| buffer.push(OUTER.len()).expect("head room").copy_from_slice(&OUTER);
        let (frame, ()) = pool.change(frame, push);
        port.send(pool, frame).expect("room, because each is kicked");
        let start = Instant::now();
        let whole = loop {
            port.flush(pool);
            if let Some(frame) = peer.receive().into_iter().find(|frame| frame.get(12..14) == Some(&OUTER[12..14])) {
                break frame;
            }
            assert!(start.elapsed() < PATIENCE, "frame {n} leaves");
        };
        assert_eq!(whole, [&OUTER[..], &inner[..]].concat());
    }
    let start = Instant::now();
    while pool.free() != free {
        assert!(start.elapsed() < PATIENCE, "{} of {free} frames are back", pool.free());
        port.flush(pool);
    }
}

#[test]
fn a_header_pushed_into_the_head_room_leaves_by_af_xdp() {
    let Some(lab) = Lab::new("push") else { return };
    let (pins, mut kept) = (Pins::new(), Kept::new("push", true));
    let _redirect = open_xdp(&lab, &pins, AttachMode::Native, &mut kept);
    let (mut port, mut pool) = own_port(&mut kept);
    sends_pushed_headers(&mut port, &mut pool, &mut lab.peer());
}

#[test]
fn a_header_pushed_into_the_head_room_leaves_by_af_packet() {
    let Some(lab) = Lab::new("pushp") else { return };
    let socket = inside(&lab.lb, || af_packet::open(index(INTERFACE), SLOTS, Role::TransmitOnly, None));
    let kept = Kept::new("pushp", false);
    let (mut port, mut pool) = transmit_only(socket.expect("a socket"), &kept);
    sends_pushed_headers(&mut port, &mut pool, &mut lab.peer());
}

#[test]
fn fanout_gives_each_flow_to_one_of_two_switchers() {
    const FLOWS: u16 = 64;
    let Some(lab) = Lab::new("fanout") else { return };
    let interface = inside(&lab.lb, || index(INTERFACE));
    let open = || inside(&lab.lb, || af_packet::open(interface, SLOTS, Role::Both, Some(interface as u16)));
    let mut switchers = [(); 2].map(|()| Peer::new(open().expect("an AF_PACKET socket")));
    let mut peer = lab.peer();
    for packet_number in 0..2 {
        (0..FLOWS).for_each(|flow| peer.send(&packet(SERVICE, flow + 1, packet_number * 1000 + u32::from(flow))));
    }
    let mut flows: [Vec<u32>; 2] = Default::default();
    let start = Instant::now();
    while flows.iter().map(Vec::len).sum::<usize>() < 2 * usize::from(FLOWS) && start.elapsed() < PATIENCE {
        for (switcher, flows) in switchers.iter_mut().zip(&mut flows) {
            flows.extend(switcher.receive().iter().filter_map(|frame| number(frame)).map(|number| number % 1000));
        }
    }
    for own in &mut flows {
        own.sort_unstable();
        assert!(!own.is_empty(), "the hash leaves nobody without work");
        assert!(own.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "both packets of a flow: {own:?}");
    }
}

/// A port that only sends, and a pool of its own.
fn transmit_only(socket: OwnedFd, kept: &Kept) -> (PacketPort, Pool) {
    let ledger = kept.ledger();
    let port = PacketPort::map(socket, 0, SLOTS, Role::TransmitOnly, &ledger).expect("mapped");
    let memory = memmap2::MmapMut::map_anon((echo::FRAMES * shunt_shmlayout::frames::CHUNK) as usize).expect("memory");
    (port, Pool::recover(memory.into(), ledger, &[]).expect("sizes agree"))
}

#[test]
fn transmit_only_port_sends_and_hears_nothing() {
    let Some(lab) = Lab::new("only") else { return };
    let socket =
        inside(&lab.lb, || af_packet::open(index(INTERFACE), SLOTS, Role::TransmitOnly, None)).expect("a socket");
    let kept = Kept::new("only", false);
    let (mut port, mut pool) = transmit_only(socket, &kept);
    let (mut peer, free) = (lab.peer(), pool.free());
    for n in 0..1000 {
        let frame = pool.copy_in(&packet(CLIENT, 53, n)).expect("a free frame");
        port.send(&mut pool, frame).expect("room, because each is kicked");
        port.flush(&mut pool);
        assert_eq!(collect(&mut peer, 1), [n]);
        peer.send(&packet(SERVICE, 4000, n));
    }
    echo::turn(&mut port, &mut pool);
    assert_eq!((pool.free(), collect_now(&mut peer)), (free, 0));
}

fn collect_now(peer: &mut Peer) -> usize {
    peer.receive().len()
}
