//! The follower against a real kernel, inside a network namespace of its own. Without root it says so and passes.

mod namespaces;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use namespaces::{Peer, in_namespace, ip};
use shunt_control::routing_daemon::announce::{Announcer, Place};
use shunt_control::routing_daemon::netlink::{EVENT_BUFFER_BYTES, Follower};
use shunt_control::routing_daemon::resolve::Resolver;
use shunt_routing::event::{Link, Neighbour, NeighbourKey, NeighbourState, RouteTable};
use shunt_routing::intervals::{intervals, next_hop};
use shunt_routing::state::{Changes, State};

/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);

/// Two ends of a cable, ours `net-a` with 198.18.4.1, the peer's `net-b` with 198.18.4.2.
fn cable() -> Peer {
    let peer = Peer::start();
    ip(&format!("link add net-a type veth peer name net-b netns {}", peer.pid()));
    peer.ip("addr add 198.18.4.2/24 dev net-b");
    peer.ip("link set net-b up");
    ip("addr add 198.18.4.1/24 dev net-a");
    ip("link set net-a up");
    peer
}

/// Waits until the link's queue runs: with the operational state, the kernel's link watch starts it, which on a busy machine takes
/// seconds. Until then every frame is lost.
fn await_operational(link: &str) {
    let begin = Instant::now();
    while !String::from_utf8(Command::new("ip").args(["-o", "link", "show", link]).output().unwrap().stdout)
        .unwrap()
        .contains("state UP")
    {
        assert!(begin.elapsed() < PATIENCE, "{link} never came up");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A cable whose both ends pass frames, with the peer's Ethernet address set; who follows it, and our end's index.
async fn followed_cable() -> (Peer, Follower, u32) {
    let peer = cable();
    peer.ip("link set net-b address 02:00:00:00:04:02");
    let mut follower = Follower::start(EVENT_BUFFER_BYTES).unwrap();
    let ifindex = link_named(follower.state(), "net-a").unwrap().ifindex;
    until(&mut follower, "carrier", |s| s.links[&ifindex].carrier.then_some(())).await;
    await_operational("net-a");
    (peer, follower, ifindex)
}

/// Follows until `wanted` gives something.
async fn until<T>(follower: &mut Follower, what: &str, wanted: impl Fn(&State) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(follower.state()) {
            return found;
        }
        let changed = tokio::time::timeout(PATIENCE, follower.changed()).await;
        changed.unwrap_or_else(|_| panic!("{what}: never seen in {:#?}", follower.state())).unwrap();
    }
}

/// Asks for a neighbour as control does, again after each failed attempt, until its Ethernet address is known. A link
/// that has just come up loses every frame until the kernel's link watch has started its queue, which on a busy machine
/// takes longer than the three solicitations of one attempt.
async fn resolved(follower: &mut Follower, key: NeighbourKey) -> [u8; 6] {
    let mut resolver = Resolver::default();
    resolver.keep([key]);
    let begin = Instant::now();
    loop {
        let neighbours = &follower.state().neighbours;
        if let Some(mac) = neighbours.get(&key).and_then(Neighbour::usable_mac) {
            return mac;
        }
        assert!(begin.elapsed() < PATIENCE, "never resolved: {neighbours:#?}");
        for key in resolver.due(neighbours, begin.elapsed().as_millis() as u64) {
            follower.resolve(key).unwrap();
        }
        if let Ok(changes) = tokio::time::timeout(LOOK, follower.changed()).await {
            changes.unwrap();
        }
    }
}

fn leads_to(state: &State, to: &str) -> Option<(String, IpAddr)> {
    let hop = next_hop(&intervals(state.routes.values(), &state.links), to.parse().unwrap())?;
    Some((state.links[&hop.ifindex].name.clone(), hop.address))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link_named<'a>(state: &'a State, name: &str) -> Option<&'a Link> {
    state.links.values().find(|link| link.name == name)
}

#[test]
fn links_addresses_and_routes_are_followed() {
    in_namespace(async || {
        let mut follower = Follower::start(EVENT_BUFFER_BYTES).unwrap();
        assert_eq!(follower.state().links.len(), 1, "only the loopback link");
        let _peer = cable();
        let link =
            until(&mut follower, "link up", |s| link_named(s, "net-a").filter(|l| l.up && l.carrier).cloned()).await;
        assert!(link.mac.is_some() && link.mtu == 1500);
        until(&mut follower, "address", |s| s.addresses.iter().find(|a| a.address == address("198.18.4.1")).copied())
            .await;
        until(&mut follower, "connected route", |s| {
            leads_to(s, "198.18.4.7").filter(|(_, a)| *a == address("198.18.4.7"))
        })
        .await;
        ip("route add 198.19.0.0/16 via 198.18.4.2");
        until(&mut follower, "route", |s| leads_to(s, "198.19.3.3").filter(|(_, a)| *a == address("198.18.4.2"))).await;
        ip("route replace 198.19.0.0/16 via 198.18.4.3");
        until(&mut follower, "replaced", |s| leads_to(s, "198.19.3.3").filter(|(_, a)| *a == address("198.18.4.3")))
            .await;
        ip("route add blackhole 198.19.3.0/24");
        until(&mut follower, "black hole", |s| leads_to(s, "198.19.3.3").is_none().then_some(())).await;
        ip("-6 addr add 2001:db8:4::1/64 dev net-a nodad");
        ip("-6 route add 2001:db8:5::/48 via 2001:db8:4::2");
        until(&mut follower, "IPv6 route", |s| {
            leads_to(s, "2001:db8:5::9").filter(|(_, a)| *a == address("2001:db8:4::2"))
        })
        .await;
        ip("route del blackhole 198.19.3.0/24");
        until(&mut follower, "black hole gone", |s| leads_to(s, "198.19.3.3")).await;
    });
}

#[test]
fn a_link_set_down_takes_its_routes_and_gives_them_back() {
    in_namespace(async || {
        let _peer = cable();
        let mut follower = Follower::start(EVENT_BUFFER_BYTES).unwrap();
        assert!(leads_to(follower.state(), "198.18.4.7").is_some(), "in the first dump");
        ip("link set net-a down");
        until(&mut follower, "down", |s| leads_to(s, "198.18.4.7").is_none().then_some(())).await;
        assert!(
            !follower.state().routes.values().any(|r| r.key.prefix == address("198.18.4.0")),
            "the kernel dropped it, without a word"
        );
        ip("link set net-a up");
        until(&mut follower, "up again", |s| leads_to(s, "198.18.4.7")).await;
        ip("link del net-a");
        until(&mut follower, "removed", |s| (s.links.len() == 1).then_some(())).await;
        assert!(follower.state().addresses.iter().all(|a| a.address.is_loopback()));
        assert!(leads_to(follower.state(), "198.18.4.7").is_none());
    });
}

#[test]
fn the_kernel_resolves_what_it_is_asked_for() {
    in_namespace(async || {
        let (_peer, mut follower, ifindex) = followed_cable().await;
        let known = NeighbourKey { ifindex, address: address("198.18.4.2") };
        let silent = NeighbourKey { ifindex, address: address("198.18.4.99") };
        assert_eq!(resolved(&mut follower, known).await, [2, 0, 0, 0, 4, 2]);
        let mut resolver = Resolver::default();
        resolver.keep([known, silent]);
        assert_eq!(resolver.due(&follower.state().neighbours, 0), [silent]);
        follower.resolve(silent).unwrap();
        let state_is = |key, state| move |s: &State| (s.neighbours.get(&key)?.state == state).then_some(());
        until(&mut follower, "failed", state_is(silent, NeighbourState::Failed)).await;
        assert!(resolver.due(&follower.state().neighbours, 10).is_empty(), "too soon to ask again");
        assert_eq!(resolver.due(&follower.state().neighbours, 1_000), [silent]);

        // What the kernel makes of an entry in time: STALE. Asked again, it verifies.
        ip("neigh replace 198.18.4.2 dev net-a lladdr 02:00:00:00:04:02 nud stale");
        until(&mut follower, "stale", state_is(known, NeighbourState::Stale)).await;
        assert_eq!(resolver.due(&follower.state().neighbours, 1_001), [known]);
        follower.resolve(known).unwrap();
        until(&mut follower, "confirmed", state_is(known, NeighbourState::Reachable)).await;
    });
}

#[test]
fn an_ipv6_neighbour_is_resolved_alike() {
    in_namespace(async || {
        // A solicitation without a packet to send comes from the link-local address (ndisc_solicit in the kernel). While duplicate
        // address detection still looks at that one, none is sent, and the attempt fails.
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        let (peer, mut follower, ifindex) = followed_cable().await;
        peer.ip("-6 addr add 2001:db8:4::2/64 dev net-b nodad");
        ip("-6 addr add 2001:db8:4::1/64 dev net-a nodad");
        let key = NeighbourKey { ifindex, address: address("2001:db8:4::2") };
        assert_eq!(resolved(&mut follower, key).await, [2, 0, 0, 0, 4, 2]);
    });
}

#[test]
fn a_neighbour_that_cannot_be_asked_for_is_an_error_and_nothing_worse() {
    in_namespace(async || {
        let mut follower = Follower::start(EVENT_BUFFER_BYTES).unwrap();
        let nowhere = NeighbourKey { ifindex: 4711, address: address("198.18.4.2") };
        let refused = follower.resolve(nowhere).unwrap_err().to_string();
        assert!(refused.contains("refused to resolve a neighbour"), "{refused}");
        ip("link add net-a type veth peer name net-c");
        until(&mut follower, "link", |s| link_named(s, "net-a").cloned()).await;
    });
}

/// The peer takes another Ethernet address, and says so by asking for ours.
fn speak_as(peer: &Peer, mac: &str) {
    peer.ip(&format!("link set net-b address {mac}"));
    peer.ip("neigh flush dev net-b");
    let ping = ["-t", &peer.pid(), "-n", "ping", "-c", "1", "-W", "1", "198.18.4.1"];
    // No reply comes back where the old address is held; the question was answered all the same.
    drop(Command::new("nsenter").args(ping).output().unwrap());
    let shown = Command::new("nsenter").args(["-t", &peer.pid(), "-n", "ip", "neigh", "show", "198.18.4.1"]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(shown.contains("lladdr"), "our kernel took the message: {shown}");
}

/// Catalogue row 22: the kernel follows whoever speaks last, and holds what the operator made permanent.
#[test]
fn a_permanent_neighbour_is_held_against_a_forged_address() {
    in_namespace(async || {
        let (peer, mut follower, ifindex) = followed_cable().await;
        let key = NeighbourKey { ifindex, address: address("198.18.4.2") };
        assert_eq!(resolved(&mut follower, key).await, [2, 0, 0, 0, 4, 2]);
        let has = |mac: [u8; 6]| move |s: &State| (s.neighbours.get(&key)?.usable_mac()? == mac).then_some(());

        tokio::time::sleep(Duration::from_millis(1_100)).await; // net.ipv4.neigh.*.locktime
        speak_as(&peer, "02:00:00:00:04:66");
        until(&mut follower, "the kernel's word", has([2, 0, 0, 0, 4, 0x66])).await;

        ip("neigh replace 198.18.4.2 dev net-a lladdr 02:00:00:00:04:02 nud permanent");
        until(&mut follower, "permanent", has([2, 0, 0, 0, 4, 2])).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        speak_as(&peer, "02:00:00:00:04:77");
        while tokio::time::timeout(LOOK, follower.changed()).await.is_ok() {}
        let held = follower.state().neighbours[&key];
        assert_eq!((held.usable_mac(), held.state), (Some([2, 0, 0, 0, 4, 2]), NeighbourState::Permanent));
    });
}

#[test]
fn an_announcement_changes_what_the_client_side_knows() {
    in_namespace(async || {
        let peer = cable();
        // The peer already knows the service address by its predecessor's MAC.
        peer.ip("neigh replace 198.18.4.100 dev net-b lladdr 02:00:00:00:00:99 nud stale");
        let mut follower = Follower::start(EVENT_BUFFER_BYTES).unwrap();
        let link = until(&mut follower, "carrier", |s| link_named(s, "net-a").filter(|l| l.carrier).cloned()).await;
        let place = Place { ifindex: link.ifindex, mac: link.mac.unwrap() };
        let announcer = Announcer::open().unwrap();
        let wanted: String = place.mac.map(|b| format!("{b:02x}")).join(":");
        // A frame is received some time after it was sent.
        let mut seen = String::new();
        for _ in 0..200 {
            announcer.send(place, Ipv4Addr::new(198, 18, 4, 100)).unwrap();
            let shown =
                Command::new("nsenter").args(["-t", &peer.pid(), "-n", "ip", "neigh", "show", "198.18.4.100"]).output();
            seen = String::from_utf8(shown.unwrap().stdout).unwrap();
            if seen.contains(&wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the peer has {seen:?}, not {wanted}");
    });
}

#[test]
fn events_lost_for_want_of_room_are_made_good() {
    in_namespace(async || {
        let _peer = cable();
        let mut follower = Follower::start(4096).unwrap();
        let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = String::new();
        for i in 0..1000 {
            lines += &format!("route add 198.19.{}.{}/32 via 198.18.4.2\n", i / 250, i % 250);
        }
        batch.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(batch.wait().unwrap().success());
        let added = |s: &State| s.routes.keys().filter(|r| r.prefix_len == 32 && r.table == RouteTable::Main).count();
        let mut was_dumped = false;
        while added(follower.state()) < 1000 {
            let changes = tokio::time::timeout(PATIENCE, follower.changed()).await.expect("all routes").unwrap();
            was_dumped |= changes == Changes { links: true, addresses: true, routes: true, neighbours: true };
        }
        assert!(was_dumped, "4 KB held everything: nothing was tested");
    });
}
