//! Load generator of the forwarding benchmark: minimal UDP frames on one interface, as fast as one CPU makes them.
//!
//! The kernel makes the frames itself (`BPF_PROG_TEST_RUN` with live frames) and puts them on the interface as XDP frames, with
//! neither a system call nor a socket buffer per frame: a socket generator is slower than the devices it is to measure. Runs until
//! it is killed or its time is over, then prints how many frames it offered. Counting what arrives is the sink's business.

mod bpf;
mod frame;
mod program;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

/// Frames of one system call: long enough to cost nothing, short enough to look at the clock.
const FRAMES_PER_CALL: u32 = 1 << 18;

#[derive(Parser)]
#[command(about = "Sends 64-byte UDP frames with random source ports as fast as it can")]
struct Options {
    /// Interface to send on; its peer must run native XDP, or have GRO on.
    #[arg(long)]
    interface: String,
    /// Ethernet address of the next hop.
    #[arg(long)]
    destination_mac: String,
    /// Source address of the frames.
    #[arg(long)]
    source: Ipv4Addr,
    /// Destination address of the frames.
    #[arg(long)]
    destination: Ipv4Addr,
    /// UDP destination port.
    #[arg(long)]
    port: u16,
    /// Number of flows, told apart by source port: a power of two up to 32768.
    #[arg(long, default_value_t = 1024)]
    flows: u16,
    /// How long to send.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(
        options.flows.is_power_of_two() && options.flows <= 32768,
        "--flows takes a power of two up to 32768, not {}",
        options.flows
    );
    let interface = interface(&options.interface)?;
    let header = frame::header(&frame::Addresses {
        source_mac: interface.mac,
        destination_mac: parse_mac(&options.destination_mac)?,
        source: options.source,
        destination: options.destination,
        destination_port: options.port,
    });
    let program = bpf::load(&program::assemble(&header, options.flows, interface.index))
        .context("cannot load the generator's XDP program; it needs root")?;
    let offered = send(&program, Duration::from_secs(options.seconds))?;
    println!("{offered}");
    Ok(())
}

/// Sends until the time is over; returns the number of frames offered.
fn send(program: &bpf::Program, time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut offered = 0;
    while Instant::now() < end {
        program
            .send_frames(&[0; frame::LENGTH], FRAMES_PER_CALL)
            .context("cannot send frames from XDP; it needs Linux 5.18 or later")?;
        offered += u64::from(FRAMES_PER_CALL);
    }
    Ok(offered)
}

struct Interface {
    index: u32,
    mac: [u8; 6],
}

fn interface(name: &str) -> Result<Interface> {
    let read = |file: &str| {
        let path = format!("/sys/class/net/{name}/{file}");
        std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path}: is there an interface '{name}' here?"))
    };
    let index = read("ifindex")?;
    Ok(Interface { index: index.trim().parse().context("interface index")?, mac: parse_mac(read("address")?.trim())? })
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("'{text}' is not an Ethernet address such as 02:00:00:00:00:01"))?;
    <[u8; 6]>::try_from(bytes).map_err(|_| anyhow::anyhow!("'{text}' is not six bytes long"))
}
