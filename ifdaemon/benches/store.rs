//! What the packet store alone costs: one-way latency from a switcher's push to the daemon's copy, with the daemon awake and
//! with it asleep, and nanoseconds a packet in bursts: `cargo bench -p ifdaemon --bench store [-- [PACKETS]]`.
//!
//! Two threads, pinned to the first two CPUs that this process may use, do what switcher and daemon do, with the same
//! functions; the packet carries the time at which its push began. Prints tables and asserts nothing about time.

use std::hint::{black_box, spin_loop};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use shunt_process::privileges::pin;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{StoreRegion, StoreShape, Whole};
use shunt_shmlayout::store::{PACKET_BYTES, Ringer};

/// `limits.store` where the configuration says nothing.
const CELLS: u32 = 512;
/// Packets published together, as a switcher's batch.
const BURST: usize = 64;

fn main() {
    let packets = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20_000);
    let cpus = cpus();
    println!(
        "packet store, {CELLS} cells, {packets} packets a row, switcher on CPU {}, daemon on CPU {}\n",
        cpus[0], cpus[1]
    );
    println!("one-way latency, ns             p50      p99    p99.9      max   wake-ups");
    for (daemon, sleeps, gap) in
        [("awake", false, Duration::from_micros(5)), ("asleep", true, Duration::from_micros(100))]
    {
        for bytes in [64, 1500] {
            let (mut latencies, wakes) = latencies(cpus, packets, bytes, sleeps, gap);
            latencies.sort_unstable();
            let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
            let row = format!("daemon {daemon}, {bytes} bytes");
            println!("{row:<25} {:>9} {:>8} {:>8} {:>8} {wakes:>10}", at(0.5), at(0.99), at(0.999), at(1.0));
        }
    }
    println!("\nbursts of {BURST}, both awake     ns a packet");
    for bytes in [64, 1500] {
        println!("{:<25} {:>15.1}", format!("{bytes} bytes"), burst_cost(cpus, packets.max(1000) * 20, bytes));
    }
}

/// Two CPUs; the same one twice where there is only one.
fn cpus() -> [u32; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).map(|cpu| cpu as u32);
    let first = cpus.next().unwrap_or(0);
    [first, cpus.next().unwrap_or(first)]
}

fn store() -> StoreRegion<Writer, Writer> {
    StoreRegion::anonymous(&StoreShape::new(CELLS)).expect("memory for a packet store")
}

fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

/// Latency of each packet, and how many wake-ups it took.
fn latencies(cpus: [u32; 2], packets: usize, bytes: usize, sleeps: bool, gap: Duration) -> (Vec<u64>, u64) {
    let store = store();
    let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("an eventfd");
    let (event, is_ready) = (&event, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let daemon = scope.spawn(move || {
            pin(cpus[1]).expect("a CPU of this process");
            let (mut ring, mut packet, mut latencies) = (store.to_host.consumer(), [0; PACKET_BYTES], Vec::new());
            latencies.reserve(packets);
            is_ready.store(true, Ordering::Release);
            while latencies.len() < packets {
                match ring.pop(&mut packet) {
                    Some(_) => {
                        let [a, b, c, d, e, f, g, h, ..] = packet;
                        latencies.push(now_ns().saturating_sub(u64::from_ne_bytes([a, b, c, d, e, f, g, h])));
                    }
                    None if sleeps => {
                        store.daemon.doorbell.arm();
                        if !ring.has_packet() {
                            let mut events = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
                            let _ = poll(&mut events, PollTimeout::from(100u16));
                            let _ = event.read();
                        }
                        store.daemon.doorbell.disarm();
                    }
                    None => spin_loop(),
                }
            }
            latencies
        });
        pin(cpus[0]).expect("a CPU of this process");
        while !is_ready.load(Ordering::Acquire) {
            spin_loop();
        }
        let (mut ring, mut ringer, mut wakes) = (store.to_host.producer(), Ringer::new(&store.daemon.doorbell), 0);
        let mut packet = vec![0; bytes];
        for _ in 0..packets {
            let until = now_ns() + gap.as_nanos() as u64;
            while now_ns() < until || ring.room() < u64::from(CELLS) {
                spin_loop();
            }
            packet[..8].copy_from_slice(&now_ns().to_ne_bytes());
            ring.push(&packet).expect("room");
            if ring.publish() && ringer.must_ring() {
                wakes += 1;
                let _ = event.write(1);
            }
        }
        (daemon.join().expect("the daemon's thread"), wakes)
    })
}

/// Nanoseconds a packet, both sides at work without pause.
fn burst_cost(cpus: [u32; 2], packets: usize, bytes: usize) -> f64 {
    let store = store();
    let packets = packets.next_multiple_of(BURST);
    std::thread::scope(|scope| {
        let daemon = scope.spawn(move || {
            pin(cpus[1]).expect("a CPU of this process");
            let (mut ring, mut packet, mut taken) = (store.to_host.consumer(), [0; PACKET_BYTES], 0);
            while taken < packets {
                match ring.pop(&mut packet) {
                    Some(length) => taken += black_box(length).min(1),
                    None => spin_loop(),
                }
            }
        });
        pin(cpus[0]).expect("a CPU of this process");
        let (mut ring, packet, start) = (store.to_host.producer(), vec![7; bytes], now_ns());
        for _ in 0..packets / BURST {
            while ring.room() < BURST as u64 {
                spin_loop();
            }
            (0..BURST).for_each(|_| ring.push(black_box(&packet)).expect("room"));
            ring.publish();
        }
        daemon.join().expect("the daemon's thread");
        (now_ns() - start) as f64 / packets as f64
    })
}
