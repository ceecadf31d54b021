//! Shared memory as the keeper would make it, a configuration for it, and a peer at the other end of a cable.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_config::Config;
use shunt_process::{Instance, control_lock, control_socket, region_name, runtime_directory};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, BackendId, PortBe, TCP};
use shunt_shmlayout::config_table::{Generation, Name};
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::map::Region;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, InterfaceRecord, InterfaceSide, KeeperRegion,
    KeeperShape, SwitcherRegion, SwitcherShape, Whole,
};
use shunt_shmlayout::service::{BackendView, ServiceView};
use shunt_shmlayout::sync::Ordering;

/// Long enough for any machine; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Control has settled when it publishes nothing for so long; more than the configured silence of an agent.
pub const CALM: Duration = Duration::from_millis(500);
/// Places of the endpoint hash.
const ENDPOINTS: u64 = 16;
pub const PEER: [u8; 4] = [198, 18, 4, 2];
/// Where control takes reports.
pub const REPORTS: &str = "198.18.4.1:7946";

pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
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
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace at the other end of a cable; our end is `publish-a`, 198.18.4.1.
pub fn cable() -> Running {
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
pub struct Files {
    pub instance: Instance,
    pub folder: tempfile::TempDir,
    regions: [String; 4],
}

impl Drop for Files {
    fn drop(&mut self) {
        self.regions.iter().for_each(|name| drop(Region::unlink(name)));
        let _ = std::fs::remove_dir_all(runtime_directory(&self.instance));
    }
}

/// Memory whose endpoint hash is smaller than the limits say, so that there are configurations without a mistake that
/// can't be published.
fn shape() -> ControlShape {
    ControlShape { endpoints: ENDPOINTS, ..ControlShape::new(8, 16, 5000, 64, 64) }
}

/// The instance's memory and its files.
pub struct Lab {
    pub files: Files,
    pub control: ControlRegion<Writer>,
    pub keeper: KeeperRegion<Writer>,
    pub switcher: SwitcherRegion<Writer, Writer>,
    /// The process whose network namespace is at the other end of the cable.
    peer: u32,
}

impl Lab {
    pub fn new(peer: u32) -> Self {
        let instance: Instance = format!("publish-{}", std::process::id()).parse().unwrap();
        let name = |region: &str| region_name(&instance, region);
        let regions = ["control", "keeper", "connections", "switcher.0"].map(name);
        let files = Files { instance, folder: tempfile::tempdir().unwrap(), regions };
        let regions = &files.regions;
        let (control, _) = ControlRegion::create(&regions[0], &shape(), |_| ()).unwrap();
        let keeper = KeeperShape { interfaces: 1, switchers: 1, ports: 1, reserved: [0; 5] };
        let (keeper, _) = KeeperRegion::create(&regions[1], &keeper, describe).unwrap();
        ConnectionsRegion::create(&regions[2], &ConnectionsShape::new(1024), |view| view.set_key([1, 2])).unwrap();
        let switcher = SwitcherShape { services: 8, backends: 16, interfaces: 1, frames: 64, reserved: [0; 4] };
        let (switcher, _) = SwitcherRegion::create(&regions[3], &switcher, |_| ()).unwrap();
        let lab = Self { files, control, keeper, switcher, peer };
        lab.configure(&["b1", "b2"]);
        lab
    }

    pub fn path(&self) -> PathBuf {
        self.files.folder.path().join("shunt.toml")
    }

    /// A checked service whose only backend is dead, and an unchecked one with these.
    pub fn configure(&self, backends: &[&str]) {
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

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt-control"));
        command.arg("--config").arg(self.path()).env("RUST_LOG", "info");
        command
    }

    pub fn start(&self) -> Running {
        let before = self.control.head.pid.get();
        let child = Running(self.command().spawn().unwrap());
        until("control takes the memory over", || {
            (self.control.head.pid.get() != before && control_socket(&self.files.instance).exists()).then_some(())
        });
        child
    }

    /// Starts control, and sends it a SIGHUP while it waits for the keeper.
    pub fn start_with_a_reload(&self) -> Running {
        let keeper = self.keeper.head.pid.get();
        self.keeper.head.pid.set(0);
        let child = Running(self.command().spawn().unwrap());
        let (lock, pid) = (control_lock(&self.files.instance), child.0.id());
        let holds = || std::fs::read_to_string(&lock).is_ok_and(|holder| holder.trim() == pid.to_string());
        until("control has its lock, and waits", || holds().then_some(()));
        kill(Pid::from_raw(pid as i32), Signal::SIGHUP).unwrap();
        std::thread::sleep(Duration::from_millis(100)); // until it would be dead
        self.keeper.head.pid.set(keeper);
        until("control takes the memory over", || (self.control.head.pid.get() == u64::from(pid)).then_some(()));
        until("the reload", || (self.control.head.reloaded_ms.get() != 0).then_some(()));
        child
    }

    /// Owns whatever control prepares, as the keeper does; returns the active word.
    pub fn active(&self) -> Active {
        self.keeper.head.owned.store(self.control.head.prepared.load(Ordering::Acquire), Ordering::Release);
        Active(self.control.head.active.load(Ordering::Acquire))
    }

    pub fn generation(&self) -> Option<Generation> {
        let active = self.active();
        (active != Active::NONE).then(|| self.control.generations[active.buffer()].lend())
    }

    pub fn service(&self, last: u8) -> Option<ServiceView> {
        let generation = self.generation()?;
        match generation.find(&Address::from_v4([198, 18, 5, last]), PortBe::new(80), TCP)? {
            Endpoint::Service(id) => generation.service(id),
            _ => None,
        }
    }

    pub fn backend(&self, port: u16) -> Option<(BackendId, BackendView)> {
        let generation = self.generation()?;
        match generation.find(&Address::from_v4(PEER), PortBe::new(port), TCP)? {
            Endpoint::Backend(id) => generation.backend(id).map(|record| (id, record)),
            _ => None,
        }
    }

    pub fn order(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(control_socket(&self.files.instance)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    /// Sends an order that is answered when it is in force, and plays the keeper's part meanwhile.
    pub fn order_in_force(&self, request: &str) -> String {
        let is_answered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_answered.load(Ordering::Relaxed) {
                    self.active();
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let answer = self.order(request);
            is_answered.store(true, Ordering::Relaxed);
            answer
        })
    }

    /// Somebody who listens at the peer.
    pub fn listen(&self, port: u16) -> TcpListener {
        let namespace = File::open(format!("/proc/{}/ns/net", self.peer)).unwrap();
        let listener = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind((std::net::Ipv4Addr::from(PEER), port)).unwrap()
        });
        listener.join().unwrap()
    }

    /// Runs a program at the peer.
    pub fn at_peer(&self, command: &str) {
        run("nsenter", &format!("-t {} -n {command}", self.peer));
    }

    /// The memory as it is before the first publication.
    pub fn without_publication(&mut self) {
        let name = &self.files.regions[0];
        Region::unlink(name).unwrap();
        self.control = ControlRegion::create(name, &shape(), |_| ()).unwrap().0;
    }
}

/// The keeper is this process, and has one interface.
fn describe(view: &KeeperRegion<Writer>) {
    let ifindex = nix::net::if_::if_nametoindex("publish-a").unwrap();
    let (name, side) = (Name::new("publish-a"), InterfaceSide::Both as u8);
    let record = InterfaceRecord { name, ifindex, mtu: 1500, mac: [2; 6], side, reserved: [0; 17] };
    view.interfaces[0].store(&record);
    view.head.start_time.set(start_time(std::process::id()).unwrap());
    view.head.pid.set(std::process::id().into());
}
