//! Segmentation and coalescing against plain models: what the kernel would see, byte for byte.

use proptest::prelude::*;
use shunt_packet::tcp::{ACK, FIN, PSH, SYN};
use shunt_packet::testing::{tcp, udp};
use shunt_packet::{checksum, ipv4};
use zerocopy::FromBytes;

use super::coalesce::Coalescer;
use super::segment::{Malformed, segment};
use super::vnet_header::{LENGTH, NEEDS_CHECKSUM, SEGMENT_TCP4, VnetHeader};

const A: ([u8; 4], u16) = ([198, 18, 0, 1], 40000);
const B: ([u8; 4], u16) = ([198, 18, 0, 101], 80);
const ETHERNET: usize = 14;
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// A packet of a connection, without Ethernet: don't fragment, right checksums.
fn packet(sequence: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let frame = tcp(A, B, flags).sequence(sequence).acknowledgement(7).tcp_options(options).payload(payload).build();
    let mut packet = frame[ETHERNET..].to_vec();
    packet[6] = 0x40;
    packet[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&packet[..20]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether IP's and TCP's checksums are those of full computation.
fn sums_up(packet: &[u8]) -> bool {
    let (ip, _) = ipv4::Header::read_from_prefix(packet).expect("a header");
    let transport = &packet[ip.header_length()..];
    let pseudo = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, transport.len() as u16);
    checksum::verify(checksum::sum(&packet[..ip.header_length()]))
        && checksum::verify(pseudo + checksum::sum(transport))
}

fn coalesce(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut coalescer, mut written) = (Coalescer::new(), Vec::new());
    for packet in packets {
        coalescer.push(packet, |bytes| written.push(bytes.to_vec()));
    }
    coalescer.flush(|bytes| written.push(bytes.to_vec()));
    written
}

/// What the kernel makes of it, which has the same rules as our own segmentation.
fn segments(written: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = VnetHeader::read_from_prefix(written).expect("a vnet header");
    let mut segments = Vec::new();
    segment(&header, &mut packet.to_vec(), |bytes| segments.push(bytes.to_vec())).expect("well formed");
    segments
}

/// The identification carries no meaning here: all of a train have the first's, counted on.
fn without_identification(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4..6].fill(0);
    packet[10..12].fill(0);
    packet
}

#[test]
fn a_train_becomes_one_packet_and_others_stay_as_they_are() {
    let (full, short) = ([5; 1000], [6; 300]);
    let data = |number: u32, payload: &[u8]| packet(1000 * number, ACK, &TIMESTAMPS, payload);
    let packets = [
        packet(0, SYN, &[], &[]),
        data(0, &full),
        data(1, &full),
        data(2, &short), // the last of the train
        data(7, &full),  // not the next one
        packet(8000, ACK | PSH, &TIMESTAMPS, &full),
        packet(9000, ACK, &TIMESTAMPS, &full),
        packet(10000, ACK | FIN, &TIMESTAMPS, &full),
        udp(A, B).payload(&full).build()[ETHERNET..].to_vec(),
    ];
    let written = coalesce(&packets);
    let sizes: Vec<_> = written.iter().map(|bytes| segments(bytes).len()).collect();
    assert_eq!(sizes, [1, 3, 2, 1, 1, 1]);
    let (header, whole) = VnetHeader::read_from_prefix(&written[1]).expect("a header");
    assert_eq!((header.flags, header.segmentation, header.segment_size.get()), (NEEDS_CHECKSUM, SEGMENT_TCP4, 1000));
    assert_eq!(whole.len(), 20 + 32 + 2300);
    assert!(checksum::verify(checksum::sum(&whole[..20])));
}

#[test]
fn what_differs_in_anything_the_kernel_would_see_is_not_joined() {
    let first = packet(0, ACK, &TIMESTAMPS, &[1; 100]);
    let next = || packet(100, ACK, &TIMESTAMPS, &[2; 100]);
    assert_eq!(coalesce(&[first.clone(), next()]).len(), 1);
    let mut later = TIMESTAMPS;
    later[7] = 9;
    let changed = |at: usize| {
        let mut other = next();
        other[at] ^= 1;
        other
    };
    let others = [
        packet(100, ACK, &later, &[2; 100]),
        packet(100, ACK, &TIMESTAMPS, &[2; 101]),
        packet(101, ACK, &TIMESTAMPS, &[2; 100]),
        changed(8),  // TTL: its checksum is wrong then, too
        changed(12), // source
        changed(33), // flags
        changed(90), // payload: the checksum is wrong
    ];
    for other in others {
        let written = coalesce(&[first.clone(), other.clone()]);
        assert_eq!(written.len(), 2);
        assert_eq!(written[1][LENGTH..], other, "and goes on as it was");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let good = packet(0, ACK, &[], &[1; 100]);
    let header = |segmentation, size: u16, flags| VnetHeader {
        segmentation,
        flags,
        segment_size: size.into(),
        checksum_start: 20.into(),
        checksum_offset: 16.into(),
        ..VnetHeader::default()
    };
    let refuse = |header: VnetHeader, mut packet: Vec<u8>| segment(&header, &mut packet, |_| {});
    assert_eq!(refuse(header(SEGMENT_TCP4, 50, 1), good.clone()), Ok(()));
    let wrong_start = VnetHeader { checksum_start: 4000.into(), ..header(0, 0, 1) };
    let refused = [
        (header(SEGMENT_TCP4, 0, 1), good.clone()),
        (header(SEGMENT_TCP4, 3000, 1), good.clone()),
        (header(3, 50, 1), good.clone()),
        (header(SEGMENT_TCP4, 50, 1), good[..30].to_vec()),
        (wrong_start, good.clone()),
        (header(0, 0, 1), good[..35].to_vec()),
    ];
    for (header, packet) in refused {
        assert_eq!(refuse(header, packet), Err(Malformed), "{header:?}");
    }
}

#[test]
fn udp_without_segmentation_gets_its_checksum() {
    let mut packet = udp(A, B).payload(b"question").build()[ETHERNET..].to_vec();
    let pseudo = checksum::pseudo_header(A.0, B.0, 17, (packet.len() - 20) as u16);
    packet[26..28].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let header = VnetHeader {
        flags: NEEDS_CHECKSUM,
        checksum_start: 20.into(),
        checksum_offset: 6.into(),
        ..VnetHeader::default()
    };
    let mut came = Vec::new();
    segment(&header, &mut packet, |bytes| came = bytes.to_vec()).expect("well formed");
    assert!(sums_up(&came));
}

proptest! {
    /// A large packet in segments: together the same bytes, each no larger than it may be, numbered on, right checksums.
    #[test]
    fn segments_are_the_large_packet(
        payload in prop::collection::vec(any::<u8>(), 1..6000), size in 100u16..1460, first in any::<u32>(),
        has_options in any::<bool>(), flags in prop::sample::select(vec![ACK, ACK | PSH, ACK | FIN]),
    ) {
        let options = if has_options { &TIMESTAMPS[..] } else { &[] };
        let headers = 40 + options.len();
        let header = VnetHeader {
            flags: NEEDS_CHECKSUM, segmentation: SEGMENT_TCP4, segment_size: size.into(), ..VnetHeader::default()
        };
        let mut large = packet(first, flags, options, &payload);
        let mut came = Vec::new();
        segment(&header, &mut large, |bytes| came.push(bytes.to_vec())).expect("well formed");
        prop_assert_eq!(came.iter().flat_map(|bytes| bytes[headers..].to_vec()).collect::<Vec<_>>(), payload);
        for (number, bytes) in came.iter().enumerate() {
            let sequence = u32::from_be_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
            prop_assert_eq!(sequence, first.wrapping_add(number as u32 * u32::from(size)));
            prop_assert!(sums_up(bytes) && bytes.len() <= headers + usize::from(size));
            let is_last = number + 1 == came.len();
            prop_assert_eq!(bytes[33], if is_last { flags } else { ACK });
        }
    }

    /// Whatever comes: what the kernel takes apart again is what came, in order.
    #[test]
    fn coalesced_and_segmented_is_what_came(
        shapes in prop::collection::vec((0usize..4, 0u8..8, 1usize..1400), 1..60), start in any::<u32>(),
    ) {
        let mut sequence = start;
        let packets: Vec<_> = shapes.iter().map(|(kind, gap, length)| {
            let (flags, options) = [(ACK, 12), (ACK, 12), (ACK | PSH, 12), (ACK | FIN, 0)][*kind];
            // Mostly full segments, so that there are trains.
            let length = if *gap < 6 { 1000 } else { *length };
            let packet = packet(sequence, flags, &TIMESTAMPS[..options], &vec![*kind as u8; length]);
            sequence = sequence.wrapping_add(length as u32 + u32::from(*gap == 7));
            packet
        }).collect();
        let back: Vec<_> = coalesce(&packets).iter().flat_map(|written| segments(written)).collect();
        prop_assert!(back.iter().all(|packet| sums_up(packet)));
        let plain = |packets: Vec<Vec<u8>>| packets.into_iter().map(without_identification).collect::<Vec<_>>();
        prop_assert_eq!(plain(back), plain(packets));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        header in prop::array::uniform10(any::<u8>()), bytes in prop::collection::vec(any::<u8>(), 0..200), is_tcp in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if is_tcp && bytes.len() > 40 {
            bytes[0] = 0x45;
            bytes[9] = 6;
        }
        let (header, _) = VnetHeader::read_from_prefix(&header).expect("ten bytes");
        let _ = segment(&header, &mut bytes.clone(), |_| {});
        prop_assert_eq!(&coalesce(&[bytes.clone()])[0][LENGTH..], &bytes[..]);
    }
}
