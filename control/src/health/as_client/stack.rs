//! One TCP connection in user space, based on smoltcp: packets in, packets out. Pure; the caller supplies the time.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};

/// Fits any tunnel on the path; limits the segments of an answer.
const MTU: usize = 1280;
/// Window in each direction, bytes.
const WINDOW_BYTES: usize = 16 << 10;

/// The connection, and its queued packets in both directions.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
}

impl Stack {
    /// Prepares a connection. `seed` determines the initial sequence number. `None` for an invalid address or port.
    pub fn connect(source: SocketAddrV4, target: SocketAddrV4, seed: u64) -> Option<Self> {
        let mut stack = Self::new(source, seed);
        let (socket, context) = (stack.sockets.get_mut::<Socket<'_>>(stack.handle), stack.interface.context());
        socket.connect(context, (*target.ip(), target.port()), (*source.ip(), source.port())).ok()?;
        Some(stack)
    }

    fn new(source: SocketAddrV4, seed: u64) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        // Both have room for one, which suffices.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(*source.ip(), 32)));
        });
        // Everything leaves through the link; the gateway is never resolved.
        let _ = interface.routes_mut().add_default_ipv4_route(*source.ip());
        let buffer = || SocketBuffer::new(vec![0; WINDOW_BYTES]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(Socket::new(buffer(), buffer()));
        Self { interface, sockets, handle, wire }
    }

    /// Queues a received packet.
    pub fn put(&mut self, packet: &[u8]) {
        self.wire.incoming.push_back(packet.to_vec());
    }

    /// Size of received packets queued until [`Stack::advance`].
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.wire.incoming.iter().map(Vec::capacity).sum()
    }

    /// The next packet to send.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.wire.outgoing.pop_front()
    }

    /// Runs due timers. `now` is relative to any fixed point.
    pub fn advance(&mut self, now: Duration) {
        self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
    }

    /// Time until the next timer.
    pub fn delay(&mut self, now: Duration) -> Option<Duration> {
        self.interface.poll_delay(instant(now), &self.sockets).map(Duration::from)
    }

    /// The connection.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// Packets between the stack and the packet socket.
#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        // A sender on this machine, as in a container, leaves checksums to hardware that does not exist.
        checksum.tcp = Checksum::Tx;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum = checksum;
        capabilities
    }
}

struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::socket::tcp::State;

    const CLIENT: &str = "198.18.1.1:40000";
    const SERVER: &str = "198.18.0.100:80";

    fn client() -> Stack {
        Stack::connect(CLIENT.parse().unwrap(), SERVER.parse().unwrap(), 1).unwrap()
    }

    fn server(port: u16) -> Stack {
        let mut server = Stack::new(SERVER.parse().unwrap(), 2);
        server.socket().listen(port).unwrap();
        server
    }

    /// Carries packets both ways until there are none.
    fn converse(client: &mut Stack, server: &mut Stack, now: Duration) {
        loop {
            client.advance(now);
            server.advance(now);
            let (there, back) = (client.take(), server.take());
            if there.is_none() && back.is_none() {
                return;
            }
            there.into_iter().for_each(|packet| server.put(&packet));
            back.into_iter().for_each(|packet| client.put(&packet));
        }
    }

    #[test]
    fn the_first_packet_is_a_syn_from_the_source_to_the_target() {
        let mut client = client();
        client.advance(Duration::ZERO);
        let packet = client.take().unwrap();
        assert_eq!((packet[0], packet[9]), (0x45, 6));
        assert_eq!((&packet[12..16], &packet[16..20]), (&[198, 18, 1, 1][..], &[198, 18, 0, 100][..]));
        assert_eq!((&packet[20..22], &packet[22..24], packet[33]), (&[0x9c, 0x40][..], &[0, 80][..], 0x02));
        assert!(client.take().is_none());
        assert!(client.delay(Duration::ZERO).unwrap() > Duration::ZERO, "for its retransmission");
    }

    #[test]
    fn bytes_go_both_ways_and_an_abort_resets() {
        let (mut client, mut server) = (client(), server(80));
        converse(&mut client, &mut server, Duration::ZERO);
        assert_eq!(client.socket().state(), State::Established);
        client.socket().send_slice(b"ask").unwrap();
        server.socket().send_slice(b"answer").unwrap();
        converse(&mut client, &mut server, Duration::from_millis(1));
        let mut bytes = [0; 16];
        assert_eq!(client.socket().recv_slice(&mut bytes), Ok(6));
        assert_eq!(server.socket().recv_slice(&mut bytes), Ok(3));
        client.socket().abort();
        client.advance(Duration::from_millis(2));
        assert_eq!(client.take().unwrap()[33] & 0x04, 0x04, "RST");
    }

    #[test]
    fn nobody_listening_ends_it() {
        let (mut client, mut server) = (client(), server(81));
        converse(&mut client, &mut server, Duration::ZERO);
        assert_eq!(client.socket().state(), State::Closed);
    }

    #[test]
    fn arbitrary_packets_never_panic() {
        use proptest::prelude::*;
        proptest!(|(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8))| {
            let mut client = client();
            client.advance(Duration::ZERO);
            packets.iter().for_each(|packet| client.put(packet));
            client.advance(Duration::from_millis(1));
        });
    }
}
