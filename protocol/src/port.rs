//! What keeper and switcher must agree on for a port's socket.

/// Limit of frames per turn.
pub const BATCH: usize = 64;
/// Size of an AF_PACKET ring slot, header included: room for 1500 bytes of payload with two VLAN tags.
pub const PACKET_SLOT: usize = 2048;

/// Directions of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives and sends.
    Both,
    /// Sends only: for a switcher without a queue of its own on the interface.
    TransmitOnly,
}
