//! Limits that the configuration checks and that processes rely on.

use std::ops::RangeInclusive;

/// Slots of a ring (`limits.ring`). The minimum is one batch: a switcher refills a ring in halves.
pub const RING_SLOTS: RangeInclusive<u32> = 64..=1 << 16;
/// Packets of a store (`limits.store`). The minimum holds the segments of one large packet from the kernel.
pub const STORE_PACKETS: RangeInclusive<u32> = 64..=1 << 16;
