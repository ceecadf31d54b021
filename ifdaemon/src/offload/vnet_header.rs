//! The header before each packet of a TUN device with `IFF_VNET_HDR` (struct virtio_net_hdr, linux/virtio_net.h; virtio
//! 1.2, 5.1.6). Numbers are in the machine's order.

use zerocopy::native_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The checksum at `checksum_start + checksum_offset` holds only the pseudo-header's sum.
pub const NEEDS_CHECKSUM: u8 = 1;
/// One packet, as it is.
pub const SEGMENT_NONE: u8 = 0;
/// Several TCP segments over IPv4.
pub const SEGMENT_TCP4: u8 = 1;

/// Beside the kind: the first segment says that the congestion window was reduced.
pub const CONGESTION: u8 = 0x80;

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VnetHeader {
    /// [`NEEDS_CHECKSUM`].
    pub flags: u8,
    /// [`SEGMENT_NONE`] and the like.
    pub segmentation: u8,
    /// Length of all headers, a hint.
    pub header_length: U16,
    /// Payload bytes of each segment but the last.
    pub segment_size: U16,
    /// Where checksumming starts.
    pub checksum_start: U16,
    /// Where the checksum is, from there.
    pub checksum_offset: U16,
}

/// Its bytes.
pub const LENGTH: usize = size_of::<VnetHeader>();

const _: () = assert!(LENGTH == 10);
