//! Checks how the kernel treats service packets: forwarding, filters, its own addresses.

use super::files::Files;
use super::finding::Finding;
use crate::views::{faulty_host, host_text};
use shunt_config::{Config, Interface, PortKind};
use shunt_instances::interfaces_beside;
use shunt_process::region_name;
use shunt_shmlayout::access::Reader;
use shunt_shmlayout::address::Address;
use shunt_shmlayout::regions::{KeeperRegion, Typed};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Runs the checks.
pub fn examine(files: &Files, config: &Config) -> Vec<Finding> {
    let mut findings = vec![forwarding(files, config)];
    findings.extend(config.interfaces.iter().filter_map(|interface| reverse_path(files, config, interface)));
    findings.extend(match interfaces_beside(config) {
        Ok(local) => addresses(config, &local),
        Err(error) => vec![Finding::warn(
            "service-address",
            format!("the machine's own addresses aren't known: {error}"),
            "run it as root, in the network namespace of Shunt",
        )],
    });
    findings.extend(pseudo_interface(config));
    findings
}

/// That of the instance while it runs; before, there is none.
fn pseudo_interface(config: &Config) -> Option<Finding> {
    const CHECK: &str = "pseudo-interface";
    config.host.as_ref()?;
    let (keeper, _) = KeeperRegion::<Reader>::attach(&region_name(&config.instance, "keeper")).ok()?;
    let faulty = faulty_host(&keeper, &shunt_routing::addresses().ok()?)?;
    let (text, mend) = host_text(&faulty);
    Some(Finding::fail(CHECK, text, mend).of(faulty.device))
}

/// The keeper refuses AF_PACKET if the kernel forwards packets that arrive on the same interface.
fn forwarding(files: &Files, config: &Config) -> Finding {
    const CHECK: &str = "ip-forward";
    let forwards = |interface: &Interface| {
        files.number(&format!("proc/sys/net/ipv4/conf/{}/forwarding", interface.name)) == Some(1)
    };
    let is_copied = |interface: &&Interface| interface.port == PortKind::AfPacket && forwards(interface);
    if let Some(interface) = config.interfaces.iter().find(is_copied) {
        let text = "1: with port = \"af_packet\" the kernel gets a copy of each packet, and forwards it a second time";
        let mend = format!("sysctl -w net.ipv4.conf.{}.forwarding=0, or use AF_XDP", interface.name);
        return Finding::fail(CHECK, text, mend).of(&*interface.name);
    }
    let rewritten = config.services.iter().any(|service| !service.mode.keeps_destination());
    match (files.number("proc/sys/net/ipv4/ip_forward") == Some(1), rewritten) {
        (true, _) => Finding::ok(CHECK, "1: what isn't Shunt's is forwarded by the kernel"),
        (false, true) => Finding::ok(
            CHECK,
            "0: Shunt needs no more; back-ends that use this machine as their router reach Shunt's clients only",
        ),
        (false, false) => Finding::ok(CHECK, "0: Shunt needs no more"),
    }
}

/// The kernel takes the larger of the two values (Documentation/networking/ip-sysctl).
fn reverse_path(files: &Files, config: &Config, interface: &Interface) -> Option<Finding> {
    const CHECK: &str = "rp-filter";
    let name = &interface.name;
    let value = |name: &str| files.number(&format!("proc/sys/net/ipv4/conf/{name}/rp_filter"));
    let value = value(name)?.max(value("all")?);
    // Only strict filtering drops the kernel's copies of packets to the pseudo-interface.
    let needs_strict = config.host.is_some() && interface.port == PortKind::AfPacket;
    let finding = match value {
        1 => Finding::ok(CHECK, "1: health checks pass where each back-end answers by the interface that leads to it"),
        value if needs_strict => Finding::fail(
            CHECK,
            format!("{value}: with [host] and port = \"af_packet\" the box would get each packet twice"),
            format!(
                "sysctl -w net.ipv4.conf.{name}.rp_filter=1 (and net.ipv4.conf.all.rp_filter not 2), or use AF_XDP"
            ),
        ),
        value => Finding::ok(CHECK, value.to_string()),
    };
    Some(finding.of(&**name))
}

/// Addresses of services and of the pseudo-interface; no other interface of the machine may have them.
fn addresses(config: &Config, local: &BTreeMap<Address, String>) -> Vec<Finding> {
    let services: BTreeSet<IpAddr> = config.services.iter().map(|service| service.address.ip()).collect();
    let hosts: BTreeSet<IpAddr> = config.host.iter().flat_map(|host| &host.addresses).map(|&a| a.into()).collect();
    let services = services.into_iter().map(|address| ("service-address", address));
    let hosts = hosts.into_iter().map(|address| ("host-address", address));
    let consequence = |check| match check {
        "service-address" => "whatever else uses it would be cut off",
        _ => "packets for it would not go through Shunt",
    };
    let judge = |(check, address): (&'static str, IpAddr)| {
        let finding = match local.get(&Address::from(address)) {
            Some(interface) => Finding::fail(
                check,
                format!(
                    "this machine has it on {interface}: a keeper refuses to start, because {}",
                    consequence(check)
                ),
                format!("ip address del {address} dev {interface}, or choose another address"),
            ),
            None => Finding::ok(check, "not an address of another interface"),
        };
        finding.of(address.to_string())
    };
    services.chain(hosts).map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn example(name: &str) -> Config {
        let path = format!("{}/../deploy/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        Config::load(std::path::Path::new(&path)).unwrap()
    }

    #[test]
    fn an_address_that_another_interface_has_fails() {
        let taken = BTreeMap::from([(Address::from_v4([198, 18, 0, 100]), "eth7".to_owned())]);
        let findings = addresses(&example("host.toml"), &taken);
        assert_eq!((findings[0].check, findings[0].level), ("service-address", Level::Fail));
        assert!(findings[0].text.contains("a keeper refuses to start, because whatever else"), "{findings:?}");
        assert!(findings[0].mend.as_ref().unwrap().contains("del 198.18.0.100 dev eth7"), "{findings:?}");
        assert_eq!((findings[1].check, findings[1].level), ("host-address", Level::Ok));
        let findings = addresses(&example("host.toml"), &BTreeMap::new());
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }

    fn sysctls(values: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in values {
            let path = root.path().join("proc/sys/net/ipv4").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        }
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn forwarding_hurts_only_where_the_kernel_gets_copies() {
        let (_root, files) =
            sysctls(&[("ip_forward", "1"), ("conf/eth0/forwarding", "0"), ("conf/eth1/forwarding", "1")]);
        let mut config = example("nat.toml");
        assert_eq!(forwarding(&files, &config).level, Level::Ok);
        config.interfaces[0].port = PortKind::AfPacket;
        assert_eq!(forwarding(&files, &config).level, Level::Ok, "eth0 doesn't forward");
        config.interfaces[1].port = PortKind::AfPacket;
        assert_eq!(forwarding(&files, &config).level, Level::Fail);
    }

    #[test]
    fn the_larger_reverse_path_filter_counts() {
        let (_root, files) = sysctls(&[("conf/all/rp_filter", "2"), ("conf/eth0/rp_filter", "1")]);
        let config = example("host.toml");
        let [eth0, eth1] = &config.interfaces[..] else { panic!("two interfaces") };
        assert_eq!(reverse_path(&files, &config, eth0).unwrap().text, "2");
        assert_eq!(reverse_path(&files, &config, eth1), None);
    }

    #[test]
    fn only_packets_that_the_kernel_gets_twice_need_a_strict_filter() {
        let mut config = example("host.toml");
        let level = |value, config: &Config| {
            let (_root, files) = sysctls(&[("conf/all/rp_filter", "0"), ("conf/eth0/rp_filter", value)]);
            reverse_path(&files, config, &config.interfaces[0]).unwrap().level
        };
        assert_eq!((level("0", &config), level("1", &config)), (Level::Ok, Level::Ok));
        config.interfaces[0].port = PortKind::AfPacket;
        assert_eq!((level("0", &config), level("1", &config)), (Level::Fail, Level::Ok));
    }
}
