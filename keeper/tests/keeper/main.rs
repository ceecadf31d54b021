//! The keeper on a real interface: start, handover, kill -9 and restart under traffic, stop. This test plays control and
//! switcher. Needs root; says so and passes without.

#[path = "../ports/lab.rs"]
mod lab;

mod host;

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::{INTERFACE, Lab, Peer};
use memmap2::MmapRaw;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_keeper::port::af_xdp::{self, BindMode, Sharing};
use shunt_packet::testing::udp;
use shunt_protocol::handover::{Handover, HandoverError, PORT_DESCRIPTORS, ask};
use shunt_protocol::port::Role;
use shunt_shmlayout::access::{Reader, Writer};
use shunt_shmlayout::address::{Address, PortBe};
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, SwitcherRecord, SwitcherRegion, Typed};
use shunt_switcher::port::af_packet::PacketPort;
use shunt_switcher::port::af_xdp::XdpPort;
use shunt_switcher::port::{Batch, Ledger, Pool, Port};

const CLIENT: [u8; 4] = [198, 18, 0, 1];
const BOX: [u8; 4] = [198, 18, 0, 2];
/// Only to end a test that has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what must not come.
const TIME_MORE: Duration = Duration::from_millis(50);
/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// An instance in the laboratory, and what it leaves in the system.
struct Instance {
    name: String,
    config: tempfile::NamedTempFile,
    /// Keeps one mount namespace alive, as a supervisor does, so that a restarted keeper finds its pins.
    holder: Child,
    lab: Lab,
    /// A switcher's descriptors have fixed numbers, so this process can play one switcher at a time.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = std::fs::remove_dir_all(self.run_directory());
        for path in self.memory() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Instance {
    fn new(name: &str, port: &str, service: [u8; 4]) -> Option<Instance> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::new(name)?;
        let name = format!("ports-{name}-{}", std::process::id());
        let [a, b, c, d] = BOX;
        lab::run(&["ip", "-n", &lab.lb, "address", "add", &format!("{a}.{b}.{c}.{d}/24"), "dev", INTERFACE]);
        lab::run(&["ip", "netns", "exec", &lab.lb, "sysctl", "-qw", "net.ipv4.conf.veth-lb.forwarding=0"]);
        let config = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(config.path(), configuration(&name, port, service)).expect("written");
        let holder = Command::new("ip").args(["netns", "exec", &lab.lb, "sleep", "1000"]).spawn().expect("a process");
        let instance = Instance { name, config, holder, lab, _alone: alone };
        instance.wait("the holder is inside", || {
            std::fs::read_to_string(format!("/proc/{}/comm", instance.holder.id())).is_ok_and(|name| name == "sleep\n")
        });
        Some(instance)
    }

    fn run_directory(&self) -> PathBuf {
        Path::new("/run/shunt").join(&self.name)
    }

    fn socket(&self) -> PathBuf {
        self.run_directory().join("keeper.sock")
    }

    fn region(&self, region: &str) -> String {
        format!("/shunt.{}.{region}", self.name)
    }

    /// What is left in /dev/shm.
    fn memory(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir("/dev/shm").expect("/dev/shm").flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().contains(&self.name)).collect()
    }

    /// The interface's settings for receive threads.
    fn reception(&self) -> [String; 3] {
        ["napi_defer_hard_irqs", "gro_flush_timeout", "threaded"].map(|setting| {
            let path = format!("/sys/class/net/{INTERFACE}/{setting}");
            let output = Command::new("ip").args(["netns", "exec", &self.lab.lb, "cat", &path]).output().expect("ip");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
    }

    fn wait(&self, what: &str, is_done: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_done() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// In a mount namespace of its own, where nothing is pinned.
    fn elsewhere(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.lab.lb, env!("CARGO_BIN_EXE_shunt-keeper"), "--config"]);
        command.arg(self.config.path());
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", "-n", env!("CARGO_BIN_EXE_shunt-keeper"), "--config"]);
        command.arg(self.config.path());
        command
    }

    /// Starts a keeper and waits until it is ready.
    fn start(&self) -> Keeper {
        let _ = std::fs::remove_file(self.socket());
        let keeper = Keeper(self.command().spawn().expect("a keeper"));
        self.wait("the keeper is ready", || self.socket().exists());
        keeper
    }

    /// Starts a keeper that must not come up; what it says.
    fn refusal(&self) -> String {
        Self::refusal_of(self.command())
    }

    fn refusal_of(mut command: Command) -> String {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a keeper");
        let mut text = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("its words");
        assert!(!child.wait().expect("its end").success(), "{text}");
        text
    }

    /// Plays control: makes these the service addresses, and waits for the keeper's answer.
    fn prepare(&self, services: &[[u8; 4]], word: u64) {
        let endpoints: Vec<_> = services.iter().map(|address| (*address, AddressUse::Services)).collect();
        self.prepare_addresses(&endpoints, word);
    }

    /// The same of addresses with other uses.
    fn prepare_addresses(&self, addresses: &[([u8; 4], AddressUse)], word: u64) {
        let (control, _) = ControlRegion::<Writer>::attach(&self.region("control")).expect("control's region");
        let (keeper, _) = KeeperRegion::<Reader>::attach(&self.region("keeper")).expect("the keeper's region");
        let generation = &control.generations[(word & 1) as usize];
        generation.clear();
        for (address, address_use) in addresses {
            let (address, endpoint) = (Address::from_v4(*address), Endpoint::Address(*address_use));
            generation.add_endpoint(address, PortBe::default(), 0, endpoint).expect("room");
        }
        control.head.prepared.store(word, Ordering::Release);
        self.wait("the XDP maps are in step", || keeper.head.owned.load(Ordering::Acquire) == word);
    }
}

fn configuration(name: &str, port: &str, service: [u8; 4]) -> String {
    let [a, b, c, d] = service;
    format!(
        "instance = \"{name}\"\n[switchers]\ncpus = [0]\nidle = \"wait\"\n[[interface]]\nname = \"{INTERFACE}\"\nport = \"{port}\"\n\
         [limits]\nconnections = 1000\nslots = 8192\nframes = 2048\n\
         [[service]]\nname = \"echo\"\naddress = \"{a}.{b}.{c}.{d}:53\"\nprotocol = \"udp\"\nmode = \"nat\"\n\
         [[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.11:53\"\n"
    )
}

/// A running keeper, killed with the value.
struct Keeper(Child);

impl Keeper {
    fn kill(mut self) {
        self.0.kill().expect("a living keeper");
        self.0.wait().expect("its death");
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).expect("a living keeper");
        assert!(self.0.wait().expect("its end").success());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Plays switcher: sends back what comes in.
struct Echo {
    ports: Vec<Box<dyn Port>>,
    pool: Pool,
    /// Packets that the peer sent.
    sent: u32,
}

impl Echo {
    fn new(handover: Handover) -> Echo {
        let Handover { manifest, regions, ports: sockets, .. } = handover;
        let (region, _) = SwitcherRegion::<Writer>::from_fd(&regions.switcher, "switcher.0").expect("fits");
        let ledger = Ledger::new(region.frame_owners, region.journal);
        let mut ports: Vec<Box<dyn Port>> = Vec::new();
        for ((port, socket), number) in manifest.ports.iter().zip(sockets).zip(0..) {
            ports.push(match port.kind {
                shunt_protocol::handover::SocketKind::AfXdp => {
                    // Calls that fetch nothing, as those of a veth from Linux 6.13 on, do no harm.
                    let port = XdpPort::map(socket, number, manifest.ring, &ledger, region.sockets).expect("mapped");
                    Box::new(port.busy_polling())
                }
                shunt_protocol::handover::SocketKind::AfPacket => {
                    Box::new(PacketPort::map(socket, number, manifest.ring, Role::Both, &ledger).expect("mapped"))
                }
            });
        }
        let standing: Vec<_> = ports.iter().filter_map(|port| port.standing(&ledger)).collect();
        let frames = MmapRaw::map_raw(regions.frames.as_raw_fd()).expect("mapped");
        let mut echo = Echo { ports, pool: Pool::recover(frames, ledger, &standing).expect("sizes agree"), sent: 0 };
        echo.turn();
        echo
    }

    fn turn(&mut self) {
        for port in &mut self.ports {
            let mut batch = Batch::default();
            port.receive(&mut self.pool, &mut batch);
            for frame in batch.drain() {
                // Replies are told from what the peer sent itself by the first byte.
                let (frame, ()) = self.pool.change(frame, |buffer| buffer[..6].fill(0x42));
                port.send(&mut self.pool, frame).expect("room");
            }
            port.flush(&mut self.pool);
        }
    }

    /// A packet to `address` comes back, however long the kernel's threads take.
    #[track_caller]
    fn echoes(&mut self, peer: &mut Peer, address: [u8; 4]) {
        let number = self.send(peer, address);
        let start = Instant::now();
        while !self.came_back(peer).contains(&number) {
            if start.elapsed() > PATIENCE {
                let losses: Vec<_> = self.ports.iter_mut().map(|port| port.losses()).collect();
                panic!("nothing came back from {address:?}; {losses:?}");
            }
        }
    }

    /// A packet to `address` doesn't come back, while one to `end` that is sent after it does. They may be in different queues,
    /// so the first one gets some time more.
    #[track_caller]
    fn drops(&mut self, peer: &mut Peer, address: [u8; 4], end: [u8; 4]) {
        let number = self.send(peer, address);
        self.echoes(peer, end);
        let until = Instant::now() + TIME_MORE;
        while Instant::now() < until {
            assert!(!self.came_back(peer).contains(&number), "{address:?} came back");
        }
    }

    /// Sends a packet that is told from all others by its number.
    fn send(&mut self, peer: &mut Peer, address: [u8; 4]) -> u32 {
        self.sent += 1;
        peer.send(&udp((CLIENT, 4000), (address, 53)).payload(&self.sent.to_be_bytes()).build());
        self.sent
    }

    /// A turn, and the numbers of what has come back since the last one.
    fn came_back(&mut self, peer: &mut Peer) -> Vec<u32> {
        self.turn();
        let frames = peer.receive().into_iter().filter(|frame| frame.starts_with(&[0x42; 6]));
        let payload = |frame: Vec<u8>| frame.get(HEADERS..HEADERS + 4)?.try_into().ok().map(u32::from_be_bytes);
        frames.filter_map(payload).collect()
    }
}

const SERVICE: [u8; 4] = [198, 18, 0, 100];
const ANOTHER: [u8; 4] = [198, 18, 0, 101];

#[test]
fn keeper_lives_dies_and_comes_back_under_a_living_switcher() {
    let Some(instance) = Instance::new("life", "af_xdp", SERVICE) else { return };
    let keeper = instance.start();
    let second = instance.refusal();
    assert!(second.contains(&format!("already running as pid {}", keeper.0.id())), "{second}");
    assert!(
        matches!(ask(&instance.socket(), 7), Err(HandoverError::Refused(reason)) if reason.contains("no switcher 7"))
    );

    let handover = ask(&instance.socket(), 0).expect("granted");
    assert_eq!(
        handover.ports[1].as_raw_fd(),
        PORT_DESCRIPTORS + 1,
        "one port a queue, where a new keeper looks for it"
    );
    assert!(handover.manifest.ports.iter().all(|port| port.receives));
    let view = &handover.switchers[0];
    assert_eq!(handover.switchers.len(), 1);
    let read = SwitcherRegion::<Reader>::from_fd(view, "switcher.0");
    let written = SwitcherRegion::<Writer>::from_fd(view, "switcher.0");
    assert!(read.is_ok() && written.is_err(), "others' counts are to be read only");
    let (mut echo, mut peer) = (Echo::new(handover), instance.lab.peer());
    instance.prepare(&[SERVICE], 1);
    echo.drops(&mut peer, ANOTHER, SERVICE); // only service addresses are redirected

    assert_eq!(instance.reception(), ["2", "100000", "1"]);

    keeper.kill();
    echo.echoes(&mut peer, SERVICE); // a switcher needs no keeper
    let elsewhere = Instance::refusal_of(instance.elsewhere());
    let expected = format!("/bpf: the XDP programs of the running instance (switcher pid {})", std::process::id());
    assert!(elsewhere.contains(&expected) && elsewhere.contains("mount namespace"), "{elsewhere}");
    refuse_at_the_end(&instance);
    let keeper = instance.start();
    echo.echoes(&mut peer, SERVICE); // nothing changes for a living switcher
    instance.prepare(&[SERVICE, ANOTHER], 2);
    echo.echoes(&mut peer, ANOTHER); // the new keeper writes the maps
    instance.prepare(&[SERVICE], 3);
    echo.echoes(&mut peer, ANOTHER); // both generations are owned
    instance.prepare(&[SERVICE], 4);
    echo.drops(&mut peer, ANOTHER, SERVICE); // until neither names it

    // A successor of the switcher gets the sockets that the second keeper took back from the first one's switcher.
    drop(echo);
    let mut echo = Echo::new(ask(&instance.socket(), 0).expect("granted to the same process"));
    echo.echoes(&mut peer, SERVICE);

    keeper.stop();
    assert!(!instance.socket().exists());
    echo.echoes(&mut peer, SERVICE); // a living switcher keeps everything
    let keeper = instance.start();
    echo.echoes(&mut peer, SERVICE);

    let (region, _) = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region");
    let record: SwitcherRecord = region.switchers[0].load();
    region.switchers[0].store(&SwitcherRecord { pid: 0, start_time: 0, ..record }); // as if it had ended
    keeper.stop();
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
    assert!(!instance.run_directory().exists());
    assert_eq!(instance.reception(), ["0", "0", "0"], "as before, though the first keeper was killed");
}

/// A take-over that fails when everything else is done leaves the interface as the living switcher needs it.
fn refuse_at_the_end(instance: &Instance) {
    let in_the_way = instance.run_directory().join("keeper.unready");
    std::fs::create_dir(&in_the_way).expect("a folder");
    let before = instance.reception();
    let text = instance.refusal();
    assert!(text.contains("keeper.unready: Is a directory"), "{text}");
    assert_eq!(instance.reception(), before);
    assert_ne!(before, ["0", "0", "0"]);
    std::fs::remove_dir(&in_the_way).expect("it is empty");
}

#[test]
fn second_process_is_fenced_off_while_the_first_lives() {
    let Some(instance) = Instance::new("fence", "af_packet", SERVICE) else { return };
    let keeper = instance.start();
    // A process that asks for the descriptors and keeps them: any will do whose pid the keeper sees.
    let other = nix::unistd::getpid();
    let handover = ask(&instance.socket(), 0).expect("granted");
    let (region, _) = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region");
    let record: SwitcherRecord = region.switchers[0].load();
    assert_eq!(record.pid, other.as_raw() as u32);
    // As if it had been given to the holder, which lives.
    let pid = instance.holder.id();
    let start_time = shunt_shmlayout::header::start_time(pid).expect("it lives");
    region.switchers[0].store(&SwitcherRecord { pid, start_time, ..record });
    let refused = ask(&instance.socket(), 0).expect_err("fenced").to_string();
    assert!(refused.contains(&format!("already running as pid {pid}")), "{refused}");
    region.switchers[0].store(&record);
    let mut echo = Echo::new(handover);
    echo.echoes(&mut instance.lab.peer(), ANOTHER); // AF_PACKET sees everything
    keeper.stop();
}

#[test]
fn what_is_in_the_way_is_told_and_nothing_is_left_behind() {
    let Some(instance) = Instance::new("refuse", "af_packet", BOX) else { return };
    let text = instance.refusal();
    assert!(text.contains(".address: 198.18.0.2 is an address of this machine"), "{text}");
    lab::run(&["ip", "netns", "exec", &instance.lab.lb, "sysctl", "-qw", "net.ipv4.conf.veth-lb.forwarding=1"]);
    lab::run(&["ip", "-n", &instance.lab.lb, "link", "set", INTERFACE, "down"]);
    let text = instance.refusal();
    assert!(text.contains("interface.veth-lb: it is down; ") && text.contains("conf.veth-lb.forwarding=0"), "{text}");
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
}

#[test]
fn a_socket_that_cannot_be_removed_leaves_no_memory_behind() {
    let Some(instance) = Instance::new("no-socket", "af_packet", SERVICE) else { return };
    std::fs::create_dir_all(instance.socket()).expect("a folder in the socket's place");
    let text = instance.refusal();
    assert!(text.contains("keeper.sock: Is a directory"), "{text}");
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
}

#[test]
fn keeper_and_switcher_dead_together_start_anew_on_the_same_memory() {
    let Some(instance) = Instance::new("both", "af_xdp", SERVICE) else { return };
    let keeper = instance.start();
    let mut echo = Echo::new(ask(&instance.socket(), 0).expect("granted"));
    // With both fill rings full, as at every start.
    let free = echo.pool.free();
    instance.prepare(&[SERVICE], 1);
    let mut peer = instance.lab.peer();
    echo.echoes(&mut peer, SERVICE);
    // This process plays a dead switcher: its descriptors are closed, and the record names a pid that doesn't live.
    keeper.kill();
    drop(echo);
    let (region, _) = KeeperRegion::<Writer>::attach(&instance.region("keeper")).expect("the keeper's region");
    let record: SwitcherRecord = region.switchers[0].load();
    region.switchers[0].store(&SwitcherRecord { start_time: record.start_time + 1, ..record });

    let keeper = instance.start();
    let mut echo = Echo::new(ask(&instance.socket(), 0).expect("granted"));
    assert_eq!(echo.pool.free(), free, "no frame is lost with the closed queues");
    echo.echoes(&mut peer, SERVICE); // the configuration table is still there
    keeper.stop();
}

#[test]
fn busy_queue_is_told_and_the_interface_is_left_alone() {
    // Not even where the configuration leaves the kind of port open: AF_PACKET would get the other's packets, too.
    [("busy", "af_xdp"), ("busy-auto", "auto")].into_iter().for_each(refuses_a_busy_queue);
}

fn refuses_a_busy_queue((word, port): (&str, &str)) {
    let Some(instance) = Instance::new(word, port, SERVICE) else { return };
    let memory: MmapRaw = memmap2::MmapMut::map_anon(1 << 20).expect("memory").into();
    let other = lab::inside(&instance.lab.lb, || {
        af_xdp::open(lab::index(INTERFACE), 1, 256, Sharing::Register(&memory), BindMode::Copy)
    });
    let text = instance.refusal();
    assert!(
        text.contains(":5: interface.veth-lb: binding queue 1") && text.contains("another process has it"),
        "{text}"
    );
    assert_eq!(instance.memory(), Vec::<PathBuf>::new());
    // The kernel takes a program off after the last reference to its link is gone.
    instance.wait("the interface has no program", || {
        let links = Command::new("ip").args(["-n", &instance.lab.lb, "link", "show", "dev", INTERFACE]).output();
        let links = String::from_utf8(links.expect("ip runs").stdout).expect("text");
        links.contains(INTERFACE) && !links.contains("xdp")
    });
    drop(other.expect("the other process's socket"));
}
