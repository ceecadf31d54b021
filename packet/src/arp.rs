//! ARP for IPv4 over Ethernet (RFC 826).

use core::fmt;
use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Address, ParseError, ethernet};

/// Length of the message.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Operation: who has the target address?
pub const OPERATION_REQUEST: u16 = 1;
/// Operation: the sender has the sender address.
pub const OPERATION_REPLY: u16 = 2;

const HARDWARE_ETHERNET: u16 = 1;

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// 1, Ethernet.
    pub hardware_type: U16,
    /// 0x0800, IPv4.
    pub protocol_type: U16,
    /// 6.
    pub hardware_length: u8,
    /// 4.
    pub protocol_length: u8,
    /// [`OPERATION_REQUEST`] or [`OPERATION_REPLY`].
    pub operation: U16,
    /// The sender's Ethernet address.
    pub sender_mac: [u8; 6],
    /// The sender's address; zero in a probe (RFC 5227 2.1).
    pub sender_address: [u8; 4],
    /// The target's Ethernet address; meaningless in a request.
    pub target_mac: [u8; 6],
    /// The target's IPv4 address.
    pub target_address: [u8; 4],
}

/// The operation of an ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the target's Ethernet address.
    Request,
    /// Gives the sender's Ethernet address.
    Reply,
}

/// What the filter needs to know about an ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpFields {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's Ethernet address, which is the frame's source, too.
    pub sender_mac: [u8; 6],
    /// The sender's address as `::ffff:a.b.c.d`.
    pub sender_address: Address,
    /// The target address as `::ffff:a.b.c.d`.
    pub target_address: Address,
}

/// Checks the message that starts `network`, from a frame whose source is `frame_source`.
#[inline]
pub fn check(network: &[u8], frame_source: &[u8; 6]) -> Result<ArpFields, ParseError> {
    let (header, _) = Header::ref_from_prefix(network).map_err(|_| ParseError::ArpMalformed)?;
    if !header.is_ethernet_ipv4() {
        return Err(ParseError::ArpMalformed);
    }
    let operation = match header.operation.get() {
        OPERATION_REQUEST => Operation::Request,
        OPERATION_REPLY => Operation::Reply,
        _ => return Err(ParseError::ArpOperation),
    };
    if ethernet::is_group(&header.sender_mac) {
        return Err(ParseError::ArpMulticast);
    }
    if header.sender_mac != *frame_source {
        return Err(ParseError::ArpMismatch);
    }
    Ok(ArpFields {
        operation,
        sender_mac: header.sender_mac,
        sender_address: Address::from_v4(header.sender_address),
        target_address: Address::from_v4(header.target_address),
    })
}

impl Header {
    fn is_ethernet_ipv4(&self) -> bool {
        self.hardware_type.get() == HARDWARE_ETHERNET
            && self.protocol_type.get() == ethernet::TYPE_IPV4
            && self.hardware_length == 6
            && self.protocol_length == 4
    }

    /// A request by `sender` for `target_address`.
    #[inline]
    pub fn request(sender_mac: [u8; 6], sender_address: [u8; 4], target_address: [u8; 4]) -> Self {
        Self {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: U16::new(ethernet::TYPE_IPV4),
            hardware_length: 6,
            protocol_length: 4,
            operation: U16::new(OPERATION_REQUEST),
            sender_mac,
            sender_address,
            target_mac: [0; 6],
            target_address,
        }
    }

    /// The reply to this request: `mac` has the target address.
    #[inline]
    pub fn answer(&self, mac: [u8; 6]) -> Self {
        Self {
            operation: U16::new(OPERATION_REPLY),
            sender_mac: mac,
            sender_address: self.target_address,
            target_mac: self.sender_mac,
            target_address: self.sender_address,
            ..*self
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation.get() {
            OPERATION_REQUEST => "request",
            OPERATION_REPLY => "reply",
            _ => "operation unknown",
        };
        let address = |address: [u8; 4]| Ipv4Addr::from(address);
        let (sender, target) = (ethernet::written(self.sender_mac), ethernet::written(self.target_mac));
        let (sender_address, target_address) = (address(self.sender_address), address(self.target_address));
        write!(out, "ARP {operation} {sender} {sender_address} -> {target} {target_address}")?;
        if self.is_ethernet_ipv4() { Ok(()) } else { write!(out, " not for IPv4 over Ethernet") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, arp_request, poke, refusal};
    use crate::{Packet, Parsed};

    const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn request() -> Vec<u8> {
        arp_request(PEER_MAC, [198, 18, 0, 9], [198, 18, 0, 1])
    }

    #[test]
    fn fields_of_a_request() {
        let Ok(Parsed::Arp(fields)) = Packet::parse(&request(), &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(fields.operation, Operation::Request);
        assert_eq!(fields.sender_mac, PEER_MAC);
        assert_eq!(fields.sender_address, Address::from_v4([198, 18, 0, 9]));
        assert_eq!(fields.target_address, Address::from_v4([198, 18, 0, 1]));
    }

    #[test]
    fn row_16_arp_malformed() {
        let frame = request();
        assert_eq!(refusal(&frame[..frame.len() - 1]), Some(ParseError::ArpMalformed));
        for (offset, wrong) in [(15, 6), (16, 0x86), (18, 8), (19, 16)] {
            assert_eq!(refusal(&poke(request(), offset, &[wrong])), Some(ParseError::ArpMalformed), "at {offset}");
        }
    }

    #[test]
    fn row_17_arp_operation() {
        for operation in [0, 3, 8] {
            assert_eq!(refusal(&poke(request(), 21, &[operation])), Some(ParseError::ArpOperation));
        }
        assert_eq!(refusal(&poke(request(), 21, &[2])), None);
    }

    #[test]
    fn row_18_arp_multicast() {
        assert_eq!(refusal(&poke(request(), 22, &[3])), Some(ParseError::ArpMulticast));
    }

    #[test]
    fn row_19_arp_mismatch() {
        assert_eq!(refusal(&poke(request(), 27, &[8])), Some(ParseError::ArpMismatch));
    }

    #[test]
    fn row_23_a_probe_has_no_sender() {
        let frame = arp_request(PEER_MAC, [0; 4], [198, 18, 0, 1]);
        let Ok(Parsed::Arp(fields)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(fields.sender_address, Address::from_v4([0; 4]));
    }
}
