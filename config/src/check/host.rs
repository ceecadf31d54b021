//! `[host]`: the pseudo-interface for the box's own programs.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::address::unusable;
use super::interface::is_device_name;
use crate::report::{Field, quoted};
use crate::section::Section;
use crate::types::{Host, Interface, MTU_MAX, Prefix};

/// Maximum number of addresses and of routes: each is a rule that the kernel evaluates for every packet it sends.
const MOST: usize = 64;
/// Minimum size that every IPv4 host must accept (RFC 791 3.1).
const MTU_MIN: u32 = 576;

/// Reads the pseudo-interface, if the file has one.
pub(super) fn read(mut section: Section<'_>, interfaces: &[Interface]) -> Option<Host> {
    let device = section.text("device").map_or("shunt0", |field| field.value);
    if !is_device_name(device) {
        section.refuse("device", format!("{} is not a device name; write for example \"shunt0\"", quoted(device)));
    } else if interfaces.iter().any(|interface| interface.name == device) {
        let sentence = "is an [[interface]] too; the device is made by Shunt: write a name that no device has";
        section.refuse("device", format!("{device:?} {sentence}"));
    }
    let addresses = read_each(&mut section, "addresses", "198.18.0.101", address);
    let routes = read_each(&mut section, "routes", "198.18.0.0/24", prefix);
    let mtu = section.number("mtu", MTU_MIN..=MTU_MAX).and_then(|mtu| u16::try_from(mtu.value).ok());
    let offloads = section.truth_or("offloads", true);
    let host = section.is_present().then(|| Host { device: device.to_owned(), addresses, mtu, offloads, routes });
    section.finish();
    host
}

/// Parses each item of a list with `read`, and refuses duplicates.
fn read_each<T: Copy + Eq + std::hash::Hash>(
    section: &mut Section<'_>,
    key: &'static str,
    example: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut lines: HashMap<T, usize> = HashMap::new();
    let mut items = Vec::new();
    for Field { value: text, place } in section.texts(key, &format!("[{example:?}]")) {
        match read(text) {
            Err(error) => {
                section.refuse_at(&place, format!("{} {error}; write for example {example:?}", quoted(text)));
            }
            Ok(item) => match lines.insert(item, place.line) {
                Some(first) => section.refuse_at(&place, format!("is in line {first} already; remove one of both")),
                None => items.push(item),
            },
        }
    }
    if items.len() > MOST {
        section.refuse(key, format!("has {} items; write {MOST} at most", items.len()));
    }
    items
}

/// One of the box's addresses: `a.b.c.d` or `a.b.c.d/32`.
fn address(text: &str) -> Result<Ipv4Addr, String> {
    let (address, length) = split(text, "IPv6 addresses of the host are")?;
    match (unusable(address.into()), length) {
        (Some(what), _) => Err(format!("is {what}")),
        (None, None | Some(32)) => Ok(address),
        (None, Some(_)) => Err("is more than one address: the device takes single ones".to_owned()),
    }
}

/// A range of destinations: `a.b.c.d/length`.
fn prefix(text: &str) -> Result<Prefix, String> {
    let (address, length) = split(text, "IPv6 routes are")?;
    let length = length.ok_or("has no length")?;
    if length == 0 {
        return Err("would send all that the box says, Shunt's own checks too, through the switchers".to_owned());
    }
    if address.to_bits() & (u32::MAX.checked_shr(length.into()).unwrap_or(0)) != 0 {
        return Err("isn't the first address of its range".to_owned());
    }
    Ok(Prefix { address, length })
}

fn split(text: &str, ipv6: &str) -> Result<(Ipv4Addr, Option<u8>), String> {
    let wrong = || "is not an address".to_owned();
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(format!("can't be used: {ipv6} not supported yet"));
    }
    let length = length.map(|length| length.parse().ok().filter(|length| *length <= 32).ok_or_else(wrong));
    Ok((address.parse().map_err(|_| wrong())?, length.transpose()?))
}
