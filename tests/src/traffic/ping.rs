//! ICMP echo (RFC 792).

use super::ANSWER_TIMEOUT;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::net::{IpAddr, UdpSocket};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Sends an echo request from this thread's namespace, and waits for exactly its reply.
pub fn ping(to: IpAddr, sequence: u16) -> Result<()> {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    // Send, receive and timeouts are the same for every socket that keeps message boundaries.
    let socket = UdpSocket::from(raw);
    socket.connect((to, 0))?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let request = message(ECHO_REQUEST, sequence);
    socket.send(&request)?;
    let mut packet = [0; 256];
    let length = socket.recv(&mut packet).with_context(|| format!("no answer from {to}"))?;
    // A raw socket gives the IP header, too: its length is the low nibble, in words (RFC 791 section 3.1).
    let header = usize::from(packet[0] & 0x0f) * 4;
    let reply = packet.get(header..length).context("a packet shorter than its header")?;
    ensure!(reply == message(ECHO_REPLY, sequence), "{reply:02x?} is no reply to {request:02x?}");
    Ok(())
}

fn message(kind: u8, sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, b'S', b'h', high, low];
    message.extend(0..56);
    let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}
