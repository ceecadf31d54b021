//! What comes out of good configurations: the examples, and every default.

use std::path::Path;

use crate::common::{VALID, spoil};
use shunt_config::{
    Config, Cpus, Health, Idle, Limits, Mode, OnBackendDown, PortKind, Probe, Protocol, Service, Side, Target,
    Timeouts, XdpMode,
};

fn load_example(name: &str) -> Config {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    Config::load(&directory.join(name)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_nat_example_says_every_default() {
    let config = load_example("nat.toml");
    assert_eq!(config.instance.as_str(), "shunt");
    assert_eq!(config.user, "nobody");
    assert_eq!(config.switchers.cpus, Cpus::Listed(vec![2, 3]));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timeouts, Timeouts::default());
    let [outer, inner] = &config.interfaces[..] else { panic!("two interfaces") };
    assert_eq!((outer.side, inner.side), (Side::Client, Side::Backend));
    assert_eq!(outer.queues.clone().into_iter().collect::<Vec<_>>(), [(0, 0), (1, 1)]);
    let web = &config.services[0];
    assert_eq!(web.timeouts, Timeouts { tcp_established_s: 3600, ..Timeouts::default() });
    let probe = Probe::Http {
        path: "/health".to_owned(),
        host: Some("www.example".to_owned()),
        status_first: 200,
        status_last: 399,
    };
    let expected =
        Health { probe, port: Some(8081), as_client: false, interval_ms: 1000, timeout_ms: 500, rise: 2, fall: 3 };
    assert_eq!(web.health, Some(expected));
    assert_eq!(config.services[1].health, None);
    let drain = |service: &Service| (service.on_backend_down, service.drain_timeout_s);
    let said: Vec<_> = config.services.iter().map(drain).collect();
    assert_eq!(said, [(OnBackendDown::Keep, 300), (OnBackendDown::Move, 30)]);
    let defaults = Config::parse(VALID, "shunt.toml").expect("accepted");
    assert_eq!(defaults.services.iter().map(drain).collect::<Vec<_>>(), said);
    let reset = "slots = 4099\non_backend_down = \"reset\"\ndrain_timeout_s = 0";
    let reset = Config::parse(&spoil(&[(22, reset)]), "shunt.toml").expect("accepted");
    assert_eq!(drain(&reset.services[0]), (OnBackendDown::Reset, 0));
}

#[test]
fn the_dsr_example_keeps_ports() {
    let config = load_example("dsr.toml");
    for service in &config.services {
        assert_eq!(service.mode, Mode::Dsr);
        assert!(service.backends.iter().all(|backend| backend.address.port() == service.address.port()));
    }
    assert_eq!(config.services[0].health.as_ref().map(|health| &health.probe), Some(&Probe::Tcp));
    assert_eq!(config.services[1].timeouts.tcp_established_s, 1800);
    let as_client = |service: &shunt_config::Service| service.health.as_ref().is_some_and(|health| health.as_client);
    assert!(config.services.iter().all(as_client), "else a back-end without the service's address is up");
}

#[test]
fn the_host_example_shares_an_address() {
    let config = load_example("host.toml");
    let host = config.host.as_ref().expect("a pseudo-interface");
    assert_eq!((host.device.as_str(), host.mtu, host.offloads), ("shunt0", Some(1500), true));
    assert_eq!(
        config.services.iter().map(|service| service.target).collect::<Vec<_>>(),
        [Target::Backends, Target::Host]
    );
}

#[test]
fn the_minimal_example_gets_defaults() {
    let config = load_example("minimal.toml");
    assert_eq!(config.instance.as_str(), "shunt");
    assert_eq!(config.user, "nobody");
    assert_eq!((config.switchers.cpus.count(), config.switchers.idle), (1, Idle::Spin));
    let interface = &config.interfaces[0];
    assert_eq!((interface.side, interface.port, interface.mode), (Side::Both, PortKind::Auto, XdpMode::Auto));
    assert!(interface.busy_poll && interface.queues.is_empty());
    assert_eq!((config.limits, config.timeouts), (Limits::default(), Timeouts::default()));
    let service = &config.services[0];
    assert_eq!((service.protocol, service.mode, service.slots), (Protocol::Tcp, Mode::Nat, 1021));
    assert_eq!(service.timeouts, Timeouts::default());
    let health = Health {
        probe: Probe::Tcp,
        port: None,
        as_client: false,
        interval_ms: 1000,
        timeout_ms: 500,
        rise: 2,
        fall: 3,
    };
    assert_eq!(service.health, Some(health));
    assert_eq!(service.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_backend_may_serve_several_services_under_one_name() {
    let shared = spoil(&[
        (35, "address = \"198.18.0.101:80\""),
        (36, "protocol = \"tcp\""),
        (37, "mode = \"nat\""),
        (39, "name = \"b1\""),
        (40, "address = \"198.18.1.11:8080\""),
    ]);
    let config = Config::parse(&shared, "shunt.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.services[0].backends[0], config.services[1].backends[0]);
}

#[test]
fn one_address_may_be_a_tcp_and_a_udp_backend() {
    let text = spoil(&[(35, "address = \"198.18.0.100:8080\""), (40, "address = \"198.18.1.11:8080\"")]);
    let config = Config::parse(&text, "shunt.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.services[1].backends[0].name, "ns1");
}

#[test]
fn switchers_that_share_their_cpu_leave_fetching_to_interrupts() {
    let polls = |text: &str| Config::parse(text, "shunt.toml").expect("good").interfaces[0].busy_poll;
    assert!(polls(VALID));
    assert!(!polls(&spoil(&[(5, "idle = \"yield\"")])));
    assert!(polls(&spoil(&[(5, "idle = \"yield\""), (10, "busy_poll = true")])));
    assert!(!polls(&spoil(&[(5, "idle = \"wait\"")])));
    assert!(!polls(&spoil(&[(9, "port = \"af_packet\"")])));
}

#[test]
fn a_configuration_without_services_is_one() {
    let until_services = &VALID[..VALID.find("[[service]]").expect("services")];
    assert!(Config::parse(until_services, "shunt.toml").expect("good").services.is_empty());
}

#[test]
fn editors_of_other_systems_are_welcome() {
    let text = format!("\u{feff}{}", VALID.replace('\n', "\r\n"));
    assert_eq!(Config::parse(&text, "a").expect("good"), Config::parse(VALID, "a").expect("good"));
}
