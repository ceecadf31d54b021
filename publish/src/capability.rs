//! `capability`: restricts clients of certain networks to suitable servers. Converts rules into address ranges, which
//! switchers search. (Certain ports are separate services.)

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::Ipv4Addr;

use shunt_config::Rule;

/// Sorted disjoint ranges by first address, each with the number of the first matching rule, if any. Addresses before the
/// first range match no rule.
pub fn ranges(rules: &[Rule]) -> Vec<(Ipv4Addr, Option<usize>)> {
    let mut edges: Vec<(u32, Edge)> = rules.iter().enumerate().flat_map(|(number, rule)| edges(number, rule)).collect();
    edges.sort_unstable_by_key(|(at, _)| *at);
    let mut ranges: Vec<(Ipv4Addr, Option<usize>)> = Vec::new();
    // Number of networks of each rule that contain the addresses from here on.
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    for here in edges.chunk_by(|(one, _), (other, _)| one == other) {
        here.iter().for_each(|(_, edge)| edge.apply(&mut open));
        let rule = open.keys().next().copied();
        if ranges.last().and_then(|(_, last)| *last) != rule {
            ranges.push((Ipv4Addr::from_bits(here[0].0), rule));
        }
    }
    ranges
}

/// The first address of a rule's network, or the address after its last one.
enum Edge {
    Begin(usize),
    Behind(usize),
}

/// No address follows the last one.
fn edges(number: usize, rule: &Rule) -> impl Iterator<Item = (u32, Edge)> + '_ {
    let begins = rule.clients.iter().map(move |network| (network.address.to_bits(), Edge::Begin(number)));
    let ends = rule.clients.iter().filter_map(|network| network.last().to_bits().checked_add(1));
    begins.chain(ends.map(move |behind| (behind, Edge::Behind(number))))
}

impl Edge {
    fn apply(&self, open: &mut BTreeMap<usize, usize>) {
        match self {
            Self::Begin(rule) => *open.entry(*rule).or_default() += 1,
            Self::Behind(rule) => {
                if let Entry::Occupied(mut count) = open.entry(*rule) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shunt_config::Network;

    fn contains(network: &Network, address: Ipv4Addr) -> bool {
        (network.address..=network.last()).contains(&address)
    }

    fn rule(clients: &[&str]) -> Rule {
        let clients = clients.iter().map(|text| text.parse().unwrap()).collect();
        Rule { clients, backends: vec!["b1".into()] }
    }

    fn shown(rules: &[Rule]) -> Vec<String> {
        let shown = |(start, rule): (Ipv4Addr, Option<usize>)| {
            format!("{start} {}", rule.map_or("-".to_owned(), |rule| rule.to_string()))
        };
        ranges(rules).into_iter().map(shown).collect()
    }

    #[test]
    fn the_first_rule_that_names_a_client_counts() {
        let rules = [rule(&["198.18.9.9"]), rule(&["198.18.0.0/16", "198.19.0.0/16"]), rule(&["0.0.0.0/0"])];
        let expected = ["0.0.0.0 2", "198.18.0.0 1", "198.18.9.9 0", "198.18.9.10 1", "198.20.0.0 2"];
        assert_eq!(shown(&rules), expected);
    }

    #[test]
    fn between_rules_there_may_be_nobody() {
        let rules = [rule(&["198.18.0.0/24"]), rule(&["255.255.255.0/24"])];
        assert_eq!(shown(&rules), ["198.18.0.0 0", "198.18.1.0 -", "255.255.255.0 1"]);
        assert!(ranges(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn ranges_say_what_the_rules_say(
            networks in prop::collection::vec((any::<u32>(), 0..=32_u8, 0..4_usize), 0..20), probes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let mut rules: Vec<Rule> = (0..4).map(|_| rule(&[])).collect();
            for (bits, prefix, number) in &networks {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                rules[*number].clients.push(Network { address: Ipv4Addr::from_bits(bits & mask), prefix: *prefix });
            }
            let ranges = ranges(&rules);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
            let edges = networks.iter().map(|(bits, ..)| *bits);
            for client in probes.into_iter().chain(edges).map(Ipv4Addr::from_bits) {
                let expected = rules.iter().position(|rule| rule.clients.iter().any(|n| contains(n, client)));
                let after = ranges.partition_point(|(start, _)| *start <= client);
                let found = after.checked_sub(1).and_then(|index| ranges[index].1);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
