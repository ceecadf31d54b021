//! The pseudo-interface: its device, addresses and rules through the lives of keeper and interface daemon. This test plays
//! control and the daemon.

use super::*;
use shunt_protocol::handover::ifdaemon::{self, DEVICE_DESCRIPTOR};

const DEVICE: &str = "shunt-host";
const HOST: [u8; 4] = [198, 18, 0, 150];
const SHARED: [u8; 4] = [198, 18, 0, 151];

fn ip(instance: &Instance, arguments: &str) -> String {
    let output =
        Command::new("ip").args(["-n", &instance.lab.lb]).args(arguments.split(' ')).output().expect("ip runs");
    String::from_utf8(output.stdout).expect("text")
}

/// An instance whose configuration has a pseudo-interface.
fn with_host(name: &str) -> Option<Instance> {
    let instance = Instance::new(name, "af_xdp", SERVICE)?;
    let text = std::fs::read_to_string(instance.config.path()).expect("the configuration");
    let host =
        format!("[host]\ndevice = \"{DEVICE}\"\naddresses = [\"198.18.0.150\"]\nroutes = [\"198.18.64.0/24\"]\n");
    std::fs::write(instance.config.path(), format!("{text}{host}")).expect("written");
    Some(instance)
}

fn index(instance: &Instance) -> u32 {
    lab::inside(&instance.lab.lb, || nix::net::if_::if_nametoindex(DEVICE)).expect("the device")
}

#[test]
fn pseudo_interface_lives_as_long_as_keeper_or_daemon() {
    let Some(instance) = with_host("host") else { return };
    let keeper = instance.start();
    let addresses = ip(&instance, "-o address show dev shunt-host");
    assert!(addresses.contains("198.18.0.150/32") && !addresses.contains("inet6"), "{addresses}");
    let rules = ip(&instance, "rule");
    assert!(rules.contains("from 198.18.0.150 lookup 70"), "{rules}");
    assert!(rules.contains("from 0.0.0.0 to 198.18.64.0/24 lookup 70"), "{rules}");
    let unbound = ip(&instance, "route get 198.18.64.7");
    assert!(unbound.contains("dev shunt-host") && unbound.contains("src 198.18.0.150"), "{unbound}");
    let bound = ip(&instance, "route get 198.18.0.1 from 198.18.0.150");
    assert!(bound.contains("dev shunt-host"), "{bound}");
    let own = ip(&instance, "route get 198.18.0.1");
    assert!(own.contains("dev veth-lb"), "the main table stays as it is: {own}");

    // Control publishes a service of the host: its address comes, and goes with the last generation that names it.
    let service = |word: u64, addresses: &[[u8; 4]]| {
        let endpoints: Vec<_> = addresses.iter().map(|address| (*address, AddressUse::Shared)).collect();
        instance.prepare_addresses(&endpoints, word);
        ip(&instance, "-o address show dev shunt-host").contains("198.18.0.151/32")
    };
    assert_eq!(
        [(1, &[SHARED][..]), (2, &[]), (3, &[])].map(|(word, addresses)| service(word, addresses)),
        [true, true, false]
    );

    let daemon = ifdaemon::ask(&instance.socket()).expect("granted").expect("a pseudo-interface");
    assert_eq!((daemon.manifest.device.as_str(), daemon.manifest.mtu, daemon.stores.len()), (DEVICE, 1500, 1));
    assert_eq!(daemon.device.as_raw_fd(), DEVICE_DESCRIPTOR);
    assert!(daemon.manifest.has_offloads, "this kernel has them");
    let first = index(&instance);
    keeper.kill();
    assert_eq!(index(&instance), first, "the daemon has it");
    let keeper = instance.start();
    assert_eq!(index(&instance), first, "the new keeper got it back");
    keeper.stop();
    assert_eq!(index(&instance), first, "a living daemon keeps device and memory");
    assert!(!instance.memory().is_empty());
    let keeper = instance.start();
    assert_eq!(index(&instance), first, "for the next keeper");
    assert_eq!(ip(&instance, "rule").matches("from 198.18.0.150 lookup").count(), 1);
    // This process plays a dead daemon: its descriptors are closed, and the keeper's region names nobody.
    drop(daemon);
    let (region, _) = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region");
    region.head.ifdaemon_pid.set(0);
    assert_eq!(index(&instance), first, "and has it alone now");

    keeper.kill();
    let gone = ip(&instance, "-o link show");
    assert!(!gone.contains(DEVICE), "{gone}");
    let keeper = instance.start();
    let rules = ip(&instance, "rule");
    assert_eq!(rules.matches("from 198.18.0.150 lookup").count(), 1, "of the old device one is left: {rules}");
    keeper.stop();
    assert!(!ip(&instance, "rule").contains("lookup 70"));
    assert!(!ip(&instance, "-o link show").contains(DEVICE));
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
}

#[test]
fn taken_name_and_host_address_elsewhere_are_refused_and_nothing_is_left() {
    let Some(instance) = with_host("hosttaken") else { return };
    lab::run(&["ip", "-n", &instance.lab.lb, "link", "add", DEVICE, "type", "veth", "peer", "name", "other"]);
    let text = instance.refusal();
    assert!(text.contains("host.device: there is a network device shunt-host already"), "{text}");
    assert_eq!(instance.command().status().expect("a keeper").code(), Some(78), "and isn't tried again");
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
    lab::run(&["ip", "-n", &instance.lab.lb, "link", "del", DEVICE]);
    let [a, b, c, d] = HOST;
    lab::run(&["ip", "-n", &instance.lab.lb, "address", "add", &format!("{a}.{b}.{c}.{d}/32"), "dev", "lo"]);
    let text = instance.refusal();
    assert!(text.contains("host.addresses: 198.18.0.150 is an address of this machine"), "{text}");
    assert!(!ip(&instance, "rule").contains("lookup 70") && !ip(&instance, "-o link show").contains(DEVICE));
}

#[test]
fn second_daemon_is_fenced_off_and_without_host_there_is_nothing_to_do() {
    let Some(instance) = with_host("hostfence") else { return };
    let keeper = instance.start();
    let (region, _) = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region");
    let pid = instance.holder.id();
    region.head.ifdaemon_start_time.set(shunt_shmlayout::header::start_time(pid).expect("it lives"));
    region.head.ifdaemon_pid.set(pid.into());
    let refused = ifdaemon::ask(&instance.socket()).expect_err("fenced").to_string();
    assert!(refused.contains(&format!("shunt-ifdaemon is already running as pid {pid}")), "{refused}");
    region.head.ifdaemon_pid.set(0);
    keeper.stop();

    std::fs::write(instance.config.path(), configuration(&instance.name, "af_xdp", SERVICE)).expect("written");
    let keeper = instance.start();
    assert!(ifdaemon::ask(&instance.socket()).expect("an answer").is_none());
    keeper.stop();
}

/// As by `ip link del`: a new keeper makes it, though the daemon of the old one may not have noticed yet.
#[test]
fn a_device_that_was_removed_is_made_anew_by_the_next_keeper() {
    let Some(instance) = with_host("hostgone") else { return };
    let keeper = instance.start();
    let daemon = ifdaemon::ask(&instance.socket()).expect("granted").expect("a pseudo-interface");
    lab::run(&["ip", "-n", &instance.lab.lb, "link", "del", DEVICE]);
    let region = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region").0;
    let before = region.head.device_index.get();
    keeper.stop();
    let keeper = instance.start();
    assert_eq!(region.head.device_index.get(), u64::from(index(&instance)), "not {before}, which is gone");
    assert_eq!(ip(&instance, "rule").matches("from 198.18.0.150 lookup").count(), 1);
    drop(daemon);
    let daemon = ifdaemon::ask(&instance.socket()).expect("granted").expect("a pseudo-interface");
    let read = nix::unistd::read(&daemon.device, &mut [0; 2048]);
    assert!(matches!(read, Ok(_) | Err(nix::errno::Errno::EAGAIN)), "{read:?}");
    region.head.ifdaemon_pid.set(0); // as if it had ended
    keeper.stop();
}
