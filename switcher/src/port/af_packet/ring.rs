//! A TPACKET_V2 ring: slots of 2048 bytes, each owned by the kernel or by this side as its status word says.
//!
//! Whoever has the slot writes header and bytes, then stores the status with `Release`; the other side's `Acquire` load
//! of the status pairs with it.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;
use shunt_protocol::port::PACKET_SLOT as SLOT;

/// Where the kernel looks for a packet to send: right after the aligned header.
pub(super) const SEND_OFFSET: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();

/// Set by this side in the status of a slot whose packet it has taken, until it returns the slot: a bit without a meaning for the
/// kernel, which leaves every slot alone whose status isn't `TP_STATUS_KERNEL`.
const TAKEN: u32 = 1 << 27;

/// A VLAN tag that the kernel took out of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VlanTag {
    pub protocol: u16,
    pub control: u16,
}

/// A received packet, standing in its slot.
pub(super) struct Received<'a> {
    pub bytes: &'a [u8],
    pub vlan: Option<VlanTag>,
    /// Longer than the slot: cut off.
    pub is_cut: bool,
}

/// The slots of one ring inside the socket's mapping.
pub(super) struct Slots {
    mapping: Arc<MmapRaw>,
    offset: usize,
    count: u32,
}

impl Slots {
    /// `count` slots (a power of two) from `offset` on; `None` if the mapping is too small or not aligned.
    pub fn new(mapping: Arc<MmapRaw>, offset: usize, count: u32) -> Option<Slots> {
        let fits = offset + count as usize * SLOT <= mapping.len();
        let aligned = (mapping.as_ptr() as usize + offset).is_multiple_of(align_of::<libc::tpacket2_hdr>());
        (fits && aligned && count.is_power_of_two()).then_some(Slots { mapping, offset, count })
    }

    /// The index after `index`.
    #[inline]
    pub fn after(&self, index: u32) -> u32 {
        (index + 1) & (self.count - 1)
    }

    /// Makes any number an index.
    pub fn index(&self, number: u32) -> u32 {
        number & (self.count - 1)
    }

    #[inline]
    fn slot(&self, index: u32) -> *mut u8 {
        let offset = self.offset + self.index(index) as usize * SLOT;
        // SAFETY: index < count, and all slots are inside the mapping (checked in `new`).
        unsafe { self.mapping.as_mut_ptr().add(offset) }
    }

    /// The status word.
    #[inline]
    pub fn status(&self, index: u32) -> &AtomicU32 {
        // SAFETY: tp_status is the header's first word, aligned (checked in `new`) and inside the mapping, which lives as
        // long as self; the kernel accesses it with single loads and stores.
        unsafe { &*self.slot(index).cast::<AtomicU32>() }
    }

    /// Whether the kernel has put a packet there.
    #[inline]
    pub fn is_received(&self, index: u32) -> bool {
        self.status(index).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Whether a packet to send may be put there.
    #[inline]
    pub fn is_available(&self, index: u32) -> bool {
        // A time stamp or "wrong format" leaves other bits; what counts is that nothing is requested or on its way.
        self.status(index).load(Ordering::Acquire) & (libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING) == 0
    }

    /// Whether the kernel hasn't begun to send the packet there.
    #[inline]
    pub fn is_requested(&self, index: u32) -> bool {
        self.status(index).load(Ordering::Relaxed) & libc::TP_STATUS_SEND_REQUEST != 0
    }

    /// The packet in a slot whose status was seen as received.
    #[inline]
    pub fn received(&self, index: u32) -> Received<'_> {
        // SAFETY: the slot starts with the header, written by the kernel before it set the status (Acquire in
        // `is_received`); the kernel doesn't touch it until the status is given back.
        let header = unsafe { self.slot(index).cast::<libc::tpacket2_hdr>().read() };
        let start = usize::from(header.tp_mac).min(SLOT);
        let length = (header.tp_snaplen as usize).min(SLOT - start);
        // SAFETY: start and length are inside the slot (just bounded), which is this side's as above.
        let bytes = unsafe { std::slice::from_raw_parts(self.slot(index).add(start), length) };
        let vlan = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(VlanTag {
            protocol: if header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                header.tp_vlan_tpid
            } else {
                0x8100
            },
            control: header.tp_vlan_tci,
        });
        Received { bytes, vlan, is_cut: header.tp_len as usize > length }
    }

    /// Puts a packet to send into an available slot; `false` if it is too long.
    #[inline]
    pub fn write(&self, index: u32, bytes: &[u8]) -> bool {
        if bytes.len() > SLOT - SEND_OFFSET {
            return false;
        }
        let slot = self.slot(index);
        // SAFETY: header and bytes are inside the slot (checked); the slot is this side's until the status is stored;
        // `bytes` is in the frame pool, another mapping.
        unsafe {
            let header = slot.cast::<libc::tpacket2_hdr>();
            (&raw mut (*header).tp_len).write(bytes.len() as u32);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot.add(SEND_OFFSET), bytes.len());
        }
        self.status(index).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        true
    }

    /// Marks a received slot as taken.
    #[inline]
    pub fn mark_taken(&self, index: u32) {
        self.status(index).store(libc::TP_STATUS_USER | TAKEN, Ordering::Release);
    }

    /// Whether the slot is marked as taken, and not returned yet.
    pub fn is_taken(&self, index: u32) -> bool {
        self.status(index).load(Ordering::Acquire) & TAKEN != 0
    }

    /// Returns a received slot to the kernel.
    #[inline]
    pub fn release(&self, index: u32) {
        self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}
