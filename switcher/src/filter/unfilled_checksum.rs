//! Packets whose transport checksum the sender left to a device that didn't fill it in.
//!
//! A kernel with transmit checksum offload hands such packets to its device; a veth or virtio device passes them on as
//! they are. It tells a receiving kernel so beside the packet, but not an AF_XDP socket. Forwarded, they would be dropped silently
//! at their destination. A connection's packets are checked until it is answered, so that the rest of it costs nothing.

use super::Filter;
use shunt_packet::{Flow, PROTOCOL_TCP, PROTOCOL_UDP, checksum, tcp, udp, v4_part};
use shunt_shmlayout::address::InterfaceId;

impl Filter {
    /// Whether a packet's checksum is unfilled; notes when its interface last had one.
    #[inline]
    pub(super) fn has_unfilled_checksum(&self, frame: &[u8], flow: &Flow, from: InterfaceId, now_ms: u64) -> bool {
        let is_unfilled = is_unfilled(frame, flow);
        if is_unfilled && let Some(counters) = self.region.interfaces.get(usize::from(from.0)) {
            counters.unfilled_ms.set(now_ms);
        }
        is_unfilled
    }
}

#[inline]
fn is_unfilled(frame: &[u8], flow: &Flow) -> bool {
    let start = usize::from(flow.transport_offset);
    let (end, field) = match flow.protocol {
        PROTOCOL_TCP => (usize::from(flow.end), tcp::CHECKSUM_OFFSET),
        PROTOCOL_UDP => (start + udp::HEADER_LENGTH + usize::from(flow.payload_length), udp::CHECKSUM_OFFSET),
        _ => return false,
    };
    let Some(transport) = frame.get(start..end) else { return false };
    let (source, destination) = (v4_part(flow.source), v4_part(flow.destination));
    let pseudo_header = checksum::pseudo_header(source, destination, flow.protocol, transport.len() as u16);
    checksum::is_unfilled(pseudo_header, transport, field)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{B1, BACKENDS, CLIENTS, DNS, DSR, SERVICE, U1, three_services, through};
    use super::*;
    use crate::filter::Verdict;
    use crate::filter::tests::CLIENT;
    use shunt_packet::tcp::{ACK, SYN};
    use shunt_packet::testing::{flow_of, tcp, udp};
    use shunt_shmlayout::drop_reason::DropReason;

    const SSH: ([u8; 4], u16) = ([198, 18, 0, 102], 22);
    const UNFILLED: Verdict = Verdict::Drop(DropReason::ChecksumUnfilled);

    /// The frame as a kernel leaves it to its device: only the pseudo-header is summed.
    fn begun(mut frame: Vec<u8>) -> Vec<u8> {
        let flow = flow_of(&frame);
        let start = usize::from(flow.transport_offset);
        let field = start + if flow.protocol == PROTOCOL_TCP { tcp::CHECKSUM_OFFSET } else { udp::CHECKSUM_OFFSET };
        let length = (frame.len() - start) as u16;
        let sum = checksum::pseudo_header(v4_part(flow.source), v4_part(flow.destination), flow.protocol, length);
        frame[field..field + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
        frame
    }

    #[test]
    fn a_new_connection_whose_checksum_is_unfilled_is_dropped_and_noted_by_interface() {
        let (mut world, _) = three_services();
        world.host_service(SSH, PROTOCOL_TCP);
        let mut filter = world.filter(0);
        let question = udp(CLIENT, DNS).payload(b"?").build();
        for frame in [[SERVICE, DSR, SSH].map(|to| tcp(CLIENT, to, SYN).build()).to_vec(), vec![question]].concat() {
            assert_eq!(through(&mut filter, begun(frame.clone()), CLIENTS).0, UNFILLED);
            assert_eq!(world.connections.table().unwrap().live().count(), 0);
        }
        assert!(matches!(through(&mut filter, tcp(CLIENT, SSH, SYN).build(), CLIENTS).0, Verdict::ToHost(_)));
        assert_eq!(world.switcher.interfaces[usize::from(CLIENTS.0)].unfilled_ms.get(), 1000);
        assert_eq!(world.switcher.interfaces[usize::from(BACKENDS.0)].unfilled_ms.get(), 0);
    }

    #[test]
    fn an_answer_whose_checksum_is_unfilled_is_dropped_until_one_is_whole() {
        let (world, _) = three_services();
        let mut filter = world.filter(0);
        let cases = [
            (tcp(CLIENT, SERVICE, SYN).build(), tcp(B1, CLIENT, SYN | ACK).build()),
            (udp(CLIENT, DNS).payload(b"?").build(), udp(U1, CLIENT).payload(b"!").build()),
        ];
        for (request, answer) in cases {
            assert!(matches!(through(&mut filter, request, CLIENTS).0, Verdict::Forward(..)));
            assert_eq!(through(&mut filter, begun(answer.clone()), BACKENDS).0, UNFILLED);
            assert!(matches!(through(&mut filter, answer.clone(), BACKENDS).0, Verdict::Forward(..)));
            // Packets of an answered connection aren't checked any more.
            assert!(matches!(through(&mut filter, begun(answer), BACKENDS).0, Verdict::Forward(..)));
        }
        assert_eq!(world.switcher.interfaces[usize::from(BACKENDS.0)].unfilled_ms.get(), 1000);
    }

    #[test]
    fn no_udp_checksum_and_a_wrong_one_are_not_unfilled() {
        let absent = udp(CLIENT, DNS).payload(b"?").without_checksum().build();
        assert!(!is_unfilled(&absent, &flow_of(&absent)));
        let mut wrong = tcp(CLIENT, SERVICE, SYN).build();
        wrong[34 + tcp::CHECKSUM_OFFSET] ^= 0x55;
        assert!(!is_unfilled(&wrong, &flow_of(&wrong)));
    }
}
