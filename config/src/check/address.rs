//! Addresses and names that both services and back-ends have.

use std::net::{IpAddr, SocketAddr};

use crate::report::{Field, quoted};
use crate::section::Section;

/// Longest name of a service or back-end: with its final zero it takes 32 bytes of shared memory.
const NAME_LENGTH: usize = 31;

/// The required key `address` of a service or back-end. `kind` is what the sentence calls those with an IPv6 address.
pub(super) fn read(section: &mut Section<'_>, example: &str, kind: &str) -> Option<Field<SocketAddr>> {
    section.require("address", &format!("address = {example:?}"));
    let Field { value: text, place } = section.text("address")?;
    let complaint = match text.parse::<SocketAddr>() {
        Err(_) => format!("is not an address and port; write for example {example:?}"),
        Ok(address) if address.port() == 0 => {
            format!("has port 0; write the real one, for example {example:?}")
        }
        Ok(address) => match unusable(address.ip()) {
            Some(what) => format!("is {what}; write an address of a host, for example {example:?}"),
            None if address.is_ipv6() => {
                format!("can't be used: IPv6 {kind} are not supported yet; write for example {example:?}")
            }
            None => {
                return Some(Field { value: address, place });
            }
        },
    };
    section.refuse("address", format!("{} {complaint}", quoted(text)));
    None
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

/// The required key `name` of a service or back-end.
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
