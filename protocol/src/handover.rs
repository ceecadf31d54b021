//! How switchers and the interface daemon get their descriptors from the keeper: one request and one response over
//! `keeper.sock` (SOCK_SEQPACKET), with the descriptors attached to the response (SCM_RIGHTS). Both ends use this module.
//!
//! ```text
//! switcher -> keeper   {"Switcher":{"number":0}}
//! keeper -> switcher   {"Granted":{...}} + control, keeper (read-only), connections, switcher.N, frames.N,
//!                                        every switcher's region (read-only), [store.N, wake-up,] ports...
//!                      {"Refused":"why, and what to do"}
//! ```
//!
//! [`ifdaemon`] describes the interface daemon's handover.
//!
//! The switcher keeps port `i` open as descriptor [`PORT_DESCRIPTORS`]` + i`, so that a keeper that was killed finds the
//! sockets in the living switcher ([`take_descriptor`]) and no queue is ever closed.
#![allow(unsafe_code)]

pub mod ifdaemon;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, connect,
    recvmsg, sendmsg, socket,
};
use serde::{Deserialize, Serialize};

use crate::idle::Idle;

/// How long a keeper that isn't there yet is waited for, after how long that is said, and from one try to the next.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(20);
/// Descriptor number of the wake-up eventfd in switchers and in the interface daemon: it ends the daemon's sleep.
pub const WAKE_DESCRIPTOR: RawFd = 255;
/// Descriptor number of the first port in a switcher.
pub const PORT_DESCRIPTORS: RawFd = 256;
/// Descriptors before those of all switchers and of the ports.
const REGIONS: usize = 5;
/// The kernel's SCM_MAX_FD.
const MOST_DESCRIPTORS: usize = 253;
/// Buffer for a manifest with the largest number of ports.
const MESSAGE: usize = 64 * 1024;

/// The sender of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// A switcher.
    Switcher {
        /// Its number.
        number: u16,
    },
    /// The interface daemon.
    Ifdaemon,
}

/// The keeper's response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Response<Granted> {
    /// The reason, and the remedy.
    Refused(String),
    /// Granted; the descriptors are attached.
    Granted(Granted),
}

/// Describes the attached descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The CPU to run on.
    pub cpu: u32,
    /// The action after an empty turn.
    pub idle: Idle,
    /// The user to switch to.
    pub user: String,
    /// Slots per ring.
    pub ring: u32,
    /// Number of switchers.
    pub switchers: u16,
    /// Whether there is a packet store (a pseudo-interface is configured).
    pub has_store: bool,
    /// The ports, in the order of their numbers and descriptors.
    pub ports: Vec<PortManifest>,
}

/// Describes one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortManifest {
    /// Index of the interface in the keeper region.
    pub interface: u16,
    /// The interface's queue.
    pub queue: u16,
    /// The socket family.
    pub kind: SocketKind,
    /// Whether it also receives.
    pub receives: bool,
    /// Whether it busy-polls the device.
    pub busy_polls: bool,
    /// Whether a kernel thread on the same CPU receives its packets.
    pub threaded: bool,
}

/// The kind of a port's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketKind {
    /// `port::af_xdp`.
    AfXdp,
    /// `port::af_packet`.
    AfPacket,
}

/// The regions' descriptors.
#[derive(Debug)]
pub struct Regions<Descriptor> {
    /// Control region, read-only.
    pub control: Descriptor,
    /// Keeper region, read-only.
    pub keeper: Descriptor,
    /// Connection table.
    pub connections: Descriptor,
    /// The switcher's own region.
    pub switcher: Descriptor,
    /// Its frame pool.
    pub frames: Descriptor,
}

/// The switcher's end of the packet store.
#[derive(Debug)]
pub struct StoreDescriptors {
    /// The region `store.N`.
    pub region: OwnedFd,
    /// The eventfd that ends the interface daemon's sleep; descriptor [`WAKE_DESCRIPTOR`].
    pub wake: OwnedFd,
}

/// A switcher's descriptors.
#[derive(Debug)]
pub struct Handover {
    /// Describes the descriptors.
    pub manifest: Manifest,
    /// The regions.
    pub regions: Regions<OwnedFd>,
    /// Every switcher's region, read-only, by number.
    pub switchers: Vec<OwnedFd>,
    /// The packet store, if there is one.
    pub store: Option<StoreDescriptors>,
    /// The ports' sockets, in the manifest's order.
    pub ports: Vec<OwnedFd>,
}

/// Why a handover failed.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// No keeper listens.
    #[error("{path}: {error}; is shunt-keeper running? It makes this socket (shunt-keeper --config FILE)")]
    Connect {
        /// The keeper's socket.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The keeper's directory denies access to this user.
    #[error("{0}: permission denied; must run as root")]
    NotRoot(PathBuf),
    /// The keeper closed the connection, or the message was too long.
    #[error("connection to shunt-keeper: {0}")]
    Talk(io::Error),
    /// The peer runs another version.
    #[error("shunt-keeper's answer: {0}; keeper and switcher are of different builds")]
    Response(#[from] serde_json::Error),
    /// The number of descriptors does not match the manifest.
    #[error("shunt-keeper sent {sent} descriptors, expected {expected}; keeper and switcher are of different builds")]
    Descriptors {
        /// Number received.
        sent: usize,
        /// Number that the manifest requires.
        expected: usize,
    },
    /// The keeper refused the request.
    #[error("shunt-keeper refused: {0}")]
    Refused(String),
}

impl HandoverError {
    /// Returns true if a restart would fail the same way.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotRoot(_) | Self::Refused(_))
    }
}

impl From<nix::Error> for HandoverError {
    fn from(errno: nix::Error) -> Self {
        Self::Talk(errno.into())
    }
}

/// Retries until a keeper answers, since processes may start in any order. Logs the reason once if the wait takes long.
pub fn wait_for_keeper<T>(
    ask: impl Fn() -> Result<T, HandoverError>,
    say: impl FnOnce(String),
) -> Result<T, HandoverError> {
    let (begin, mut say) = (Instant::now(), Some(say));
    loop {
        match ask() {
            Err(error @ HandoverError::Connect { .. }) if begin.elapsed() < PATIENCE => {
                if begin.elapsed() >= SILENCE
                    && let Some(say) = say.take()
                {
                    say(format!("{error}; waiting for it, {} s at most", PATIENCE.as_secs()));
                }
                sleep(RETRY);
            }
            other => return other,
        }
    }
}

/// Requests everything that switcher `number` needs.
pub fn ask(keeper: &Path, number: u16) -> Result<Handover, HandoverError> {
    let (manifest, descriptors) = request(keeper, &Request::Switcher { number })?;
    sort(manifest, descriptors)
}

/// Sends one request and receives its response.
fn request<Granted: for<'a> Deserialize<'a>>(
    keeper: &Path,
    question: &Request,
) -> Result<(Granted, Vec<OwnedFd>), HandoverError> {
    let connect_error = |error| match error {
        Errno::EACCES => HandoverError::NotRoot(keeper.to_owned()),
        _ => HandoverError::Connect { path: keeper.to_owned(), error: error.into() },
    };
    let address = UnixAddr::new(keeper).map_err(connect_error)?;
    let socket =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(connect_error)?;
    connect(socket.as_raw_fd(), &address).map_err(connect_error)?;
    send(socket.as_fd(), question, &[])?;
    let (answer, descriptors) = receive::<Response<Granted>>(socket.as_fd())?;
    match answer {
        Response::Refused(reason) => Err(HandoverError::Refused(reason)),
        Response::Granted(granted) => Ok((granted, descriptors)),
    }
}

/// Separates regions from ports, and moves the ports to the descriptor numbers where the keeper expects them.
fn sort(manifest: Manifest, descriptors: Vec<OwnedFd>) -> Result<Handover, HandoverError> {
    let of_store = if manifest.has_store { 2 } else { 0 };
    let expected = REGIONS + usize::from(manifest.switchers) + of_store + manifest.ports.len();
    let sent = descriptors.len();
    if sent != expected {
        return Err(HandoverError::Descriptors { sent, expected });
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(HandoverError::Descriptors { sent, expected });
    let regions =
        Regions { control: next()?, keeper: next()?, connections: next()?, switcher: next()?, frames: next()? };
    let switchers = descriptors.by_ref().take(manifest.switchers.into()).collect();
    let mut next = || descriptors.next().ok_or(HandoverError::Descriptors { sent, expected });
    let store = match manifest.has_store {
        true => Some(StoreDescriptors { region: next()?, wake: renumber(&next()?, WAKE_DESCRIPTOR)? }),
        false => None,
    };
    let ports = (PORT_DESCRIPTORS..).zip(descriptors).map(|(number, port)| renumber(&port, number));
    Ok(Handover { ports: ports.collect::<Result<_, _>>()?, manifest, regions, switchers, store })
}

fn renumber(descriptor: &OwnedFd, number: RawFd) -> Result<OwnedFd, HandoverError> {
    let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(number))?;
    // SAFETY: the kernel just created this descriptor for this process.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    if copy.as_raw_fd() == number {
        Ok(copy)
    } else {
        let used = format!("descriptor {number} is already in use; start the switcher with fewer open files");
        Err(HandoverError::Talk(io::Error::other(used)))
    }
}

/// Accepts the next connection; for the keeper.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let descriptor = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel just created this descriptor for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sends one message.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), HandoverError> {
    let text = serde_json::to_vec(message)?;
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: BorrowedFd<'_>) -> Result<(T, Vec<OwnedFd>), HandoverError> {
    let mut text = vec![0; MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel installed these descriptors for this message; no other code owns them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(HandoverError::Talk(io::Error::other("the message is too long")));
    }
    if length == 0 {
        return Err(HandoverError::Talk(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok((serde_json::from_slice(&text[..length])?, descriptors))
}

/// Duplicates another process's descriptor. Needs permission to trace that process; root has it.
pub fn take_descriptor(process: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory involved.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just created this descriptor for this process, and descriptors fit an i32.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// A pidfd: it refers to this process even after its number is reused.
pub fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory involved.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as in `take_descriptor`.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a socket pair")
    }

    fn manifest(ports: usize) -> Manifest {
        let port = PortManifest {
            interface: 1,
            queue: 0,
            kind: SocketKind::AfXdp,
            receives: true,
            busy_polls: false,
            threaded: false,
        };
        Manifest {
            cpu: 1,
            idle: Idle::Spin,
            user: "nobody".into(),
            ring: 256,
            switchers: 2,
            has_store: true,
            ports: vec![port; ports],
        }
    }

    #[test]
    fn manifest_and_descriptors_arrive_together() {
        let (keeper, switcher) = pair();
        let file = tempfile::tempfile().expect("a file");
        let descriptors = vec![file.as_fd(); REGIONS + 2 + 2 + 64];
        send(keeper.as_fd(), &Response::Granted(manifest(64)), &descriptors).expect("sent");
        let (answer, received) = receive::<Response<Manifest>>(switcher.as_fd()).expect("received");
        let Response::Granted(granted) = answer else { panic!("{answer:?}") };
        assert_eq!((granted, received.len()), (manifest(64), REGIONS + 2 + 2 + 64));
    }

    #[test]
    fn missing_descriptors_and_a_dead_keeper_are_told() {
        let (keeper, switcher) = pair();
        let error = sort(manifest(1), Vec::new()).expect_err("no descriptors").to_string();
        assert!(error.contains("sent 0 descriptors, expected 10"), "{error}");
        drop(keeper);
        assert!(matches!(receive::<Response<Manifest>>(switcher.as_fd()), Err(HandoverError::Talk(_))));
        let error = ask(Path::new("/nonexistent/keeper.sock"), 0).expect_err("no socket").to_string();
        assert!(error.contains("is shunt-keeper running?"), "{error}");
    }

    #[test]
    fn what_is_waited_for_is_said_once_and_not_at_once() {
        let asked = |seconds: u64| {
            let (begin, mut said) = (Instant::now(), Vec::new());
            let missing =
                || HandoverError::Connect { path: "keeper.sock".into(), error: io::ErrorKind::NotFound.into() };
            let ask = || if begin.elapsed() < Duration::from_secs(seconds) { Err(missing()) } else { Ok(()) };
            wait_for_keeper(ask, |text| said.push(text)).expect("a keeper");
            said
        };
        assert_eq!(asked(0), [""; 0]);
        let said = asked(1);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("keeper.sock: ") && said[0].ends_with("; waiting for it, 10 s at most"),
            "{said:?}"
        );
    }

    #[test]
    fn descriptor_of_a_process_can_be_copied() {
        let file = tempfile::tempfile().expect("a file");
        let me = open_process(std::process::id()).expect("a pidfd");
        let copy = take_descriptor(me.as_fd(), file.as_raw_fd()).expect("a copy");
        let number = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).expect("a file").st_ino;
        assert_eq!(number(copy.as_fd()), number(file.as_fd()));
        assert!(take_descriptor(me.as_fd(), 9999).is_err());
    }
}
