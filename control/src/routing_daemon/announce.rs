//! Announces service addresses on the client side, so that no host continues to send to a predecessor.
//!
//! ARP announcements of RFC 5227 section 2.3: broadcast requests whose sender and target are both the service address.
//! They are [`ANNOUNCE_INTERVAL`] apart as ANNOUNCE_INTERVAL says there, and [`ANNOUNCE_COUNT`] of them, one more than
//! ANNOUNCE_NUM: the first may be lost while a port that just came up is still learning. There is no probing before
//! (section 2.1.1): two balancers in turn announcing one address is what fail-over looks like.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use log::warn;
use nix::sys::socket::SockType;
use tokio::task::AbortHandle;

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

    /// Announces an address [`ANNOUNCE_COUNT`] times; returns after the last. Dropping the future stops it.
    pub async fn announce(&self, place: Place, address: Ipv4Addr) {
        for round in 0..ANNOUNCE_COUNT {
            if round > 0 {
                tokio::time::sleep(ANNOUNCE_INTERVAL).await;
            }
            if let Err(error) = self.send(place, address) {
                warn!("cannot announce {address} on link {}: {error}", place.ifindex);
            }
        }
    }

    /// Sends one announcement.
    pub fn send(&self, place: Place, address: Ipv4Addr) -> io::Result<()> {
        let frame = announcement(place.mac, address);
        packet_socket::send(&self.socket, place.ifindex, packet_socket::ARP, BROADCAST, &frame)
    }
}

/// The announcements under way: one task for each address on each link, so that each can be stopped.
#[derive(Default)]
pub struct Announcing(BTreeMap<(Place, Ipv4Addr), AbortHandle>);

impl Announcing {
    /// Spawns a task that announces an address.
    pub fn start(&mut self, place: Place, address: Ipv4Addr, task: impl Future<Output = ()> + Send + 'static) {
        self.0.retain(|_, task| !task.is_finished());
        self.stop(place, address);
        self.0.insert((place, address), tokio::spawn(task).abort_handle());
    }

    /// Stops the announcements of an address that is no longer Shunt's there.
    pub fn stop(&mut self, place: Place, address: Ipv4Addr) {
        if let Some(task) = self.0.remove(&(place, address)) {
            task.abort();
        }
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

    #[tokio::test]
    async fn an_address_that_left_is_announced_no_more() {
        let (place, mut announcing) = (Place { ifindex: 1, mac: [2; 6] }, Announcing::default());
        let [left, stays] = [100, 101].map(|n| Ipv4Addr::new(198, 18, 0, n));
        let endless = |alive: tokio::sync::oneshot::Sender<()>| async move {
            std::future::pending::<()>().await;
            drop(alive);
        };
        let ((alive, ends), (other, mut goes_on)) = (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel());
        announcing.start(place, left, endless(alive));
        announcing.start(place, stays, endless(other));
        announcing.stop(place, left);
        assert!(ends.await.is_err(), "the task is dropped");
        assert!(goes_on.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn sender_and_target_are_the_service_address() {
        let frame = announcement([2, 0, 0, 0, 0, 9], Ipv4Addr::new(198, 18, 0, 100));
        let wanted = "ffffffffffff02000000000908060001080006040001020000000009c61200640000000000 00c6120064";
        let hex: String = frame[..42].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, wanted.replace(' ', ""));
        assert!(frame[42..].iter().all(|&b| b == 0));
    }
}
