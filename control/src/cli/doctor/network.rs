//! What the kernel itself does with packets of services: forwarding, filters, addresses of its own.

use super::files::Files;
use super::finding::Finding;
use nix::ifaddrs::getifaddrs;
use shunt_config::{Config, Mode, PortKind};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Looks at it.
pub fn examine(files: &Files, config: &Config) -> Vec<Finding> {
    let mut findings = vec![forwarding(files, config)];
    findings.extend(config.interfaces.iter().filter_map(|interface| reverse_path(files, &interface.name)));
    findings.extend(service_addresses(config, &local_addresses()));
    findings
}

fn forwarding(files: &Files, config: &Config) -> Finding {
    const CHECK: &str = "ip-forward";
    let on = files.number("proc/sys/net/ipv4/ip_forward") == Some(1);
    let copies = config.interfaces.iter().any(|interface| interface.port == PortKind::AfPacket);
    let nat = config.services.iter().any(|service| service.mode == Mode::Nat);
    match (on, copies, nat) {
        (true, true, _) => Finding::warn(
            CHECK,
            "1: with port = \"af_packet\" the kernel gets a copy of each packet, and forwards it a second time",
            "sysctl -w net.ipv4.ip_forward=0",
        ),
        (true, false, _) => Finding::ok(CHECK, "1: what isn't Shunt's is forwarded by the kernel"),
        (false, _, true) => Finding::ok(
            CHECK,
            "0: Shunt needs no more; back-ends that use this machine as their router reach Shunt's clients only",
        ),
        (false, ..) => Finding::ok(CHECK, "0: Shunt needs no more"),
    }
}

/// The kernel takes the larger of the two values (Documentation/networking/ip-sysctl).
fn reverse_path(files: &Files, interface: &str) -> Option<Finding> {
    const CHECK: &str = "rp-filter";
    let value = |name: &str| files.number(&format!("proc/sys/net/ipv4/conf/{name}/rp_filter"));
    let finding = match value(interface)?.max(value("all")?) {
        1 => Finding::warn(
            CHECK,
            "1: answers to health checks are dropped where the way back isn't the way there",
            format!(
                "if health checks fail: sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{interface}.rp_filter=2"
            ),
        ),
        value => Finding::ok(CHECK, value.to_string()),
    };
    Some(finding.of(interface))
}

fn local_addresses() -> BTreeSet<IpAddr> {
    let all = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|inet| IpAddr::V4(inet.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|inet| IpAddr::V6(inet.ip())))
    };
    all.filter_map(address).collect()
}

fn service_addresses(config: &Config, local: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let addresses: BTreeSet<IpAddr> =
        config.services.iter().map(|service| service.address).map(|a: SocketAddr| a.ip()).collect();
    let judge = |address: IpAddr| {
        let finding = if local.contains(&address) {
            Finding::fail(
                "service-address",
                "this machine has it itself: its own services answer, and its ARP announces it",
                format!("ip address del {address}/PREFIX dev INTERFACE, or give the service another address"),
            )
        } else {
            Finding::ok("service-address", "not an address of this machine")
        };
        finding.of(address.to_string())
    };
    addresses.into_iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn config() -> Config {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/nat.toml")).unwrap();
        Config::parse(&text, "nat.toml").unwrap()
    }

    #[test]
    fn a_service_address_of_this_machine_fails() {
        let local = BTreeSet::from(["198.18.0.100".parse().unwrap()]);
        assert_eq!(service_addresses(&config(), &local)[0].level, Level::Fail);
        assert_eq!(service_addresses(&config(), &BTreeSet::new())[0].level, Level::Ok);
    }

    #[test]
    fn forwarding_hurts_only_where_the_kernel_gets_copies() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/sys/net/ipv4")).unwrap();
        std::fs::write(root.path().join("proc/sys/net/ipv4/ip_forward"), "1\n").unwrap();
        let files = Files::below(root.path());
        let mut config = config();
        assert_eq!(forwarding(&files, &config).level, Level::Ok);
        config.interfaces[0].port = PortKind::AfPacket;
        assert_eq!(forwarding(&files, &config).level, Level::Warn);
    }

    #[test]
    fn the_larger_reverse_path_filter_counts() {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in [("all", "2"), ("eth0", "1"), ("eth1", "0")] {
            let directory = root.path().join("proc/sys/net/ipv4/conf").join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("rp_filter"), value).unwrap();
        }
        let files = Files::below(root.path());
        assert_eq!(reverse_path(&files, "eth0").unwrap().text, "2");
        std::fs::write(root.path().join("proc/sys/net/ipv4/conf/all/rp_filter"), "0").unwrap();
        assert_eq!(reverse_path(&files, "eth0").unwrap().level, Level::Warn);
        assert_eq!(reverse_path(&files, "eth1").unwrap().level, Level::Ok);
        assert_eq!(reverse_path(&files, "eth9"), None);
    }
}
