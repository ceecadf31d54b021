//! The whole process, beside memory that the test makes as the keeper would, in a network namespace of its own. Without
//! root it says so and passes.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_agent::report::{Key, Load, Report, seal};
use shunt_config::{Config, Instance, control_socket, region_name, runtime_directory};
use shunt_shmlayout::address::{Address, BackendId, InterfaceId, Mac, NeighbourId, PortBe, TCP};
use shunt_shmlayout::config_table::{BackendRecord, Generation, Name, ServiceRecord};
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::map::Region;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, InterfaceRecord, KeeperRegion, KeeperShape, Side,
    SwitcherRegion, SwitcherShape, Typed, Wanted,
};
use shunt_shmlayout::report_outcome::ReportOutcome;
use shunt_shmlayout::sync::Ordering;

/// The flags of a drained backend whose checks pass.
const DRAINED: u8 = BackendRecord::UP | BackendRecord::DRAINED | BackendRecord::STALE;
/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Control has settled when it publishes nothing for so long; more than the configured silence of an agent.
const CALM: Duration = Duration::from_millis(500);
const PEER: [u8; 4] = [198, 18, 4, 2];
/// Where control takes reports.
const REPORTS: &str = "198.18.4.1:7946";

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace at the other end of a cable; our end is `publish-a`, 198.18.4.1.
fn cable() -> Running {
    let holder =
        Command::new("unshare").args(["-n", "sh", "-c", "echo ready; exec sleep 300"]).stdout(Stdio::piped()).spawn();
    let mut holder = Running(holder.expect("unshare, of util-linux"));
    BufReader::new(holder.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = holder.0.id();
    run("ip", &format!("link add publish-a type veth peer name publish-b netns {pid}"));
    for command in ["addr add 198.18.4.2/24 dev publish-b", "addr add 198.18.4.3/24 dev publish-b"] {
        run("nsenter", &format!("-t {pid} -n ip {command}"));
    }
    run("nsenter", &format!("-t {pid} -n ip link set publish-b address 02:00:00:00:04:02 up"));
    run("ip", "link set lo up");
    run("ip", "addr add 198.18.4.1/24 dev publish-a");
    // A link-local address would come when the kernel has probed for it, and change the ways in the middle of a test.
    run("ip", "link set publish-a addrgenmode none up");
    holder
}

/// The files of an instance of the test's own, removed at the end, also if the memory can't be made.
struct Files {
    instance: Instance,
    folder: tempfile::TempDir,
    regions: [String; 4],
}

impl Drop for Files {
    fn drop(&mut self) {
        self.regions.iter().for_each(|name| drop(Region::unlink(name)));
        let _ = std::fs::remove_dir_all(runtime_directory(&self.instance));
    }
}

/// The instance's memory and its files.
struct Lab {
    files: Files,
    control: ControlRegion,
    keeper: KeeperRegion,
    switcher: SwitcherRegion,
}

impl Lab {
    fn new() -> Self {
        let instance: Instance = format!("publish-{}", std::process::id()).parse().unwrap();
        let name = |region: &str| region_name(&instance, region);
        let regions = ["control", "keeper", "connections", "switcher.0"].map(name);
        let files = Files { instance, folder: tempfile::tempdir().unwrap(), regions };
        let regions = &files.regions;
        let (control, _) = ControlRegion::create(&regions[0], &ControlShape::new(8, 16, 5000, 64, 64), |_| ()).unwrap();
        let keeper = KeeperShape { interfaces: 1, switchers: 1, ports: 1, reserved: [0; 5] };
        let (keeper, _) = KeeperRegion::create(&regions[1], &keeper, describe).unwrap();
        ConnectionsRegion::create(&regions[2], &ConnectionsShape::new(1024), |view| view.set_key([1, 2])).unwrap();
        let switcher = SwitcherShape { services: 8, backends: 16, interfaces: 1, frames: 64, reserved: [0; 4] };
        let (switcher, _) = SwitcherRegion::create(&regions[3], &switcher, |_| ()).unwrap();
        let lab = Self { files, control, keeper, switcher };
        lab.configure(&["b1", "b2"]);
        lab
    }

    fn path(&self) -> PathBuf {
        self.files.folder.path().join("shunt.toml")
    }

    /// A checked service whose only backend is dead, and an unchecked one with these.
    fn configure(&self, backends: &[&str]) {
        let mut text = format!(
            "instance = \"{}\"\n[switchers]\ncount = 1\n[[interface]]\nname = \"publish-a\"\n[limits]\nservices = 8\n\
             backends = 16\nslots = 5000\nneighbours = 64\nroutes = 64\nconnections = 1024\n",
            self.files.instance
        );
        let service = |name: &str, health: &str| {
            format!("[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\nmode = \"nat\"\n{health}")
        };
        let health = "[service.health]\nkind = \"tcp\"\ninterval_ms = 50\ntimeout_ms = 50\n";
        text += &service("dead", &format!("address = \"198.18.5.1:80\"\n{health}"));
        text += "[[service.backend]]\nname = \"closed\"\naddress = \"198.18.4.2:9\"\n";
        text += &service("web", "address = \"198.18.5.2:80\"\nalgorithm = \"even\"\nhealth.kind = \"none\"\n");
        for (n, name) in backends.iter().enumerate() {
            text += &format!("[[service.backend]]\nname = \"{name}\"\naddress = \"198.18.4.2:{}\"\n", 8000 + n);
        }
        let key = self.files.folder.path().join("key");
        std::fs::write(&key, [7; 32]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        text += &format!(
            "[feedback]\nlisten = \"{REPORTS}\"\nsilence_ms = 300\n[[agent]]\nname = \"agent\"\nkey_file = {key:?}\n\
             backends = {backends:?}\n"
        );
        Config::parse(&text, "lab.toml").expect("a valid configuration");
        std::fs::write(self.path(), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt-control"));
        command.arg("--config").arg(self.path()).env("RUST_LOG", "info");
        command
    }

    fn start(&self) -> Running {
        let before = self.control.head.pid.get();
        let child = Running(self.command().spawn().unwrap());
        until("control takes the memory over", || {
            (self.control.head.pid.get() != before && control_socket(&self.files.instance).exists()).then_some(())
        });
        child
    }

    /// Owns whatever control prepares, as the keeper does; returns the active word.
    fn active(&self) -> Active {
        self.keeper.head.owned.store(self.control.head.prepared.load(Ordering::Acquire), Ordering::Release);
        Active(self.control.head.active.load(Ordering::Acquire))
    }

    fn generation(&self) -> Option<Generation> {
        let active = self.active();
        (active != Active::NONE).then(|| self.control.generations[active.buffer()])
    }

    fn service(&self, last: u8) -> Option<ServiceRecord> {
        let generation = self.generation()?;
        match generation.find(&Address::from_v4([198, 18, 5, last]), PortBe::new(80), TCP)? {
            Endpoint::Service(id) => generation.service(id),
            _ => None,
        }
    }

    fn backend(&self, port: u16) -> Option<(BackendId, BackendRecord)> {
        let generation = self.generation()?;
        match generation.find(&Address::from_v4(PEER), PortBe::new(port), TCP)? {
            Endpoint::Backend(id) => generation.backend(id).map(|record| (id, record)),
            _ => None,
        }
    }

    fn order(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(control_socket(&self.files.instance)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }
}

/// The keeper is this process, and has one interface.
fn describe(view: &KeeperRegion) {
    let ifindex = nix::net::if_::if_nametoindex("publish-a").unwrap();
    let (name, side) = (Name::new("publish-a"), Side::Both as u8);
    let record = InterfaceRecord { name, ifindex, mtu: 1500, mac: [2; 6], side, reserved: [0; 17] };
    view.interfaces[0].store(&record);
    view.head.start_time.set(start_time(std::process::id()).unwrap());
    view.head.pid.set(std::process::id().into());
}

fn flags(lab: &Lab, port: u16) -> Option<u8> {
    lab.backend(port).map(|(_, record)| record.flags)
}

/// Everything in the active generation that a switcher reads.
fn content(lab: &Lab) -> Vec<u64> {
    let generation = lab.generation().unwrap();
    let mut words: Vec<u64> = generation.services.iter().flat_map(|record| record.load::<[u64; 8]>()).collect();
    words.extend(generation.backends.iter().chain(generation.ranges).flat_map(|record| record.load::<[u64; 4]>()));
    words.extend(generation.slots.iter().map(|slot| u64::from(slot.load(Ordering::Relaxed))));
    words.push(lab.active().0);
    words
}

/// The content, once control has nothing to publish any more: weights still return to the configured ones after a silence.
fn settled_content(lab: &Lab) -> Vec<u64> {
    let mut seen = content(lab);
    until("nothing is published for a while", || {
        std::thread::sleep(CALM);
        let last = std::mem::replace(&mut seen, content(lab));
        (last == seen).then_some(())
    });
    seen
}

#[test]
fn a_life_of_control() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let life = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let _peer = cable();
        live(&Lab::new());
    });
    if let Err(panic) = life.join() {
        std::panic::resume_unwind(panic);
    }
}

fn live(lab: &Lab) {
    let mut first = lab.start();
    publishes(lab);
    refuses_a_second_start(lab);
    resolves_what_a_switcher_wants(lab);
    follows_reports(lab);
    refuses_a_bad_reload(lab);
    drains(lab);
    let id = lab.backend(8000).unwrap().0;
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = lab.start();
    let answer = lab.order("{\"command\":\"enable\",\"backend\":\"nobody\"}");
    assert!(answer.contains("there are: closed, b1, b2"), "{answer}");
    assert_eq!(lab.backend(8000).unwrap().0, id);
    assert_eq!(flags(lab, 8000), Some(DRAINED), "survives control");
    forgets_a_removed_backend(lab, second.0.id());
    kill(Pid::from_raw(second.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(second.0.wait().unwrap().success());
    assert!(lab.service(2).is_some(), "the memory stays as it is");
}

fn publishes(lab: &Lab) {
    until("a service without slots, its only backend being dead", || {
        lab.service(1).filter(|service| service.slots_count == 0)
    });
    assert_ne!(lab.service(2).unwrap().slots_count, 0);
    until("the backend's Ethernet address", || {
        let id = NeighbourId(lab.backend(8000)?.1.neighbour);
        (lab.control.neighbours.mac(id)? == Mac([2, 0, 0, 0, 4, 2])).then_some(())
    });
}

fn refuses_a_second_start(lab: &Lab) {
    let Output { status, stderr, .. } = lab.command().output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    let pid = lab.control.head.pid.get();
    assert_eq!(status.code(), Some(78));
    assert!(text.contains(&format!("shunt-control is already running as pid {pid}")), "{text}");
}

fn resolves_what_a_switcher_wants(lab: &Lab) {
    let address = Address::from_v4([198, 18, 4, 3]);
    lab.switcher.wanted.push(&Wanted { address, interface: 0, reserved: 0 });
    until("a client's Ethernet address", || {
        let id = lab.control.neighbours.find(InterfaceId(0), &address)?;
        lab.control.neighbours.mac(id)
    });
}

/// Backend b1 says that it is fifty times as loaded as b2, then nobody says anything any more.
fn follows_reports(lab: &Lab) {
    let socket = UdpSocket::bind("198.18.4.1:0").unwrap();
    let key = Key::new(&[7; 32]).unwrap();
    let load = |backend: &str, in_flight| Load {
        in_flight: Some(in_flight),
        execution_us: Some(1000),
        ..Load::unknown(backend.parse().unwrap())
    };
    let report = |sequence| Report {
        agent: "agent".parse().unwrap(),
        boot_epoch: 1,
        sequence,
        period_ms: 20,
        loads: vec![load("b1", 100), load("b2", 1)],
    };
    let share = |backend: BackendId| {
        let (generation, service) = (lab.generation()?, lab.service(2)?);
        let slots = generation.slots.iter().skip(service.slots_first as usize).take(service.slots_count as usize);
        Some(slots.filter(|slot| slot.load(Ordering::Relaxed) == backend.0).count())
    };
    let b1 = lab.backend(8000).unwrap().0;
    let even = share(b1).unwrap();
    let mut sequence = 0;
    until("a loaded backend gets less", || {
        sequence += 1;
        socket.send_to(&seal(&report(sequence), &key).unwrap(), REPORTS).unwrap();
        share(b1).filter(|share| *share < even / 3)
    });
    let record = lab.control.loads.get(b1);
    assert_eq!((record.in_flight, record.execution_us, record.score), (100, 1000, 101_000));
    let answer = lab.order("{\"command\":\"backends\"}");
    assert!(answer.contains("\"feedback\":{\"web\":\"even: "), "{answer}");
    let outcomes = |outcome: ReportOutcome| lab.control.reports[outcome as usize].get();
    let mut forged = seal(&report(1_000_000), &key).unwrap();
    forged[10] ^= 1;
    socket.send_to(&forged, REPORTS).unwrap();
    until("a forged report is counted", || (outcomes(ReportOutcome::Forged) == 1).then_some(()));
    assert!(outcomes(ReportOutcome::Accepted) > 0);
    until("silence leads back to the configured weight", || share(b1).filter(|share| *share == even));
    let answer = lab.order("{\"command\":\"backends\"}");
    assert!(answer.contains("\"feedback\":{\"web\":\"silent\"}"), "{answer}");
}

fn refuses_a_bad_reload(lab: &Lab) {
    let good = std::fs::read_to_string(lab.path()).unwrap();
    let before = settled_content(lab);
    std::fs::write(lab.path(), good.replacen("mode = \"nat\"", "mode = \"cat\"", 1)).unwrap();
    let answer = lab.order("{\"command\":\"reload\"}");
    assert!(answer.starts_with("{\"ok\":false") && answer.contains("shunt.toml:16: service.dead.mode"), "{answer}");
    std::fs::write(lab.path(), good.replacen("routes = 64", "routes = 65", 1)).unwrap();
    let answer = lab.order("{\"command\":\"reload\"}");
    assert!(answer.contains("limits.routes differs from what Shunt was started with"), "{answer}");
    assert_eq!(lab.control.head.reloads_refused.get(), 2);
    assert_eq!(content(lab), before);
    std::fs::write(lab.path(), good).unwrap();
}

fn drains(lab: &Lab) {
    // The keeper's part is played in another thread while this one waits for the answer.
    let (control, keeper) = (lab.control, lab.keeper);
    let owner = std::thread::spawn(move || {
        let word = control.head.active.load(Ordering::Acquire);
        until("a publication", || {
            keeper.head.owned.store(control.head.prepared.load(Ordering::Acquire), Ordering::Release);
            (control.head.active.load(Ordering::Acquire) != word).then_some(())
        });
    });
    let answer = lab.order("{\"command\":\"drain\",\"backend\":\"b1\"}");
    assert_eq!(flags(lab, 8000), Some(DRAINED), "in force when it is answered");
    assert!(answer.starts_with("{\"ok\":true,\"backend\":\"b1\",\"epoch\":"), "{answer}");
    owner.join().unwrap();
    let backends = lab.order("{\"command\":\"backends\"}");
    assert!(backends.contains("\"name\":\"b1\",\"address\":\"198.18.4.2:8000\",\"state\":\"drained\""), "{backends}");
    assert!(backends.contains("\"state\":\"down\",\"health\":\"dead: 198.18.4.2:9: "), "{backends}");
}

fn forgets_a_removed_backend(lab: &Lab, pid: u32) {
    lab.configure(&["b1"]);
    kill(Pid::from_raw(pid as i32), Signal::SIGHUP).unwrap();
    until("both generations forget a backend that has no connection", || {
        lab.active();
        let find = |generation: &Generation| generation.find(&Address::from_v4(PEER), PortBe::new(8001), TCP);
        lab.control.generations.iter().all(|generation| find(generation).is_none()).then_some(())
    });
    assert_eq!(flags(lab, 8000), Some(DRAINED), "survives a reload");
}
