//! How switchers and the interface daemon get their descriptors from the keeper: one question and one answer over
//! `keeper.sock` (SOCK_SEQPACKET), the descriptors beside the answer (SCM_RIGHTS). Shared by both ends.
//!
//! ```text
//! switcher -> keeper   {"Switcher":{"number":0}}
//! keeper -> switcher   {"Granted":{...}} + control, keeper (read-only), connections, switcher.N, frames.N,
//!                                        every switcher's region (read-only), [store.N, wake-up,] ports...
//!                      {"Refused":"why, and what to do"}
//! ```
//!
//! What the interface daemon gets is in [`ifdaemon`].
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
/// Number of the wake-up's descriptor in switchers and in the interface daemon: an eventfd that ends the daemon's sleep.
pub const WAKE_DESCRIPTOR: RawFd = 255;
/// Number of the first port's descriptor in a switcher.
pub const PORT_DESCRIPTORS: RawFd = 256;
/// Descriptors before the switchers' and the ports' ones.
const REGIONS: usize = 5;
/// SCM_MAX_FD of the kernel.
const MOST_DESCRIPTORS: usize = 253;
/// Room for the manifest of as many ports as there can be.
const MESSAGE: usize = 64 * 1024;

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// A switcher.
    Switcher {
        /// Which one.
        number: u16,
    },
    /// The interface daemon.
    Ifdaemon,
}

/// What the keeper answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer<Granted> {
    /// No, with the reason.
    Refused(String),
    /// Yes; the descriptors are beside it.
    Granted(Granted),
}

/// What the descriptors are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The CPU to run on.
    pub cpu: u32,
    /// What follows an empty turn.
    pub idle: Idle,
    /// The account to become.
    pub user: String,
    /// Slots of each ring.
    pub ring: u32,
    /// How many switchers there are.
    pub switchers: u16,
    /// Whether there is a packet store (a pseudo-interface is configured).
    pub has_store: bool,
    /// The ports, in the order of their numbers and descriptors.
    pub ports: Vec<PortManifest>,
}

/// What one port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortManifest {
    /// The interface, by its index in the keeper region.
    pub interface: u16,
    /// The interface's queue.
    pub queue: u16,
    /// Which kind of socket.
    pub kind: SocketKind,
    /// Whether it receives, or only sends.
    pub receives: bool,
    /// Whether it fetches them from the device itself.
    pub busy_polls: bool,
    /// Whether a thread of the kernel's on the same CPU receives them.
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
pub struct Store {
    /// The region `store.N`.
    pub region: OwnedFd,
    /// The eventfd that ends the interface daemon's sleep; descriptor [`WAKE_DESCRIPTOR`].
    pub wake: OwnedFd,
}

/// All that a switcher gets.
#[derive(Debug)]
pub struct Handover {
    /// What is what.
    pub manifest: Manifest,
    /// The regions.
    pub regions: Regions<OwnedFd>,
    /// Every switcher's region, read-only, by number.
    pub switchers: Vec<OwnedFd>,
    /// The packet store, if there is one.
    pub store: Option<Store>,
    /// The ports' sockets, in the manifest's order.
    pub ports: Vec<OwnedFd>,
}

/// Why there was no handover.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// No keeper.
    #[error("{path}: {error}; is shunt-keeper running? It makes this socket (shunt-keeper --config FILE)")]
    Connect {
        /// The keeper's socket.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// Somebody else's keeper: its folder is closed to this user.
    #[error("{0}: permission denied; must run as root")]
    NotRoot(PathBuf),
    /// The keeper went away or the message was too long.
    #[error("talking with shunt-keeper: {0}")]
    Talk(io::Error),
    /// Another version at the other end.
    #[error("shunt-keeper's answer: {0}; keeper and switcher are of different builds")]
    Answer(#[from] serde_json::Error),
    /// Descriptors missing.
    #[error("shunt-keeper sent {sent} descriptors, {expected} are needed; keeper and switcher are of different builds")]
    Descriptors {
        /// How many came.
        sent: usize,
        /// How many the manifest speaks of.
        expected: usize,
    },
    /// The keeper said no.
    #[error("shunt-keeper refused: {0}")]
    Refused(String),
}

impl HandoverError {
    /// Whether another start would end the same way.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotRoot(_) | Self::Refused(_))
    }
}

impl From<nix::Error> for HandoverError {
    fn from(errno: nix::Error) -> Self {
        Self::Talk(errno.into())
    }
}

/// Asks until there is a keeper: whoever asks may have been started first. What a longer wait is for is said once.
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

/// Asks the keeper for everything that switcher `number` needs.
pub fn ask(keeper: &Path, number: u16) -> Result<Handover, HandoverError> {
    let (manifest, descriptors) = request(keeper, &Request::Switcher { number })?;
    sort(manifest, descriptors)
}

/// One question and its answer.
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
    let (answer, descriptors) = receive::<Answer<Granted>>(socket.as_fd())?;
    match answer {
        Answer::Refused(reason) => Err(HandoverError::Refused(reason)),
        Answer::Granted(granted) => Ok((granted, descriptors)),
    }
}

/// Tells regions and ports apart, and puts the ports' descriptors where the keeper looks for them.
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
        true => Some(Store { region: next()?, wake: renumber(&next()?, WAKE_DESCRIPTOR)? }),
        false => None,
    };
    let ports = (PORT_DESCRIPTORS..).zip(descriptors).map(|(number, port)| renumber(&port, number));
    Ok(Handover { ports: ports.collect::<Result<_, _>>()?, manifest, regions, switchers, store })
}

fn renumber(descriptor: &OwnedFd, number: RawFd) -> Result<OwnedFd, HandoverError> {
    let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(number))?;
    // SAFETY: the kernel just made this descriptor for us.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    if copy.as_raw_fd() == number {
        Ok(copy)
    } else {
        let used = format!("descriptor {number} is in use already, start the switcher with fewer open files");
        Err(HandoverError::Talk(io::Error::other(used)))
    }
}

/// The next switcher that wants to talk. The keeper's end.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let descriptor = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel just made this descriptor for us.
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
            // SAFETY: the kernel installed these descriptors for this message, nobody else knows them.
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

/// A copy of another process's descriptor. Needs the right to trace that process (root has it).
pub fn take_descriptor(process: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory involved.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us, and descriptors fit an i32.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// A descriptor of a process, which stays that process's even if its number is used again.
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
        send(keeper.as_fd(), &Answer::Granted(manifest(64)), &descriptors).expect("sent");
        let (answer, received) = receive::<Answer<Manifest>>(switcher.as_fd()).expect("received");
        let Answer::Granted(granted) = answer else { panic!("{answer:?}") };
        assert_eq!((granted, received.len()), (manifest(64), REGIONS + 2 + 2 + 64));
    }

    #[test]
    fn missing_descriptors_and_a_dead_keeper_are_told() {
        let (keeper, switcher) = pair();
        let error = sort(manifest(1), Vec::new()).expect_err("no descriptors").to_string();
        assert!(error.contains("sent 0 descriptors, 10 are needed"), "{error}");
        drop(keeper);
        assert!(matches!(receive::<Answer<Manifest>>(switcher.as_fd()), Err(HandoverError::Talk(_))));
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
