//! Checks each configured interface: existence, link state, suitability for XDP, and exclusive use.

use super::files::Files;
use super::finding::Finding;
use super::link;
use super::system::Ethtool;
use crate::format::duration;
use crate::views::{REPLACED, START_ANEW, UNFILLED_RECENT_MS, fill_checksums};
use shunt_config::{Config, Interface, MTU_MAX, PortKind, XdpMode};
use shunt_instances::Other;
use shunt_process::{Instance, region_name};
use shunt_shmlayout::access::Reader;
use shunt_shmlayout::clock::now_ms as monotonic_ms;
use shunt_shmlayout::regions::{KeeperRegion, PortKind as OpenKind, SwitcherRegion, Typed};
use std::io;

/// Drivers without zero-copy.
const COPYING: [&str; 4] = ["veth", "bridge", "tun", "dummy"];
const IFF_UP: u64 = 1;

/// Properties of an interface.
struct Facts<'a> {
    interface: &'a Interface,
    up: bool,
    carrier: bool,
    mtu: u64,
    driver: String,
    queues: u32,
    /// Offloads that are on.
    features: Vec<String>,
}

/// Checks one interface.
pub fn examine(files: &Files, config: &Config, interface: &Interface) -> Vec<Finding> {
    let subject = |finding: Finding| finding.of(&*interface.name);
    let Some(ifindex) = files.number(&format!("sys/class/net/{}/ifindex", interface.name)) else {
        let mend = "correct interface.name (ip link lists those there are), or create it before Shunt starts";
        return vec![subject(Finding::fail("interface", "there is none of this name", mend))];
    };
    let facts = Facts::read(files, interface);
    let mut findings = vec![facts.state(), facts.mode(), facts.size(), facts.sharing(config.switchers.cpus.count())];
    findings.extend(facts.offloads());
    findings.extend(usage(config, interface, ifindex as u32));
    findings.into_iter().map(subject).collect()
}

/// The use of it by this instance or another.
fn usage(config: &Config, interface: &Interface, ifindex: u32) -> Vec<Finding> {
    let instance = &config.instance;
    let own = Own::of(instance, &interface.name, ifindex);
    let unfilled = own.id().map(|id| unfilled_age_ms(instance, id, monotonic_ms()));
    let other = Other::living(instance).find(|other| other.has_interface(ifindex));
    let program = match (other, own) {
        (Some(other), _) => Some(used(&interface.name, &other.instance)),
        (None, Own::Replaced) => Some(Finding::fail("interface", REPLACED, START_ANEW)),
        (None, _) if interface.port == PortKind::AfPacket => None,
        (None, own) => Some(program(link::xdp_program(ifindex), own)),
    };
    [checksums(&interface.name, unfilled)].into_iter().chain(program).collect()
}

/// How the instance uses an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// Not at all: it does not run here, or not with this interface.
    Nothing,
    /// An earlier interface of the same name.
    Replaced,
    /// The interface with this id, by AF_PACKET only.
    Packet(usize),
    /// The interface with this id, by AF_XDP.
    Xdp(usize),
}

impl Own {
    fn of(instance: &Instance, name: &str, ifindex: u32) -> Self {
        match KeeperRegion::<Reader>::attach(&region_name(instance, "keeper")) {
            Ok((keeper, _)) if keeper.lives_here() => Self::in_region(&keeper, name, ifindex),
            _ => Self::Nothing,
        }
    }

    fn in_region(keeper: &KeeperRegion, name: &str, ifindex: u32) -> Self {
        let Some((id, record)) = keeper.interfaces().find(|(_, record)| record.name.to_string() == name) else {
            return Self::Nothing;
        };
        if record.ifindex != ifindex {
            return Self::Replaced;
        }
        let has_xdp = keeper.ports().any(|port| port.interface == id && port.kind() == Some(OpenKind::AfXdp));
        if has_xdp { Self::Xdp(id.into()) } else { Self::Packet(id.into()) }
    }

    fn id(self) -> Option<usize> {
        match self {
            Self::Xdp(id) | Self::Packet(id) => Some(id),
            Self::Nothing | Self::Replaced => None,
        }
    }
}

impl<'a> Facts<'a> {
    fn read(files: &Files, interface: &'a Interface) -> Self {
        let path = |name: &str| format!("sys/class/net/{}/{name}", interface.name);
        let flags =
            files.text(&path("flags")).and_then(|hex| u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
        let ethtool = Ethtool::open(&interface.name);
        let receiving = files.list(&path("queues")).iter().filter(|name| name.starts_with("rx-")).count() as u32;
        Self {
            interface,
            up: flags.is_some_and(|flags| flags & IFF_UP != 0),
            carrier: files.number(&path("carrier")) == Some(1),
            mtu: files.number(&path("mtu")).unwrap_or(0),
            driver: ethtool.as_ref().and_then(Ethtool::driver).unwrap_or_else(|| "unknown".to_owned()),
            queues: ethtool.as_ref().and_then(Ethtool::receive_channels).unwrap_or(receiving).max(1),
            features: ethtool.as_ref().and_then(Ethtool::active_features).unwrap_or_default(),
        }
    }

    fn state(&self) -> Finding {
        let name = &self.interface.name;
        match (self.up, self.carrier) {
            (true, true) => Finding::ok("interface", format!("up, driver {}", self.driver)),
            (true, false) => {
                Finding::warn("interface", "up, but without carrier", "look at the cable, or the other end")
            }
            (false, _) => Finding::fail("interface", "down", format!("ip link set {name} up")),
        }
    }

    fn mode(&self) -> Finding {
        let copying = COPYING.contains(&self.driver.as_str());
        match (self.interface.port, self.interface.mode) {
            (PortKind::AfPacket, _) => Finding::ok("mode", "af_packet, as configured: about half of AF_XDP's rate"),
            (_, XdpMode::ZeroCopy) if copying => Finding::fail(
                "mode",
                format!("driver {} has no zero-copy", self.driver),
                "set the interface's mode to \"native-copy\" or \"auto\"",
            ),
            _ if copying => Finding::ok("mode", format!("driver {}: the kernel copies each packet", self.driver)),
            _ => Finding::ok("mode", format!("driver {}; `shunt status` says which mode it gave", self.driver)),
        }
    }

    fn size(&self) -> Finding {
        if self.mtu > u64::from(MTU_MAX) {
            let name = &self.interface.name;
            let text =
                format!("{}: larger frames than {MTU_MAX} bytes and headers don't fit a frame of 2048", self.mtu);
            return Finding::fail("mtu", text, format!("ip link set {name} mtu 1500"));
        }
        Finding::ok("mtu", self.mtu.to_string())
    }

    fn sharing(&self, switchers: usize) -> Finding {
        let text = format!("{} queues for {switchers} switchers", self.queues);
        if (self.queues as usize) < switchers {
            let mend = format!(
                "ethtool -L {} combined {switchers}, if it can have them; else switchers without a queue only send by it",
                self.interface.name
            );
            return Finding::warn("queues", text, mend);
        }
        Finding::ok("queues", text)
    }

    /// Offloads that merge packets.
    fn offloads(&self) -> Vec<Finding> {
        let name = &self.interface.name;
        let on = |feature: &str| self.features.iter().any(|active| active == feature);
        let mut findings = Vec::new();
        let merging = [("rx-lro", "lro", true), ("rx-gro-hw", "rx-gro-hw", true), ("rx-gro", "gro", false)];
        for (feature, option, always) in merging {
            // Generic receive offload comes after XDP, but before AF_PACKET.
            if on(feature) && (always || self.interface.port == PortKind::AfPacket) {
                let text = format!("{feature} is on: merged packets are larger than the way out takes");
                findings.push(Finding::warn("offload", text, format!("ethtool -K {name} {option} off")));
            }
        }
        if findings.is_empty() {
            findings.push(Finding::ok("offload", "none that merges packets"));
        }
        findings
    }
}

/// The age of the last packet with an unfilled checksum that the instance's switchers received on an interface.
fn unfilled_age_ms(instance: &Instance, id: usize, now_ms: u64) -> Option<u64> {
    let attach = |n: usize| SwitcherRegion::<Reader>::attach(&region_name(instance, &format!("switcher.{n}"))).ok();
    let switchers = (0..).map_while(attach);
    let last_ms = switchers.filter_map(|(region, _)| Some(region.interfaces.get(id)?.unfilled_ms.get())).max()?;
    (last_ms != 0).then(|| now_ms.saturating_sub(last_ms))
}

/// Only packets reveal it: the offload is set at a veth's other end, mostly in another network namespace. `seen` is `None`
/// while the instance does not run, otherwise the age of the last such packet.
fn checksums(interface: &str, seen: Option<Option<u64>>) -> Finding {
    const CHECK: &str = "checksums";
    match seen {
        Some(Some(age_ms)) if age_ms < UNFILLED_RECENT_MS => {
            let age = duration(age_ms);
            let text =
                format!("packets come in without a transport checksum, the last one {age} ago: they are dropped");
            Finding::warn(CHECK, text, fill_checksums(interface))
        }
        Some(_) => Finding::ok(CHECK, "no packet without one came in during the last minute"),
        None => Finding::ok(CHECK, "whether packets come in with them is seen once Shunt runs"),
    }
}

/// The program belongs to that instance and must not be detached.
fn used(interface: &str, other: &Instance) -> Finding {
    let text = format!("interface {interface} is used by instance \"{other}\"");
    Finding::fail("instance", text, "stop that instance, or name another interface")
}

/// Pins cannot be checked: the keeper's bpffs is mounted in its own mount namespace.
fn program(attached: io::Result<Option<u32>>, own: Own) -> Finding {
    const CHECK: &str = "xdp";
    match (attached, own) {
        (Ok(None), Own::Xdp(_)) => {
            let text = "this instance's program was detached: the kernel gets all packets, and no service any";
            Finding::fail(CHECK, text, "stop Shunt and start it again: it attaches its program at its start")
        }
        (Ok(None), Own::Packet(_)) => Finding::ok(CHECK, "no program is attached: this instance uses AF_PACKET here"),
        (Ok(None), _) => {
            Finding::ok(CHECK, "no other program is in the way; whether the driver takes Shunt's is seen at the start")
        }
        (Ok(Some(id)), Own::Xdp(_)) => Finding::ok(CHECK, format!("program {id} is attached, by this instance")),
        (Ok(Some(id)), _) => Finding::fail(
            CHECK,
            format!("program {id} is attached, which no running instance of Shunt has"),
            "bpftool net shows whose; detach it (ip link set INTERFACE xdp off), or use port = \"af_packet\"",
        ),
        (Err(error), _) => Finding::warn(
            CHECK,
            format!("the kernel does not report it: {error}"),
            "bpftool net shows what is attached",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use shunt_config::Side;
    use shunt_shmlayout::config_table::Name;
    use shunt_shmlayout::map::Region;
    use shunt_shmlayout::regions::Whole;
    use shunt_shmlayout::regions::{InterfaceRecord, KeeperShape, PortRecord, SwitcherShape};

    fn interface() -> Interface {
        Interface {
            name: "eth0".into(),
            side: Side::Both,
            port: PortKind::Auto,
            mode: XdpMode::Auto,
            busy_poll: true,
            queues: [(0, 0), (3, 0)].into(),
        }
    }

    fn facts(interface: &Interface) -> Facts<'_> {
        Facts { interface, up: true, carrier: true, mtu: 1500, driver: "veth".into(), queues: 2, features: Vec::new() }
    }

    #[test]
    fn a_sound_interface_has_nothing_against_it() {
        let interface = interface();
        let facts = Facts { driver: "ice".into(), ..facts(&interface) };
        let findings = [facts.state(), facts.mode(), facts.size(), facts.sharing(2)];
        assert!(findings.iter().chain(&facts.offloads()).all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn faults_of_an_interface_are_reported() {
        let interface = Interface { mode: XdpMode::ZeroCopy, ..interface() };
        let facts = Facts { up: false, mtu: 9000, features: vec!["rx-lro".into()], ..facts(&interface) };
        assert_eq!(facts.state().level, Level::Fail);
        assert_eq!(facts.mode().level, Level::Fail);
        assert_eq!(facts.size().level, Level::Fail);
        assert_eq!(facts.sharing(3).level, Level::Warn);
        assert_eq!(facts.offloads()[0].level, Level::Warn);
    }

    #[test]
    fn merging_by_the_kernel_hurts_af_packet_only() {
        let mut interface = interface();
        let merges = |interface: &Interface| {
            let facts = Facts { driver: "ice".into(), features: vec!["rx-gro".into()], ..facts(interface) };
            facts.offloads()[0].level
        };
        assert_eq!(merges(&interface), Level::Ok);
        interface.port = PortKind::AfPacket;
        assert_eq!(merges(&interface), Level::Warn);
    }

    #[test]
    fn a_program_is_in_the_way_unless_the_instance_has_the_interface() {
        let level = |attached, own| program(Ok(attached), own).level;
        assert_eq!(level(Some(7), Own::Nothing), Level::Fail);
        assert_eq!(level(Some(7), Own::Packet(0)), Level::Fail);
        assert_eq!(level(Some(7), Own::Xdp(0)), Level::Ok);
        assert_eq!(level(None, Own::Nothing), Level::Ok);
        assert_eq!(level(None, Own::Packet(0)), Level::Ok);
    }

    #[test]
    fn an_instance_without_its_program_is_reported_with_the_remedy() {
        let detached = program(Ok(None), Own::Xdp(0));
        assert_eq!(detached.level, Level::Fail);
        assert!(detached.mend.unwrap().starts_with("stop Shunt and start it again"));
    }

    #[test]
    fn the_interface_of_another_instance_is_told_by_its_name_and_its_program_left_alone() {
        let finding = used("eth0", &"edge".parse().unwrap());
        assert_eq!((finding.level, finding.check), (Level::Fail, "instance"));
        assert_eq!(
            format!("{}: {}", finding.text, finding.mend.unwrap()),
            "interface eth0 is used by instance \"edge\": stop that instance, or name another interface"
        );
    }

    #[test]
    fn unfilled_checksums_are_reported_while_recent() {
        let recent = checksums("eth0", Some(Some(1500)));
        assert_eq!(recent.level, Level::Warn);
        assert!(recent.text.contains("1.5s ago") && recent.mend.unwrap().contains("ethtool -K PEER tx off"));
        let sound = [Some(Some(UNFILLED_RECENT_MS)), Some(None), None].map(|seen| checksums("eth0", seen).level);
        assert_eq!(sound, [Level::Ok; 3]);
        let idle = checksums("eth0", Some(None));
        assert_eq!(idle.text, "no packet without one came in during the last minute", "perhaps none at all did");
    }

    #[test]
    fn the_switchers_regions_say_when_a_checksum_was_last_unfilled() {
        let instance: Instance = format!("t-{}-sums", std::process::id()).parse().unwrap();
        let shape = SwitcherShape { services: 1, backends: 1, interfaces: 2, frames: 1, reserved: [0; 4] };
        let names = [0, 1].map(|n| region_name(&instance, &format!("switcher.{n}")));
        let make = |name: &String| SwitcherRegion::create(name, &shape, |_| ()).map(|(region, _)| region);
        let made = names.each_ref().map(make);
        let [_, Ok(second)] = &made else { panic!("no memory") };
        second.interfaces[1].unfilled_ms.set(1000);
        let ages = [0, 1, 2].map(|id| unfilled_age_ms(&instance, id, 2500));
        names.iter().for_each(|name| Region::unlink(name).unwrap());
        assert_eq!(ages, [None, Some(1500), None]);
    }

    #[test]
    fn the_keepers_region_says_whose_an_interface_is() {
        let shape = KeeperShape { interfaces: 2, switchers: 1, ports: 1, reserved: [0; 5] };
        let keeper = KeeperRegion::anonymous(&shape).unwrap();
        for (id, interface) in ["eth0", "eth1"].into_iter().enumerate() {
            let (name, mac, reserved) = (Name::new(interface), [2, 0, 0, 0, 0, 1], [0; 17]);
            let ifindex = 7 + id as u32;
            keeper.interfaces[id].store(&InterfaceRecord { name, ifindex, mtu: 1500, mac, side: 3, reserved });
        }
        keeper.ports[0].store(&PortRecord { interface: 1, kind: OpenKind::AfXdp.code(), ..PortRecord::default() });
        let own = |name, ifindex| Own::in_region(&keeper.lend(), name, ifindex);
        assert_eq!([own("eth0", 7), own("eth1", 8)], [Own::Packet(0), Own::Xdp(1)]);
        assert_eq!([own("eth0", 9), own("eth2", 9)], [Own::Replaced, Own::Nothing]);
        assert_eq!(Own::of(&format!("t-{}-whose", std::process::id()).parse().unwrap(), "eth0", 7), Own::Nothing);
    }
}
