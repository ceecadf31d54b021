//! A connection on a client's path as a tokio stream: the stack and its packet socket.

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W};
use nix::sys::socket::{MsgFlags, SockType, recv};
use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Path;
use super::stack::Stack;
use crate::packet_socket::{self, Instruction};

/// The kernel may merge several packets of a connection (GRO).
const LONGEST_PACKET: usize = 64 << 10;
/// Limit of packets per poll: a flood from the backend must not block control or exhaust its memory.
const MOST_IN_A_POLL: usize = 32;
const PROTOCOL_TCP: u32 = 6;

/// An open connection. Dropping it sends a reset, as load balancers' checks do, so neither side keeps state.
pub struct Stream {
    stack: Stack,
    socket: AsyncFd<OwnedFd>,
    path: Path,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
    /// Reserves the port, so that no program uses it and the kernel does not answer for it.
    _port: std::net::TcpListener,
}

impl Stream {
    /// Connects to `target` through the Ethernet address of `path`. Needs CAP_NET_RAW, and a tokio runtime with I/O and
    /// time. Fails with ConnectionRefused on a reset; without an answer it never returns.
    pub async fn connect(path: Path, target: SocketAddrV4) -> io::Result<Self> {
        let port = reserve_port(&path)?;
        let source = SocketAddrV4::new(path.source, port.local_addr()?.port());
        let socket = packet_socket::open(SockType::Datagram)?;
        // Attached before binding, so that no other packets are queued.
        packet_socket::filter(&socket, &replies(target, source.port()))?;
        packet_socket::bind(&socket, path.ifindex, packet_socket::IPV4)?;
        let stack = Stack::connect(source, target, RandomState::new().hash_one(source));
        let stack = stack.ok_or(ErrorKind::InvalidInput)?;
        let (socket, timer) = (packet_socket::register(socket)?, Box::pin(sleep(Duration::ZERO)));
        let buffer = vec![0; LONGEST_PACKET].into_boxed_slice();
        let mut stream = Self { stack, socket, path, began: Instant::now(), timer, buffer, _port: port };
        poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    fn poll_connected(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drive(context)?;
        match self.stack.socket().state() {
            State::SynSent | State::SynReceived => Poll::Pending,
            State::Closed => Poll::Ready(Err(ErrorKind::ConnectionRefused.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Receives packets, sends due ones, and registers the task to be woken for more.
    fn drive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let socket = &self.socket;
        let has_more = take(&mut self.stack, &mut self.buffer, |buffer| {
            // `try_io` fails if the socket was empty after all; the loop then waits again.
            while let Poll::Ready(ready) = socket.poll_read_ready(context) {
                let read = |socket: &AsyncFd<OwnedFd>| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?);
                if let Ok(length) = ready?.try_io(read) {
                    return length.map(Some);
                }
            }
            Ok(None)
        })?;
        if has_more {
            context.waker().wake_by_ref();
        }
        loop {
            self.exchange()?;
            let now = self.began.elapsed();
            let Some(delay) = self.stack.delay(now) else { return Ok(()) };
            self.timer.as_mut().reset(Instant::now() + delay);
            if self.timer.as_mut().poll(context).is_pending() {
                return Ok(());
            }
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        self.stack.advance(self.began.elapsed());
        while let Some(packet) = self.stack.take() {
            let Path { ifindex, mac, .. } = self.path;
            packet_socket::send(self.socket.get_ref(), ifindex, packet_socket::IPV4, mac, &packet)?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stack.socket().abort();
        // If that fails, the backend's own timeout ends the connection.
        let _ = self.exchange();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.drive(context)?;
        match stream.stack.socket().recv_slice(into.initialize_unfilled()) {
            Ok(0) => Poll::Pending,
            Ok(length) => {
                into.advance(length);
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.drive(context)?;
        match stream.stack.socket().send_slice(bytes) {
            Ok(0) => Poll::Pending,
            Ok(length) => {
                stream.drive(context)?;
                Poll::Ready(Ok(length))
            }
            Err(_) => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().drive(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.stack.socket().close();
        Poll::Ready(stream.drive(context))
    }
}

/// Passes packets from `read` to the stack until there are none; returns true if more may follow.
fn take(
    stack: &mut Stack,
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> io::Result<Option<usize>>,
) -> io::Result<bool> {
    for _ in 0..MOST_IN_A_POLL {
        let Some(length) = read(buffer)? else { return Ok(false) };
        stack.put(&buffer[..length.min(buffer.len())]);
    }
    Ok(true)
}

/// Reserves an unused port of this machine. Otherwise the kernel, which does not know the connection, would reset it; a
/// listener that accepts nothing prevents this.
fn reserve_port(path: &Path) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((path.source, 0))?;
    packet_socket::filter(&listener, &[(code(BPF_RET | BPF_K), 0, 0, 0)])?;
    Ok(listener)
}

/// Accepts TCP segments from `target` to `port`; offsets start at the IPv4 header.
fn replies(target: SocketAddrV4, port: u16) -> [Instruction; 9] {
    let load = |size, place, offset| (code(BPF_LD | size | place), 0, 0, offset);
    let unless = |value, skipped| (code(BPF_JMP | BPF_JEQ | BPF_K), 0, skipped, value);
    [
        load(BPF_B, BPF_ABS, 9),
        unless(PROTOCOL_TCP, 6),
        load(BPF_W, BPF_ABS, 12),
        unless(target.ip().to_bits(), 4),
        // X = length of the IP header
        (code(BPF_LDX | BPF_B | BPF_MSH), 0, 0, 0),
        load(BPF_H, BPF_IND, 2),
        unless(port.into(), 1),
        (code(BPF_RET | BPF_K), 0, 0, u32::MAX),
        (code(BPF_RET | BPF_K), 0, 0, 0),
    ]
}

fn code(bits: u32) -> u16 {
    bits as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_taken_in_parts_and_copied_by_its_length() {
        let (source, target) = ("198.18.1.1:40000".parse().unwrap(), "198.18.0.100:80".parse().unwrap());
        let mut stack = Stack::connect(source, target, 1).unwrap();
        let mut buffer = vec![0x45; LONGEST_PACKET];
        assert!(take(&mut stack, &mut buffer, |_| Ok(Some(60))).unwrap(), "more may be there");
        assert_eq!(stack.waiting_bytes(), MOST_IN_A_POLL * 60);
        stack.advance(Duration::ZERO);
        assert_eq!(stack.waiting_bytes(), 0);
        let mut lengths = [Some(40), None, Some(40)].into_iter();
        assert!(!take(&mut stack, &mut buffer, |_| Ok(lengths.next().flatten())).unwrap());
        assert_eq!(stack.waiting_bytes(), 40);
    }
}
