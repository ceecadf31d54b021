//! What the configuration's check accepts has frames for all rings: every queue receives while every transmit ring is full.

use proptest::prelude::*;
use shunt_config::Config;
use shunt_shmlayout::regions::{SwitcherRegion, SwitcherShape, Whole};

use super::queue::{Queue, Rings};
use super::ring::{AddressSlot, PacketSlot, Ring};
use crate::port::pool::tests::memory;
use crate::port::{Ledger, Pool};

/// A configuration of some size, good or not.
fn text(switchers: u32, interfaces: usize, ring: u32, frames: u32) -> String {
    let interfaces: String = (0..interfaces).map(|n| format!("[[interface]]\nname = \"eth{n}\"\n")).collect();
    format!("[switchers]\ncount = {switchers}\n[limits]\nring = {ring}\nframes = {frames}\n{interfaces}")
}

fn queue(port: u8, ring: u32) -> Queue {
    let rings = Rings {
        fill: Ring::in_memory(ring, 0, AddressSlot::empty),
        completion: Ring::in_memory(ring, 0, AddressSlot::empty),
        receive: Ring::in_memory(ring, 0, PacketSlot::empty),
        transmit: Ring::in_memory(ring, 0, PacketSlot::empty),
    };
    Queue::resume(port, rings)
}

/// A switcher's pool and queues as they are put together at its start.
fn assemble(config: &Config, ports: usize) -> (Pool, Vec<Queue>) {
    let frames = config.limits.frames;
    let shape = SwitcherShape { services: 1, backends: 1, interfaces: 1, frames: frames.into(), reserved: [0; 4] };
    let region = SwitcherRegion::anonymous(&shape).expect("memory");
    let ledger = Ledger::new(region.frame_owners, region.journal);
    let queues: Vec<Queue> = (0..ports as u8).map(|port| queue(port, config.limits.ring)).collect();
    assert!((0..ports as u8).all(|port| ledger.has_port(port)));
    let standing: Vec<_> = queues.iter().map(|queue| queue.standing(&ledger)).collect();
    (Pool::recover(memory(frames as usize), ledger, &standing).expect("sizes agree"), queues)
}

/// Fills every ring that holds frames, in the order in which a switcher comes to them.
fn fill(config: &Config, pool: &mut Pool, queues: &mut [Queue]) {
    queues.iter_mut().for_each(|queue| queue.refill(pool));
    for (number, queue) in queues.iter_mut().enumerate() {
        assert_eq!(queue.standing(pool.ledger()).fill_producer, config.limits.ring, "queue {number} starves");
        for sent in 0..config.limits.ring {
            let frame = pool.take().unwrap_or_else(|| panic!("no frame for packet {sent} of queue {number}"));
            assert!(queue.send(pool, frame.with_length(60)).is_ok(), "its ring has {sent} packets only");
        }
        queue.publish(pool);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_the_check_accepts_has_frames_for_every_ring(
        switchers in 1..=4_u32,
        queues in prop::collection::vec(1..=70_u32, 1..=3),
        (ring, frames) in (2..=17_u32, 5..=14_u32),
    ) {
        let text = text(switchers, queues.len(), 1 << ring, 1 << frames);
        let Ok(config) = Config::parse(&text, "shunt.toml") else { return Ok(()) };
        if !config.queue_problems(&queues).is_empty() {
            return Ok(());
        }
        for switcher in 0..switchers {
            let polled = (0..).zip(&queues).map(|(interface, count)| config.queues_of(switcher, interface, *count).count());
            let (mut pool, mut ports) = assemble(&config, polled.sum());
            fill(&config, &mut pool, &mut ports);
        }
    }
}

#[test]
fn one_ring_more_than_the_frames_starves() {
    let config = Config::parse(&text(1, 1, 64, 128), "shunt.toml").expect("one queue");
    assert!(config.queue_problems(&[1]).is_empty() && !config.queue_problems(&[2]).is_empty());
    let (mut pool, mut queues) = assemble(&config, 2);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill(&config, &mut pool, &mut queues))).is_err());
}
