//! Maps each of the packet parser's errors to its drop reason.

use shunt_packet::ParseError;
use shunt_shmlayout::drop_reason::DropReason;

/// The drop reason of a frame that the parser refused.
#[inline]
pub(super) const fn drop_reason(error: ParseError) -> DropReason {
    match error {
        ParseError::EthShort => DropReason::EthShort,
        ParseError::EthJumbo => DropReason::EthJumbo,
        ParseError::EthNotUs => DropReason::EthNotUs,
        ParseError::EthSource => DropReason::EthSource,
        ParseError::EthReserved => DropReason::EthReserved,
        ParseError::EthLlc => DropReason::EthLlc,
        ParseError::EthType => DropReason::EthType,
        ParseError::EthLoop => DropReason::EthLoop,
        ParseError::L2Broadcast => DropReason::L2Broadcast,
        ParseError::VlanShort => DropReason::VlanShort,
        ParseError::VlanId => DropReason::VlanId,
        ParseError::VlanDepth => DropReason::VlanDepth,
        ParseError::VlanUnknown => DropReason::VlanUnknown,
        ParseError::ArpMalformed => DropReason::ArpMalformed,
        ParseError::ArpOperation => DropReason::ArpOperation,
        ParseError::ArpMulticast => DropReason::ArpMulticast,
        ParseError::ArpMismatch => DropReason::ArpMismatch,
        ParseError::Ip4Version => DropReason::Ip4Version,
        ParseError::Ip4HeaderLength => DropReason::Ip4HeaderLength,
        ParseError::Ip4Truncated => DropReason::Ip4Truncated,
        ParseError::Ip4Length => DropReason::Ip4Length,
        ParseError::Ip4Checksum => DropReason::Ip4Checksum,
        ParseError::Martian => DropReason::Martian,
        ParseError::Land => DropReason::Land,
        ParseError::Ip4SourceRoute => DropReason::Ip4SourceRoute,
        ParseError::Ip4Option => DropReason::Ip4Option,
        ParseError::TransportShort => DropReason::TransportShort,
        ParseError::FragmentTiny => DropReason::FragmentTiny,
        ParseError::FragmentOffset1 => DropReason::FragmentOffset1,
        ParseError::Fragment => DropReason::Fragment,
        ParseError::TcpOffset => DropReason::TcpOffset,
        ParseError::TcpOption => DropReason::TcpOption,
        ParseError::TcpFlags => DropReason::TcpFlags,
        ParseError::PortZero => DropReason::PortZero,
        ParseError::UdpLength => DropReason::UdpLength,
        ParseError::IcmpChecksum => DropReason::IcmpChecksum,
    }
}
