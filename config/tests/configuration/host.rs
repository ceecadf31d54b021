//! The pseudo-interface: what `[host]` and `target = "host"` may say.

use std::net::Ipv4Addr;

use crate::common::{VALID, refusals};
use shunt_config::{Config, Host, Prefix, Target};

const HOST: &str = "[host]\ndevice = \"box0\"\naddresses = [\"198.18.0.101\", \"198.18.0.102/32\"]\n\
    routes = [\"198.18.0.0/24\"]\nmtu = 1400\noffloads = false\n";
const SSH: &str = "[[service]]\nname = \"ssh\"\naddress = \"198.18.0.100:22\"\nprotocol = \"tcp\"\ntarget = \"host\"\n";

/// VALID's lines come first, so that these are from line 42 on.
fn with(text: &str) -> String {
    assert_eq!(VALID.lines().count(), 40);
    format!("{VALID}\n{text}")
}

#[test]
fn every_key_is_read_and_has_a_default() {
    let config = Config::parse(&with(HOST), "shunt.toml").unwrap_or_else(|error| panic!("{error}"));
    let expected = Host {
        device: "box0".to_owned(),
        addresses: vec![Ipv4Addr::new(198, 18, 0, 101), Ipv4Addr::new(198, 18, 0, 102)],
        mtu: Some(1400),
        offloads: false,
        routes: vec![Prefix { address: Ipv4Addr::new(198, 18, 0, 0), length: 24 }],
    };
    assert_eq!(config.host, Some(expected));
    let config = Config::parse(&with("[host]\n"), "shunt.toml").unwrap_or_else(|error| panic!("{error}"));
    let host = config.host.expect("a pseudo-interface");
    assert_eq!((host.device.as_str(), host.mtu, host.offloads), ("shunt0", None, true));
    assert!(host.addresses.is_empty() && host.routes.is_empty());
    assert_eq!(Config::parse(VALID, "shunt.toml").expect("good").host, None);
}

#[test]
fn a_service_of_the_host_shares_its_address_with_one_of_back_ends() {
    let text = with(&format!("[host]\n{SSH}"));
    let config = Config::parse(&text, "shunt.toml").unwrap_or_else(|error| panic!("{error}"));
    let [web, _, ssh] = &config.services[..] else { panic!("three services") };
    assert_eq!((web.target, ssh.target), (Target::Backends, Target::Host));
    assert_eq!(web.address.ip(), ssh.address.ip());
    assert!(ssh.backends.is_empty() && ssh.health.is_none() && ssh.slots == 0);
}

#[test]
fn a_service_of_the_host_needs_the_pseudo_interface_and_no_back_ends() {
    let expected = "shunt.toml:42: service.ssh.target: is \"host\", but there is no pseudo-interface; write a [host] table with device = \"shunt0\"";
    assert_eq!(refusals(&with(SSH)), [expected]);
    for key in ["mode = \"nat\"", "slots = 1021", "backend = []", "health.kind = \"tcp\"", "timeouts.udp = 5"] {
        let name = key.split([' ', '.']).next().expect("a key");
        let expected = format!(
            "shunt.toml:48: service.ssh.{name}: does nothing where target is \"host\"; remove it, or remove target"
        );
        assert_eq!(refusals(&with(&format!("[host]\n{SSH}{key}\n"))), [expected]);
    }
    let other = SSH.replace("\"host\"", "\"box\"")
        + "mode = \"nat\"\nbackend = [{ name = \"s\", address = \"198.18.1.9:22\" }]\n";
    let expected = "shunt.toml:46: service.ssh.target: \"box\" is unknown; write one of \"backends\", \"host\"";
    assert_eq!(refusals(&with(&other)), [expected]);
}

#[test]
fn wrong_values_are_told_with_what_to_write() {
    let example = "write for example \"198.18.0.101\"";
    let route = "write for example \"198.18.0.0/24\"";
    for (line, expected) in [
        ("device = \"a/b\"", "host.device: \"a/b\" is not a device name; write for example \"shunt0\"".to_owned()),
        (
            "device = \"eth0\"",
            "host.device: \"eth0\" is an [[interface]] too; the device is made by Shunt: write a name that no device has"
                .to_owned(),
        ),
        ("addresses = \"198.18.0.101\"", "host.addresses: is the string \"198.18.0.101\"; write a list, for example [\"198.18.0.101\"]".to_owned()),
        ("addresses = [5]", "host.addresses[0]: is 5; write a string in quotation marks".to_owned()),
        ("addresses = [\"h\"]", format!("host.addresses[0]: \"h\" is not an address; {example}")),
        ("addresses = [\"198.18.0.101/33\"]", format!("host.addresses[0]: \"198.18.0.101/33\" is not an address; {example}")),
        (
            "addresses = [\"198.18.0.101/24\"]",
            format!("host.addresses[0]: \"198.18.0.101/24\" is more than one address: the device takes single ones; {example}"),
        ),
        ("addresses = [\"127.0.0.1\"]", format!("host.addresses[0]: \"127.0.0.1\" is a loopback address, which no packet from outside has; {example}")),
        (
            "addresses = [\"2001:db8::1/128\"]",
            format!("host.addresses[0]: \"2001:db8::1/128\" can't be used: IPv6 addresses of the host are not supported yet; {example}"),
        ),
        (
            "addresses = [\"198.18.0.101\", \"198.18.0.101/32\"]",
            "host.addresses[1]: is in line 43 already; remove one of both".to_owned(),
        ),
        ("routes = [\"198.18.0.0\"]", format!("host.routes[0]: \"198.18.0.0\" has no length; {route}")),
        ("routes = [\"198.18.0.1/24\"]", format!("host.routes[0]: \"198.18.0.1/24\" isn't the first address of its range; {route}")),
        (
            "routes = [\"0.0.0.0/0\"]",
            format!("host.routes[0]: \"0.0.0.0/0\" would send all that the box says, Shunt's own checks too, through the switchers; {route}"),
        ),
        ("mtu = 500", "host.mtu: is 500; write a whole number from 576 to 1770".to_owned()),
        ("offloads = 1", "host.offloads: is 1; write true or false".to_owned()),
        (
            "speed = 1",
            "host.speed: is an unknown key; the keys here are device, addresses, routes, mtu, offloads".to_owned(),
        ),
    ] {
        assert_eq!(refusals(&with(&format!("[host]\n{line}\n"))), [format!("shunt.toml:43: {expected}")], "{line}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("\"198.18.4.{n}\"")).collect();
    let expected = "shunt.toml:43: host.addresses: has 65 items; write 64 at most";
    assert_eq!(refusals(&with(&format!("[host]\naddresses = [{}]\n", many.join(", ")))), [expected]);
}

#[test]
fn a_back_end_is_not_at_the_hosts_address() {
    let text = VALID.replace("198.18.1.21:53", "198.18.0.101:53") + "\n[host]\naddresses = [\"198.18.0.101\"]\n";
    let expected = "shunt.toml:40: service.dns.backend.ns1.address: \"198.18.0.101:53\" is one of host.addresses, which back-ends can't have; write target = \"host\" in the service instead of back-ends";
    assert_eq!(refusals(&text), [expected]);
}
