//! The table against a plain map, with switchers that die; and, under loom, the claim and publish protocol.

use super::*;
use crate::address::{Address, BackendId, InterfaceId, PortBe, Protocol, ServiceId};
use crate::connections::{Bucket, Entry, HashKey};
use crate::mode::Mode;
use crate::word::Word32;

fn connection(client: u16, service: u16, backend: u16) -> Snapshot {
    Snapshot {
        client: Address::from_v4([198, 18, 0, 2]),
        client_port: PortBe::new(client),
        service: ServiceId(service),
        backend: BackendId(backend),
        protocol: Protocol::Tcp.into(),
        mode: Mode::Nat.into(),
        created_ms: 7,
    }
}

fn opening(last_seen_ms: u64) -> Activity {
    Activity { last_seen_ms, state: State::Opening, flags: 0 }
}

/// The activity of a connection that was recorded as [`opening`].
fn recorded(last_seen_ms: u64) -> Activity {
    Activity { flags: Activity::RECORDED, ..opening(last_seen_ms) }
}

fn record(owner: &mut Owner<'_>, connection: &Snapshot, now: Activity) -> Result<Found, Refusal> {
    owner.record(connection, owner.table().hashes(connection), now, HOP, |_| {})
}

const HOP: LastHop = LastHop { mac: [2, 0, 0, 0, 0, 9], interface: InterfaceId(1) };

#[cfg(not(loom))]
mod plain {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use zerocopy::FromZeros;

    fn table(chunks: usize) -> Connections<'static, Writer> {
        let entries: Box<[Entry<Writer>]> = (0..chunks * CHUNK).map(|_| Entry::new_zeroed()).collect();
        let buckets = || -> Box<[Bucket<Writer>]> {
            (0..(chunks * CHUNK * 4).div_ceil(17)).map(|_| Bucket::new_zeroed()).collect()
        };
        let owners: Box<[Word32<Writer>]> = (0..chunks).map(|_| Word32::new(0)).collect();
        let leak = Box::leak(entries);
        Connections::new(leak, Box::leak(buckets()), Box::leak(buckets()), Box::leak(owners), HashKey([1, 2])).unwrap()
    }

    fn find(table: &Connections<'_, Writer>, connection: &Snapshot, side: Side) -> Option<Snapshot> {
        let key = connection.key(side);
        table.find(&key, table.hash(&key)).map(|found| found.connection)
    }

    #[test]
    fn found_from_both_sides_until_freed() {
        let table = table(1);
        let mut owner = Owner::adopt(table, 0, 1);
        let it = connection(1000, 3, 4);
        record(&mut owner, &it, opening(5)).unwrap();
        assert_eq!(find(&table, &it, Side::Client), Some(it));
        assert_eq!(find(&table, &it, Side::Backend), Some(it));
        assert_eq!(table.live().map(|(c, a, e)| (c, a, e.last_hop())).collect::<Vec<_>>(), [(it, recorded(5), HOP)]);
        let mut freed = Vec::new();
        assert_eq!(owner.sweep(CHUNK, |_, activity| activity.last_seen_ms < 6, |c, _| freed.push(*c)), 1);
        assert_eq!((freed, find(&table, &it, Side::Client), find(&table, &it, Side::Backend)), (vec![it], None, None));
    }

    #[test]
    fn what_was_found_before_says_nothing_about_the_next_connection_of_its_entry() {
        let table = table(1);
        let mut owner = Owner::adopt(table, 0, 1);
        let old: Vec<Found> =
            (0..CHUNK as u16).map(|n| record(&mut owner, &connection(n, 1, 1), opening(5)).unwrap()).collect();
        owner.sweep(CHUNK, |_, _| true, |_, _| {});
        // The same clients: even their slots look the same.
        let new: Vec<Found> =
            (0..CHUNK as u16).map(|n| record(&mut owner, &connection(n, 1, 1), opening(6)).unwrap()).collect();
        let end = |now: Activity| Activity { flags: now.flags | Activity::ENDED, ..now };
        for (old, new) in old.iter().zip(&new) {
            assert_eq!((old.handle.id, old.connection), (new.handle.id, new.connection));
            assert_eq!(table.activity(old).state, State::Dead);
            assert!(!table.advance(old, end));
            table.unlink(old);
            table.set_last_hop(old, LastHop { mac: [2, 0, 0, 0, 0, 7], ..HOP });
            assert_eq!(table.last_hop(new), HOP);
            assert_eq!(table.activity(new), recorded(6));
            assert_eq!(find(&table, &new.connection, Side::Client), Some(new.connection));
            assert_eq!(find(&table, &new.connection, Side::Backend), Some(new.connection));
        }
    }

    #[test]
    fn a_table_takes_all_it_was_made_for_then_refuses_then_evicts_the_opening() {
        let table = table(4);
        let mut owner = Owner::adopt(table, 0, 1);
        let all: Vec<Found> = (0..4 * CHUNK as u16)
            .map(|n| record(&mut owner, &connection(n, n % 7, n % 5), opening(0)).unwrap())
            .collect();
        let one_more = connection(60000, 1, 1);
        assert_eq!(record(&mut owner, &one_more, opening(0)), Err(Refusal::TableFull));
        for found in &all {
            table.advance(found, |now| Activity { state: State::Established, ..now });
        }
        assert!(!owner.evict(4 * CHUNK, |_, _| {}), "established connections keep their place");
        table.advance(&all[77], |_| opening(0));
        assert!(owner.evict(5 * CHUNK, |_, _| {}));
        record(&mut owner, &one_more, opening(0)).unwrap();
    }

    #[test]
    fn one_client_port_to_one_backend_through_two_services_is_refused() {
        let mut owner = Owner::adopt(table(1), 0, 1);
        record(&mut owner, &connection(1000, 1, 4), opening(0)).unwrap();
        assert_eq!(record(&mut owner, &connection(1000, 2, 4), opening(0)), Err(Refusal::BackendSideTaken));
        record(&mut owner, &connection(1000, 2, 5), opening(0)).unwrap();
    }

    #[test]
    fn a_successor_takes_claims_back_and_keeps_the_living() {
        let table = table(2);
        let mut first = Owner::adopt(table, 1, 2);
        let kept = connection(1, 1, 1);
        record(&mut first, &kept, opening(0)).unwrap();
        let claimed = first.take_free().unwrap();
        table.entries[claimed as usize].claim(1); // killed here
        drop(first);
        let mut second = Owner::adopt(table, 1, 2);
        assert_eq!(second.free(), CHUNK - 1);
        assert_eq!(find(&table, &kept, Side::Client), Some(kept));
        for n in 0..CHUNK as u16 - 1 {
            record(&mut second, &connection(100 + n, 1, 1), opening(0)).unwrap();
        }
        assert_eq!(table.live().count(), CHUNK);
    }

    /// Killed after each step of recording: what both indexes have is completed, the rest withdrawn.
    #[test]
    fn a_successor_completes_or_withdraws_what_was_half_recorded() {
        for killed_after in 0..3 {
            let table = table(1);
            let mut first = Owner::adopt(table, 0, 1);
            let it = connection(1, 1, 1);
            let hashes = table.hashes(&it);
            let id = EntryId(first.take_free().unwrap());
            let entry = table.entry(id);
            entry.claim(0);
            entry.fill(&it, opening(0), HOP);
            entry.publish();
            let mine = Found { handle: Handle { id, generation: entry.generation() }, connection: it };
            for (side, hash) in
                [(Side::Client, hashes.client), (Side::Backend, hashes.backend)].iter().take(killed_after)
            {
                first.insert(&mine, *side, *hash).unwrap();
            }
            drop(first);
            let mut second = Owner::adopt(table, 0, 1);
            let expected = (killed_after == 2).then_some(it);
            assert_eq!(find(&table, &it, Side::Client), expected, "killed after {killed_after} insertions");
            assert_eq!(find(&table, &it, Side::Backend), expected);
            assert_eq!(second.free(), CHUNK - usize::from(expected.is_some()));
            if expected.is_none() {
                record(&mut second, &it, opening(0)).unwrap();
            }
            assert_eq!(table.live().map(|(_, activity, _)| activity).collect::<Vec<_>>(), [recorded(0)]);
        }
    }

    /// A slot that became free before a recorded connection doesn't let a twin stand before it.
    #[test]
    fn a_recorded_connection_stands_against_a_twin_that_is_found_before_it() {
        let table = table(2);
        let (mut zero, mut one) = (Owner::adopt(table, 0, 2), Owner::adopt(table, 1, 2));
        let (it, rival) = (connection(1, 1, 1), connection(1, 2, 1));
        for (twin, refusal) in [(it, Refusal::Twin), (rival, Refusal::BackendSideTaken)] {
            let hashes = table.hashes(&twin);
            let stands = record(&mut zero, &it, opening(0)).unwrap();
            let id = EntryId(one.take_free().unwrap());
            let entry = table.entry(id);
            entry.claim(1);
            entry.fill(&twin, opening(0), HOP);
            entry.publish();
            let late = Found { handle: Handle { id, generation: entry.generation() }, connection: twin };
            assert_eq!(one.link(&late, hashes), Err(refusal));
            one.release(&late);
            let key = it.key(Side::Client);
            assert_eq!(table.find(&key, table.hash(&key)), Some(stands));
            table.unlink(&stands);
        }
    }

    #[test]
    fn a_chunk_goes_back_when_spare_and_another_switcher_takes_it() {
        let table = table(2);
        let (mut zero, mut one) = (Owner::adopt(table, 0, 2), Owner::adopt(table, 1, 2));
        for n in 0..2 * CHUNK as u16 {
            record(&mut zero, &connection(n, 1, 1), opening(0)).unwrap();
        }
        assert_eq!(record(&mut one, &connection(9999, 1, 1), opening(0)), Err(Refusal::TableFull));
        for _ in 0..2 {
            zero.sweep(2 * CHUNK, |_, _| true, |_, _| {});
        }
        record(&mut one, &connection(9999, 1, 1), opening(0)).unwrap();
        assert_eq!(zero.free(), CHUNK);
    }

    #[test]
    fn chunks_of_switchers_that_are_no_more_are_adopted() {
        let table = table(1);
        let it = connection(1, 1, 1);
        record(&mut Owner::adopt(table, 5, 6), &it, opening(0)).unwrap();
        let mut zero = Owner::adopt(table, 0, 1);
        assert_eq!(zero.sweep(CHUNK, |_, _| true, |_, _| {}), 1);
    }

    /// What two switchers do with one table.
    #[derive(Clone, Copy, Debug)]
    enum Operation {
        /// One of them records this client's connection.
        Open { client: u16, by: usize },
        /// This client's connection ends.
        End { client: u16 },
        /// One of them frees what ended.
        Sweep { by: usize },
        /// One of them is killed between operations, and its successor goes on.
        Kill { switcher: usize },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let (client, switcher) = (|| 0..300u16, || 0..2usize);
        prop_oneof![
            4 => (client(), switcher()).prop_map(|(client, by)| Operation::Open { client, by }),
            2 => client().prop_map(|client| Operation::End { client }),
            1 => switcher().prop_map(|by| Operation::Sweep { by }),
            1 => switcher().prop_map(|switcher| Operation::Kill { switcher }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn behaves_like_a_map(operations in proptest::collection::vec(operation(), 1..600)) {
            let table = table(2);
            let mut owners = [Owner::adopt(table, 0, 2), Owner::adopt(table, 1, 2)];
            let mut model: HashMap<u16, Snapshot> = HashMap::new();
            let connection_of = |client: u16| connection(client, client % 3, client % 4);
            for operation in operations {
                match operation {
                    Operation::Open { client, by } => {
                        let it = connection_of(client);
                        if !model.contains_key(&client) && record(&mut owners[by], &it, opening(0)).is_ok() {
                            model.insert(client, it);
                        }
                    }
                    Operation::End { client } => {
                        let key = connection_of(client).key(Side::Client);
                        if let Some(found) = table.find(&key, table.hash(&key)) {
                            table.unlink(&found);
                        }
                        model.remove(&client);
                    }
                    Operation::Sweep { by } => { owners[by].sweep(2 * CHUNK, |_, _| false, |_, _| {}); }
                    Operation::Kill { switcher } => owners[switcher] = Owner::adopt(table, switcher as u8, 2),
                }
                for (client, it) in &model {
                    prop_assert_eq!(find(&table, it, Side::Client), Some(*it), "{}", client);
                    prop_assert_eq!(find(&table, it, Side::Backend), Some(*it));
                }
                prop_assert_eq!(table.live().count(), model.len());
            }
        }
    }
}

#[cfg(loom)]
mod model {
    use super::*;

    fn table() -> Connections<'static, Writer> {
        let entries: Box<[Entry<Writer>]> = (0..2).map(|_| Entry::for_loom()).collect();
        let buckets = || -> Box<[Bucket<Writer>]> { (0..1).map(|_| Bucket::for_loom()).collect() };
        let owners: Box<[Word32<Writer>]> = (0..2).map(|_| Word32::new(0)).collect();
        let (client, backend) = (Box::leak(buckets()), Box::leak(buckets()));
        Connections::new(Box::leak(entries), client, backend, Box::leak(owners), HashKey([1, 2])).unwrap()
    }

    fn bounded() -> loom::model::Builder {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model
    }

    #[test]
    fn loom_two_switchers_record_one_connection_once() {
        bounded().check(|| {
            let table = table();
            let other =
                loom::thread::spawn(move || record(&mut Owner::adopt(table, 1, 2), &connection(1, 1, 1), opening(0)));
            let mine = record(&mut Owner::adopt(table, 0, 2), &connection(1, 1, 1), opening(0));
            let theirs = other.join().unwrap();
            let key = connection(1, 1, 1).key(Side::Client);
            let found = table.find(&key, table.hash(&key)).expect("one of them stands");
            assert!(mine.is_ok() || theirs.is_ok());
            let twins = table.index(Side::Client).candidates(table.hash(&key)).count();
            assert_eq!(twins, 1, "one slot names {:?}", found.handle);
        });
    }

    #[test]
    fn loom_two_services_record_one_backend_side_once() {
        bounded().check(|| {
            let table = table();
            let (first, second) = (connection(1, 1, 1), connection(1, 2, 1));
            let other = loom::thread::spawn(move || record(&mut Owner::adopt(table, 1, 2), &second, opening(0)));
            let mine = record(&mut Owner::adopt(table, 0, 2), &first, opening(0));
            let theirs = other.join().unwrap();
            let key = first.key(Side::Backend);
            let stand: Vec<Found> = [mine, theirs].into_iter().flatten().collect();
            assert!(stand.len() < 2, "both recorded one backend side");
            assert_eq!(table.index(Side::Backend).candidates(table.hash(&key)).count(), stand.len());
            assert_eq!(table.find(&key, table.hash(&key)), stand.first().copied());
        });
    }

    /// Two switchers record one connection; the one that stands ends, and its entry is used anew meanwhile.
    #[test]
    fn loom_a_twin_then_reuse_touches_no_other_connection() {
        bounded().check(|| {
            let table = table();
            let (it, next) = (connection(1, 1, 1), connection(2, 2, 2));
            let other = loom::thread::spawn(move || {
                let mut owner = Owner::adopt(table, 1, 2);
                record(&mut owner, &it, opening(0))
            });
            let mut owner = Owner::adopt(table, 0, 2);
            let mine = record(&mut owner, &it, opening(0));
            owner.sweep(1, |_, _| true, |_, _| {});
            let reused = record(&mut owner, &next, opening(0));
            let theirs = other.join().unwrap();
            assert!(mine.is_ok() || theirs.is_ok());
            let reused = reused.expect("room, and no rival");
            let key = next.key(Side::Client);
            assert_eq!(table.find(&key, table.hash(&key)), Some(reused));
            assert_eq!(table.activity(&reused), recorded(0));
        });
    }

    #[test]
    fn loom_a_reader_sees_a_whole_connection_or_none() {
        bounded().check(|| {
            let table = table();
            let (old, new) = (connection(1, 1, 1), connection(2, 2, 2));
            let mut owner = Owner::adopt(table, 0, 1);
            record(&mut owner, &old, opening(0)).unwrap();
            let reader = loom::thread::spawn(move || table.entries[0].read());
            owner.sweep(1, |_, _| true, |_, _| {});
            record(&mut owner, &new, opening(0)).unwrap();
            if let Some((seen, _)) = reader.join().unwrap() {
                assert!(seen == old || seen == new, "{seen:?}");
            }
        });
    }
    #[test]
    fn loom_the_end_of_a_connection_is_counted_once() {
        bounded().check(|| {
            let table = table();
            let it = connection(1, 1, 1);
            let mut owner = Owner::adopt(table, 0, 1);
            let found = record(&mut owner, &it, opening(0)).unwrap();
            let end = |now: Activity| Activity { state: State::Closed, flags: now.flags | Activity::ENDED, ..now };
            let another = loom::thread::spawn(move || table.advance(&found, end));
            let mut counted = 0;
            owner.sweep(1, |_, _| true, |_, last| counted += u32::from(last.flags & Activity::ENDED == 0));
            assert_eq!(counted + u32::from(another.join().unwrap()), 1);
        });
    }

    #[test]
    fn loom_an_interrupted_switcher_never_touches_the_next_connection_of_an_entry() {
        bounded().check(|| {
            let table = table();
            let (old, new) = (connection(1, 1, 1), connection(2, 2, 2));
            let mut owner = Owner::adopt(table, 0, 1);
            let found = record(&mut owner, &old, opening(0)).unwrap();
            let end = |now: Activity| Activity { flags: now.flags | Activity::ENDED, ..now };
            let another = loom::thread::spawn(move || {
                let ended = table.advance(&found, end);
                table.unlink(&found);
                ended
            });
            let mut counted = 0;
            owner.sweep(1, |_, _| true, |_, last| counted += u32::from(last.flags & Activity::ENDED == 0));
            let next = record(&mut owner, &new, opening(0)).unwrap();
            assert_eq!(next.handle.id, found.handle.id, "the only entry of the chunk");
            assert_eq!(counted + u32::from(another.join().unwrap()), 1);
            assert_eq!(table.activity(&next), recorded(0));
            let key = new.key(Side::Client);
            assert_eq!(table.find(&key, table.hash(&key)), Some(next));
        });
    }
}
