//! Handing the descriptors to switchers and the interface daemon over `keeper.sock`: at most one living process has those
//! of a switcher, and one those of the daemon.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use shunt_config::Config;
use shunt_process::{Instance, keeper_socket};
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::regions::{PORT_BUSY_POLLS, PORT_RECEIVES, PORT_THREADED, PortKind, PortRecord, SwitcherRecord};

use super::KeeperError;
use super::host::PseudoInterface;
use super::listener::{Listener, remove_if_there};
use super::regions::Regions;
use shunt_protocol::handover::ifdaemon;
use shunt_protocol::handover::{
    HandoverError, Manifest, PortManifest, Request, Response, SocketKind, accept, receive, send,
};

/// Timeout for a client that connects and sends nothing.
const PATIENCE_MS: i64 = 200;

/// Removes the socket of a keeper that was killed: its existence would signal that this keeper is ready.
pub(super) fn remove_stale(instance: &Instance) -> Result<(), KeeperError> {
    remove_if_there(&keeper_socket(instance))
}

/// The listening socket and the descriptors that it hands out.
pub(super) struct HandoverServer {
    listener: Listener,
    manifests: Vec<Manifest>,
    /// By switcher, then port number.
    ports: Vec<Vec<OwnedFd>>,
}

impl HandoverServer {
    /// Starts to listen. The socket's file signals that the keeper is ready, so this is the last step of the start.
    pub fn open(
        config: &Config,
        cpus: &[u32],
        records: Vec<PortRecord>,
        sockets: Vec<OwnedFd>,
    ) -> Result<HandoverServer, KeeperError> {
        let listener = Listener::open(keeper_socket(&config.instance))?;
        let manifests = (0..cpus.len()).map(|number| manifest(config, cpus, number, &records)).collect();
        let mut ports: Vec<Vec<OwnedFd>> = cpus.iter().map(|_| Vec::new()).collect();
        for (port, socket) in records.iter().zip(sockets) {
            ports[usize::from(port.switcher)].push(socket);
        }
        Ok(HandoverServer { listener, manifests, ports })
    }

    /// The listening socket, for `poll`.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.listener.socket.as_fd()
    }

    /// Listens again, once a second at most, if somebody removed or replaced the socket's file.
    pub fn keep(&mut self) {
        self.listener.keep();
    }

    /// Answers one request of a switcher or the interface daemon.
    pub fn answer(&self, regions: &Regions, pseudo: Option<&PseudoInterface>) {
        match accept(self.socket()) {
            Ok(connection) => {
                if let Err(error) = self.converse(connection.as_fd(), regions, pseudo) {
                    log::warn!("a request at keeper.sock: {error}");
                }
            }
            Err(nix::Error::EAGAIN) => {}
            Err(error) => log::warn!("{}: {error}", self.listener.path.display()),
        }
    }

    fn converse(
        &self,
        connection: BorrowedFd<'_>,
        regions: &Regions,
        pseudo: Option<&PseudoInterface>,
    ) -> Result<(), HandoverError> {
        setsockopt(&connection, ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
        let pid = getsockopt(&connection, PeerCredentials)?.pid() as u32;
        let (request, _) = receive(connection)?;
        let (who, granted) = match request {
            Request::Switcher { number } => {
                (format!("switcher {number}"), self.grant(connection, number.into(), pid, regions, pseudo))
            }
            Request::Ifdaemon => ("shunt-ifdaemon".into(), self.grant_daemon(connection, pid, regions, pseudo)),
        };
        match granted {
            Ok(()) => {
                log::info!("{who} is pid {pid}");
                Ok(())
            }
            Err(HandoverError::Refused(reason)) => {
                log::warn!("{who}, pid {pid}, refused: {reason}");
                send(connection, &Response::<()>::Refused(reason), &[])
            }
            Err(error) => Err(error),
        }
    }

    /// Hands the device and the packet stores to the interface daemon, unless a living process has them.
    fn grant_daemon(
        &self,
        connection: BorrowedFd<'_>,
        pid: u32,
        regions: &Regions,
        pseudo: Option<&PseudoInterface>,
    ) -> Result<(), HandoverError> {
        let (Some(pseudo), Some(memory)) = (pseudo, &regions.host) else {
            return send(connection, &Response::Granted(None::<ifdaemon::DeviceManifest>), &[]);
        };
        if let Some(other) = regions.keeper.living_daemon().filter(|other| *other != pid) {
            let reason = format!("shunt-ifdaemon is already running as pid {other}; kill it first");
            return Err(HandoverError::Refused(reason));
        }
        let Some(start_time) = start_time(pid) else {
            return Err(HandoverError::Refused(format!("pid {pid} is gone")));
        };
        // Recorded first, as for a switcher.
        let head = regions.keeper.head;
        head.ifdaemon_start_time.set(start_time);
        head.ifdaemon_pid.set(pid.into());
        let manifest = ifdaemon::DeviceManifest {
            user: self.manifests[0].user.clone(),
            device: pseudo.name().into(),
            mtu: pseudo.mtu(),
            has_offloads: pseudo.has_offloads(),
            switchers: memory.store_fds.len() as u16,
        };
        let regions = std::iter::once(&memory.daemon_fd).chain(&memory.store_fds).map(AsFd::as_fd);
        let descriptors: Vec<_> = regions.chain([pseudo.wake(), pseudo.device()]).collect();
        send(connection, &Response::Granted(Some(manifest)), &descriptors).inspect_err(|_| head.ifdaemon_pid.set(0))
    }

    /// Hands a switcher's descriptors out, unless a living process has them.
    fn grant(
        &self,
        connection: BorrowedFd<'_>,
        number: usize,
        pid: u32,
        regions: &Regions,
        pseudo: Option<&PseudoInterface>,
    ) -> Result<(), HandoverError> {
        let Some(manifest) = self.manifests.get(number) else {
            let count = self.manifests.len();
            return Err(HandoverError::Refused(format!(
                "there is no switcher {number}, the configuration has {count}"
            )));
        };
        let record = regions.switcher(number);
        // Fencing: two processes on the same rings would give each frame two owners.
        if record.is_alive() && record.pid != pid {
            let other = record.pid;
            return Err(HandoverError::Refused(format!(
                "switcher {number} is already running as pid {other}; kill it first"
            )));
        }
        let Some(start_time) = start_time(pid) else {
            return Err(HandoverError::Refused(format!("pid {pid} is gone")));
        };
        let switcher = &regions.switchers[number];
        if !record.is_alive() {
            // From now on control considers the new process alive, and would wait for it to leave what the dead one used.
            switcher.region.head.in_use.store(0, Ordering::Release);
        }
        // Recorded first: in the other order, a keeper killed in between would not know of this switcher.
        let granted = SwitcherRecord { pid, start_time, handovers: record.handovers + 1, ..record };
        regions.set_switcher(number, &granted);
        let own = [
            &regions.control_fd,
            &regions.keeper_fd,
            &regions.connections_fd,
            &switcher.region_fd,
            &switcher.frames_fd,
        ];
        let all = regions.switchers.iter().map(|switcher| &switcher.view_fd);
        let store = pseudo.zip(regions.host.as_ref());
        let store = store.map(|(pseudo, memory)| [memory.store_fds[number].as_fd(), pseudo.wake()]);
        let ports = self.ports[number].iter().map(AsFd::as_fd);
        let descriptors = own.into_iter().chain(all).map(AsFd::as_fd).chain(store.into_iter().flatten()).chain(ports);
        let descriptors: Vec<_> = descriptors.collect();
        send(connection, &Response::Granted(manifest.clone()), &descriptors).inspect_err(|_| {
            regions.set_switcher(number, &SwitcherRecord { pid: 0, start_time: 0, ..granted });
        })
    }
}

fn manifest(config: &Config, cpus: &[u32], number: usize, records: &[PortRecord]) -> Manifest {
    let own = records.iter().filter(|port| usize::from(port.switcher) == number);
    let ports = own.map(|port| PortManifest {
        interface: port.interface,
        queue: port.queue,
        kind: if port.kind() == Some(PortKind::AfXdp) { SocketKind::AfXdp } else { SocketKind::AfPacket },
        receives: port.flags & PORT_RECEIVES != 0,
        busy_polls: port.flags & PORT_BUSY_POLLS != 0,
        threaded: port.flags & PORT_THREADED != 0,
    });
    Manifest {
        cpu: cpus[number],
        idle: config.switchers.idle,
        user: config.user.clone(),
        ring: config.limits.ring,
        switchers: cpus.len() as u16,
        has_store: config.host.is_some(),
        ports: ports.collect(),
    }
}
