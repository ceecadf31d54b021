//! What a TUN device carries with the least program behind it: one thread reads packets and writes them back with source
//! and destination exchanged, another sends UDP datagrams through the kernel and takes the answers. Prints packets a
//! second with many on their way, and the round trip of one at a time.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tun_tap::{Iface, Mode};

/// The kernel's end and the one that nobody has, on a link of their own (RFC 2544, 198.18.0.0/15).
const NEAR: &str = "198.19.255.1";
const FAR: &str = "198.19.255.2";
/// IPv4 and UDP headers, in bytes.
const HEADERS: usize = 28;
/// Datagrams on their way at a time, fewer than the device's queue of 500.
const WINDOW: usize = 256;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Parser)]
#[command(about = "Packets a second and round trip of a TUN device with an echo behind it")]
struct Arguments {
    /// Name of the device, made for the run.
    #[arg(long, default_value = "tun-echo0")]
    device: String,
    /// Length of the run, for each of both figures.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Length of an IP packet.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(HEADERS as i64..=1500))]
    bytes: u16,
    /// CPUs of the echo and of the sender.
    #[arg(long, value_delimiter = ',', num_args = 1)]
    cpus: Vec<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let device = Iface::without_packet_info(&arguments.device, Mode::Tun)
        .context("a TUN device; it needs root and /dev/net/tun")?;
    ip(&["address", "add", NEAR, "peer", FAR, "dev", &arguments.device])?;
    ip(&["link", "set", &arguments.device, "up"])?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            pin(arguments.cpus.first())?;
            turn_round(&device, &is_over)
        });
        let figures = pin(arguments.cpus.get(1)).and_then(|()| measure(&arguments));
        is_over.store(true, Ordering::Relaxed);
        wake()?;
        echo.join().expect("the echo doesn't panic")?;
        let (rate, trips) = figures?;
        println!(
            "tun device, {} bytes: {:.0} packets/s there and back, {:.2} Gbit/s each way; round trip p50 {:.1} us, p99 {:.1} us",
            arguments.bytes,
            rate,
            rate * f64::from(arguments.bytes) * 8.0 / 1e9,
            trips.value_at_quantile(0.5) as f64 / 1e3,
            trips.value_at_quantile(0.99) as f64 / 1e3
        );
        Ok(())
    })
}

fn ip(arguments: &[&str]) -> Result<()> {
    ensure!(Command::new("ip").args(arguments).status().context("ip")?.success(), "ip {}", arguments.join(" "));
    Ok(())
}

fn pin(cpu: Option<&usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(*cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("CPU {cpu}"))
}

/// Exchanges the addresses, which leaves every checksum as it is, and the ports with them.
fn turn_round(device: &Iface, is_over: &AtomicBool) -> Result<()> {
    let mut packet = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        let length = device.recv(&mut packet).context("reading from the device")?;
        let is_ipv4_udp = length >= HEADERS && packet[0] == 0x45 && packet[9] == 17;
        if is_ipv4_udp {
            for (a, b, n) in [(12, 16, 4), (20, 22, 2)] {
                (0..n).for_each(|i| packet.swap(a + i, b + i));
            }
            device.send(&packet[..length]).context("writing to the device")?;
        }
    }
    Ok(())
}

/// The echo waits for a packet; this one is its last.
fn wake() -> Result<()> {
    UdpSocket::bind((NEAR, 0))?.send_to(&[0], (FAR, 9))?;
    Ok(())
}

/// Packets a second with a full window, and round trips of single ones in nanoseconds.
fn measure(arguments: &Arguments) -> Result<(f64, Histogram<u64>)> {
    let socket = UdpSocket::bind((NEAR, 0))?;
    socket.connect((FAR, 9))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let payload = vec![7; usize::from(arguments.bytes) - HEADERS];
    let length = Duration::from_secs(arguments.seconds);
    let mut answer = [0; 2048];

    let (start, mut on_the_way, mut returned) = (Instant::now(), 0, 0u64);
    while start.elapsed() < length {
        while on_the_way < WINDOW {
            socket.send(&payload)?;
            on_the_way += 1;
        }
        match socket.recv(&mut answer) {
            Ok(_) => returned += 1,
            Err(_) => on_the_way = 1, // the rest of the window is lost
        }
        on_the_way -= 1;
    }
    let rate = returned as f64 / start.elapsed().as_secs_f64();
    while socket.recv(&mut answer).is_ok() {}

    let mut trips = Histogram::new(3)?;
    let start = Instant::now();
    while start.elapsed() < length {
        let sent = Instant::now();
        socket.send(&payload)?;
        if socket.recv(&mut answer).is_ok() {
            trips.record(sent.elapsed().as_nanos() as u64)?;
        }
    }
    ensure!(returned > 0 && !trips.is_empty(), "no datagram came back through {}", arguments.device);
    Ok((rate, trips))
}
