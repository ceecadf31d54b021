//! The configured checks. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use shunt_config::{Backend, Config, Health, Mode, Service};

use super::as_client::{ClientWay, Sender};
use super::{BackendKey, Check};

/// Creates one check for each backend of each service with checks. A backend of two services gets one for each, since their
/// requests may differ.
pub fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for service in &config.services {
        let Some(health) = &service.health else {
            continue;
        };
        checks.extend(service.backends.iter().map(|backend| check(service, backend, health)));
    }
    checks
}

fn check(service: &Service, backend: &Backend, health: &Health) -> Check {
    let (own, shared) = (backend.address.ip(), service.address.ip());
    let (asked, sender) = match service.mode {
        Mode::Dsr if health.as_client => (shared, Sender::Neighbour),
        Mode::Dsr | Mode::Nat => (own, Sender::ClientSide(shared)),
    };
    Check {
        key: BackendKey { service: service.name.clone(), backend: backend.name.clone() },
        target: SocketAddr::new(asked, health.port.unwrap_or(backend.address.port())),
        way: health.as_client.then_some(ClientWay { backend: own, sender }),
        probe: health.probe.clone(),
        interval: Duration::from_millis(health.interval_ms.into()),
        timeout: Duration::from_millis(health.timeout_ms.into()),
        rise: health.rise,
        fall: health.fall,
    }
}

#[cfg(test)]
mod tests {
    use shunt_config::Probe;

    use super::*;

    const CONFIG: &str = r#"
        [switchers]
        count = 1
        [[interface]]
        name = "eth0"
        [[service]]
        name = "web"
        address = "198.18.0.100:80"
        protocol = "tcp"
        mode = "nat"
        [service.health]
        kind = "http"
        path = "/health"
        port = 9090
        interval_ms = 200
        timeout_ms = 100
        [[service.backend]]
        name = "b1"
        address = "198.18.1.11:8080"
        [[service.backend]]
        name = "b2"
        address = "198.18.1.12:8080"
        [[service]]
        name = "mail"
        address = "198.18.0.100:25"
        protocol = "tcp"
        mode = "nat"
        [[service.backend]]
        name = "b3"
        address = "198.18.1.11:25"
        [[service]]
        name = "dns"
        address = "198.18.0.100:53"
        protocol = "udp"
        mode = "nat"
        [[service.backend]]
        name = "b4"
        address = "198.18.1.11:53"
    "#;

    #[test]
    fn every_backend_of_a_service_with_checks_has_one() {
        let config = Config::parse(CONFIG, "test.toml").unwrap();
        let all = checks(&config);
        let who: Vec<_> = all.iter().map(|c| (c.key.service.as_str(), c.key.backend.as_str())).collect();
        assert_eq!(who, [("web", "b1"), ("web", "b2"), ("mail", "b3")]);
        assert_eq!(all[0].target, "198.18.1.11:9090".parse().unwrap());
        assert_eq!((all[0].interval.as_millis(), all[0].timeout.as_millis()), (200, 100));
        assert!(matches!(&all[0].probe, Probe::Http { path, .. } if path == "/health"));
        assert_eq!((all[2].target, &all[2].probe), ("198.18.1.11:25".parse().unwrap(), &Probe::Tcp));
        assert!(all.iter().all(|check| check.way.is_none()));
    }

    #[test]
    fn dsr_is_checked_at_the_service_s_address_and_nat_from_the_clients_side_if_asked() {
        let dsr = CONFIG.replace("mode = \"nat\"", "mode = \"dsr\"").replace(":8080", ":80");
        let of_first = |text: &str| checks(&Config::parse(text, "test.toml").unwrap()).remove(0);
        let (own, shared) = ("198.18.1.11".parse().unwrap(), "198.18.0.100".parse().unwrap());
        let check = of_first(&dsr);
        assert_eq!(check.target, "198.18.0.100:9090".parse().unwrap());
        assert_eq!(check.way, Some(ClientWay { backend: own, sender: Sender::Neighbour }));
        let check = of_first(&dsr.replace("port = 9090", "port = 9090\nas_client = false"));
        assert_eq!((check.target, check.way), ("198.18.1.11:9090".parse().unwrap(), None));
        let check = of_first(&CONFIG.replace("port = 9090", "port = 9090\nas_client = true"));
        assert_eq!(check.target, "198.18.1.11:9090".parse().unwrap());
        assert_eq!(check.way, Some(ClientWay { backend: own, sender: Sender::ClientSide(shared) }));
    }
}
