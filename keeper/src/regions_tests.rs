//! Whatever limits the configuration's check accepts, the memory that they ask for can be made and attached.

use proptest::prelude::*;

use shunt_shmlayout::connections::CHUNK as CONNECTIONS_CHUNK;
use shunt_shmlayout::regions::{KeeperShape, StoreRegion};

use super::super::system::NetworkInterface;
use super::*;

/// A limit's name, and its least and greatest value.
const LIMITS: [(&str, u32, u32); 9] = [
    ("connections", 1, 1 << 28),
    ("services", 1, 65_535),
    ("backends", 1, 65_535),
    ("slots", 1, 1 << 28),
    ("neighbours", 1, 1 << 20),
    ("routes", 1, 1 << 24),
    ("frames", 64, 1 << 20),
    ("ring", 64, 1 << 16),
    ("store", 64, 1 << 16),
];

fn config(switchers: u32, values: &[u32]) -> Option<Config> {
    let limits = LIMITS.iter().zip(values);
    let limits: String = limits.map(|((name, ..), value)| format!("{name} = {value}\n")).collect();
    let text = format!(
        "[switchers]\ncount = {switchers}\n[host]\n[limits]\n{limits}[[interface]]\nname = \"eth0\"\nport = \"af_packet\"\n"
    );
    Config::parse(&text, "shunt.toml").ok()
}

fn check_shapes(config: &Config, queues: u32) {
    let found = NetworkInterface {
        index: 2,
        mac: [2; 6],
        mtu: 1500,
        queues,
        is_up: true,
        forwards: false,
        filters_reverse_path: true,
    };
    let shapes = Shapes::new(config, plan::most_ports(config, &[found]) as u64);
    let faults = [
        <ControlRegion>::fault(&shapes.control),
        <KeeperRegion>::fault(&shapes.keeper),
        <ConnectionsRegion>::fault(&shapes.connections),
        <SwitcherRegion>::fault(&shapes.switcher),
        shapes.store.and_then(|store| <StoreRegion>::fault(&store)),
    ];
    assert_eq!(faults, [None; 5], "{:?}", config.limits);
    assert!(shapes.bytes() < 1 << 40);
    let chunks = shapes.connections.capacity / CONNECTIONS_CHUNK as u64;
    assert!(chunks >= shapes.switchers as u64, "{chunks} chunks for {} switchers", shapes.switchers);
}

#[test]
fn the_ends_of_every_limit_are_shapes_that_can_be_attached() {
    let default = Config::parse("[switchers]\ncount = 1\n[[interface]]\nname = \"a\"\n", "a").expect("good").limits;
    let base = [default.connections, default.services, default.backends, default.slots, default.neighbours]
        .into_iter()
        .chain([default.routes, 1 << 20, 64, default.store]);
    let base: Vec<u32> = base.collect();
    for (index, (name, least, greatest)) in LIMITS.into_iter().enumerate() {
        for value in [least, greatest] {
            let mut values = base.clone();
            values[index] = value;
            let beyond = if value == least { least - 1 } else { greatest + 1 };
            check_shapes(&config(64, &values).unwrap_or_else(|| panic!("{name} = {value} is refused")), 1);
            values[index] = beyond;
            assert!(config(64, &values).is_none(), "{name} = {beyond}");
        }
    }
}

proptest! {
    #[test]
    fn what_the_check_accepts_are_shapes_that_can_be_attached(
        switchers in 1..=64_u32, queues in 1..=64_u32, picks in prop::collection::vec(any::<(u32, bool)>(), 9),
    ) {
        let values: Vec<u32> = LIMITS.iter().zip(picks).map(|((name, least, greatest), (pick, extreme))| {
            let value = least + pick % (greatest - least + 1);
            match (*name, extreme) {
                ("frames" | "ring" | "store", _) => value.next_power_of_two(),
                (_, true) => if pick % 2 == 0 { *least } else { *greatest },
                _ => value,
            }
        }).collect();
        if let Some(config) = config(switchers, &values) {
            check_shapes(&config, queues);
        }
    }
}

/// As one whose lock is in another /run.
#[test]
fn a_keeper_that_lives_by_the_memory_alone_is_told() {
    let name = format!("/shunt.regions-test-{}.keeper", std::process::id());
    let shape = KeeperShape { interfaces: 1, switchers: 1, ports: 1, reserved: [0; 5] };
    let (region, _fd) = KeeperRegion::create(&name, &shape, |_| ()).expect("memory");
    let refusal_of = |pid: u32, started: u64| {
        region.head.pid.set(pid.into());
        region.head.start_time.set(started);
        refuse_living_keeper(&name).err().map(|error| error.to_string())
    };
    let (other, own) = (std::os::unix::process::parent_id(), std::process::id());
    let started = |pid| start_time(pid).expect("it lives");
    let answers =
        [(other, started(other)), (other, 1), (own, started(own)), (0, 0)].map(|(pid, at)| refusal_of(pid, at));
    Region::unlink(&name).expect("it is there");
    let [Some(text), None, None, None] = answers else { panic!("{answers:?}") };
    assert!(text.contains(&format!("already running as pid {other}, with another /run")), "{text}");
}

/// The regions of an instance without interfaces, removed on drop.
struct Memory {
    config: Config,
    facts: Facts,
}

impl Memory {
    fn new(name: &str) -> (Memory, Regions) {
        let text = format!("instance = \"{name}-{}\"\n[switchers]\ncount = 1\n", std::process::id());
        let text =
            format!("{text}[[interface]]\nname = \"eth0\"\n[limits]\nconnections = 1\nframes = 128\nring = 64\n");
        let config = Config::parse(&text, "test.toml").expect("a good configuration");
        let memory = Memory { config, facts: Facts { interfaces: Vec::new(), cpus: vec![0], addresses: 0 } };
        let (regions, is_restart) = memory.attach_or_create().expect("room");
        assert!(!is_restart);
        (memory, regions)
    }

    fn attach_or_create(&self) -> Result<(Regions, bool), KeeperError> {
        Regions::attach_or_create(&self.config, &self.facts)
    }

    fn unlink(&self, region: &str) {
        Region::unlink(&region_name(&self.config.instance, region)).expect("it is there");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = remove_all(&self.config.instance);
    }
}

#[test]
fn memory_with_a_missing_region_is_kept_while_a_switcher_lives() {
    let (memory, regions) = Memory::new("missing-part");
    let pid = std::process::id();
    let switcher = SwitcherRecord { pid, start_time: start_time(pid).expect("it lives"), ..regions.switcher(0) };
    regions.set_switcher(0, &switcher);
    for region in ["control", "connections", "switcher.0"] {
        memory.unlink(region);
        let refused = memory.attach_or_create().map(drop).expect_err("a switcher lives").to_string();
        assert!(refused.contains(&format!("was removed while pid {pid} uses the rest")), "{refused}");
        assert!(has_living_switchers(&memory.config), "its record is gone: {region}");
    }
    regions.set_switcher(0, &SwitcherRecord { pid: 0, ..switcher });
    assert!(memory.attach_or_create().is_ok_and(|(_, is_restart)| !is_restart), "nobody lives");
}

#[test]
fn the_instances_own_memory_is_counted() {
    let (memory, _regions) = Memory::new("counted-memory");
    let all = bytes_of(&memory.config.instance).expect("/dev/shm");
    assert!(all >= 128 * CHUNK, "a frame pool alone: {all}");
    memory.unlink("frames.0");
    assert_eq!(all - bytes_of(&memory.config.instance).expect("/dev/shm"), 128 * CHUNK);
}
