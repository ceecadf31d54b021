//! The socket that receives reports.

use std::io;
use std::net::{IpAddr, SocketAddr};

use log::{info, warn};
use shunt_report::LONGEST_BYTES;
use tokio::net::UdpSocket;

/// Limit of datagrams per call, so that a flood leaves control time for other work; the kernel drops the rest.
const MOST_AT_ONCE: usize = 128;
/// Retry interval for an address that cannot be bound; it may be configured later.
const RETRY_MS: u64 = 1000;

/// A socket that is opened as soon as possible.
#[derive(Default)]
pub struct ReportSocket {
    listen: Option<SocketAddr>,
    socket: Option<UdpSocket>,
    not_before_ms: u64,
    /// Why it could not be opened.
    fault: Option<String>,
}

impl ReportSocket {
    /// Sets the address to listen on; `None` closes the socket.
    pub fn listen(&mut self, listen: Option<SocketAddr>) {
        if listen != self.listen {
            *self = Self { listen, ..Self::default() };
        }
    }

    /// Opens the socket if necessary; must be called periodically.
    pub fn open(&mut self, now_ms: u64) {
        let Some(listen) = self.listen.filter(|_| self.socket.is_none() && now_ms >= self.not_before_ms) else {
            return;
        };
        match bind(listen) {
            Ok(socket) => {
                info!("agents' reports are taken at {listen}");
                (self.socket, self.fault) = (Some(socket), None);
            }
            Err(error) => {
                if self.not_before_ms == 0 {
                    warn!("feedback.listen {listen}: {error}; no report arrives, trying again each second");
                }
                self.not_before_ms = now_ms + RETRY_MS;
                self.fault = Some(error.to_string());
            }
        }
    }

    /// The address that it cannot listen on, and the error.
    pub fn fault(&self) -> Option<(SocketAddr, &str)> {
        self.listen.zip(self.fault.as_deref())
    }

    /// Waits for a datagram; never returns without a socket.
    pub async fn readable(&self) {
        let is_readable = match &self.socket {
            Some(socket) => socket.readable().await.is_ok(),
            None => false,
        };
        if !is_readable {
            std::future::pending().await
        }
    }

    /// Passes pending datagrams and their sources to `take`, up to a limit. A longer datagram is truncated one byte after
    /// the longest allowed.
    pub fn take(&self, mut each: impl FnMut(IpAddr, &[u8])) {
        let mut datagram = [0; LONGEST_BYTES + 1];
        let Some(socket) = &self.socket else { return };
        for _ in 0..MOST_AT_ONCE {
            match socket.try_recv_from(&mut datagram) {
                Ok((length, source)) => each(source.ip().to_canonical(), &datagram[..length]),
                Err(_) => return, // would block; or an error of one datagram, which is gone then
            }
        }
    }
}

fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(listen)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_are_taken_and_long_ones_are_seen_to_be_long() {
        let mut socket = ReportSocket::default();
        socket.listen("127.0.0.1:0".parse().ok());
        socket.open(0);
        let address = socket.socket.as_ref().unwrap().local_addr().unwrap();
        let agent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [7, 5000] {
            agent.send_to(&vec![1; length], address).unwrap();
        }
        let mut lengths = Vec::new();
        while lengths.len() < 2 {
            socket.readable().await;
            socket.take(|_, datagram| lengths.push(datagram.len()));
        }
        assert_eq!(lengths, [7, LONGEST_BYTES + 1]);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_tried_again_later() {
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut socket = ReportSocket::default();
        socket.listen(other.local_addr().ok());
        socket.open(0);
        assert!(socket.socket.is_none());
        let fault = socket.fault().expect("a fault");
        assert_eq!(Some(fault.0), other.local_addr().ok());
        assert!(fault.1.contains("in use"), "{fault:?}");
        drop(other);
        socket.open(RETRY_MS - 1);
        assert!(socket.socket.is_none());
        socket.open(RETRY_MS);
        assert!(socket.socket.is_some() && socket.fault().is_none());
        socket.listen(None);
        socket.take(|_, _| panic!("nobody listens"));
    }
}
