//! The header before each packet of a TUN device with `IFF_VNET_HDR` (struct virtio_net_hdr, linux/virtio_net.h; virtio
//! 1.2, 5.1.6). Numbers are in native byte order.

use zerocopy::native_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The checksum at `checksum_start + checksum_offset` holds only the pseudo-header's sum.
pub const NEEDS_CHECKSUM: u8 = 1;
/// A single packet, not segmented.
pub const SEGMENT_NONE: u8 = 0;
/// Several TCP segments over IPv4.
pub const SEGMENT_TCP4: u8 = 1;

/// Flag beside the kind: the first segment carries CWR (congestion window reduced).
pub const CONGESTION: u8 = 0x80;

/// The parsed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VnetHeader {
    /// [`NEEDS_CHECKSUM`].
    pub flags: u8,
    /// [`SEGMENT_NONE`] and the like.
    pub segmentation: u8,
    /// Length of all headers, as a hint.
    pub header_length: U16,
    /// Payload bytes of each segment but the last.
    pub segment_size: U16,
    /// Offset where checksumming starts.
    pub checksum_start: U16,
    /// Offset of the checksum from `checksum_start`.
    pub checksum_offset: U16,
}

/// Length of the header in bytes.
pub const LENGTH: usize = size_of::<VnetHeader>();

const _: () = assert!(LENGTH == 10);
