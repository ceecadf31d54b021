//! Checks everything that could prevent a start, before anything is changed, and reports all problems at once.

use std::collections::BTreeSet;
use std::path::Path;

use nix::unistd::geteuid;
use shunt_config::{Config, Host, Interface, MTU_MAX, PortKind, Problem};
use shunt_instances::{addresses_beside, own_addresses, pinned_cpus};
use shunt_process::{AccountError, Instance, find_account};
use shunt_shmlayout::address::Address;

use super::system::{self, NetworkInterface};
use super::{KeeperError, plan};
use shunt_shmlayout::frames::{CHUNK, HEADROOM};

const CPUS: &str = "/sys/devices/system/cpu";
/// Bytes of an Ethernet header with two VLAN tags.
const ETHERNET: u64 = 14 + 8;
const _: () = assert!(MTU_MAX as u64 == CHUNK - HEADROOM - ETHERNET);

/// What the checks found out.
pub(super) struct Facts {
    /// The interfaces, in the configuration's order.
    pub interfaces: Vec<NetworkInterface>,
    /// CPU number of each switcher.
    pub cpus: Vec<u32>,
    /// Number of the box's own addresses.
    pub addresses: u32,
}

/// The keeper needs root.
pub(super) fn require_root() -> Result<(), KeeperError> {
    if geteuid().is_root() {
        return Ok(());
    }
    let problem =
        "shunt-keeper must run as root: it opens raw sockets and loads an XDP program (sudo shunt-keeper ...)";
    Err(KeeperError::Problems(vec![problem.into()]))
}

/// Runs all checks. With living switchers that need this keeper, problems that resolve themselves, or that the operator can
/// resolve while packets flow, are only warnings.
pub(super) fn check(config: &Config, is_needed: bool) -> Result<Facts, KeeperError> {
    let mut problems = Vec::new();
    let mut passing = Vec::new();
    let interfaces: Vec<_> =
        config.interfaces.iter().map(|one| check_interface(config, one, &mut problems, &mut passing)).collect();
    let cpus = config.switchers.cpus.choose().unwrap_or_else(|error| {
        problems.push(blame(config, "switchers", &error.to_string()));
        Vec::new()
    });
    problems.extend(cpus.iter().filter_map(|cpu| check_cpu(config, Path::new(CPUS), *cpu)));
    let shared = shared_cpus(config, &cpus, &pinned_cpus(&config.instance));
    shared.iter().for_each(|problem| log::warn!("{problem}"));
    // Addresses that other instances serve are reported by the claims.
    let local = own_or_none(addresses_beside(config), is_needed)?;
    passing.extend(check_addresses(config, &local));
    problems.extend(check_account(config, find_account(&config.user).err()));
    check_pinned_memory(config, &mut problems);
    passing.extend(config.host.as_ref().and_then(|host| check_mtu(config, host, &interfaces)));
    let interfaces: Vec<_> = interfaces.into_iter().flatten().collect();
    report(&mut problems, passing, is_needed);
    if problems.is_empty() {
        problems.extend(plan::check(config, &interfaces));
    }
    if problems.is_empty() {
        Ok(Facts { interfaces, cpus, addresses: local.len() as u32 })
    } else {
        Err(KeeperError::Problems(problems))
    }
}

/// Without the list, a first start fails and is retried; a restart beside running switchers skips the check.
fn own_or_none(local: std::io::Result<BTreeSet<Address>>, is_needed: bool) -> Result<BTreeSet<Address>, KeeperError> {
    local.or_else(|error| match is_needed {
        true => {
            log::warn!("the box's own addresses: {error}; going on, because switchers run");
            Ok(BTreeSet::new())
        }
        false => Err(super::system_error("the box's own addresses")(error)),
    })
}

/// Reports transient problems: errors at a first start, warnings while switchers run.
fn report(problems: &mut Vec<String>, passing: Vec<String>, is_needed: bool) {
    if is_needed {
        passing.iter().for_each(|problem| log::warn!("{problem}; going on, because switchers run"));
    } else {
        problems.extend(passing);
    }
}

/// A failed look-up is only a warning: each switcher repeats it.
fn check_account(config: &Config, fault: Option<AccountError>) -> Option<String> {
    let fault = fault?;
    let problem = blame(config, "user", &fault.to_string());
    match fault {
        AccountError::Missing(_) => Some(problem),
        AccountError::LookUp { .. } => {
            log::warn!("{problem}");
            None
        }
    }
}

/// A problem at the line of the configuration that has the field.
fn blame(config: &Config, field: &str, sentence: &str) -> String {
    config.source.problem(field, sentence).to_string()
}

fn check_interface(
    config: &Config,
    interface: &Interface,
    problems: &mut Vec<String>,
    passing: &mut Vec<String>,
) -> Option<NetworkInterface> {
    let name = &interface.name;
    let blame = |sentence: &str| blame(config, &format!("interface.{name}"), sentence);
    let mut refuse = |sentence: &str| passing.push(blame(sentence));
    let Some(found) = NetworkInterface::find(name) else {
        problems.push(blame("there is no Ethernet interface of this name; correct it (ip link lists those there are)"));
        return None;
    };
    if !found.is_up {
        refuse(&format!("it is down; set it up: ip link set dev {name} up"));
    }
    if found.mtu > MTU_MAX {
        refuse(&format!("its MTU is {}, frames hold {MTU_MAX}; ip link set dev {name} mtu 1500", found.mtu));
    }
    if interface.port == PortKind::AfPacket {
        passing.extend(check_packet_copies(config, name, &found));
    }
    Some(found)
}

/// AF_PACKET only copies packets: a kernel that forwards would forward the same packets as Shunt, and a box with the
/// pseudo-interface's addresses would receive its programs' packets on both paths. Strict reverse-path filtering drops the
/// copies that arrive on the wrong interface.
pub(super) fn check_packet_copies(config: &Config, name: &str, interface: &NetworkInterface) -> Vec<String> {
    let forwards = interface.forwards.then(|| {
        format!(
            "AF_PACKET uses it and the kernel forwards there, so each packet would be sent twice; \
             sysctl -w net.ipv4.conf.{name}.forwarding=0, or use AF_XDP"
        )
    });
    let twice = (config.host.is_some() && !interface.filters_reverse_path).then(|| {
        format!(
            "AF_PACKET uses it and [host] is configured, so the box would get each packet twice; \
             sysctl -w net.ipv4.conf.{name}.rp_filter=1 (and net.ipv4.conf.all.rp_filter no 2), or use AF_XDP"
        )
    });
    let blame = |sentence: String| blame(config, &format!("interface.{name}"), &sentence);
    forwards.into_iter().chain(twice).map(blame).collect()
}

/// Packets of this size that the box sends must fit through every interface. `found` is in the configuration's order,
/// `None` where an interface does not exist.
fn check_mtu(config: &Config, host: &Host, found: &[Option<NetworkInterface>]) -> Option<String> {
    let mtu = u32::from(host.mtu?);
    let all =
        config.interfaces.iter().zip(found).filter_map(|(interface, found)| Some((interface, found.as_ref()?.mtu)));
    let (interface, most) = all.into_iter().find(|(_, mtu_of_it)| *mtu_of_it < mtu)?;
    let name = &interface.name;
    let sentence =
        format!("is {mtu}, interface {name} sends packets of {most} bytes at most; lower it, or leave it out");
    Some(blame(config, "host.mtu", &sentence))
}

/// `cpus` is the kernel's CPU directory, which lists offline CPUs too. Many kernels have no switch for CPU 0.
fn check_cpu(config: &Config, cpus: &Path, cpu: u32) -> Option<String> {
    let folder = cpus.join(format!("cpu{cpu}"));
    let sentence = if !folder.exists() {
        format!("names CPU {cpu}, which this machine doesn't have; lscpu lists those there are")
    } else if std::fs::read_to_string(folder.join("online")).is_ok_and(|text| text.trim() == "0") {
        format!("names CPU {cpu}, which is offline; set it online (chcpu -e {cpu}), or name another one (lscpu)")
    } else {
        return None;
    };
    Some(blame(config, "switchers.cpus", &sentence))
}

/// Warns of CPUs that switchers of other instances share: both run, but slower.
fn shared_cpus(config: &Config, cpus: &[u32], pinned: &[(u32, Instance)]) -> Vec<String> {
    let shared = pinned.iter().filter(|(cpu, _)| cpus.contains(cpu)).map(|(cpu, other)| {
        let sentence = format!(
            "a switcher of instance \"{other}\" runs on CPU {cpu}, too: each has a part of it, and packets wait for their \
             turn; name other CPUs in switchers.cpus of one of them"
        );
        blame(config, "switchers.cpus", &sentence)
    });
    shared.collect()
}

fn check_addresses(config: &Config, local: &BTreeSet<Address>) -> Vec<String> {
    own_addresses(config, local).iter().map(Problem::to_string).collect()
}

fn check_pinned_memory(config: &Config, problems: &mut Vec<String>) {
    let needed = u64::from(config.limits.frames) * CHUNK * config.switchers.cpus.count() as u64;
    if let Some(limit) = system::pinned_memory_limit()
        && limit < needed
    {
        let sentence = format!(
            "they need {needed} bytes of locked memory, the limit is {limit}; ulimit -l unlimited, or lower it"
        );
        problems.push(blame(config, "limits.frames", &sentence));
    }
}

/// Checks that /dev/shm has room for `needed` bytes, counting what the keeper is about to free.
pub(super) fn check_shared_memory(needed: u64, reclaimable: u64) -> Result<(), KeeperError> {
    let free = system::shared_memory_free().map_err(super::system_error("/dev/shm"))?;
    let free = free.saturating_add(reclaimable);
    if needed <= free {
        return Ok(());
    }
    Err(KeeperError::Problems(vec![format!(
        "shared memory needs {needed} bytes, /dev/shm has {free}: mount -o remount,size=... /dev/shm, or lower limits.connections"
    )]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
        [switchers]
        cpus = [0]
        [[interface]]
        name = \"lo\"
        port = \"af_packet\"
        [[service]]
        name = \"web\"
        address = \"198.18.0.100:80\"
        protocol = \"tcp\"
        mode = \"nat\"
        [[service.backend]]
        name = \"b1\"
        address = \"198.18.1.11:80\"
    ";

    #[test]
    fn a_failed_list_of_own_addresses_stops_only_a_first_start() {
        let failed = || Err(std::io::ErrorKind::Interrupted.into());
        assert_eq!(own_or_none(failed(), true).expect("switchers run"), BTreeSet::new());
        let error = own_or_none(failed(), false).expect_err("nothing was checked");
        assert!(matches!(error, KeeperError::System { .. }), "{error}: the next start may succeed");
    }

    #[test]
    fn a_failed_account_look_up_does_not_stop_the_start() {
        let config = Config::parse(CONFIG, "test.toml").expect("a good configuration");
        assert!(check_account(&config, Some(AccountError::Missing("x".into()))).is_some());
        let unknown = AccountError::LookUp { name: "x".into(), error: nix::Error::EIO };
        assert_eq!(check_account(&config, Some(unknown)), None);
    }

    #[test]
    fn reclaimable_memory_counts_as_free() {
        assert!(check_shared_memory(1 << 60, 0).is_err());
        assert!(check_shared_memory(1 << 60, 1 << 60).is_ok());
    }

    #[test]
    fn own_address_as_a_service_is_refused_by_name() {
        let config = Config::parse(CONFIG, "test.toml").expect("a good configuration");
        let local = [Address::from_v4([198, 18, 0, 100])].into();
        let problems = check_addresses(&config, &local);
        assert!(
            problems[0].starts_with("test.toml:9: service.web.address: 198.18.0.100 is an address of this machine"),
            "{problems:?}"
        );
        assert!(check_addresses(&config, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn forwarding_beside_af_packet_is_refused_with_the_remedy() {
        let config = |host: &str| Config::parse(&format!("{CONFIG}{host}"), "test.toml").expect("a good configuration");
        let (without, with) = (config(""), config("[host]\naddresses = [\"198.18.0.101\"]\n"));
        let mut interface = interface();
        assert!(check_packet_copies(&with, "lo", &interface).is_empty());
        interface.forwards = true;
        let said = &check_packet_copies(&with, "lo", &interface)[0];
        assert!(said.starts_with("test.toml:4: interface.lo: ") && said.contains("conf.lo.forwarding=0"), "{said}");
        interface.filters_reverse_path = false;
        assert!(check_packet_copies(&with, "lo", &interface)[1].contains("conf.lo.rp_filter=1"));
        assert_eq!(check_packet_copies(&without, "lo", &interface).len(), 1);
    }

    fn interface() -> NetworkInterface {
        let (index, mac, mtu, queues) = (2, [2; 6], 1500, 1);
        NetworkInterface { index, mac, mtu, queues, is_up: true, forwards: false, filters_reverse_path: true }
    }

    #[test]
    fn host_s_address_elsewhere_and_its_mtu_too_large_are_refused() {
        let host = "[host]\ndevice = \"shunt0\"\naddresses = [\"198.18.0.101\"]\nmtu = 1600\n";
        let config = Config::parse(&format!("{CONFIG}{host}"), "test.toml").expect("a good configuration");
        let problems = check_addresses(&config, &[Address::from_v4([198, 18, 0, 101])].into());
        let said = "test.toml:17: host.addresses: 198.18.0.101 is an address of this machine";
        assert!(problems[0].starts_with(said), "{problems:?}");
        let host = config.host.as_ref().expect("a host");
        let problem = check_mtu(&config, host, &[Some(interface())]).expect("a problem");
        assert!(
            problem.starts_with("test.toml:18: host.mtu: is 1600, interface lo sends packets of 1500"),
            "{problem}"
        );
        let fitting = NetworkInterface { mtu: 1600, ..interface() };
        assert_eq!(check_mtu(&config, host, &[Some(fitting)]), None);
        assert_eq!(check_mtu(&config, host, &[None]), None, "a missing one is told elsewhere");
    }

    #[test]
    fn an_interface_s_mtu_is_its_own_where_the_one_before_it_is_missing() {
        let text = CONFIG.replace("[[service]]", "[[interface]]\nname = \"second\"\n[[service]]");
        let host = "[host]\ndevice = \"shunt0\"\naddresses = [\"198.18.0.101\"]\nmtu = 1600\n";
        let config = Config::parse(&format!("{text}{host}"), "test.toml").expect("a good configuration");
        let problem = check_mtu(&config, config.host.as_ref().expect("a host"), &[None, Some(interface())]);
        assert!(problem.as_ref().is_some_and(|problem| problem.contains("interface second sends")), "{problem:?}");
    }

    #[test]
    fn a_cpu_that_is_offline_is_told_apart_from_one_that_is_missing() {
        let config = Config::parse(CONFIG, "test.toml").expect("a good configuration");
        let cpus = tempfile::tempdir().expect("a folder");
        for (cpu, online) in [(0, None), (1, Some("1\n")), (2, Some("0\n"))] {
            let folder = cpus.path().join(format!("cpu{cpu}"));
            std::fs::create_dir(&folder).expect("a folder");
            if let Some(text) = online {
                std::fs::write(folder.join("online"), text).expect("written");
            }
        }
        let said = |cpu| check_cpu(&config, cpus.path(), cpu);
        assert_eq!((said(0), said(1)), (None, None));
        assert!(said(2).is_some_and(|text| text.contains("CPU 2, which is offline; set it online (chcpu -e 2)")));
        assert!(said(3).is_some_and(|text| text.contains("CPU 3, which this machine doesn't have")));
    }

    #[test]
    fn a_cpu_of_two_instances_is_told_with_the_other_one() {
        let config = Config::parse(CONFIG, "test.toml").expect("a good configuration");
        let pinned = [(0, "lab".parse().expect("a name")), (1, "other".parse().expect("a name"))];
        let [said] = <[String; 1]>::try_from(shared_cpus(&config, &[0], &pinned)).expect("one");
        let begin = "test.toml:3: switchers.cpus: a switcher of instance \"lab\" runs on CPU 0, too: ";
        assert!(said.starts_with(begin), "{said}");
    }

    #[test]
    fn what_passes_is_no_refusal_while_switchers_run() {
        let config = Config::parse(CONFIG, "test.toml").expect("a good configuration");
        let passing = || check_addresses(&config, &[Address::from_v4([198, 18, 0, 100])].into());
        let mut problems = Vec::new();
        report(&mut problems, passing(), true);
        assert_eq!(problems, Vec::<String>::new());
        report(&mut problems, passing(), false);
        assert_eq!(problems, passing());
    }

    #[test]
    fn missing_interface_and_missing_user_are_told_together() {
        let text = CONFIG.replace("\"lo\"", "\"no-such-if\"").replace("cpus = [0]", "cpus = [1023]");
        let config = Config::parse(&format!("user = \"no-such-user\"\n{text}"), "test.toml").expect("a good one");
        let Err(KeeperError::Problems(problems)) = check(&config, true) else { panic!("not refused") };
        let all = problems.join("\n");
        for part in [
            "test.toml:5: interface.no-such-if: there is no Ethernet interface of this name; ",
            "test.toml:1: user: there is no account \"no-such-user\"; ",
            "test.toml:4: switchers.cpus: names CPU 1023, ",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
    }
}
