//! Every refusal of what concerns services, and of counts that pass the limits.

use shunt_config::Config;

use crate::common::{VALID, assert_refused, refusals, spoil};

/// Nobody would take a connection, and nothing would say so.
#[test]
fn weights_that_are_all_0_are_refused() {
    let remedy = "give one a weight from 1 to 256, or take back-ends out by `shunt drain`";
    let service = format!("every back-end has weight 0, so the service would take no connection; {remedy}");
    let found = refusals(&spoil(&[(28, "address = \"198.18.1.11:8080\"\nweight = 0"), (32, "weight = 0")]));
    assert_eq!(found, [format!("shunt.toml:26: service.web.backend: {service}")]);
    let rule = format!("every back-end has weight 0, so the rule's clients would be refused; {remedy}");
    let found = refusals(&spoil(&[(22, "rule = [{ backends = [\"b2\"] }]"), (32, "weight = 0")]));
    assert_eq!(found, [format!("shunt.toml:22: service.web.rule[0].backends: {rule}")]);
}

/// Each wrong address is told what is wrong with it, not only what a right one looks like.
#[test]
fn addresses() {
    for (address, fault) in [
        ("198.18.0.100", "has no port"),
        ("198.18.0.100:", "has no port behind the colon"),
        ("198.18.0.100:99999", "has port 99999, ports go from 1 to 65535"),
        ("198.18.0.100:http", "has \"http\" where a port number belongs"),
        ("198.18.0.100:-1", "has \"-1\" where a port number belongs"),
        ("198.18.0.300:80", "has 300 in its address, whose numbers go from 0 to 255"),
        ("198.18.0.01:80", "has a number with a leading zero in its address"),
        ("198.18..100:80", "lacks one of the four numbers of an IPv4 address"),
        ("198.18.100:80", "has an address of 3 numbers, an IPv4 address has four"),
        ("198.18.0.0/24:80", "has a prefix length, but is to be one address"),
        ("host:80", "has \"host\" where an IPv4 address belongs, and names aren't looked up"),
        ("host", "has \"host\" where an IPv4 address belongs, and names aren't looked up"),
        (":80", "has no address"),
        ("", "has no address"),
        ("2001:db8::1", "is no IPv4 address and port, and IPv6 is not supported yet"),
        ("[::1]", "is no IPv4 address and port, and IPv6 is not supported yet"),
    ] {
        let expected = format!("{address:?} {fault}; write for example \"198.18.0.100:80\"");
        assert_refused(&[(19, &format!("address = {address:?}"), &format!("service.web.address: {expected}"))]);
    }
}

#[test]
fn services() {
    let keys = "name, address, protocol, target, mode, timeouts, on_backend_down, drain_timeout_s, health, backend, slots, algorithm, rule, agent_check";
    assert_refused(&[
        (18, r#"name = """#, "service[0].name: \"\" is not a name; write 1 to 31 letters, digits, '.', '_' and '-'"),
        (
            19,
            r#"address = "198.18.0.100""#,
            r#"service.web.address: "198.18.0.100" has no port; write for example "198.18.0.100:80""#,
        ),
        (
            19,
            r#"address = "[2001:db8::1]:80""#,
            r#"service.web.address: "[2001:db8::1]:80" can't be used: IPv6 services are not supported yet; write for example "198.18.0.100:80""#,
        ),
        (
            19,
            r#"address = "198.18.0.100:0""#,
            r#"service.web.address: "198.18.0.100:0" has port 0; write the real one, for example "198.18.0.100:80""#,
        ),
        (
            19,
            r#"address = "0.0.0.0:80""#,
            r#"service.web.address: "0.0.0.0:80" is the unspecified address; write an address of a host, for example "198.18.0.100:80""#,
        ),
        (
            19,
            r#"address = "239.1.1.1:80""#,
            r#"service.web.address: "239.1.1.1:80" is a multicast address; write an address of a host, for example "198.18.0.100:80""#,
        ),
        (
            19,
            r#"address = "255.255.255.255:80""#,
            r#"service.web.address: "255.255.255.255:80" is the broadcast address; write an address of a host, for example "198.18.0.100:80""#,
        ),
        (20, r#"protocol = "sctp""#, r#"service.web.protocol: "sctp" is unknown; write one of "tcp", "udp""#),
        (21, r#"mode = "tunnel""#, r#"service.web.mode: "tunnel" is unknown; write one of "nat", "dsr""#),
        (22, "slots = 4096", "service.web.slots: 4096 is not a prime; write for example 4099"),
        (22, "weight = 1", &format!("service.web.weight: is an unknown key; the keys here are {keys}")),
        (
            22,
            r#"on_backend_down = "drop""#,
            r#"service.web.on_backend_down: "drop" is unknown; write one of "keep", "move", "reset""#,
        ),
        (
            22,
            r#"on_backend_down = "move""#,
            r#"service.web.on_backend_down: "move" is for UDP: another back-end knows nothing of a TCP connection; write "reset" or "keep""#,
        ),
        (
            37,
            "on_backend_down = \"reset\"\nmode = \"dsr\"",
            r#"service.dns.on_backend_down: "reset" is for TCP: UDP has no resets; write "move" or "keep""#,
        ),
        (22, "drain_timeout_s = -1", "service.web.drain_timeout_s: is -1; write a whole number from 0 to 2592000"),
        (22, "timeouts.udp = 0", "service.web.timeouts.udp: is 0; write a whole number from 1 to 2592000"),
    ]);
    let few_slots = spoil(&[
        (22, "slots = 2"),
        (38, "[[service.backend]]\nname = \"x\"\naddress = \"198.18.1.9:53\"\n[[service.backend]]"),
    ]);
    assert_eq!(refusals(&few_slots), [""; 0], "two back-ends fit two slots");
    let few_slots =
        spoil(&[(22, "slots = 2"), (32, "[[service.backend]]\nname = \"b3\"\naddress = \"198.18.1.13:8080\"")]);
    let expected =
        "shunt.toml:22: service.web.slots: 2 are fewer than the 3 back-ends; write a prime of at least 100 for each";
    assert_eq!(refusals(&few_slots), [expected]);
}

#[test]
fn a_service_lacks_nothing_it_needs() {
    let bare = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n[[service]]\nbackend = []\n";
    assert_eq!(
        refusals(bare),
        [
            "shunt.toml:5: service[0].name: is missing; write for example name = \"web\"",
            "shunt.toml:5: service[0].address: is missing; write for example address = \"198.18.0.100:80\"",
            "shunt.toml:5: service[0].protocol: is missing; write for example protocol = \"tcp\"",
            "shunt.toml:5: service[0].mode: is missing; write for example mode = \"nat\"",
            "shunt.toml:6: service[0].backend: is empty; write at least one table, or remove it",
        ]
    );
    let without_backend = bare.replace("backend = []\n", "");
    let expected = "shunt.toml:5: service[0].backend: is missing; write for example a [[service.backend]] table with name and address";
    assert_eq!(refusals(&without_backend)[4], expected);
}

#[test]
fn services_differ() {
    assert_refused(&[(
        34,
        r#"name = "web""#,
        r#"service.web.name: "web" is another service's name, in line 18; change one of both"#,
    )]);
    let same = spoil(&[(35, r#"address = "198.18.0.100:80""#), (36, r#"protocol = "tcp""#), (37, r#"mode = "nat""#)]);
    let expected = r#"shunt.toml:35: service.dns.address: "198.18.0.100:80" is another service's address with the same protocol, in line 19; change one of both"#;
    assert_eq!(refusals(&same), [expected]);
    let on_one_line = r#"service = [{ name = "a", address = "198.18.0.1:80", protocol = "udp", mode = "nat", backend = [{ name = "b", address = "198.18.1.1:80" }] }, { name = "a", address = "198.18.0.2:80", protocol = "udp", mode = "nat", backend = [{ name = "b", address = "198.18.1.1:80" }] }]"#;
    let text = format!("{on_one_line}\n[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n");
    let expected = r#"shunt.toml:1: service.a.name: "a" is another service's name, in line 1; change one of both"#;
    assert_eq!(refusals(&text), [expected]);
}

#[test]
fn health() {
    let unused =
        |kind: &str, other: &str| format!("does nothing where kind is {kind:?}; remove it, or write kind = {other:?}");
    assert_refused(&[
        (24, r#"kind = "icmp""#, r#"service.web.health.kind: "icmp" is unknown; write one of "tcp", "http", "none""#),
        (
            25,
            r#"path = "index""#,
            r#"service.web.health.path: "index" is not a path: it starts with '/' and has neither spaces nor letters beyond ASCII; write for example "/""#,
        ),
        (
            25,
            r#"path = "/ HTTP/1.1\r\nX: y""#,
            r#"service.web.health.path: "/ HTTP/1.1\r\nX: y" is not a path: it starts with '/' and has neither spaces nor letters beyond ASCII; write for example "/""#,
        ),
        (
            25,
            r#"host = "a\r\nb""#,
            r#"service.web.health.host: "a\r\nb" is not a host name; write for example "www.example""#,
        ),
        (
            25,
            "status = [399, 200]",
            "service.web.health.status: is not a range; write the first and the last good status, for example [200, 399]",
        ),
        (
            25,
            "status = [200]",
            "service.web.health.status: is not a range; write the first and the last good status, for example [200, 399]",
        ),
        (25, "port = 0", "service.web.health.port: is 0; write a whole number from 1 to 65535"),
        (25, "interval_ms = 5", "service.web.health.interval_ms: is 5; write a whole number from 10 to 3600000"),
        (
            25,
            "timeout_ms = 1001",
            "service.web.health.timeout_ms: 1001 is more than interval_ms, 1000; checks must end before the next: lower it, or raise interval_ms",
        ),
        (25, "as_client = 1", "service.web.health.as_client: is 1; write true or false"),
        (25, "rise = 0", "service.web.health.rise: is 0; write a whole number from 1 to 100"),
        (25, "fall = 101", "service.web.health.fall: is 101; write a whole number from 1 to 100"),
        (
            25,
            "url = 1",
            "service.web.health.url: is an unknown key; the keys here are kind, path, host, status, port, as_client, interval_ms, timeout_ms, rise, fall",
        ),
    ]);
    for (kind, key, other) in [
        ("tcp", "path = \"/\"", "http"),
        ("none", "rise = 2", "tcp"),
        ("none", "host = \"a\"", "http"),
        ("none", "as_client = true", "tcp"),
    ] {
        let text = spoil(&[(24, &format!("kind = {kind:?}")), (25, key)]);
        let (name, _) = key.split_once(' ').expect("a key");
        assert_eq!(refusals(&text), [format!("shunt.toml:25: service.web.health.{name}: {}", unused(kind, other))]);
    }
    let udp = spoil(&[(37, "mode = \"dsr\"\nhealth.port = 53")]);
    let expected = format!("shunt.toml:38: service.dns.health.port: {}", unused("none", "tcp"));
    assert_eq!(refusals(&udp), [expected]);
}

#[test]
fn backends() {
    assert_refused(&[
        (
            27,
            r#"name = "b 1""#,
            "service.web.backend[0].name: \"b 1\" is not a name; write 1 to 31 letters, digits, '.', '_' and '-'",
        ),
        (
            28,
            r#"address = "198.18.1.300:80""#,
            r#"service.web.backend.b1.address: "198.18.1.300:80" has 300 in its address, whose numbers go from 0 to 255; write for example "198.18.1.10:8080""#,
        ),
        (
            28,
            r#"address = "[2001:db8::1]:80""#,
            r#"service.web.backend.b1.address: "[2001:db8::1]:80" can't be used: IPv6 back-ends are not supported yet; write for example "198.18.1.10:8080""#,
        ),
        (
            28,
            r#"address = "127.0.0.1:80""#,
            r#"service.web.backend.b1.address: "127.0.0.1:80" is a loopback address, which no packet from outside has; write an address of a host, for example "198.18.1.10:8080""#,
        ),
        (
            28,
            r#"address = "198.18.0.100:8080""#,
            r#"service.web.backend.b1.address: "198.18.0.100:8080" has the address of a service, which leads back to Shunt; write the server's own address"#,
        ),
        (
            30,
            r#"name = "b1""#,
            r#"service.web.backend.b1.name: "b1" is in this service already, in line 27; change one of both"#,
        ),
        (
            31,
            r#"address = "198.18.1.11:8080""#,
            r#"service.web.backend.b2.address: "198.18.1.11:8080" is back-end "b1" already, in line 28; correct or remove one of both"#,
        ),
        (32, "weight = 257", "service.web.backend.b2.weight: is 257; write a whole number from 0 to 256"),
        (
            32,
            "weight = \"2\"",
            r#"service.web.backend.b2.weight: is the string "2"; write a whole number from 0 to 256"#,
        ),
        (
            32,
            "backup = true",
            "service.web.backend.b2.backup: is an unknown key; the keys here are name, address, weight, workers, capabilities",
        ),
        (
            39,
            r#"name = "b1""#,
            r#"service.dns.backend.b1.name: "b1" is a back-end of another address or protocol, in line 27; give each its own name"#,
        ),
        (
            40,
            r#"address = "198.18.1.21:54""#,
            r#"service.dns.backend.ns1.address: has port 54, its service 53, and mode dsr re-writes no ports; let the back-end listen on 53, or write mode = "nat""#,
        ),
    ]);
}

#[test]
fn counts_stay_within_the_limits() {
    let services = spoil(&[(13, "services = 1")]);
    let expected =
        "shunt.toml:33: service.dns: is one service more than limits.services, 1; raise limits.services to 2";
    assert_eq!(refusals(&services), [expected]);
    let backends = spoil(&[(13, "backends = 2")]);
    let expected = "shunt.toml:39: service.dns.backend.ns1.name: is one back-end more than limits.backends, 2; raise limits.backends to 3";
    assert_eq!(refusals(&backends), [expected]);
    let slots = spoil(&[(13, "slots = 5000")]);
    let expected = "shunt.toml:33: service.dns.slots: brings all tables to 5120 slots, more than limits.slots, 5000; raise limits.slots to 5120, or choose smaller tables";
    assert_eq!(refusals(&slots), [expected]);
}

#[test]
fn all_that_is_wrong_is_said_in_the_order_of_the_lines() {
    let text = spoil(&[(32, "weight = 300"), (1, "instance = \"\""), (20, "protocol = 6"), (14, "ring = 3")]);
    let error = Config::parse(&text, "shunt.toml").expect_err("four mistakes").to_string();
    let lines: Vec<&str> = error.lines().collect();
    let starts = [
        "shunt.toml:1: instance: ",
        "shunt.toml:14: limits.ring: ",
        "shunt.toml:20: service.web.protocol: ",
        "shunt.toml:32: service.web.backend.b2.weight: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{error}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} doesn't start with {start}");
    }
}

#[test]
fn a_mistyped_key_is_told_with_the_one_that_was_meant() {
    let found = refusals(&VALID.replacen("address = ", "adress = ", 1)).join("\n");
    assert!(
        found.contains(".adress: is an unknown key; perhaps you mean address; the keys here are name, address"),
        "{found}"
    );
}
