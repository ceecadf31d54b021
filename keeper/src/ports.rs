//! Opens every interface queue (patent Fig. 11). A restarted keeper retrieves the sockets from the living switchers, so
//! that no queue is closed while in use.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use memmap2::MmapRaw;
use shunt_config::{Config, Idle, PortKind as ConfiguredKind, XdpMode};
use shunt_shmlayout::regions::{
    HOST_ADDRESSES, PORT_BUSY_POLLS, PORT_RECEIVES, PORT_THREADED, PortKind, PortMode, PortRecord,
};

use super::check::{Facts, check_packet_copies};
use super::reception::Reception;
use super::regions::Regions;
use super::system::open_living;
use super::{KeeperError, plan};
use crate::bpf::{AttachMode, Redirect, Sizes};
use crate::port::af_packet;
use crate::port::af_xdp::{self, BindMode, Sharing};
use shunt_protocol::handover::{PORT_DESCRIPTORS, take_descriptor};
use shunt_protocol::port::Role;

/// The open ports.
pub(super) struct Ports {
    /// One record per port; a switcher's ports are in the order of their port numbers.
    pub records: Vec<PortRecord>,
    /// The socket of each port, in the order of `records`.
    pub sockets: Vec<OwnedFd>,
    /// The XDP program of each interface that has one.
    pub redirects: Vec<Redirect>,
    /// Interface settings and kernel threads for receiving.
    pub reception: Reception,
}

/// What opening a port requires.
struct Opener<'a> {
    config: &'a Config,
    facts: &'a Facts,
    regions: &'a Regions,
    pools: Vec<MmapRaw>,
    is_restart: bool,
}

/// How an interface is reached: by AF_XDP with the program in this attach mode, or, if `None`, by AF_PACKET.
type Attachment = Option<(AttachMode, Redirect)>;

/// A queue that could not be opened.
struct Failure {
    interface: usize,
    is_unsupported: bool,
    error: Box<KeeperError>,
}

impl Ports {
    /// Opens every port. An interface whose port is `auto` falls back to AF_PACKET, with a warning. `is_restart`: the
    /// previous keeper was killed.
    pub fn open(
        config: &Config,
        facts: &Facts,
        regions: &Regions,
        directory: &Path,
        is_restart: bool,
    ) -> Result<Ports, KeeperError> {
        let opener = Opener::new(config, facts, regions, is_restart)?;
        let mut attachments = Vec::new();
        for interface in 0..facts.interfaces.len() {
            attachments.push(opener.attach(interface, directory)?);
        }
        let mut modes = opener.bind_modes();
        loop {
            let mode = modes[0];
            let records = opener.plan(&attachments, mode);
            match opener.open_all(&records, mode) {
                Ok(sockets) => {
                    return opener.insert(opener.without_useless_busy_polls(records, &sockets), sockets, attachments);
                }
                Err(failure) if failure.is_unsupported && modes.len() > 1 => {
                    log::info!("{}; falling back to copy mode", failure.error);
                    modes.remove(0);
                }
                Err(failure) if opener.may_fall_back(failure.interface) || is_taken(&failure.error) => {
                    opener.fall_back(failure.interface, &failure.error)?;
                    if let Some((_, redirect)) = attachments[failure.interface].take()
                        && let Err(error) = redirect.detach()
                    {
                        log::warn!("{error}");
                    }
                }
                Err(failure) => return Err(*failure.error),
            }
        }
    }

    /// Retrieves the sockets of living switchers, reopens those of dead ones, and takes over the pinned programs.
    pub fn take_back(
        config: &Config,
        facts: &Facts,
        regions: &Regions,
        directory: &Path,
    ) -> Result<Ports, KeeperError> {
        let opener = Opener::new(config, facts, regions, true)?;
        let records: Vec<PortRecord> = regions.keeper.ports().collect();
        let waits = config.switchers.idle == Idle::Wait;
        let contradicts = |port: &PortRecord| port.flags & if waits { PORT_BUSY_POLLS } else { PORT_THREADED } != 0;
        if records.iter().any(contradicts) {
            return Err(KeeperError::Changed { what: "switchers.idle".into() });
        }
        let mut sockets: Vec<OwnedFd> = Vec::new();
        for number in 0..regions.switchers.len() {
            let own: Vec<_> = records.iter().filter(|port| usize::from(port.switcher) == number).copied().collect();
            match regions.living().find(|(living, _)| *living == number) {
                Some((_, pid)) => sockets.extend(take_from(regions, number, pid, own.len())?),
                None => {
                    (0..own.len()).for_each(|port| regions.switchers[number].forget(port as u8));
                    sockets.extend(opener.open_switcher(&own).map_err(|failure| *failure.error)?);
                }
            }
        }
        let mut attachments: Vec<Attachment> = Vec::new();
        for interface in 0..facts.interfaces.len() {
            let mut modes = records.iter().filter(|port| usize::from(port.interface) == interface && is_xdp(port));
            attachments.push(match modes.next().map(attach_mode) {
                Some(mode) => Some((mode, opener.redirect(interface, mode, directory)?)),
                None => None,
            });
        }
        opener.insert(records, sockets, attachments)
    }

    /// Logs kind, mode, queue and switcher of each port.
    pub fn log(&self, config: &Config) {
        for port in &self.records {
            let interface = &config.interfaces[usize::from(port.interface)].name;
            let (kind, mode) = (port.kind().map_or("?", PortKind::name), port.mode().map_or("?", PortMode::name));
            let (switcher, queue) = (port.switcher, port.queue);
            if port.flags & PORT_RECEIVES == 0 {
                log::info!(
                    "interface {interface}: switcher {switcher} has no queue there and only sends, {kind} {mode}"
                );
            } else {
                let fetched = match port.flags & (PORT_BUSY_POLLS | PORT_THREADED) {
                    PORT_BUSY_POLLS => ", busy polling",
                    PORT_THREADED => ", receive thread on its CPU",
                    _ => "",
                };
                log::info!(
                    "interface {interface}: queue {queue} is polled by switcher {switcher}, {kind} {mode}{fetched}"
                );
            }
        }
    }
}

/// Whether another process has the queue or the interface's XDP program. An AF_PACKET port beside it would answer the same
/// packets, or receive none.
fn is_taken(error: &KeeperError) -> bool {
    match error {
        KeeperError::XdpPort { error, .. } => error.is_busy(),
        KeeperError::Redirect { error, .. } => error.is_busy(),
        _ => false,
    }
}

fn is_xdp(port: &PortRecord) -> bool {
    port.kind() == Some(PortKind::AfXdp)
}

fn attach_mode(port: &PortRecord) -> AttachMode {
    if port.mode() == Some(PortMode::GenericCopy) { AttachMode::Generic } else { AttachMode::Native }
}

fn bind_mode(port: &PortRecord) -> BindMode {
    if port.mode() == Some(PortMode::ZeroCopy) { BindMode::ZeroCopy } else { BindMode::Copy }
}

/// The port sockets of a running switcher.
fn take_from(regions: &Regions, number: usize, pid: u32, ports: usize) -> Result<Vec<OwnedFd>, KeeperError> {
    let process = open_living(pid, || regions.living().any(|living| living == (number, pid)))?;
    let descriptors = PORT_DESCRIPTORS..PORT_DESCRIPTORS + ports as i32;
    let taken = descriptors.map(|descriptor| take_descriptor(process.as_fd(), descriptor));
    let sockets = taken.collect::<Result<Vec<_>, _>>().map_err(super::system_error("pidfd_getfd"))?;
    log::info!("retrieved {ports} port(s) from switcher {number}, pid {pid}");
    Ok(sockets)
}

impl<'a> Opener<'a> {
    fn new(
        config: &'a Config,
        facts: &'a Facts,
        regions: &'a Regions,
        is_restart: bool,
    ) -> Result<Opener<'a>, KeeperError> {
        let pools = regions.switchers.iter().map(|switcher| switcher.frames()).collect::<Result<_, _>>()?;
        Ok(Opener { config, facts, regions, pools, is_restart })
    }

    fn name(&self, interface: usize) -> String {
        self.config.interfaces[interface].name.clone()
    }

    /// File, line and field of an interface.
    fn place(&self, interface: usize) -> String {
        self.config.source.place(&format!("interface.{}", self.name(interface)))
    }

    /// Attaches the program to one interface, or takes it over.
    fn redirect(&self, interface: usize, mode: AttachMode, directory: &Path) -> Result<Redirect, KeeperError> {
        let (found, limits) = (&self.facts.interfaces[interface], &self.config.limits);
        // The maps hold the addresses of both generations at the same time.
        let (services, backends) = (2 * limits.services + HOST_ADDRESSES as u32, 2 * limits.backends);
        let sizes = Sizes { queues: found.queues, services, backends, local: self.facts.addresses };
        let attached = Redirect::attach(directory, found.index, mode, sizes);
        attached.map_err(|error| KeeperError::Redirect { place: self.place(interface), error })
    }

    /// Attaches the program in the best mode available; `None` if AF_PACKET is configured or the fallback.
    fn attach(&self, interface: usize, directory: &Path) -> Result<Attachment, KeeperError> {
        let configured = &self.config.interfaces[interface];
        if configured.port == ConfiguredKind::AfPacket {
            return Ok(None);
        }
        let first = if configured.mode == XdpMode::GenericCopy { AttachMode::Generic } else { AttachMode::Native };
        match self.redirect(interface, first, directory) {
            Ok(redirect) => return Ok(Some((first, redirect))),
            Err(KeeperError::Redirect { error, .. }) if error.is_unsupported() && configured.mode == XdpMode::Auto => {
                log::info!("interface {}: {error}; trying generic XDP", configured.name);
            }
            Err(error) => return self.fall_back(interface, &error).map(|()| None),
        }
        match self.redirect(interface, AttachMode::Generic, directory) {
            Ok(redirect) => Ok(Some((AttachMode::Generic, redirect))),
            Err(error) => self.fall_back(interface, &error).map(|()| None),
        }
    }

    fn may_fall_back(&self, interface: usize) -> bool {
        self.config.interfaces[interface].port == ConfiguredKind::Auto
    }

    /// Falls back to AF_PACKET, if the configuration and the machine allow it, and no other process has the queue.
    fn fall_back(&self, interface: usize, error: &KeeperError) -> Result<(), KeeperError> {
        let name = self.name(interface);
        if !self.may_fall_back(interface) || is_taken(error) {
            return Err(KeeperError::Problems(vec![error.to_string()]));
        }
        let problems = check_packet_copies(self.config, &name, &self.facts.interfaces[interface]);
        if !problems.is_empty() {
            return Err(KeeperError::Problems(refusals(self.config.interfaces[interface].mode, error, problems)));
        }
        log::warn!("{error}; falling back to AF_PACKET on {name}");
        Ok(())
    }

    /// The bind modes to try. All sockets of a switcher share one frame pool and so one mode.
    fn bind_modes(&self) -> Vec<BindMode> {
        let wanted = |mode| self.config.interfaces.iter().any(|interface| interface.mode == mode);
        if wanted(XdpMode::NativeCopy) || wanted(XdpMode::GenericCopy) {
            vec![BindMode::Copy]
        } else if wanted(XdpMode::ZeroCopy) {
            vec![BindMode::ZeroCopy]
        } else {
            vec![BindMode::ZeroCopy, BindMode::Copy]
        }
    }

    fn plan(&self, attachments: &[Attachment], bind: BindMode) -> Vec<PortRecord> {
        let kind = |attachment: &Attachment| if attachment.is_some() { PortKind::AfXdp } else { PortKind::AfPacket };
        let kinds: Vec<PortKind> = attachments.iter().map(kind).collect();
        let mut records = plan::plan(self.config, &self.facts.interfaces, &kinds);
        for port in records.iter_mut().filter(|port| is_xdp(port)) {
            let attach = attachments[usize::from(port.interface)].as_ref().map(|(mode, _)| *mode);
            port.mode = match (bind, attach) {
                (BindMode::ZeroCopy, _) => PortMode::ZeroCopy,
                (BindMode::Copy, Some(AttachMode::Generic)) => PortMode::GenericCopy,
                (BindMode::Copy, _) => PortMode::NativeCopy,
            }
            .code();
            // Generic XDP runs behind the driver's queue, so neither a socket nor a receive thread can fetch from it.
            if port.flags & PORT_RECEIVES == 0 || port.mode() == Some(PortMode::GenericCopy) {
                continue;
            }
            if self.config.switchers.idle == Idle::Wait {
                port.flags |= PORT_THREADED;
            } else if self.config.interfaces[usize::from(port.interface)].busy_poll {
                port.flags |= PORT_BUSY_POLLS;
            }
        }
        records
    }

    /// Clears the busy-poll flag where the kernel cannot associate the socket with its queue's NAPI instance: its calls
    /// would fetch nothing, so interrupts must stay enabled.
    fn without_useless_busy_polls(&self, mut records: Vec<PortRecord>, sockets: &[OwnedFd]) -> Vec<PortRecord> {
        for (port, socket) in records.iter_mut().zip(sockets).filter(|(port, _)| port.flags & PORT_BUSY_POLLS != 0) {
            if !af_xdp::can_busy_poll(socket.as_fd()) {
                port.flags &= !PORT_BUSY_POLLS;
                log::info!(
                    "interface {}: queue {}: this kernel cannot busy-poll it through AF_XDP; interrupts stay enabled \
                     (switchers.idle = \"wait\" keeps their work on the switcher's CPU)",
                    self.name(usize::from(port.interface)),
                    port.queue
                );
            }
        }
        records
    }

    fn open_all(&self, records: &[PortRecord], mode: BindMode) -> Result<Vec<OwnedFd>, Failure> {
        log::debug!("opening {} ports, {mode:?}", records.len());
        let mut sockets = Vec::new();
        for number in 0..self.regions.switchers.len() {
            let own: Vec<_> = records.iter().filter(|port| usize::from(port.switcher) == number).copied().collect();
            sockets.extend(self.open_switcher(&own)?);
        }
        Ok(sockets)
    }

    /// Opens all ports of one switcher; the first AF_XDP socket registers its frame pool, the others share it.
    fn open_switcher(&self, records: &[PortRecord]) -> Result<Vec<OwnedFd>, Failure> {
        let mut sockets: Vec<OwnedFd> = Vec::new();
        let mut registered = None;
        for port in records {
            if is_xdp(port) {
                let sharing = match registered {
                    Some(first) => Sharing::With(OwnedFd::as_fd(&sockets[first])),
                    None => Sharing::Register(&self.pools[usize::from(port.switcher)]),
                };
                let socket = self.open_xdp(port, sharing)?;
                registered = registered.or(Some(sockets.len()));
                sockets.push(socket);
            } else {
                sockets.push(self.open_packet(port)?);
            }
        }
        Ok(sockets)
    }

    fn open_xdp(&self, port: &PortRecord, sharing: Sharing<'_>) -> Result<OwnedFd, Failure> {
        let interface = usize::from(port.interface);
        let (index, ring) = (self.facts.interfaces[interface].index, self.config.limits.ring);
        let socket =
            af_xdp::open(index, port.queue.into(), ring, sharing, bind_mode(port)).map_err(|error| Failure {
                interface,
                is_unsupported: error.is_unsupported(),
                error: Box::new(KeeperError::XdpPort { place: self.place(interface), error }),
            })?;
        if port.flags & PORT_BUSY_POLLS != 0
            && let Err(error) = af_xdp::prefer_busy_poll(socket.as_fd())
        {
            let name = self.name(interface);
            log::warn!(
                "interface {name}: busy polling: {error}; it needs CAP_NET_ADMIN and Linux 5.11; interrupts stay enabled"
            );
        }
        Ok(socket)
    }

    fn open_packet(&self, port: &PortRecord) -> Result<OwnedFd, Failure> {
        let interface = usize::from(port.interface);
        let (index, ring) = (self.facts.interfaces[interface].index, self.config.limits.ring);
        let role = if port.flags & PORT_RECEIVES == 0 { Role::TransmitOnly } else { Role::Both };
        // Fanout group numbers are per network namespace; the interface index makes this one unique.
        let fanout = (self.regions.switchers.len() > 1).then_some(index as u16);
        af_packet::open(index, ring, role, fanout).map_err(|error| Failure {
            interface,
            is_unsupported: false,
            error: Box::new(KeeperError::PacketPort { place: self.place(interface), error }),
        })
    }

    /// Directs each queue's packets to its socket. From here on, service addresses are served.
    fn insert(
        &self,
        mut records: Vec<PortRecord>,
        sockets: Vec<OwnedFd>,
        mut attachments: Vec<Attachment>,
    ) -> Result<Ports, KeeperError> {
        for (port, socket) in records.iter().zip(&sockets).filter(|(port, _)| is_xdp(port)) {
            let interface = usize::from(port.interface);
            if let Some((_, redirect)) = &mut attachments[interface] {
                let error = |error| KeeperError::Redirect { place: self.place(interface), error };
                redirect.set_port(port.queue.into(), socket.as_fd()).map_err(error)?;
            }
        }
        let redirects = attachments.into_iter().flatten().map(|(_, redirect)| redirect).collect();
        let keeper = self.regions.keeper;
        let reception = Reception::begin(self.config, self.facts, keeper, &mut records, self.is_restart);
        Ok(Ports { records, sockets, redirects, reception })
    }
}

/// The problems if neither port kind can be used. AF_PACKET's requirements are omitted if an AF_XDP mode was configured.
fn refusals(mode: XdpMode, error: &KeeperError, of_packet: Vec<String>) -> Vec<String> {
    std::iter::once(error.to_string()).chain(of_packet.into_iter().filter(|_| mode == XdpMode::Auto)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn af_packet_requirements_are_reported_only_if_no_mode_is_configured() {
        let error = KeeperError::Problems(vec!["no zero-copy".into()]);
        let count = |mode| refusals(mode, &error, vec!["AF_PACKET needs more".into()]).len();
        assert_eq!([XdpMode::Auto, XdpMode::ZeroCopy, XdpMode::NativeCopy].map(count), [2, 1, 1]);
    }
}
