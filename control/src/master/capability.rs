//! `capability`: requests of certain clients and networks go to the servers that have what they need. From rules to
//! ranges of addresses, which switchers search. (Certain ports are services of their own.)

use std::net::Ipv4Addr;

use shunt_config::{Network, Rule};

/// Sorted disjoint ranges by their first address, each with the number of the first rule that names its clients, or none.
/// Whoever stands before the first range is in no rule.
pub fn ranges(rules: &[Rule]) -> Vec<(Ipv4Addr, Option<usize>)> {
    let networks = || rules.iter().flat_map(|rule| &rule.clients);
    // Something changes only where a network begins, or behind its end; behind the last address there is nobody.
    let behind = |network: &Network| network.last().to_bits().checked_add(1);
    let mut starts: Vec<u32> = networks().map(|network| network.address.to_bits()).collect();
    starts.extend(networks().filter_map(behind));
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<(Ipv4Addr, Option<usize>)> = Vec::new();
    for start in starts {
        let start = Ipv4Addr::from_bits(start);
        let rule = rules.iter().position(|rule| rule.clients.iter().any(|network| contains(network, start)));
        if ranges.last().and_then(|(_, last)| *last) != rule {
            ranges.push((start, rule));
        }
    }
    ranges
}

fn contains(network: &Network, address: Ipv4Addr) -> bool {
    (network.address..=network.last()).contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
