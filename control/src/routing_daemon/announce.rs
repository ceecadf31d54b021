//! Announces service addresses on the client side, so that no host continues to send to a predecessor.
//!
//! ARP announcements of RFC 5227 section 2.3: broadcast requests whose sender and target are both the service address.
//! They are [`ANNOUNCE_INTERVAL`] apart as ANNOUNCE_INTERVAL says there, and [`ANNOUNCE_COUNT`] of them, one more than
//! ANNOUNCE_NUM: the first may be lost while a port that just came up is still learning. There is no probing before
//! (section 2.1.1): two balancers in turn announcing one address is what fail-over looks like.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use log::warn;
use nix::sys::socket::SockType;

use crate::packet_socket;
use shunt_routing::event::Mac;

/// Number of announcements per address.
pub const ANNOUNCE_COUNT: u32 = 3;
/// Interval between announcements of an address (RFC 5227 section 1.1).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// The smallest Ethernet frame without its checksum: 42 bytes of ARP, padded.
const FRAME_BYTES: usize = 60;
const BROADCAST: Mac = [0xff; 6];

/// A socket that sends raw frames on any link and receives none. Needs CAP_NET_RAW.
pub struct Announcer {
    socket: OwnedFd,
}

/// A link to announce on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The link.
    pub ifindex: u32,
    /// The Ethernet address that switchers answer with on this link: the link's own.
    pub mac: Mac,
}

impl Announcer {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: packet_socket::open(SockType::Raw)? })
    }

    /// Announces every address at every place [`ANNOUNCE_COUNT`] times; returns after the last. Dropping the future stops
    /// it.
    pub async fn announce(&self, places: &[Place], addresses: &[Ipv4Addr]) {
        for round in 0..ANNOUNCE_COUNT {
            if round > 0 {
                tokio::time::sleep(ANNOUNCE_INTERVAL).await;
            }
            for place in places {
                for &address in addresses {
                    if let Err(error) = self.send(*place, address) {
                        warn!("cannot announce {address} on link {}: {error}", place.ifindex);
                    }
                }
            }
        }
    }

    /// Sends one announcement.
    pub fn send(&self, place: Place, address: Ipv4Addr) -> io::Result<()> {
        let frame = announcement(place.mac, address);
        packet_socket::send(&self.socket, place.ifindex, packet_socket::ARP, BROADCAST, &frame)
    }
}

/// The announcement as a frame: Ethernet header, then ARP (RFC 826).
fn announcement(mac: Mac, address: Ipv4Addr) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    // EtherType ARP; hardware Ethernet, protocol IPv4, their lengths, operation request.
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    // The target's Ethernet address, 32..38, stays zero (RFC 5227 section 1.1).
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_target_are_the_service_address() {
        let frame = announcement([2, 0, 0, 0, 0, 9], Ipv4Addr::new(198, 18, 0, 100));
        let wanted = "ffffffffffff02000000000908060001080006040001020000000009c61200640000000000 00c6120064";
        let hex: String = frame[..42].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, wanted.replace(' ', ""));
        assert!(frame[42..].iter().all(|&b| b == 0));
    }
}
