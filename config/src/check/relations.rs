//! Checks tables against each other: unique names and addresses, sums within the limits.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use super::service::Draft;
use crate::report::{Field, Place, Report};
use crate::types::{Host, Limits, Protocol, Target};

/// Checks all services against each other and against the limits.
pub(super) fn check(report: &Report, services: &[Draft], host: Option<&Host>, limits: &Limits) {
    check_services_differ(report, services);
    check_backends_apart(report, services, host);
    check_host_exists(report, services, host);
    check_backend_identities(report, services, limits);
    check_workers_agree(report, services);
    check_sums(report, services, limits);
}

fn check_services_differ(report: &Report, services: &[Draft]) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<(SocketAddr, Protocol), usize> = HashMap::new();
    for service in services {
        if let Some(Field { value: name, place }) = &service.name {
            refuse_second(report, &mut names, name, place, &format!("{name:?} is another service's name"));
        }
        if let (Some(Field { value, place }), Some(protocol)) = (&service.address, service.protocol) {
            let taken = format!("\"{value}\" is another service's address with the same protocol");
            refuse_second(report, &mut addresses, (*value, protocol), place, &taken);
        }
    }
}

/// Records the line of `key`, or refuses `place` if `key` is taken. Returns whether it was free.
fn refuse_second<K: Eq + Hash>(
    report: &Report,
    lines: &mut HashMap<K, usize>,
    key: K,
    place: &Place,
    taken: &str,
) -> bool {
    match lines.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(place.line);
            true
        }
        Entry::Occupied(entry) => {
            let first = entry.get();
            report.refuse(place, format!("{taken}, in line {first}; change one of both"));
            false
        }
    }
}

/// Shunt answers ARP for service addresses and the host's, so a back-end with such an address would never be reached.
fn check_backends_apart(report: &Report, services: &[Draft], host: Option<&Host>) {
    let addresses = services.iter().filter_map(|service| service.address.as_ref());
    let taken: HashSet<IpAddr> = addresses.map(|address| address.value.ip()).collect();
    let host: HashSet<IpAddr> = host.into_iter().flat_map(|host| &host.addresses).map(|v4| IpAddr::V4(*v4)).collect();
    for backend in services.iter().flat_map(|service| &service.backends) {
        let Some(Field { value, place }) = &backend.address else { continue };
        if taken.contains(&value.ip()) {
            let sentence = format!("\"{value}\" has the address of a service, which leads back to Shunt");
            report.refuse(place, format!("{sentence}; write the server's own address"));
        } else if host.contains(&value.ip()) {
            let sentence = format!("\"{value}\" is one of host.addresses, which back-ends can't have");
            report.refuse(place, format!("{sentence}; write target = \"host\" in the service instead of back-ends"));
        }
    }
}

fn check_host_exists(report: &Report, services: &[Draft], host: Option<&Host>) {
    for service in services.iter().filter(|service| service.target == Target::Host && host.is_none()) {
        let sentence = "is \"host\", but there is no pseudo-interface; write a [host] table with device = \"shunt0\"";
        let field = format!("{}.target", service.place.field);
        report.refuse(&Place { field, ..service.place.clone() }, sentence);
    }
}

/// The back-ends of all services. An address and protocol identify one back-end, with one name in every service, so that
/// `shunt drain NAME` is unambiguous.
#[derive(Default)]
struct Backends<'d> {
    /// Address and line of each name.
    by_name: HashMap<&'d str, (Identity, usize)>,
    /// Name and line of each address.
    by_address: HashMap<Identity, (&'d str, usize)>,
}

type Identity = (SocketAddr, Protocol);

fn check_backend_identities(report: &Report, services: &[Draft], limits: &Limits) {
    let mut backends = Backends::default();
    let mut over_limit = None;
    for service in services {
        let mut here: HashMap<&str, usize> = HashMap::new();
        for backend in &service.backends {
            let (Some(name), Some(protocol)) = (&backend.name, service.protocol) else {
                continue;
            };
            let taken = format!("{:?} is in this service already", name.value);
            let first = refuse_second(report, &mut here, &name.value, &name.place, &taken);
            let Some(address) = backend.address.as_ref().filter(|_| first) else {
                continue;
            };
            let is_own = |other: &str| here.contains_key(other);
            backends.record(report, name, address, protocol, is_own);
            if backends.by_address.len() > limits.backends as usize {
                over_limit.get_or_insert(&name.place);
            }
        }
    }
    if let Some(place) = over_limit {
        let sentence = format!("is one back-end more than limits.backends, {}", limits.backends);
        report.refuse(place, format!("{sentence}; raise limits.backends to {}", backends.by_address.len()));
    }
}

impl<'d> Backends<'d> {
    /// `is_own` returns whether the same service has the given name.
    fn record(
        &mut self,
        report: &Report,
        name: &'d Field<String>,
        address: &'d Field<SocketAddr>,
        protocol: Protocol,
        is_own: impl Fn(&str) -> bool,
    ) {
        let identity = (address.value, protocol);
        let (known, line) = *self.by_name.entry(&name.value).or_insert((identity, name.place.line));
        if known != identity {
            let taken = format!("{:?} is a back-end of another address or protocol, in line {line}", name.value);
            report.refuse(&name.place, format!("{taken}; give each its own name"));
            return;
        }
        let (other, line) = *self.by_address.entry(identity).or_insert((&name.value, address.place.line));
        if other != name.value {
            let taken = format!("\"{}\" is back-end {other:?} already, in line {line}", address.value);
            let mend = if is_own(other) { "correct or remove one of both" } else { "use that name here too" };
            report.refuse(&address.place, format!("{taken}; {mend}"));
        }
    }
}

/// A back-end has one worker count, whichever service its requests arrive through.
fn check_workers_agree(report: &Report, services: &[Draft]) {
    let mut known: HashMap<&str, (u32, usize)> = HashMap::new();
    for backend in services.iter().flat_map(|service| &service.backends) {
        let (Some(name), Some(workers)) = (&backend.name, &backend.workers) else { continue };
        let (said, line) = *known.entry(&name.value).or_insert((workers.value, workers.place.line));
        if said != workers.value {
            let sentence = format!("is {}, but {said} for the same back-end in line {line}", workers.value);
            report.refuse(&workers.place, format!("{sentence}; write the same number, or write it once"));
        }
    }
}

fn check_sums(report: &Report, services: &[Draft], limits: &Limits) {
    if let Some(service) = services.get(limits.services as usize) {
        let sentence = format!("is one service more than limits.services, {}", limits.services);
        report.refuse(&service.place, format!("{sentence}; raise limits.services to {}", services.len()));
    }
    let limit = u64::from(limits.slots);
    // Each rule has a table of its own.
    let slots = |service: &Draft| u64::from(service.slots.value) * (1 + service.rules.len() as u64);
    let all: u64 = services.iter().map(slots).sum();
    let mut sum: u64 = 0;
    let first_over = services.iter().find(|service| {
        sum += slots(service);
        sum > limit
    });
    if let Some(service) = first_over {
        let sentence = format!("brings all tables to {sum} slots, more than limits.slots, {limit}");
        let mend = format!("raise limits.slots to {all}, or choose smaller tables");
        report.refuse(&service.slots.place, format!("{sentence}; {mend}"));
    }
}
