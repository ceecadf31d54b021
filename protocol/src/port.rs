//! What keeper and switcher must agree on about a port's socket.

/// Frames taken in one turn of the engine.
pub const BATCH: usize = 64;
/// Bytes of a slot of an AF_PACKET ring, header included: room for 1500 bytes of payload with two VLAN tags.
pub const PACKET_SLOT: usize = 2048;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives and sends.
    Both,
    /// Sends only: for a switcher that has no queue of its own on the interface.
    TransmitOnly,
}
