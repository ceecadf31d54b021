//! Addresses and names, for services and back-ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::report::{Field, quoted};
use crate::section::Section;

/// Maximum length of a service's or back-end's name: with its terminating zero it takes 32 bytes of shared memory.
const NAME_LENGTH: usize = 31;

/// Reads the required key `address` of a service or back-end. `kind` is the plural for the message about IPv6.
pub(super) fn read(section: &mut Section<'_>, example: &str, kind: &str) -> Option<Field<SocketAddr>> {
    section.require("address", &format!("address = {example:?}"));
    let Field { value: text, place } = section.text("address")?;
    let problem = match text.parse::<SocketAddr>() {
        Err(_) => format!("{}; write for example {example:?}", fault(text)),
        Ok(address) if address.port() == 0 => {
            format!("has port 0; write the real one, for example {example:?}")
        }
        Ok(address) if address.is_ipv6() => {
            format!("can't be used: IPv6 {kind} are not supported yet; write for example {example:?}")
        }
        Ok(address) => match unusable(address.ip()) {
            Some(what) => format!("is {what}; write an address of a host, for example {example:?}"),
            None => return Some(Field { value: address, place }),
        },
    };
    section.refuse("address", format!("{} {problem}", quoted(text)));
    None
}

/// Why a text is not an address and port.
fn fault(text: &str) -> String {
    if text.parse::<Ipv6Addr>().is_ok() || text.starts_with('[') {
        return "is no IPv4 address and port, and IPv6 is not supported yet".to_owned();
    }
    match text.rsplit_once(':') {
        None => host_fault(text).unwrap_or_else(|| "has no port".to_owned()),
        Some((host, port)) => host_fault(host).unwrap_or_else(|| port_fault(port)),
    }
}

/// `None` for an IPv4 address.
fn host_fault(host: &str) -> Option<String> {
    if host.parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    let numbers: Vec<&str> = host.split('.').collect();
    let is_numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    let too_large = numbers.iter().find(|number| number.parse::<u8>().is_err());
    Some(match numbers.len() {
        _ if host.is_empty() => "has no address".to_owned(),
        _ if host.contains('/') => "has a prefix length, but is to be one address".to_owned(),
        _ if !is_numeric => format!("has {} where an IPv4 address belongs, and names aren't looked up", quoted(host)),
        4 => match too_large {
            Some(&"") => "lacks one of the four numbers of an IPv4 address".to_owned(),
            Some(number) => format!("has {number} in its address, whose numbers go from 0 to 255"),
            None => "has a number with a leading zero in its address".to_owned(),
        },
        count => format!("has an address of {count} numbers, an IPv4 address has four"),
    })
}

fn port_fault(port: &str) -> String {
    let is_number = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    match is_number {
        _ if port.is_empty() => "has no port behind the colon".to_owned(),
        true => format!("has port {port}, ports go from 1 to 65535"),
        false => format!("has {} where a port number belongs", quoted(port)),
    }
}

pub(super) fn unusable(ip: IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        Some("the unspecified address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_loopback() {
        Some("a loopback address, which no packet from outside has")
    } else if ip == IpAddr::from([255; 4]) {
        Some("the broadcast address")
    } else {
        None
    }
}

/// Reads the required key `name` of a service or back-end.
pub(super) fn read_name(section: &mut Section<'_>, example: &str) -> Option<Field<String>> {
    section.require("name", &format!("name = {example:?}"));
    let Field { value: name, place } = section.text("name")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > NAME_LENGTH || !name.chars().all(allowed) {
        let rule = format!("1 to {NAME_LENGTH} letters, digits, '.', '_' and '-'");
        section.refuse("name", format!("{} is not a name; write {rule}", quoted(name)));
        return None;
    }
    Some(Field { value: name.to_owned(), place })
}
