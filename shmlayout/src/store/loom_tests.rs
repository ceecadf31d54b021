//! The orders in which the two sides can see each other's stores.

use super::*;

fn ring(cells: usize) -> PacketRing<'static, Writer, Writer> {
    fn apart() -> [Word<Writer>; 7] {
        core::array::from_fn(|_| Word::new(0))
    }
    let ends = StoreEnds { head: Word::new(0), _apart: apart(), tail: Word::new(0), _end: apart() };
    let ends = Box::leak(Box::new(ends));
    let cell = || PacketCell { length: Word::new(0), words: core::array::from_fn(|_| Word::new(0)) };
    PacketRing::new(ends, Box::leak((0..cells).map(|_| cell()).collect())).unwrap()
}

// Both ends are made before the threads: loom looks for a race only with the last access to an atomic, so that a
// thread's own load of its position would hide the other's from its store.

#[test]
fn loom_store_keeps_order_and_wholeness() {
    loom::model(|| {
        let ring = ring(2);
        let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
        let producer = loom::thread::spawn(move || {
            for n in 1..=3u8 {
                let _ = producer.push(&[n; 4][..n.into()]);
                producer.publish();
            }
        });
        let (mut packet, mut last) = ([0; 8], 0);
        for _ in 0..3 {
            if let Some(length) = consumer.pop(&mut packet) {
                assert!(length > last, "{length} bytes after {last}");
                assert!(packet[..length].iter().all(|byte| usize::from(*byte) == length));
                last = length;
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn loom_no_wake_up_is_lost() {
    loom::model(|| {
        let ring = ring(2);
        let doorbell: &'static Doorbell<Writer> = Box::leak(Box::new(Doorbell::for_loom()));
        let (mut producer, mut consumer, mut ringer) = (ring.producer(), ring.consumer(), Ringer::new(doorbell));
        let switcher = loom::thread::spawn(move || {
            producer.push(&[1]).unwrap();
            producer.publish() && ringer.must_ring()
        });
        doorbell.arm();
        let sees_it = consumer.has_packet();
        let is_woken = switcher.join().unwrap();
        assert!(sees_it || is_woken, "asleep beside a packet");
    });
}
