//! Two network namespaces joined by a veth pair, removed with the value; and a peer that speaks raw frames.

use std::os::fd::OwnedFd;
use std::process::Command;

use shunt_keeper::port::af_packet;
use shunt_protocol::port::Role;
use shunt_shmlayout::frames::CHUNK;
use shunt_switcher::port::af_packet::PacketPort;
use shunt_switcher::port::{Batch, Ledger, Pool, Port};

/// The interface on the side of the ports under test.
pub const INTERFACE: &str = "veth-lb";
/// Its other end.
pub const PEER: &str = "veth-peer";

/// The namespaces.
pub struct Lab {
    pub lb: String,
    peer: String,
}

impl Lab {
    /// `None`, said aloud, without root.
    pub fn new(name: &str) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return None;
        }
        let id = std::process::id();
        let lab = Lab { lb: format!("ports-{name}-lb-{id}"), peer: format!("ports-{name}-peer-{id}") };
        for namespace in [&lab.lb, &lab.peer] {
            run(&["ip", "netns", "add", namespace]);
            run(&["ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        }
        let queues = ["numrxqueues", "2", "numtxqueues", "2"];
        let here = ["ip", "link", "add", INTERFACE, "netns", &lab.lb];
        let there = ["type", "veth", "peer", "name", PEER, "netns", &lab.peer];
        run(&[&here[..], &queues, &there, &queues].concat());
        run(&["ip", "-n", &lab.lb, "link", "set", INTERFACE, "up"]);
        run(&["ip", "-n", &lab.peer, "link", "set", PEER, "up"]);
        Some(lab)
    }

    /// The other end of the wire.
    pub fn peer(&self) -> Peer {
        let socket = inside(&self.peer, || {
            af_packet::open(index(PEER), 256, Role::Both, None).expect("an AF_PACKET socket for the peer")
        });
        Peer::new(socket)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.lb, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// The index of an interface in the current namespace.
pub fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface is there")
}

/// Runs a command that must succeed.
pub fn run(command: &[&str]) {
    let status = Command::new(command[0]).args(&command[1..]).status().expect("the command exists");
    assert!(status.success(), "{command:?}");
}

/// Runs `work` inside a namespace.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("the namespace is there");
    // A thread of its own, because a namespace is entered by a thread and for good.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            work()
        });
        thread.join().expect("the work inside the namespace ends")
    })
}

/// Somebody who sends and receives frames at the other end of the wire.
pub struct Peer {
    port: PacketPort,
    pool: Pool,
}

impl Peer {
    /// On a bound AF_PACKET socket.
    pub fn new(socket: OwnedFd) -> Peer {
        const FRAMES: usize = 512;
        let owners = Vec::leak(std::iter::repeat_with(Default::default).take(FRAMES).collect());
        let journal = Vec::leak(std::iter::repeat_with(Default::default).take(2).collect());
        let ledger = Ledger::new(owners, journal);
        let memory = memmap2::MmapMut::map_anon(FRAMES * CHUNK as usize).expect("memory").into();
        let port = PacketPort::map(socket, 0, 256, Role::Both, &ledger).expect("mapped");
        Peer { port, pool: Pool::recover(memory, ledger, &[]).expect("sizes agree") }
    }

    /// Sends a frame; waits while the ring is full.
    pub fn send(&mut self, packet: &[u8]) {
        let mut frame = self.pool.copy_in(packet).expect("a free frame");
        while let Err(back) = self.port.send(&mut self.pool, frame) {
            frame = back;
            self.port.flush(&mut self.pool);
        }
        self.port.flush(&mut self.pool);
    }

    /// What has arrived.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Batch::default();
        // What the kernel refused to send at once is tried again.
        self.port.flush(&mut self.pool);
        self.port.receive(&mut self.pool, &mut batch);
        let frames: Vec<_> = batch.drain().collect();
        frames.into_iter().map(|frame| take_bytes(&mut self.pool, frame)).collect()
    }
}

/// Copies a frame's bytes out and gives it back.
pub fn take_bytes(pool: &mut Pool, frame: shunt_switcher::port::Frame) -> Vec<u8> {
    let bytes = pool.bytes(&frame).to_vec();
    pool.give(frame);
    bytes
}
