//! The program's rules, by running it in the kernel on single packets.

use super::*;
use aya::programs::{TestRun, TestRunOptions};
use shunt_packet::{tcp, testing};
use std::os::fd::{AsFd, OwnedFd};

const PASS: u32 = 2;
const REDIRECT: u32 = 4;

const CLIENT: [u8; 4] = [198, 18, 0, 1];
const SERVICE: [u8; 4] = [198, 18, 0, 100];
const BACKEND: [u8; 4] = [198, 18, 1, 11];
const BOX: [u8; 4] = [198, 18, 1, 1];

/// The program with one service, one backend and one own address, and a socket at queue 0.
struct Loaded {
    ebpf: Ebpf,
    maps: (XskMap<MapData>, KeySet<16>, KeySet<20>, KeySet<16>),
    _socket: OwnedFd,
    directory: tempfile::TempDir,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.directory.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl Loaded {
    /// `None`, said aloud, without root.
    fn new() -> Option<Loaded> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: loading an XDP program needs root");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        mount(directory.path()).expect("a bpffs");
        let mut ebpf = load(directory.path(), Sizes { queues: 1, services: 8, backends: 8, local: 1 }).expect("loads");
        let program: &mut Xdp = ebpf.program_mut("shunt").expect("named so").try_into().expect("XDP");
        program.load().expect("passes the verifier");
        let mut map = |name| ebpf.take_map(name).expect("a map");
        let mut ports = XskMap::try_from(map("ports")).expect("ports");
        let mut services = KeySet::open("services", map("services")).expect("services");
        let mut backends = KeySet::open("backends", map("backends")).expect("backends");
        let mut local = KeySet::open("local", map("local")).expect("local");
        let socket = crate::port::af_xdp::unbound().expect("an AF_XDP socket");
        ports.set(0, socket.as_fd().as_raw_fd(), 0).expect("a place for the socket");
        services.replace([Address::from_v4(SERVICE).0].into()).expect("room");
        let backend = backend_key((Address::from_v4(BACKEND), PortBe::new(8080), 6));
        backends.replace([backend].into()).expect("room");
        local.replace([Address::from_v4(BOX).0].into()).expect("room");
        Some(Loaded { ebpf, maps: (ports, services, backends, local), _socket: socket, directory })
    }

    fn run(&mut self, packet: &[u8]) -> u32 {
        let program: &mut Xdp = self.ebpf.program_mut("shunt").expect("named so").try_into().expect("XDP");
        let mut padded = packet.to_vec();
        padded.resize(packet.len().max(60), 0);
        let options = TestRunOptions { data_in: Some(&padded), ..TestRunOptions::new() };
        program.test_run(options).expect("runs").return_value
    }
}

#[test]
fn only_what_is_shunts_is_redirected() {
    let Some(mut program) = Loaded::new() else { return };
    let tcp = |from, to| testing::tcp(from, to, tcp::SYN);
    let fragment = testing::poke(testing::udp((CLIENT, 4000), (SERVICE, 53)).build(), 14 + 6, &[0, 9]);
    let arp_request = testing::arp_request(testing::PEER_MAC, CLIENT, SERVICE);
    let cases = [
        ("to the service", tcp((CLIENT, 4000), (SERVICE, 80)).build(), REDIRECT),
        ("to the service, another port", tcp((CLIENT, 4000), (SERVICE, 22)).build(), REDIRECT),
        ("to the service, UDP", testing::udp((CLIENT, 4000), (SERVICE, 53)).build(), REDIRECT),
        ("to the service, a later fragment", fragment, REDIRECT),
        ("to the service, ICMP", testing::icmp_echo(CLIENT, SERVICE).build(), REDIRECT),
        ("to the box", tcp((CLIENT, 4000), (BOX, 22)).build(), PASS),
        ("reply of the backend", tcp((BACKEND, 8080), (CLIENT, 4000)).build(), REDIRECT),
        ("reply with IP options", tcp((BACKEND, 8080), (CLIENT, 4000)).ip_options(&[1; 4]).build(), REDIRECT),
        ("reply to a health check", tcp((BACKEND, 8080), (BOX, 4000)).build(), PASS),
        ("reply to one at the service's address", tcp((SERVICE, 80), (BOX, 4000)).build(), PASS),
        ("backend, another port", tcp((BACKEND, 22), (CLIENT, 4000)).build(), PASS),
        ("backend, another protocol", testing::udp((BACKEND, 8080), (CLIENT, 4000)).build(), PASS),
        ("somebody else", tcp((CLIENT, 8080), (BACKEND, 8080)).build(), PASS),
        ("tagged", tcp((CLIENT, 4000), (SERVICE, 80)).vlan(5).build(), PASS),
        ("ARP for the service", arp_request.clone(), REDIRECT),
        ("an answer to ARP", testing::poke(arp_request.clone(), 14 + 7, &[2]), PASS),
        ("ARP for the box", testing::arp_request(testing::PEER_MAC, CLIENT, BOX), PASS),
        ("nothing known", vec![0; 60], PASS),
    ];
    for (name, packet, verdict) in cases {
        assert_eq!(program.run(&packet), verdict, "{name}");
    }
}

/// An ICMP error to the sender of a packet about it.
fn error(kind: u8, from: [u8; 4], cause: &[u8]) -> Vec<u8> {
    let sender = [cause[26], cause[27], cause[28], cause[29]];
    testing::icmp_echo(from, sender).icmp(kind, 3).payload(&cause[14..]).build()
}

#[test]
fn errors_about_what_backends_were_sent_are_redirected() {
    let Some(mut program) = Loaded::new() else { return };
    const ROUTER: [u8; 4] = [198, 18, 3, 1];
    let sent = |from, to| testing::tcp((from, 4000), to, tcp::ACK);
    let cause = sent(CLIENT, (BACKEND, 8080)).build();
    let whole = error(3, BACKEND, &cause);
    let quote = 14 + 20 + 8;
    let options = testing::icmp_echo(ROUTER, CLIENT).icmp(3, 3).ip_options(&[1; 12]);
    let options = options.payload(&sent(CLIENT, (BACKEND, 8080)).ip_options(&[1; 40]).build()[14..]).build();
    let other_protocol = testing::udp((CLIENT, 4000), (BACKEND, 8080)).build();
    let cases = [
        ("unreachable, by the backend", whole.clone(), REDIRECT),
        ("unreachable, by a router", error(3, ROUTER, &cause), REDIRECT),
        ("time exceeded", error(11, ROUTER, &cause), REDIRECT),
        ("parameter problem", error(12, ROUTER, &cause), REDIRECT),
        ("options in both headers", options, REDIRECT),
        ("the least that must be quoted", error(3, BACKEND, &cause[..14 + 28]), REDIRECT),
        ("source quench", error(4, ROUTER, &cause), PASS),
        ("redirect", error(5, ROUTER, &cause), PASS),
        ("an echo", testing::icmp_echo(BACKEND, CLIENT).payload(&cause[14..]).build(), PASS),
        ("about the box's health check", error(3, BACKEND, &sent(BOX, (BACKEND, 8080)).build()), PASS),
        ("about another port", error(3, BACKEND, &sent(CLIENT, (BACKEND, 22)).build()), PASS),
        ("about another protocol", error(3, BACKEND, &other_protocol), PASS),
        ("about somebody else", error(3, ROUTER, &sent(BACKEND, (CLIENT, 80)).build()), PASS),
        ("not to the packet's sender", testing::poke(whole.clone(), 14 + 19, &[77]), PASS),
        ("a later fragment quoted", testing::poke(whole.clone(), quote + 6, &[0, 1]), PASS),
        ("a fragment", testing::poke(whole.clone(), 14 + 6, &[0x20]), PASS),
        ("of another version quoted", testing::poke(whole.clone(), quote, &[0x65]), PASS),
        ("a header that is too short quoted", testing::poke(whole.clone(), quote, &[0x44]), PASS),
        ("a header past the end quoted", testing::poke(whole.clone(), quote, &[0x4f]), PASS),
    ];
    for (name, packet, verdict) in cases {
        assert_eq!(program.run(&packet), verdict, "{name}");
    }
    for length in 0..28 {
        assert_eq!(program.run(&whole[..quote + length]), PASS, "{length} bytes quoted");
    }
}

#[test]
fn later_fragment_of_a_backend_has_no_ports_to_look_at() {
    let Some(mut program) = Loaded::new() else { return };
    let fragment = testing::tcp((BACKEND, 8080), (CLIENT, 4000), tcp::ACK).build();
    let fragment = testing::poke(fragment, 14 + 6, &[0, 1]);
    assert_eq!(program.run(&fragment), PASS);
}

#[test]
fn what_is_taken_out_is_passed_again() {
    let Some(mut program) = Loaded::new() else { return };
    let packet = testing::udp((CLIENT, 4000), (SERVICE, 53)).build();
    assert_eq!(program.run(&packet), REDIRECT);
    program.maps.1.replace([[7; 16], [8; 16]].into()).expect("room");
    assert_eq!(program.run(&packet), PASS);
    assert_eq!(program.maps.1.map.keys().count(), 2);
}

fn addresses(count: u8) -> BTreeSet<[u8; 16]> {
    (0..count).map(|last| Address::from_v4([203, 0, 113, last]).0).collect()
}

#[test]
fn keys_left_by_a_failed_change_are_removed_by_the_next() {
    let Some(mut program) = Loaded::new() else { return };
    let services = &mut program.maps.1;
    let refused = services.replace(addresses(20)).expect_err("there is room for 8").to_string();
    assert!(refused.starts_with("map services of the XDP program is full; stop Shunt"), "{refused}");
    services.replace([[7; 16]].into()).expect("room");
    let left: Vec<_> = services.map.keys().collect::<Result<_, _>>().expect("keys");
    assert_eq!(left, [[7; 16]]);
}

#[test]
fn removing_a_key_that_is_gone_succeeds() {
    let Some(mut program) = Loaded::new() else { return };
    let services = &mut program.maps.1;
    services.replace(addresses(2)).expect("room");
    services.map.remove(&Address::from_v4([203, 0, 113, 0]).0).expect("it is there");
    services.replace([[7; 16]].into()).expect("nothing is in the way");
    assert_eq!(services.map.keys().count(), 1);
}

#[test]
fn the_local_map_holds_twice_the_addresses_found() {
    let Some(program) = Loaded::new() else { return };
    drop(program);
    let directory = tempfile::tempdir().expect("a directory");
    mount(directory.path()).expect("a bpffs");
    let sizes = Sizes { queues: 1, services: 8, backends: 8, local: LOCAL_ADDRESSES };
    let mut ebpf = load(directory.path(), sizes).expect("loads");
    unmount(directory.path()).expect("a bpffs");
    let mut local: KeySet<16> = KeySet::open("local", ebpf.take_map("local").expect("a map")).expect("local");
    let all = (0..2 * LOCAL_ADDRESSES).map(|number| Address::from_v4(number.to_be_bytes()).0).collect();
    local.replace(all).expect("room");
}
