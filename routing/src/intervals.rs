//! Flattens routes into sorted, disjoint intervals of addresses, each with one next hop. Pure.
//!
//! A switcher finds an interval by binary search and needs no prefix logic. Addresses are 128 bits with IPv4 mapped
//! (`::ffff:a.b.c.d`), so one list serves both families.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::event::{Link, NeighbourKey, Route, RouteKey, RouteTable, RouteTarget};

const V4_FIRST: u128 = 0xffff_0000_0000;
const V4_LAST: u128 = 0xffff_ffff_ffff;

/// Where packets to an interval of addresses go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The outgoing link.
    pub ifindex: u32,
    /// The router; `None` if the destination itself is the neighbour.
    pub gateway: Option<IpAddr>,
}

/// Addresses from `start` up to the next interval's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first address.
    pub start: u128,
    /// `None` if there is no route, or none that a switcher forwards by.
    pub next_hop: Option<NextHop>,
}

/// An address as a 128-bit integer, IPv4 mapped.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The inverse of [`bits`].
pub fn address(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).to_canonical()
}

/// Flattens `routes`. Preference: the local table, then the longest prefix, then the lowest metric. Ignores routes out of a
/// link that is down or missing. The first interval starts at 0, and adjacent intervals have different next hops.
pub fn intervals<'a>(routes: impl IntoIterator<Item = &'a Route>, links: &BTreeMap<u32, Link>) -> Vec<Interval> {
    let usable = |route: &&Route| match route.target {
        RouteTarget::Via { ifindex, .. } => links.get(&ifindex).is_some_and(|link| link.up),
        RouteTarget::Local | RouteTarget::Nowhere => true,
    };
    let routes: Vec<&Route> = routes.into_iter().filter(usable).collect();
    let mut edges = Vec::with_capacity(2 * routes.len() + 2);
    // The family changes at these addresses, and with it the best route, even if no route begins there.
    edges.extend([V4_FIRST, V4_LAST + 1].map(|at| Edge { at, candidate: None }));
    for (index, route) in routes.iter().enumerate() {
        let Some((first, last)) = span(&route.key) else {
            continue;
        };
        let candidate = Some(Candidate::new(&route.key, index));
        edges.push(Edge { at: first, candidate });
        // A prefix that reaches the end of the address space has no second edge.
        edges.extend(last.checked_add(1).map(|at| Edge { at, candidate }));
    }
    edges.sort_unstable_by_key(|edge| edge.at);
    sweep(&edges, &routes)
}

/// The neighbour that packets to `to` are sent to; `None` without a route.
pub fn next_hop(intervals: &[Interval], to: IpAddr) -> Option<NeighbourKey> {
    let target = bits(to);
    let after = intervals.partition_point(|interval| interval.start <= target);
    let hop = intervals.get(after.checked_sub(1)?)?.next_hop?;
    let address = hop.gateway.unwrap_or(to);
    Some(NeighbourKey { ifindex: hop.ifindex, address })
}

/// A route, ordered by preference: the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    table: RouteTable,
    prefix_len: Reverse<u8>,
    metric: u32,
    index: usize,
    v4: bool,
}

impl Candidate {
    fn new(key: &RouteKey, index: usize) -> Self {
        Self {
            table: key.table,
            prefix_len: Reverse(key.prefix_len),
            metric: key.metric,
            index,
            v4: key.prefix.is_ipv4(),
        }
    }
}

/// The address where a route's prefix begins, or the first one after its end.
struct Edge {
    at: u128,
    candidate: Option<Candidate>,
}

/// Sweeps the edges upwards, maintaining the set of covering routes, and starts an interval where the best one changes.
fn sweep(edges: &[Edge], routes: &[&Route]) -> Vec<Interval> {
    // One set per family: an IPv6 default route covers the mapped block but does not apply to IPv4.
    let mut covering = [BTreeSet::new(), BTreeSet::new()];
    let mut intervals = vec![Interval { start: 0, next_hop: None }];
    for edges in edges.chunk_by(|a, b| a.at == b.at) {
        for candidate in edges.iter().filter_map(|edge| edge.candidate) {
            let set: &mut BTreeSet<Candidate> = &mut covering[usize::from(candidate.v4)];
            // A route's first edge inserts it; its second removes it.
            if !set.remove(&candidate) {
                set.insert(candidate);
            }
        }
        let start = edges[0].at;
        let v4 = (V4_FIRST..=V4_LAST).contains(&start);
        let best = covering[usize::from(v4)].first();
        let next_hop = best.and_then(|candidate| next_hop_of(routes[candidate.index].target));
        match intervals.last_mut() {
            Some(last) if last.next_hop == next_hop => {}
            Some(last) if last.start == start => last.next_hop = next_hop,
            _ => intervals.push(Interval { start, next_hop }),
        }
    }
    intervals
}

fn next_hop_of(target: RouteTarget) -> Option<NextHop> {
    match target {
        RouteTarget::Via { ifindex, gateway } => Some(NextHop { ifindex, gateway }),
        RouteTarget::Local | RouteTarget::Nowhere => None,
    }
}

/// The first and last address of a prefix; `None` if the length is invalid for its family.
fn span(key: &RouteKey) -> Option<(u128, u128)> {
    let width = if key.prefix.is_ipv4() { 32 } else { 128 };
    let free = width - u32::from(key.prefix_len).min(width);
    if u32::from(key.prefix_len) > width {
        return None;
    }
    let hosts = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    let first = bits(key.prefix) & !hosts;
    Some((first, first | hosts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(prefix: &str, metric: u32, target: RouteTarget) -> Route {
        let (address, prefix_len) = prefix.split_once('/').unwrap();
        let key = RouteKey {
            table: RouteTable::Main,
            prefix: address.parse().unwrap(),
            prefix_len: prefix_len.parse().unwrap(),
            metric,
        };
        Route { key, target, alternatives: false }
    }

    fn via(ifindex: u32, gateway: Option<&str>) -> RouteTarget {
        RouteTarget::Via { ifindex, gateway: gateway.map(|g| g.parse().unwrap()) }
    }

    fn links(up: &[u32]) -> BTreeMap<u32, Link> {
        let link = |ifindex| Link { ifindex, name: String::new(), mac: None, mtu: 1500, up: true, carrier: true };
        up.iter().map(|&ifindex| (ifindex, link(ifindex))).collect()
    }

    fn find(routes: &[Route], up: &[u32], to: &str) -> Option<(u32, String)> {
        let hop = next_hop(&intervals(routes, &links(up)), to.parse().unwrap())?;
        Some((hop.ifindex, hop.address.to_string()))
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = [
            route("0.0.0.0/0", 0, via(1, Some("198.18.0.1"))),
            route("198.18.1.0/24", 0, via(2, None)),
            route("198.18.1.128/25", 0, RouteTarget::Nowhere),
        ];
        assert_eq!(find(&routes, &[1, 2], "192.0.2.1"), Some((1, "198.18.0.1".into())));
        assert_eq!(find(&routes, &[1, 2], "198.18.1.7"), Some((2, "198.18.1.7".into())));
        assert_eq!(find(&routes, &[1, 2], "198.18.1.200"), None);
        assert_eq!(find(&routes, &[1, 2], "2001:db8::1"), None, "IPv4 default isn't IPv6's");
    }

    #[test]
    fn an_ipv6_default_says_nothing_about_ipv4() {
        let routes = [route("::/0", 1024, via(1, Some("2001:db8::1")))];
        assert_eq!(find(&routes, &[1], "2001:db8:5::1"), Some((1, "2001:db8::1".into())));
        assert_eq!(find(&routes, &[1], "ffff::"), Some((1, "2001:db8::1".into())));
        assert_eq!(find(&routes, &[1], "198.18.0.1"), None);
    }

    #[test]
    fn the_lower_metric_wins_until_its_link_is_down() {
        let routes = [route("198.18.1.0/24", 20, via(2, None)), route("198.18.1.0/24", 10, via(1, None))];
        assert_eq!(find(&routes, &[1, 2], "198.18.1.7").unwrap().0, 1);
        assert_eq!(find(&routes, &[2], "198.18.1.7").unwrap().0, 2);
        assert_eq!(find(&routes, &[], "198.18.1.7"), None);
    }

    #[test]
    fn the_local_table_comes_first_even_with_a_shorter_prefix() {
        let mut own = route("198.18.1.0/24", 0, RouteTarget::Local);
        own.key.table = RouteTable::Local;
        let routes = [own, route("198.18.1.7/32", 0, via(1, None))];
        assert_eq!(find(&routes, &[1], "198.18.1.7"), None);
    }

    #[test]
    fn nothing_and_impossible_lengths_give_one_empty_range() {
        let empty = [Interval { start: 0, next_hop: None }];
        assert_eq!(intervals(&[], &links(&[])), empty);
        assert_eq!(intervals(&[route("198.18.0.0/33", 0, via(1, None))], &links(&[1])), empty);
    }

    /// What the flattened form must equal: every route looked at for every address.
    fn naive(routes: &[Route], links: &BTreeMap<u32, Link>, to: IpAddr) -> Option<NeighbourKey> {
        let mut best: Option<&Route> = None;
        for route in routes {
            let (first, last) = span(&route.key).unwrap();
            let down = matches!(route.target, RouteTarget::Via { ifindex, .. } if !links.contains_key(&ifindex));
            if down || route.key.prefix.is_ipv4() != to.is_ipv4() || !(first..=last).contains(&bits(to)) {
                continue;
            }
            let order = |r: &Route| (r.key.table, Reverse(r.key.prefix_len), r.key.metric);
            if best.is_none_or(|b| order(route) < order(b)) {
                best = Some(route);
            }
        }
        match best?.target {
            RouteTarget::Via { ifindex, gateway } => Some(NeighbourKey { ifindex, address: gateway.unwrap_or(to) }),
            _ => None,
        }
    }

    // Few distinct bits, and none that make an IPv6 address a mapped one, so that prefixes nest, touch and repeat.
    fn any_address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0u32..64, 0u32..4).prop_map(|(high, low)| IpAddr::from((high << 26 | low).to_be_bytes()));
        let v6 = (0u128..64, 0u128..4).prop_map(|(high, low)| IpAddr::from((high << 122 | low).to_be_bytes()));
        prop_oneof![v4, v6, Just("255.255.255.255".parse().unwrap()), Just(IpAddr::from([0xff; 16]))]
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let target = prop_oneof![
            (1u32..4, prop::option::of(any_address()))
                .prop_map(|(ifindex, gateway)| RouteTarget::Via { ifindex, gateway }),
            Just(RouteTarget::Local),
            Just(RouteTarget::Nowhere),
        ];
        let lengths = prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 6, 30, 31, 32, 126, 127, 128]);
        (any_address(), lengths, 0u32..3, any::<bool>(), target).prop_map(|(prefix, length, metric, local, target)| {
            let prefix_len = length.min(if prefix.is_ipv4() { 32 } else { 128 });
            let table = if local { RouteTable::Local } else { RouteTable::Main };
            let mut key = RouteKey { table, prefix, prefix_len, metric };
            key.prefix = address(span(&key).unwrap().0);
            Route { key, target, alternatives: false }
        })
    }

    proptest! {
        #[test]
        fn equal_to_looking_at_every_route(
            routes in prop::collection::vec(any_route(), 0..24),
            probes in prop::collection::vec(any_address(), 16),
        ) {
            // One route a key, as the model has it.
            let routes: BTreeMap<_, _> = routes.into_iter().map(|r| (r.key, r)).collect();
            let routes: Vec<_> = routes.into_values().collect();
            let links = links(&[1, 2]);
            let flat = intervals(&routes, &links);
            prop_assert_eq!(flat[0].start, 0);
            prop_assert!(flat.windows(2).all(|w| w[0].start < w[1].start && w[0].next_hop != w[1].next_hop));
            let edges = flat.iter().flat_map(|r| [address(r.start), address(r.start.saturating_sub(1))]);
            for to in probes.into_iter().chain(edges) {
                prop_assert_eq!(next_hop(&flat, to), naive(&routes, &links, to), "to {}", to);
            }
        }
    }
}
