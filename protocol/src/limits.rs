//! Bounds that the configuration is checked by, and that processes build on.

use std::ops::RangeInclusive;

/// Slots of a ring (`limits.ring`). The fewest are a batch: a switcher refills rings in halves of it.
pub const RING_SLOTS: RangeInclusive<u32> = 64..=1 << 16;
/// Packets of a store (`limits.store`). The fewest are the segments of one large packet that the kernel hands over.
pub const STORE_PACKETS: RangeInclusive<u32> = 64..=1 << 16;
