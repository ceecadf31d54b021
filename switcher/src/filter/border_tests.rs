//! Numbers in shared memory that this build doesn't know: each is a counted drop, none is a guess or a panic.

use super::testing::{B1, BACKENDS, CLIENTS, SERVICE, three_services, through};
use super::*;
use shunt_packet::PROTOCOL_TCP;
use shunt_packet::tcp::{ACK, SYN};
use shunt_packet::testing::tcp;
use shunt_shmlayout::coded::Coded;
use shunt_shmlayout::config_table::{BackendRecord, FibRecord, ServiceRecord};
use shunt_shmlayout::connections::LastHop;

const CLIENT: ([u8; 4], u16) = ([198, 18, 0, 2], 40000);
const BAD: Verdict = Verdict::Drop(DropReason::BadTable);

fn from_client(filter: &mut Filter, flags: u8) -> Verdict {
    through(filter, tcp(CLIENT, SERVICE, flags).build(), CLIENTS).0
}

/// A number that no build wrote, or only a newer one: the packet is dropped and counted, never forwarded by a guess.
#[test]
fn a_record_with_an_unknown_number_drops_the_packets_that_need_it() {
    let (world, _) = three_services();
    let (tables, mut filter) = (world.generation(), world.filter(0));
    assert!(matches!(from_client(&mut filter, SYN), Verdict::Forward(..)));
    let good: ServiceRecord = tables.services[0].load();
    for bad in [
        ServiceRecord { mode: 0, ..good },
        ServiceRecord { algorithm: 200, ..good },
        ServiceRecord { target: 2, ..good },
        ServiceRecord { on_backend_down: 3, ..good },
        ServiceRecord { protocol: 1, ..good },
    ] {
        tables.services[0].store(&bad);
        let other = (CLIENT.0, CLIENT.1 + 1);
        assert_eq!(through(&mut filter, tcp(other, SERVICE, SYN).build(), CLIENTS).0, BAD, "a new connection, {bad:?}");
        assert_eq!(through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS).0, BAD, "a reply, {bad:?}");
        assert_eq!(filter.sweep(8192, 1001), 0, "its connection stays for its time, {bad:?}");
    }
    assert_eq!(world.switcher.services[0].refused.get(), 0, "no backend was asked for");
    tables.services[0].store(&good);
    let backend: BackendRecord = tables.backends[0].load();
    tables.backends[0].store(&BackendRecord { protocol: 1, ..backend });
    assert_eq!(from_client(&mut filter, ACK), BAD);
    tables.backends[0].store(&backend);
    let range = &tables.fib[1];
    range.store(&FibRecord { kind: 3, ..range.load() });
    assert_eq!(through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS).0, BAD, "the way to the client");
}

/// Such an endpoint isn't one that the table lacks: its packets are neither refused nor left to the kernel.
#[test]
fn an_endpoint_of_an_unknown_kind_drops_the_packets_that_need_it() {
    let (world, _) = three_services();
    let mut filter = world.filter(0);
    let (service, backend) = (([198, 18, 0, 77], 80), ([198, 18, 1, 77], 80));
    let unknown = |(address, port): ([u8; 4], u16), protocol| {
        let (address, port) = (Address::from_v4(address), PortBe::new(port));
        world.generation().add_endpoint(address, port, protocol, Endpoint::Unknown).unwrap();
    };
    let ours = |filter: &mut Filter, to| through(filter, tcp(CLIENT, to, SYN).build(), CLIENTS).0;
    let reply = |filter: &mut Filter| through(filter, tcp(backend, CLIENT, SYN | ACK).build(), BACKENDS).0;
    assert_eq!((ours(&mut filter, service), reply(&mut filter)), (Verdict::NotOurs, Verdict::NotOurs), "not there");
    unknown(service, PROTOCOL_TCP);
    unknown(backend, PROTOCOL_TCP);
    assert_eq!((ours(&mut filter, service), reply(&mut filter)), (BAD, BAD));
    let address = ([198, 18, 0, 78], 0);
    unknown(address, 0);
    assert_eq!(ours(&mut filter, (address.0, 80)), BAD, "an address as such");
}

/// An entry of a mode that this build doesn't know is another switcher's to serve: its packets are dropped and counted, and
/// it ends as others do.
#[test]
fn a_connection_of_an_unknown_mode_is_not_forwarded_and_expires() {
    let (world, _) = three_services();
    let mut filter = world.filter(0);
    let table = world.connections.table().unwrap();
    let connection = Snapshot {
        client: Address::from_v4(CLIENT.0),
        client_port: PortBe::new(CLIENT.1),
        service: ServiceId(0),
        backend: BackendId(0),
        protocol: Coded::UNKNOWN,
        mode: Coded::UNKNOWN,
        created_ms: 1000,
    };
    let activity = Activity { last_seen_ms: 1000, state: State::Opening, flags: 0 };
    let hop = LastHop { mac: [2; 6], interface: CLIENTS };
    let mut owner = Owner::adopt(table, 1, world.switchers[1].counts_in_flight());
    owner.record(&connection, table.hashes(&connection), activity, hop).unwrap();
    assert_eq!(from_client(&mut filter, ACK), BAD);
    assert_eq!(from_client(&mut filter, SYN), BAD);
    assert_eq!(through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS).0, BAD);
    assert_eq!(table.live().count(), 1);
    let mut filter = world.filter(1);
    assert_eq!(filter.sweep(8192, 10_000_000), 1);
}
