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

/// An owner that counts nothing.
fn adopt(table: Connections<'static, Writer>, number: u8) -> Owner<'static> {
    Owner::adopt(table, number, InFlight::default())
}

fn record(owner: &mut Owner<'_>, connection: &Snapshot, now: Activity) -> Result<Found, RecordError> {
    owner.record(connection, owner.table().hashes(connection), now, HOP)
}

/// A connection as its switcher leaves it when it is killed before the first index has it.
fn publish(owner: &mut Owner<'_>, connection: &Snapshot) -> Found {
    let id = EntryId(owner.take_free().unwrap());
    let entry = owner.table().entry(id);
    entry.claim(owner.number);
    entry.fill(connection, opening(0), HOP);
    entry.publish();
    Found { handle: Handle { id, generation: entry.generation() }, connection: *connection }
}

const HOP: LastHop = LastHop { mac: [2, 0, 0, 0, 0, 9], interface: InterfaceId(1) };

#[cfg(not(loom))]
mod plain {
    use super::*;
    use crate::connections::CountJournal;
    use crate::kill::killed_before;
    use crate::record::Counter;
    use crate::regions::ConnectionsShape;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use zerocopy::FromZeros;

    fn table(chunks: usize) -> Connections<'static, Writer> {
        let shape = ConnectionsShape::new((chunks * CHUNK) as u32);
        table_of(chunks, shape.buckets as usize)
    }

    /// A table for some connections of three switchers that all begin their search in one bucket.
    fn colliding() -> Connections<'static, Writer> {
        table_of(3, 1)
    }

    fn table_of(chunks: usize, buckets: usize) -> Connections<'static, Writer> {
        let entries: Box<[Entry<Writer>]> = (0..chunks * CHUNK).map(|_| Entry::new_zeroed()).collect();
        let buckets = || -> Box<[Bucket<Writer>]> { (0..buckets).map(|_| Bucket::new_zeroed()).collect() };
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
        let mut owner = adopt(table, 0);
        let it = connection(1000, 3, 4);
        let found = record(&mut owner, &it, opening(5)).unwrap();
        assert_eq!(find(&table, &it, Side::Client), Some(it));
        assert_eq!(find(&table, &it, Side::Backend), Some(it));
        assert_eq!(table.live().collect::<Vec<_>>(), [(it, recorded(5), found.handle)]);
        let mut freed = Vec::new();
        assert_eq!(owner.sweep(CHUNK, |_, activity| activity.last_seen_ms < 6, |c, _| freed.push(*c)), 1);
        assert_eq!((freed, find(&table, &it, Side::Client), find(&table, &it, Side::Backend)), (vec![it], None, None));
    }

    #[test]
    fn what_was_found_before_says_nothing_about_the_next_connection_of_its_entry() {
        let table = table(1);
        let mut owner = adopt(table, 0);
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
            table.set_last_hop(old, LastHop { mac: [2, 0, 0, 0, 0, 7], ..HOP }, |_| true);
            assert_eq!((table.last_hop(old), table.last_hop(new)), (None, Some(HOP)));
            assert_eq!(table.activity(new), recorded(6));
            assert_eq!(find(&table, &new.connection, Side::Client), Some(new.connection));
            assert_eq!(find(&table, &new.connection, Side::Backend), Some(new.connection));
        }
    }

    #[test]
    fn a_table_takes_all_it_was_made_for_then_refuses_then_evicts_the_opening() {
        let table = table(4);
        let mut owner = adopt(table, 0);
        let all: Vec<Found> = (0..4 * CHUNK as u16)
            .map(|n| record(&mut owner, &connection(n, n % 7, n % 5), opening(0)).unwrap())
            .collect();
        let one_more = connection(60000, 1, 1);
        assert_eq!(record(&mut owner, &one_more, opening(0)), Err(RecordError::TableFull));
        for found in &all {
            table.advance(found, |now| Activity { state: State::Established, ..now });
        }
        assert!(!owner.evict(4 * CHUNK, |_, _| {}), "established connections keep their place");
        table.advance(&all[77], |_| opening(0));
        assert!(owner.evict(5 * CHUNK, |_, _| {}));
        record(&mut owner, &one_more, opening(0)).unwrap();
    }

    #[test]
    fn floods_give_way_before_connections_do_and_the_oldest_first() {
        let table = table(1);
        let mut owner = adopt(table, 0);
        let states = [State::Established, State::Closing, State::Opening, State::Opening, State::Closed];
        let mut all: Vec<Found> = Vec::new();
        for (n, state) in (0..).zip(states) {
            let found = record(&mut owner, &connection(n, 1, 1), opening(u64::from(n))).unwrap();
            table.advance(&found, |now| Activity { state, ..now });
            all.push(found);
        }
        let flow = Snapshot { protocol: Protocol::Udp.into(), ..connection(5, 2, 2) };
        all.push(record(&mut owner, &flow, Activity { state: State::Established, ..opening(0) }).unwrap());
        let mut evicted = Vec::new();
        while owner.evict(2 * CHUNK, |connection, _| evicted.push(connection.client_port.get())) {}
        assert_eq!(evicted, [4, 2, 3, 1, 5], "all but the established connection");
    }

    /// As where a used entry's words are damaged: the list neither has it twice nor ends early.
    #[test]
    fn an_entry_is_in_the_list_of_free_ones_once() {
        let mut owner = adopt(table(1), 0);
        let first = record(&mut owner, &connection(1, 1, 1), opening(0)).unwrap();
        owner.release(&first);
        owner.give_back(first.handle.id.0);
        assert_eq!(owner.free, CHUNK);
        let taken: std::collections::HashSet<u32> = (0..CHUNK).map(|_| owner.take_free().unwrap()).collect();
        assert_eq!((taken.len(), owner.take_free()), (CHUNK, None));
    }

    #[test]
    fn one_client_port_to_one_backend_through_two_services_is_refused() {
        let mut owner = adopt(table(1), 0);
        record(&mut owner, &connection(1000, 1, 4), opening(0)).unwrap();
        assert_eq!(record(&mut owner, &connection(1000, 2, 4), opening(0)), Err(RecordError::BackendSideTaken));
        record(&mut owner, &connection(1000, 2, 5), opening(0)).unwrap();
    }

    #[test]
    fn a_successor_takes_claims_back_and_keeps_the_living() {
        let table = table(2);
        let mut first = adopt(table, 1);
        let kept = connection(1, 1, 1);
        record(&mut first, &kept, opening(0)).unwrap();
        let claimed = first.take_free().unwrap();
        table.entries[claimed as usize].claim(1); // killed here
        drop(first);
        let mut second = adopt(table, 1);
        assert_eq!(second.free, CHUNK - 1);
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
            let mut first = adopt(table, 0);
            let it = connection(1, 1, 1);
            let hashes = table.hashes(&it);
            let mine = publish(&mut first, &it);
            for (side, hash) in hashes.by_side().into_iter().take(killed_after) {
                first.insert(&mine, side, hash).unwrap();
            }
            drop(first);
            let mut second = adopt(table, 0);
            let expected = (killed_after == 2).then_some(it);
            assert_eq!(find(&table, &it, Side::Client), expected, "killed after {killed_after} insertions");
            assert_eq!(find(&table, &it, Side::Backend), expected);
            assert_eq!(second.free, CHUNK - usize::from(expected.is_some()));
            if expected.is_none() {
                record(&mut second, &it, opening(0)).unwrap();
            }
            assert_eq!(table.live().map(|(_, activity, _)| activity).collect::<Vec<_>>(), [recorded(0)]);
        }
    }

    /// A slot that became free before a recorded connection, in an entry that comes before it, too, doesn't let a twin stand.
    #[test]
    fn a_recorded_connection_stands_against_a_twin_that_comes_before_it() {
        let (it, rival) = (connection(1, 1, 1), connection(1, 2, 1));
        for (twin, refusal) in [(it, RecordError::Twin), (rival, RecordError::BackendSideTaken)] {
            let table = colliding();
            let (mut zero, mut one) = (adopt(table, 0), adopt(table, 1));
            let filler = record(&mut zero, &connection(9, 9, 9), opening(0)).unwrap();
            let stands = record(&mut one, &it, opening(0)).unwrap();
            zero.release(&filler);
            let late = publish(&mut zero, &twin);
            assert!(late.handle.id.0 < stands.handle.id.0);
            assert_eq!(zero.link(&late, table.hashes(&twin)), Err(refusal));
            zero.release(&late);
            let key = it.key(Side::Client);
            assert_eq!(table.find(&key, table.hash(&key)), Some(stands));
            assert_eq!(table.activity(&stands), recorded(0));
        }
    }

    /// Its switcher was killed after it was withdrawn: neither its place in the search nor its entry's number counts.
    #[test]
    fn a_dead_rival_is_in_nobodys_way() {
        let (it, rival) = (connection(1, 1, 1), connection(1, 2, 1));
        for dead in [it, rival] {
            let table = colliding();
            let (mut zero, mut one) = (adopt(table, 0), adopt(table, 1));
            let half = publish(&mut zero, &dead);
            for (side, hash) in table.hashes(&dead).by_side() {
                zero.insert(&half, side, hash).unwrap();
            }
            assert!(table.entry(half.handle.id).end_if(half.handle.generation, |_| true));
            let stands = record(&mut one, &it, opening(0)).unwrap();
            for side in [Side::Client, Side::Backend] {
                let key = it.key(side);
                assert_eq!(table.find(&key, table.hash(&key)), Some(stands));
            }
            let key = dead.key(Side::Client);
            assert_eq!(table.find(&key, table.hash(&key)), (dead == it).then_some(stands));
        }
    }

    /// Of three that rival each other in different indexes, none may yield in a circle.
    #[test]
    fn the_first_of_three_rivals_stands_whatever_their_places_in_the_indexes() {
        let three = [connection(1, 1, 1), connection(1, 1, 1), connection(1, 2, 1)];
        for first_in_backend_index in 0..3 {
            let table = colliding();
            let mut owners = [0, 1, 2].map(|number| adopt(table, number));
            let mut published = Vec::new();
            for (owner, it) in owners.iter_mut().zip(&three) {
                published.push(publish(owner, it));
            }
            for mine in &published {
                owners[0].insert(mine, Side::Client, table.hashes(&mine.connection).client).unwrap();
            }
            for mine in published.iter().cycle().skip(first_in_backend_index).take(3) {
                owners[0].insert(mine, Side::Backend, table.hashes(&mine.connection).backend).unwrap();
            }
            let settled: Vec<_> = published
                .iter()
                .map(|mine| owners[0].resolve_rivals(mine, table.hashes(&mine.connection)).is_ok())
                .collect();
            assert_eq!(settled, [true, false, false]);
        }
    }

    #[test]
    fn an_entry_that_yields_withdraws_no_rival() {
        let table = colliding();
        let mut owners = [0, 1, 2].map(|number| adopt(table, number));
        // The second contends with the first on the backend's side, and with the third on the client's.
        let three = [connection(1, 2, 1), connection(1, 1, 1), connection(1, 1, 2)];
        let mut published = Vec::new();
        for (owner, it) in owners.iter_mut().zip(&three) {
            let mine = publish(owner, it);
            for (side, hash) in table.hashes(it).by_side() {
                owner.insert(&mine, side, hash).unwrap();
            }
            published.push(mine);
        }
        let [first, second, third] = &published[..] else { panic!() };
        let settle = |mine: &Found| owners[0].resolve_rivals(mine, table.hashes(&mine.connection));
        assert_eq!(settle(second), Err(RecordError::BackendSideTaken));
        owners[1].release(second);
        let settle = |mine: &Found| owners[0].resolve_rivals(mine, table.hashes(&mine.connection));
        assert_eq!((settle(first), settle(third)), (Ok(()), Ok(())));
    }

    /// What the judgement was about has changed before the end: the connection stays, and is judged anew.
    #[test]
    fn a_connection_that_becomes_active_again_survives_the_sweep() {
        let table = table(1);
        let mut owner = adopt(table, 0);
        let found = record(&mut owner, &connection(1, 1, 1), opening(5)).unwrap();
        let silent = |_: &Snapshot, activity: &Activity| {
            let is_silent = activity.last_seen_ms < 6;
            table.advance(&found, |now| Activity { last_seen_ms: 9, state: State::Established, ..now });
            is_silent
        };
        assert_eq!(owner.sweep(CHUNK, silent, |_, _| panic!("freed")), 0);
        assert_eq!(table.activity(&found), Activity { state: State::Established, ..recorded(9) });
        assert_eq!(find(&table, &found.connection, Side::Client), Some(found.connection));
        assert_eq!(find(&table, &found.connection, Side::Backend), Some(found.connection));
    }

    /// What two switchers have counted, and what the table has in flight.
    fn in_flight(table: &Connections<'_, Writer>, counts: [&Counter<Writer>; 2]) -> (u64, u64) {
        let is_in_flight = |(_, now, _): &(Snapshot, Activity, Handle)| now.flags & Activity::ENDED == 0;
        let counted = counts.iter().fold(0, |sum: u64, count| sum.wrapping_add(count.get()));
        (counted, table.live().filter(is_in_flight).count() as u64)
    }

    /// A switcher and its successor are killed before any store of recording, refusing, completing and freeing, while
    /// another one sees the connection end or not.
    #[test]
    fn killed_before_any_store_the_counts_in_flight_balance() {
        let (it, rival) = (connection(1, 1, 0), connection(1, 2, 0));
        let end = |now: Activity| Activity { flags: now.flags | Activity::ENDED, ..now };
        for (first_stores, second_stores, is_ended) in (0..45u64)
            .flat_map(|first| (0..45u64).step_by(3).map(move |second| (first, second + first % 3)))
            .flat_map(|(first, second)| [(first, second, false), (first, second, true)])
        {
            let table = table_of(1, 1);
            let mine: &[Counter<Writer>] = Box::leak(Box::new([Counter::new_zeroed()]));
            let (other, journal) = (Counter::new_zeroed(), Box::leak(Box::new(CountJournal::new_zeroed())));
            let adopt = || Owner::adopt(table, 0, InFlight::new(mine, journal));
            let mut first = adopt();
            killed_before(first_stores, || {
                record(&mut first, &it, opening(0)).unwrap();
                record(&mut first, &rival, opening(0)).unwrap_err();
            });
            let key = it.key(Side::Client);
            if is_ended
                && let Some(found) = table.find(&key, table.hash(&key))
                && table.advance(&found, end)
            {
                other.subtract(1);
            }
            let mut second = None;
            killed_before(second_stores, || second = Some(adopt()));
            let mut third = adopt();
            let (counted, live) = in_flight(&table, [&mine[0], &other]);
            assert_eq!(counted, live, "killed before {first_stores}, {second_stores}");
            killed_before(second_stores, || {
                third.sweep(CHUNK, |_, _| true, |_, _| {});
            });
            adopt();
            let (counted, live) = in_flight(&table, [&mine[0], &other]);
            assert_eq!(counted, live, "killed before {first_stores}, {second_stores} of freeing");
        }
    }

    /// Both sides agree on whether there is a connection, and an index names no other.
    fn assert_whole(table: &Connections<'_, Writer>, it: &Snapshot) -> bool {
        let hashes = table.hashes(it);
        let named = hashes.by_side().map(|(side, hash)| table.index(side).candidates(hash).count());
        let found = [Side::Client, Side::Backend].map(|side| find(table, it, side).is_some());
        assert_eq!(named, found.map(usize::from));
        assert_eq!(found[0], found[1]);
        found[0]
    }

    #[test]
    fn killed_before_any_store_of_recording_a_connection_is_whole_or_none_for_its_successor() {
        let it = connection(1, 1, 1);
        let mut outcomes = Vec::new();
        for stores in 0.. {
            let table = table(1);
            let mut first = adopt(table, 0);
            let is_killed = killed_before(stores, || record(&mut first, &it, opening(0)).map(|_| ()).unwrap());
            let mut second = adopt(table, 0);
            let is_found = assert_whole(&table, &it);
            assert_eq!(second.free % CHUNK, if is_found { CHUNK - 1 } else { 0 }, "killed before store {stores}");
            assert_eq!(
                table.live().map(|(_, activity, _)| activity).collect::<Vec<_>>(),
                vec![recorded(0); is_found.into()]
            );
            outcomes.push(is_found);
            assert_eq!(record(&mut second, &it, opening(0)).is_ok(), !is_found);
            if !is_killed {
                break;
            }
        }
        assert!(outcomes.is_sorted() && outcomes.len() > 10, "{outcomes:?}");
    }

    #[test]
    fn killed_before_any_store_of_unlinking_a_connection_is_whole_or_none() {
        let it = connection(1, 1, 1);
        for stores in 0.. {
            let table = table(1);
            let mut first = adopt(table, 0);
            let found = record(&mut first, &it, opening(0)).unwrap();
            let is_killed = killed_before(stores, || table.unlink(&found));
            let is_found = find(&table, &it, Side::Client).is_some();
            assert_eq!(find(&table, &it, Side::Backend).is_some(), is_found, "killed before store {stores}");
            let mut second = adopt(table, 0);
            assert_eq!((assert_whole(&table, &it), is_found), (stores == 0, stores == 0));
            assert_eq!(second.free, CHUNK - usize::from(is_found));
            assert_eq!(record(&mut second, &it, opening(0)).is_ok(), !is_found);
            if !is_killed {
                break;
            }
        }
    }

    #[test]
    fn a_chunk_goes_back_when_spare_and_another_switcher_takes_it() {
        let table = table(2);
        let (mut zero, mut one) = (adopt(table, 0), adopt(table, 1));
        for n in 0..2 * CHUNK as u16 {
            record(&mut zero, &connection(n, 1, 1), opening(0)).unwrap();
        }
        assert_eq!(record(&mut one, &connection(9999, 1, 1), opening(0)), Err(RecordError::TableFull));
        for _ in 0..2 {
            zero.sweep(2 * CHUNK, |_, _| true, |_, _| {});
        }
        record(&mut one, &connection(9999, 1, 1), opening(0)).unwrap();
        assert_eq!(zero.free, CHUNK);
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
            let mut owners = [adopt(table, 0), adopt(table, 1)];
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
                    Operation::Kill { switcher } => owners[switcher] = adopt(table, switcher as u8),
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
        table_of(2)
    }

    fn table_of(entries: usize) -> Connections<'static, Writer> {
        let owners: Box<[Word32<Writer>]> = (0..entries).map(|_| Word32::new(0)).collect();
        let entries: Box<[Entry<Writer>]> = (0..entries).map(|_| Entry::for_loom()).collect();
        let buckets = || -> Box<[Bucket<Writer>]> { (0..1).map(|_| Bucket::for_loom()).collect() };
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
            let other = loom::thread::spawn(move || record(&mut adopt(table, 1), &connection(1, 1, 1), opening(0)));
            let mine = record(&mut adopt(table, 0), &connection(1, 1, 1), opening(0));
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
            let other = loom::thread::spawn(move || record(&mut adopt(table, 1), &second, opening(0)));
            let mine = record(&mut adopt(table, 0), &first, opening(0));
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
                let mut owner = adopt(table, 1);
                record(&mut owner, &it, opening(0))
            });
            let mut owner = adopt(table, 0);
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

    /// The slot that became free, in an entry that comes first, too, doesn't let a late twin stand before a recorded one.
    #[test]
    fn loom_a_twin_in_an_earlier_slot_and_entry_finds_the_recorded_one() {
        bounded().check(|| {
            let table = table();
            let it = connection(1, 1, 1);
            let mut owner = adopt(table, 0);
            let filler = record(&mut owner, &connection(9, 9, 9), opening(0)).unwrap();
            let mut rival = adopt(table, 1);
            let theirs = publish(&mut rival, &it);
            let hashes = table.hashes(&it);
            for (side, hash) in hashes.by_side() {
                rival.insert(&theirs, side, hash).unwrap();
            }
            owner.release(&filler);
            let other = loom::thread::spawn(move || {
                let stands = rival.resolve_rivals(&theirs, hashes).is_ok();
                if !stands {
                    rival.release(&theirs);
                }
                stands.then_some(theirs)
            });
            let mine = record(&mut owner, &it, opening(0)).ok();
            let stand: Vec<Found> = [mine, other.join().unwrap()].into_iter().flatten().collect();
            let key = it.key(Side::Client);
            assert_eq!((stand.len(), table.find(&key, hashes.client)), (1, Some(stand[0])));
        });
    }

    /// Rivals whose places in the two indexes make a circle: the first in one comes after the last in the other. The second
    /// has seen the first and yields; before it is dead, the first and the third look.
    #[test]
    fn loom_of_three_rivals_one_stands() {
        bounded().check(|| {
            let table = table_of(3);
            let three = [connection(1, 1, 1), connection(1, 1, 1), connection(1, 2, 1)];
            let rivals = [0u8, 1, 2].map(|number| {
                let mut owner = adopt(table, number);
                let mine = publish(&mut owner, &three[usize::from(number)]);
                owner.insert(&mine, Side::Client, table.hashes(&mine.connection).client).unwrap();
                (owner, mine)
            });
            for place in [1, 2, 0] {
                let (owner, mine) = &rivals[place];
                owner.insert(mine, Side::Backend, table.hashes(&mine.connection).backend).unwrap();
            }
            let settle = move |(mut owner, mine): (Owner<'static>, Found)| {
                let stands = owner.resolve_rivals(&mine, table.hashes(&mine.connection)).is_ok();
                if !stands {
                    owner.release(&mine);
                }
                stands.then_some(mine)
            };
            let [first, (mut owner, second), third] = rivals;
            assert_eq!(owner.resolve_rivals(&second, table.hashes(&second.connection)), Err(RecordError::Twin));
            let other = loom::thread::spawn(move || settle(third));
            let mine = settle(first);
            let theirs = other.join().unwrap();
            owner.release(&second);
            let stand: Vec<Found> = [mine, theirs].into_iter().flatten().collect();
            assert_eq!(stand.len(), 1, "{stand:?}");
            let key = three[0].key(Side::Backend);
            assert_eq!(table.find(&key, table.hash(&key)), Some(stand[0]));
        });
    }

    /// A switcher was killed before it confirmed; its successor decides while a rival is recorded.
    #[test]
    fn loom_a_successor_and_a_rival_agree_on_which_stands() {
        for is_first in [true, false] {
            bounded().check(move || {
                let table = table();
                let (it, rival) = (connection(1, 1, 1), connection(1, 2, 1));
                let mut predecessor = adopt(table, 0);
                let mut other = adopt(table, 1);
                let filler = (!is_first).then(|| record(&mut other, &connection(9, 9, 9), opening(0)).unwrap());
                let half = publish(&mut predecessor, &it);
                for (side, hash) in table.hashes(&it).by_side() {
                    predecessor.insert(&half, side, hash).unwrap();
                }
                if let Some(filler) = filler {
                    other.release(&filler);
                }
                let other = loom::thread::spawn(move || record(&mut other, &rival, opening(0)).ok());
                let successor = adopt(table, 0);
                let kept = (successor.free == 0).then_some(half);
                let stand: Vec<Found> = [kept, other.join().unwrap()].into_iter().flatten().collect();
                let key = it.key(Side::Backend);
                assert_eq!((stand.len(), table.find(&key, table.hash(&key))), (1, Some(stand[0])));
                assert_eq!(table.activity(&stand[0]), recorded(0));
            });
        }
    }

    #[test]
    fn loom_what_becomes_established_is_not_evicted() {
        bounded().check(|| {
            let table = table();
            let mut owner = adopt(table, 0);
            let found = record(&mut owner, &connection(1, 1, 1), opening(0)).unwrap();
            let answer =
                |now: Activity| Activity { state: State::Established, flags: now.flags | Activity::ANSWERED, ..now };
            let another = loom::thread::spawn(move || table.advance(&found, answer));
            let is_evicted = owner.evict(1, |_, last| assert_eq!(last.flags & Activity::ANSWERED, 0));
            another.join().unwrap();
            assert_eq!(table.activity(&found).state, if is_evicted { State::Dead } else { State::Established });
        });
    }

    #[test]
    fn loom_a_reader_sees_a_whole_connection_or_none() {
        bounded().check(|| {
            let table = table();
            let (old, new) = (connection(1, 1, 1), connection(2, 2, 2));
            let mut owner = adopt(table, 0);
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
            let mut owner = adopt(table, 0);
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
            let mut owner = adopt(table, 0);
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
