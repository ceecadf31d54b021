//! A stand-in for a switcher, in a process of its own that can be killed: sends each frame back where it came from.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use memmap2::MmapRaw;
use shunt_packet::Buffer;
use shunt_protocol::handover::{open_process, take_descriptor};
use shunt_protocol::port::Role;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::frames::CHUNK;
use shunt_shmlayout::map::Region;
use shunt_shmlayout::regions::{SwitcherRegion, SwitcherShape, Typed, Whole};
use shunt_switcher::port::af_packet::PacketPort;
use shunt_switcher::port::af_xdp::XdpPort;
use shunt_switcher::port::{Batch, Ledger, Pool, Port};

pub const SLOTS: u32 = 256;
pub const FRAMES: u64 = 2048;
/// The test function that is the process.
const PROCESS: &str = "echo_process";
/// What it prints when it runs.
const READY: &str = "echo process is ready";
const VARIABLE: &str = "SHUNT_TEST_ECHO";

/// What outlives the process: sockets, frame pool, switcher region.
pub struct Kept {
    name: String,
    pub frames: MmapRaw,
    frames_file: tempfile::NamedTempFile,
    pub region: SwitcherRegion<Writer>,
    pub sockets: Vec<OwnedFd>,
    pub is_xdp: bool,
}

impl Kept {
    pub fn new(name: &str, is_xdp: bool) -> Kept {
        let name = format!("/shunt.ports-{name}-{}.switcher.0", std::process::id());
        let shape = SwitcherShape { services: 1, backends: 1, interfaces: 1, frames: FRAMES, reserved: [0; 4] };
        let (region, _) = SwitcherRegion::create(&name, &shape, |_| {}).expect("a region");
        let region = region.lend();
        let frames_file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
        frames_file.as_file().set_len(FRAMES * CHUNK).expect("memory");
        let frames = MmapRaw::map_raw(frames_file.as_file()).expect("a mapping");
        Kept { name, frames, frames_file, region, sockets: Vec::new(), is_xdp }
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.region.frame_owners, self.region.journal)
    }

    /// Starts a process that takes the sockets over and echoes until it is killed; returns when it has had its first turn.
    pub fn start(&self) -> Echo {
        let sockets: Vec<String> = self.sockets.iter().map(|socket| socket.as_raw_fd().to_string()).collect();
        let kind = if self.is_xdp { "xdp" } else { "packet" };
        let path = self.frames_file.path().display();
        let what = format!("{} {} {path} {kind} {}", std::process::id(), self.name, sockets.join(" "));
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", PROCESS, "--ignored", "--nocapture"]).env(VARIABLE, what);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        assert!(output.lines().map_while(Result::ok).any(|line| line.contains(READY)), "the process came up");
        Echo(child)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = Region::unlink(&self.name);
    }
}

/// A running echo process, killed with the value.
pub struct Echo(Child);

impl Echo {
    /// kill -9, and waits until it is dead.
    pub fn kill(mut self) {
        self.0.kill().expect("a living process");
        self.0.wait().expect("its death");
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process: does nothing unless started by [`Kept::start`].
pub fn main() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let mut words = what.split(' ');
    let mut next = || words.next().expect("an argument");
    let (parent, name, frames, kind) = (next(), next(), next(), next());
    let parent = open_process(parent.parse().expect("a pid")).expect("the parent");
    let (region, _) = SwitcherRegion::<Writer>::attach(name).expect("the region");
    let ledger = Ledger::new(region.frame_owners, region.journal);
    let socket = |number: &str| {
        take_descriptor(parent.as_fd(), number.parse().expect("a number")).expect("the parent's descriptor")
    };
    let mut ports: Vec<Box<dyn Port>> = Vec::new();
    for (number, descriptor) in (0u8..).zip(words) {
        let socket = socket(descriptor);
        ports.push(match kind {
            "xdp" => Box::new(XdpPort::map(socket, number, SLOTS, &ledger, region.sockets).expect("mapped")),
            _ => Box::new(PacketPort::map(socket, number, SLOTS, Role::Both, &ledger).expect("mapped")),
        });
    }
    let standing: Vec<_> = ports.iter().filter_map(|port| port.standing(&ledger)).collect();
    let file = std::fs::File::options().read(true).write(true).open(frames).expect("the frames");
    let mut pool = Pool::recover(MmapRaw::map_raw(&file).expect("a mapping"), ledger, &standing).expect("sizes agree");
    ports.iter_mut().for_each(|port| turn(port.as_mut(), &mut pool));
    println!("{READY}");
    loop {
        ports.iter_mut().for_each(|port| turn(port.as_mut(), &mut pool));
        std::thread::yield_now();
    }
}

/// Sends what came in at a port back there; a frame that doesn't fit is dropped.
pub fn turn(port: &mut dyn Port, pool: &mut Pool) {
    let mut batch = Batch::default();
    port.receive(pool, &mut batch);
    for frame in batch.drain() {
        let (frame, ()) = pool.change(frame, swap_addresses);
        if let Err(frame) = port.send(pool, frame) {
            pool.give(frame);
        }
    }
    port.flush(pool);
}

fn swap_addresses(frame: &mut Buffer<'_>) {
    if let Some((destination, rest)) = frame.split_at_mut_checked(6)
        && let Some(source) = rest.get_mut(..6)
    {
        destination.swap_with_slice(source);
    }
}
