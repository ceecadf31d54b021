//! Every refusal of what concerns the machine: switchers, interfaces, limits.

use crate::common::{VALID, assert_refused, refusals, spoil};

#[test]
fn the_base_is_accepted() {
    assert_eq!(refusals(VALID), [""; 0]);
}

#[test]
fn top_level() {
    assert_refused(&[
        (1, r#"instance = "Shunt""#, r#"instance: "Shunt" is not an instance name; write 1 to 32 of a-z, 0-9 and -"#),
        (1, "instance = 5", "instance: is 5; write a string in quotation marks"),
        (
            1,
            "colour = 5",
            "colour: is an unknown key; the keys here are instance, user, switchers, interface, host, limits, timeouts, service, feedback, agent",
        ),
        (
            1,
            r#""a\nb" = 5"#,
            r#""a\nb": is an unknown key; the keys here are instance, user, switchers, interface, host, limits, timeouts, service, feedback, agent"#,
        ),
        (2, r#"user = "a b""#, r#"user: "a b" is not an account name; write for example "nobody""#),
        (
            2,
            r#"user = "root""#,
            r#"user: "root" would leave switchers every file of the machine; name an account without privileges, for example "nobody""#,
        ),
    ]);
}

#[test]
fn required_tables() {
    assert_eq!(
        refusals("# nothing\n"),
        [
            "shunt.toml:1: switchers: is missing; write for example a [switchers] table with cpus = [1]",
            "shunt.toml:1: interface: is missing; write for example an [[interface]] table with name = \"eth0\"",
        ]
    );
    assert_eq!(
        refusals("switchers = 1\ninterface = []\nservice = [1]\nlimits = true\n"),
        [
            "shunt.toml:1: switchers: is 1; write [switchers], with single brackets, once",
            "shunt.toml:2: interface: is empty; write at least one table, or remove it",
            "shunt.toml:3: service: is a list; write [[service]], with two brackets, above each",
            "shunt.toml:4: limits: is true; write [limits], with single brackets, once",
        ]
    );
}

#[test]
fn switchers() {
    assert_refused(&[
        (4, "cpus = []", "switchers.cpus: names no CPU; write for example cpus = [2, 3]"),
        (4, "cpus = 2", "switchers.cpus: is 2; write a list, for example [2, 3]"),
        (4, "cpus = [2, 3, 2]", "switchers.cpus: names CPU 2 twice; each switcher needs one of its own"),
        (4, "cpus = [2, 3, 1024]", "switchers.cpus[2]: is 1024; write a whole number from 0 to 1023"),
        (4, "cpus = [2, 3, -1]", "switchers.cpus[2]: is -1; write a whole number from 0 to 1023"),
        (4, "count = 65", "switchers.count: is 65; write a whole number from 1 to 64"),
        (5, "count = 2", "switchers.count: stands beside cpus; keep one of both"),
        (5, r#"idle = "sleep""#, r#"switchers.idle: "sleep" is unknown; write one of "spin", "yield", "wait""#),
        (5, "spin = true", "switchers.spin: is an unknown key; the keys here are cpus, count, idle"),
    ]);
    let neither = spoil(&[(4, ""), (11, "")]);
    let expected =
        "shunt.toml:3: switchers.cpus: is missing; write for example cpus = [2, 3], or count = 2 to have them chosen";
    assert_eq!(refusals(&neither), [expected]);
    let many: Vec<String> = (0..65).map(|cpu| cpu.to_string()).collect();
    let expected = "shunt.toml:4: switchers.cpus: names 65 CPUs; write 64 at most";
    assert_eq!(refusals(&spoil(&[(4, &format!("cpus = [{}]", many.join(",")))])), [expected]);
}

#[test]
fn interfaces() {
    let name_rule = "is not an interface name; `ip link` shows those there are";
    for bad in ["", "a/b", "a b", "..", "sixteen-letters-"] {
        let expected = format!("shunt.toml:7: interface[0].name: {bad:?} {name_rule}");
        let path = expected.replace("interface[0]", &format!("interface.{bad}"));
        let found = refusals(&spoil(&[(7, &format!("name = {bad:?}"))]));
        assert!(found == [expected] || found == [path], "{found:?}");
    }
    assert_refused(&[
        (8, r#"side = "left""#, r#"interface.eth0.side: "left" is unknown; write one of "client", "backend", "both""#),
        (
            9,
            r#"port = "dpdk""#,
            r#"interface.eth0.port: "dpdk" is unknown; write one of "auto", "af_xdp", "af_packet""#,
        ),
        (
            10,
            r#"mode = "zero""#,
            r#"interface.eth0.mode: "zero" is unknown; write one of "auto", "zero-copy", "native-copy", "generic-copy""#,
        ),
        (
            10,
            "mtu = 9",
            "interface.eth0.mtu: is an unknown key; the keys here are name, side, port, mode, busy_poll, queues",
        ),
        (10, "busy_poll = 1", "interface.eth0.busy_poll: is 1; write true or false"),
        (11, r#"queues = { "0" = 2 }"#, "interface.eth0.queues.0: switcher 2 doesn't exist; write one from 0 to 1"),
        (
            11,
            r#"queues = { "01" = 0 }"#,
            r#"interface.eth0.queues.01: is not a queue number; write one from "0" to "4095""#,
        ),
        (
            11,
            r#"queues = { "4096" = 0 }"#,
            r#"interface.eth0.queues.4096: is not a queue number; write one from "0" to "4095""#,
        ),
        (
            11,
            r#"queues = { "0" = "0" }"#,
            r#"interface.eth0.queues.0: is the string "0"; write a whole number from 0 to 4294967295"#,
        ),
        (11, "queues = [0]", "interface.eth0.queues: is a list; write [interface.queues], with single brackets, once"),
    ]);
    let unnamed = "shunt.toml:6: interface[0].name: is missing; write for example name = \"eth0\"";
    assert_eq!(refusals(&spoil(&[(7, "")])), [unnamed]);
    let packet_mode = spoil(&[(9, r#"port = "af_packet""#), (10, r#"mode = "zero-copy""#)]);
    let expected = r#"shunt.toml:10: interface.eth0.mode: is for af_xdp, but port is "af_packet"; remove one of both"#;
    assert_eq!(refusals(&packet_mode), [expected]);
    let packet_poll = spoil(&[(9, r#"port = "af_packet""#), (10, "busy_poll = true")]);
    assert_eq!(refusals(&packet_poll), [expected.replace("mode", "busy_poll")]);
    let waiting_poll = spoil(&[(5, r#"idle = "wait""#), (10, "busy_poll = true")]);
    let expected = "shunt.toml:10: interface.eth0.busy_poll: is for switchers that poll, but switchers.idle is \"wait\"; \
                    remove one of both";
    assert_eq!(refusals(&waiting_poll), [expected]);
    let twice = spoil(&[(5, "[[interface]]\nname = \"eth0\"")]);
    let expected = r#"shunt.toml:8: interface.eth0.name: is in line 5 already; remove one of both"#;
    assert_eq!(refusals(&twice), [expected]);
}

#[test]
fn more_interfaces_than_a_connection_can_name_are_refused() {
    let more: String = (0..1023).map(|number| format!("[[interface]]\nname = \"more{number}\"\n")).collect();
    let all = refusals(&(VALID.to_owned() + &more));
    let expected =
        |refusal: &String| refusal.contains("interface: there are 102") && refusal.ends_with("write 1023 at most");
    assert!(all.iter().any(expected), "{all:?}");
}

#[test]
fn interfaces_lead_to_both_sides() {
    let to_backends = r#"interface: none leads to the back-ends; give one side = "backend" or "both""#;
    let to_clients = r#"interface: none leads to the clients; give one side = "client" or "both""#;
    for (side, missing) in [("client", to_backends), ("backend", to_clients)] {
        let found = refusals(&spoil(&[(8, &format!("side = {side:?}"))]));
        assert_eq!(found, [format!("shunt.toml:6: {missing}")]);
    }
}

#[test]
fn limits_and_timeouts() {
    assert_refused(&[
        (13, "frames = 10000", "limits.frames: 10000 is not a power of two; write 8192 or 16384"),
        (
            13,
            "frames = 256",
            "limits.frames: 256 are too few for switcher 0, whose 2 rings of 256 take 512; write 512, or a smaller limits.ring",
        ),
        (13, "connections = 0", "limits.connections: is 0; write a whole number from 1 to 268435456"),
        (13, "backends = 65536", "limits.backends: is 65536; write a whole number from 1 to 65535"),
        (13, "routes = 1.5", "limits.routes: is 1.5; write a whole number from 1 to 16777216"),
        (
            13,
            "packets = 1",
            "limits.packets: is an unknown key; the keys here are connections, services, backends, slots, neighbours, routes, frames, ring, store",
        ),
        (14, "ring = 16", "limits.ring: is 16; write a whole number from 64 to 65536"),
        (14, "store = 16", "limits.store: is 16; write a whole number from 64 to 65536"),
        (14, "ring = 300", "limits.ring: 300 is not a power of two; write 256 or 512"),
        (16, "udp = 0", "timeouts.udp: is 0; write a whole number from 1 to 2592000"),
        (
            16,
            "sctp = 9",
            "timeouts.sctp: is an unknown key; the keys here are tcp_opening, tcp_established, tcp_closing, tcp_closed, udp",
        ),
    ]);
}
