//! The shared memory of an instance: created at the first start, reattached after a restart of the keeper.

use std::fs::DirEntry;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use memmap2::MmapRaw;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::mman::shm_open;
use nix::sys::stat::{Mode, fstat};
use shunt_config::{Config, Side as ConfiguredSide};
use shunt_instances::Shapes;
use shunt_process::{Instance, region_name};
use shunt_shmlayout::access::{Reader, Writer};
use shunt_shmlayout::config_table::Name;
use shunt_shmlayout::frames::{self, CHUNK};
use shunt_shmlayout::header::{AttachError, start_time};
use shunt_shmlayout::map::{Region, read_only};
use shunt_shmlayout::regions::{
    ConnectionsRegion, ControlRegion, InterfaceRecord, InterfaceSide, KeeperRegion, PORTS, PortRecord, SwitcherRecord,
    SwitcherRegion, Typed, Whole,
};
use zerocopy::IntoBytes;

use super::check::{Facts, check_shared_memory};
use super::host::HostRegions;
use super::{KeeperError, file_error, plan};

/// One switcher's memory.
pub(super) struct Switcher {
    pub region: SwitcherRegion<Writer>,
    pub region_fd: OwnedFd,
    /// The same region read-only, for the other switchers.
    pub view_fd: OwnedFd,
    pub frames_fd: OwnedFd,
}

impl Switcher {
    /// Maps the frame pool for the lifetime of the returned value.
    pub fn frames(&self) -> Result<MmapRaw, KeeperError> {
        use std::os::fd::AsRawFd;
        MmapRaw::map_raw(self.frames_fd.as_raw_fd()).map_err(super::system_error("mapping a frame pool"))
    }

    /// Reclaims the frames in a port's rings, because its socket was closed.
    pub fn forget(&self, port: u8) {
        frames::reclaim(self.region.frame_owners, self.region.journal, port);
    }
}

/// All regions, and the descriptors to hand over.
pub(super) struct Regions {
    pub control: ControlRegion,
    pub control_fd: OwnedFd,
    pub keeper: KeeperRegion<Writer>,
    pub keeper_fd: OwnedFd,
    pub connections_fd: OwnedFd,
    pub switchers: Vec<Switcher>,
    /// Packet stores, if a pseudo-interface is configured.
    pub host: Option<HostRegions>,
    /// Region names, in the order of creation.
    pub names: Vec<String>,
}

/// Names of regions; the Nth switcher's are `switcher.N` and `frames.N`. The host's regions, if any, come last.
fn names(config: &Config, switchers: usize) -> Vec<String> {
    let instance = &config.instance;
    let fixed = ["control", "keeper", "connections"].map(String::from).into_iter();
    let each = (0..switchers).flat_map(|number| [format!("switcher.{number}"), format!("frames.{number}")]);
    let host = config.host.iter().flat_map(|_| HostRegions::names(instance, switchers));
    fixed.chain(each).map(|region| region_name(instance, &region)).chain(host).collect()
}

impl Regions {
    /// Attaches existing regions if they fit (`true`); otherwise recreates them, unless a switcher runs on them.
    pub fn attach_or_create(config: &Config, facts: &Facts) -> Result<(Regions, bool), KeeperError> {
        let shapes = Shapes::new(config, plan::most_ports(config, &facts.interfaces) as u64);
        let names = names(config, shapes.switchers);
        refuse_living_keeper(&names[1])?;
        match Self::attach(&names, &shapes) {
            Ok(regions) => match regions.difference(config, facts) {
                None => return Ok((regions, true)),
                Some(what) if regions.are_used() => return Err(KeeperError::Changed { what }),
                Some(what) => log::info!("{what} changed and no process uses the shared memory: recreating it"),
            },
            Err(error) => match (living_user(&names[1])?, error) {
                (Some(pid), error) => return Err(KeeperError::Changed { what: unusable(&error, pid) }),
                (None, AttachError::Missing(_)) => {}
                (None, error) => log::warn!("{error}; no process uses it: recreating it"),
            },
        }
        check_shared_memory(shapes.bytes(), bytes_of(&config.instance)?)?;
        remove_all(&config.instance)?;
        let regions = Self::create(&names, &shapes).inspect_err(|_| {
            let _ = remove_all(&config.instance);
        })?;
        Ok((regions, false))
    }

    fn create(names: &[String], shapes: &Shapes) -> Result<Regions, KeeperError> {
        let secret = secret()?;
        let (control, _) = ControlRegion::create(&names[0], &shapes.control, |_| {})?;
        let (keeper, _) = KeeperRegion::create(&names[1], &shapes.keeper, |_| {})?;
        let (_, connections_fd) =
            ConnectionsRegion::create(&names[2], &shapes.connections, |region| region.set_key(secret))?;
        let (of_switchers, of_host) = names[3..].split_at(2 * shapes.switchers);
        let mut switchers = Vec::new();
        for pair in of_switchers.chunks_exact(2) {
            let (region, region_fd) = SwitcherRegion::create(&pair[0], &shapes.switcher, |_| {})?;
            let frames_fd = create_frames(&pair[1], shapes.switcher.frames * CHUNK)?;
            switchers.push(Switcher { region: region.lend(), region_fd, view_fd: read_only(&pair[0])?, frames_fd });
        }
        let host = shapes.store.map(|store| HostRegions::create(of_host, &store)).transpose()?;
        let (control_fd, keeper_fd) = (read_only(&names[0])?, read_only(&names[1])?);
        let names = names.to_vec();
        Ok(Regions { control: control.lend(), control_fd, keeper, keeper_fd, connections_fd, switchers, host, names })
    }

    fn attach(names: &[String], shapes: &Shapes) -> Result<Regions, AttachError> {
        let (keeper, _) = attach::<KeeperRegion<Writer>>(&names[1], &shapes.keeper)?;
        let (control, _) = attach::<ControlRegion>(&names[0], &shapes.control)?;
        let (_, connections_fd) = attach::<ConnectionsRegion<Writer>>(&names[2], &shapes.connections)?;
        let (of_switchers, of_host) = names[3..].split_at(2 * shapes.switchers);
        let mut switchers = Vec::new();
        for pair in of_switchers.chunks_exact(2) {
            let (region, region_fd) = attach::<SwitcherRegion<Writer>>(&pair[0], &shapes.switcher)?;
            let frames_fd = open_frames(&pair[1], shapes.switcher.frames * CHUNK)?;
            switchers.push(Switcher { region, region_fd, view_fd: read_only(&pair[0])?, frames_fd });
        }
        let host = shapes.store.map(|store| HostRegions::attach(of_host, &store)).transpose()?;
        let (control_fd, keeper_fd) = (read_only(&names[0])?, read_only(&names[1])?);
        let names = names.to_vec();
        Ok(Regions { control, control_fd, keeper, keeper_fd, connections_fd, switchers, host, names })
    }

    /// The first interface or switcher setting that differs from the regions.
    fn difference(&self, config: &Config, facts: &Facts) -> Option<String> {
        for (id, (configured, found)) in config.interfaces.iter().zip(&facts.interfaces).enumerate() {
            let known: InterfaceRecord = self.keeper.interfaces[id].load();
            if (known.name, known.ifindex) != (Name::new(&configured.name), found.index) {
                return Some(format!("interface {} ({})", configured.name, found.index));
            }
        }
        for (number, cpu) in facts.cpus.iter().enumerate() {
            if self.switcher(number).cpu != *cpu {
                return Some(format!("the CPU of switcher {number} ({cpu})"));
            }
        }
        let had_device = self.keeper.head.device_index.get() != 0;
        (had_device && self.host.is_none()).then(|| "[host]".into())
    }

    /// A switcher's record in the keeper region.
    pub fn switcher(&self, number: usize) -> SwitcherRecord {
        self.keeper.switchers[number].load()
    }

    /// Records which process has a switcher's descriptors.
    pub fn set_switcher(&self, number: usize, record: &SwitcherRecord) {
        self.keeper.switchers[number].store(record);
    }

    /// The switchers that run: number and pid.
    pub fn living(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let all = (0..self.switchers.len()).map(|number| (number, self.switcher(number)));
        all.filter(|(_, record)| record.is_alive()).map(|(number, record)| (number, record.pid))
    }

    /// Whether a switcher or the interface daemon runs on this memory.
    pub fn are_used(&self) -> bool {
        !self.users().is_empty()
    }

    /// The switchers and the interface daemon that run on this memory, for an operator.
    pub fn users(&self) -> Vec<String> {
        let switchers = self.living().map(|(number, pid)| format!("switcher {number} (pid {pid})"));
        let daemon = self.keeper.living_daemon().map(|pid| format!("shunt-ifdaemon (pid {pid})"));
        switchers.chain(daemon).collect()
    }

    /// Reclaims all frames of all ports, because their sockets are closed.
    pub fn forget_ports(&self) {
        for switcher in &self.switchers {
            (0..PORTS as u8).for_each(|port| switcher.forget(port));
        }
    }

    /// Fills the keeper region's tables.
    pub fn publish(&self, config: &Config, facts: &Facts, ports: &[PortRecord]) {
        let pid = std::process::id();
        self.keeper.head.pid.set(pid.into());
        self.keeper.head.start_time.set(start_time(pid).unwrap_or(0));
        for (record, (configured, found)) in
            self.keeper.interfaces.iter().zip(config.interfaces.iter().zip(&facts.interfaces))
        {
            record.store(&InterfaceRecord {
                name: Name::new(&configured.name),
                ifindex: found.index,
                mtu: found.mtu,
                mac: found.mac,
                side: side(configured.side).code(),
                reserved: [0; 17],
            });
        }
        for (number, cpu) in facts.cpus.iter().enumerate() {
            self.set_switcher(number, &SwitcherRecord { cpu: *cpu, ..self.switcher(number) });
        }
        let none = PortRecord::default();
        for (record, port) in self.keeper.ports.iter().zip(ports.iter().chain(std::iter::repeat(&none))) {
            record.store(port);
        }
    }
}

/// A keeper in another mount namespace may hold its lock in another /run, while both share /dev/shm: two keepers would
/// serve the same switchers, or remove each other's memory.
fn refuse_living_keeper(name: &str) -> Result<(), KeeperError> {
    let Ok((region, _)) = KeeperRegion::<Reader>::attach(name) else { return Ok(()) };
    let pid = region.head.pid.get() as u32;
    if !region.keeper_lives() || pid == std::process::id() {
        return Ok(());
    }
    Err(KeeperError::Problems(vec![format!(
        "shunt-keeper is already running as pid {pid}, with another /run, as in another mount namespace; stop it first \
         (kill {pid}), or use another instance name"
    )]))
}

/// Whether a switcher of the instance is alive, according to the previous keeper's region.
pub(super) fn has_living_switchers(config: &Config) -> bool {
    let keeper = <KeeperRegion>::attach(&region_name(&config.instance, "keeper"));
    keeper.is_ok_and(|(region, _)| region.has_living_switcher())
}

/// The pid of a living switcher or interface daemon in a keeper region, even if the other regions cannot be attached. A
/// system error leaves open which processes live.
fn living_user(keeper: &str) -> Result<Option<u32>, AttachError> {
    let region = match KeeperRegion::<Reader>::attach(keeper) {
        Ok((region, _)) => region,
        Err(error @ AttachError::System { .. }) => return Err(error),
        Err(_) => return Ok(None),
    };
    let records = region.switchers.iter().map(|record| record.load());
    let switcher = records.into_iter().find(SwitcherRecord::is_alive).map(|record| record.pid);
    Ok(switcher.or_else(|| region.living_daemon()))
}

fn unusable(error: &AttachError, user: u32) -> String {
    match error {
        AttachError::Missing(path) => {
            format!("shared memory {} was removed while pid {user} uses the rest; the shared memory", path.display())
        }
        error => format!("{error} (pid {user} uses it); the shared memory"),
    }
}

fn side(side: ConfiguredSide) -> InterfaceSide {
    match side {
        ConfiguredSide::Client => InterfaceSide::Client,
        ConfiguredSide::Backend => InterfaceSide::Backend,
        ConfiguredSide::Both => InterfaceSide::Both,
    }
}

/// Attaches a region that must have this shape.
pub(super) fn attach<T: Typed>(name: &str, shape: &T::Shape) -> Result<(T, OwnedFd), AttachError> {
    let (_, fd) = T::attach(name)?;
    let (region, found) = T::from_fd(&fd, name)?;
    if found.as_bytes() == shape.as_bytes() {
        return Ok((region, fd));
    }
    Err(AttachError::Field {
        path: name.into(),
        field: "shape",
        found: "that of other limits".into(),
        expected: "that of the configuration's limits".into(),
        advice: "limits take effect when Shunt is stopped and started again",
    })
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name.trim_start_matches('/'))
}

fn create_frames(name: &str, bytes: u64) -> Result<OwnedFd, KeeperError> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    let fd = shm_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(file_error(path(name)))?;
    // Allocates the memory now, so that a full /dev/shm is an error here and not a SIGBUS later.
    fallocate(&fd, FallocateFlags::empty(), 0, bytes as i64).map_err(file_error(path(name)))?;
    Ok(fd)
}

fn open_frames(name: &str, bytes: u64) -> Result<OwnedFd, AttachError> {
    let system = |what| move |errno: nix::Error| AttachError::System { path: path(name), what, source: errno.into() };
    let fd = shm_open(name, OFlag::O_RDWR, Mode::empty()).map_err(system("open"))?;
    let found = fstat(&fd).map_err(system("look at"))?.st_size as u64;
    if found == bytes {
        return Ok(fd);
    }
    Err(AttachError::Field {
        path: path(name),
        field: "size",
        found: found.to_string(),
        expected: bytes.to_string(),
        advice: "limits.frames takes effect when Shunt is stopped and started again",
    })
}

/// Removes every region of the instance, including those of switchers that are no longer configured.
pub(super) fn remove_all(instance: &Instance) -> Result<(), KeeperError> {
    for entry in entries(instance)? {
        let name = format!("/{}", entry.file_name().to_string_lossy());
        Region::unlink(&name).map_err(file_error(entry.path()))?;
    }
    Ok(())
}

/// The bytes that [`remove_all`] frees.
fn bytes_of(instance: &Instance) -> Result<u64, KeeperError> {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512;
    let taken = entries(instance)?.into_iter().filter_map(|entry| Some(entry.metadata().ok()?.blocks() * BLOCK));
    Ok(taken.sum())
}

fn entries(instance: &Instance) -> Result<Vec<DirEntry>, KeeperError> {
    let prefix = region_name(instance, "");
    let prefix = prefix.trim_start_matches('/');
    let folder = Path::new("/dev/shm");
    let all = std::fs::read_dir(folder).map_err(file_error(folder))?.flatten();
    Ok(all.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).collect())
}

/// The connection table's hash key: random per table, so that no client can target a single bucket.
fn secret() -> Result<[u64; 2], KeeperError> {
    use std::io::Read;
    const SOURCE: &str = "/dev/urandom";
    let mut words = [0u64; 2];
    let mut file = std::fs::File::open(SOURCE).map_err(file_error(SOURCE))?;
    file.read_exact(words.as_mut_bytes()).map_err(file_error(SOURCE))?;
    Ok(words)
}

#[cfg(test)]
#[path = "regions_tests.rs"]
mod tests;
