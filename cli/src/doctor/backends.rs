//! Checks whether the machine has a route to each back-end through one of Shunt's interfaces, and whether back-ends answer.

use super::finding::{Finding, Level};
use crate::admin::{AdminError, file_status};
use crate::views::{ROUTE_REPLIES, unanswered_text};
use shunt_config::{Config, Side};
use shunt_instances::runs;
use shunt_protocol::admin::{FileStatus, UnansweredBackend};
use shunt_publish::fib::{Fib, Interfaces};
use shunt_publish::own::OwnAddresses;
use shunt_routing::error::NetlinkError;
use shunt_routing::intervals::{intervals, next_hop};
use shunt_routing::snapshot;
use shunt_routing::state::State;
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::regions::InterfaceSide;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Runs the checks.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = routes(config, snapshot());
    if runs(&config.instance) {
        let answers = answers(file_status(&config.instance));
        let answers: Vec<Finding> = answers.into_iter().filter(|answer| !is_explained(answer, &findings)).collect();
        findings.extend(answers);
    }
    findings
}

/// A back-end that no packet reaches cannot answer, whichever path its replies take.
fn is_explained(answer: &Finding, routes: &[Finding]) -> bool {
    let names = |finding: &Finding| finding.subject.clone().unwrap_or_default();
    let astray = routes.iter().filter(|finding| finding.level == Level::Fail);
    answer.level == Level::Fail && astray.into_iter().any(|it| names(it).split(", ").any(|name| name == names(answer)))
}

/// Answers as control observed them.
fn answers(status: Result<FileStatus, AdminError>) -> Vec<Finding> {
    match status {
        Ok(status) => status.unanswered.iter().map(unanswered).collect(),
        Err(error) => {
            let text = format!("it is unknown whether back-ends answer: {error}");
            vec![Finding::warn("backend-answers", text, "`shunt status` says how control is")]
        }
    }
}

fn unanswered(backend: &UnansweredBackend) -> Finding {
    Finding::fail("backend-answers", unanswered_text(backend), ROUTE_REPLIES).of(&*backend.name)
}

fn routes(config: &Config, state: Result<State, NetlinkError>) -> Vec<Finding> {
    const CHECK: &str = "backend-route";
    let state = match state {
        Ok(state) => state,
        Err(error) => {
            let text = format!("the kernel doesn't tell its routes: {error}");
            return vec![Finding::warn(CHECK, text, "run it as root, in the network namespace of Shunt")];
        }
    };
    let found: Vec<Finding> = astray(config, &state);
    match found.is_empty() {
        true => vec![Finding::ok(CHECK, "one of Shunt's interfaces leads to every back-end")],
        false => found,
    }
}

/// The back-ends that the forwarding table does not reach, computed as in control.
fn astray(config: &Config, state: &State) -> Vec<Finding> {
    let interfaces = interfaces(config, state);
    let own = OwnAddresses::new(state, &interfaces);
    let fib = Fib::new(state, &interfaces, &own);
    let all = intervals(state.routes.values(), &state.links);
    let mut findings = Vec::new();
    for (address, names) in hosts(config) {
        let hop = fib.hop(address.into());
        let fault = match hop.and_then(|hop| config.interfaces.get(usize::from(hop.interface.0))) {
            Some(interface) if interface.side == Side::Client => Some((
                format!("the route to {address} leads out by {}, which has clients only", interface.name),
                format!("write side = \"both\" for {}, or route {address} by another interface", interface.name),
            )),
            Some(_) => None,
            None => Some(match next_hop(&all, address).and_then(|key| state.links.get(&key.ifindex)) {
                Some(link) => elsewhere(config, address, &link.name),
                None if state.addresses.iter().any(|own| own.address == address) => itself(address),
                None => nowhere(config, address),
            }),
        };
        findings.extend(fault.map(|(text, mend)| Finding::fail("backend-route", text, mend).of(names.join(", "))));
    }
    findings
}

fn elsewhere(config: &Config, address: IpAddr, link: &str) -> (String, String) {
    let shunts = shunts(config);
    let text = format!("the route to {address} leads out by {link}, which isn't one of Shunt's interfaces");
    (text, format!("ip route replace {address} dev {shunts} (or via a router there), or add an [[interface]] {link}"))
}

fn itself(address: IpAddr) -> (String, String) {
    let text = format!("{address} is this machine's own address, to which no packet of Shunt's leads");
    (text, "serve the machine's own programs by [host], or as in deploy/examples/inner.toml".to_owned())
}

fn nowhere(config: &Config, address: IpAddr) -> (String, String) {
    let shunts = shunts(config);
    let text =
        format!("there is no route to {address} by an interface that is up: packets to it are dropped (no_route)");
    let mend = format!("give {shunts} an address in its network (ip address add ... dev {shunts}), or add a route");
    (text, mend)
}

/// An interface that leads to back-ends.
fn shunts(config: &Config) -> &str {
    let side = config.interfaces.iter().find(|interface| interface.side != Side::Client);
    side.map_or("INTERFACE", |interface| &interface.name)
}

/// The configured interfaces that exist, each with its index in the configuration as id.
fn interfaces(config: &Config, state: &State) -> Interfaces {
    let mut interfaces = Interfaces::default();
    for (id, interface) in config.interfaces.iter().enumerate() {
        if let Some(link) = state.link_named(&interface.name) {
            // The side is irrelevant here.
            interfaces.add(link.ifindex, InterfaceId(id as u16), InterfaceSide::Both);
        }
    }
    interfaces
}

/// Names of the back-ends at each address.
fn hosts(config: &Config) -> BTreeMap<IpAddr, Vec<&str>> {
    let mut hosts: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for backend in config.services.iter().flat_map(|service| &service.backends) {
        let names = hosts.entry(backend.address.ip()).or_default();
        if !names.contains(&&*backend.name) {
            names.push(&backend.name);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_routing::event::{Link, LinkAddress, Route, RouteKey, RouteTable, RouteTarget};

    fn config() -> Config {
        let text = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\nside = \"client\"\n[[interface]]\nname = \"eth1\"\n\
                    side = \"backend\"\n[[service]]\nname = \"web\"\naddress = \"198.18.0.100:80\"\nprotocol = \"tcp\"\n\
                    mode = \"nat\"\n[[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.11:80\"\n\
                    [[service.backend]]\nname = \"b2\"\naddress = \"198.18.1.11:81\"\n";
        Config::parse(text, "shunt.toml").unwrap()
    }

    /// eth0 to eth2, numbered 1 to 3, and one route.
    fn state(prefix: [u8; 4], ifindex: u32) -> State {
        let mut state = State::default();
        for ifindex in 1..=3 {
            let name = format!("eth{}", ifindex - 1);
            state.links.insert(ifindex, Link { ifindex, name, mac: Some([2; 6]), mtu: 1500, up: true, carrier: true });
        }
        let key = RouteKey { table: RouteTable::Main, prefix: prefix.into(), prefix_len: 24, metric: 0 };
        state
            .routes
            .insert(key, Route { key, target: RouteTarget::Via { ifindex, gateway: None }, alternatives: false });
        state
    }

    fn finding(state: State) -> Finding {
        let [finding] = <[Finding; 1]>::try_from(routes(&config(), Ok(state))).unwrap();
        finding
    }

    #[test]
    fn a_back_end_behind_shunts_own_interface_is_well() {
        assert_eq!(finding(state([198, 18, 1, 0], 2)).level, Level::Ok);
    }

    #[test]
    fn a_back_end_without_a_route_is_not_asked_to_route_its_replies() {
        let found = [finding(state([198, 18, 9, 0], 2))];
        let silent = |name: &str| {
            unanswered(&UnansweredBackend { name: name.into(), connections: 9, age_ms: 15_000, has_answered: false })
        };
        assert_eq!(["b1", "b2", "b3"].map(|name| is_explained(&silent(name), &found)), [true, true, false]);
    }

    #[test]
    fn a_missing_and_a_wrong_route_are_reported_with_the_remedy() {
        let mut down = state([198, 18, 1, 0], 2);
        down.links.get_mut(&2).unwrap().up = false;
        let mut own = state([198, 18, 9, 0], 2);
        let address = LinkAddress { ifindex: 2, address: [198, 18, 1, 11].into(), prefix_len: 24 };
        own.addresses.insert(address);
        for (state, said, mend) in [
            (own, "198.18.1.11 is this machine's own address", "[host]"),
            (state([198, 18, 9, 0], 2), "no route to 198.18.1.11 by", "ip address add ... dev eth1"),
            (down, "no route to 198.18.1.11 by", "ip address add ... dev eth1"),
            (state([198, 18, 1, 0], 3), "leads out by eth2, which isn't", "ip route replace 198.18.1.11 dev eth1"),
            (state([198, 18, 1, 0], 1), "leads out by eth0, which has clients only", "side = \"both\" for eth0"),
        ] {
            let finding = finding(state);
            assert_eq!((finding.level, finding.subject.as_deref()), (Level::Fail, Some("b1, b2")), "{finding}");
            assert!(finding.text.contains(said) && finding.mend.as_ref().unwrap().contains(mend), "{finding}");
        }
    }

    #[test]
    fn a_back_end_that_answers_nobody_is_in_the_way() {
        let it = UnansweredBackend { name: "b1".into(), connections: 9, age_ms: 20_000, has_answered: false };
        let finding = unanswered(&it);
        assert!(finding.level == Level::Fail && finding.mend.unwrap().contains("as_client = true"));
    }
}
