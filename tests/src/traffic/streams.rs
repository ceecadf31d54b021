//! Long TCP connections to an echo server. Each sends numbered messages and compares every byte that comes back, so that a
//! lost, doubled, mixed-up or misrouted segment that TCP didn't mend is seen, as is a connection that was cut.

use super::{ANSWER_TIMEOUT, Stop};
use crate::namespace::{Namespace, join};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two messages of a connection.
const PAUSE: Duration = Duration::from_millis(2);
/// Message lengths go up to about two segments.
const LONGEST: u64 = 3000;

/// Connections that are kept busy.
pub struct Streams {
    stop: Stop,
    threads: Vec<JoinHandle<Result<u64>>>,
}

/// What all of them did.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// How many connections.
    pub connections: usize,
    /// Bytes that went there and back.
    pub bytes: u64,
}

impl Streams {
    /// Opens `count` connections, and returns once each has had its first answer.
    pub fn start(from: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let (stop, (ready, readies)) = (Stop::default(), channel());
        let one = |id| {
            let (stop, ready) = (stop.clone(), ready.clone());
            from.spawn(move || converse(id, to, &stop, ready).with_context(|| format!("connection {id} to {to}")))
        };
        let threads = (0..count as u64).map(one).collect::<Result<_>>()?;
        drop(ready);
        let streams = Self { stop, threads };
        if readies.iter().count() < count {
            streams.finish()?;
            bail!("a connection ended before its first answer");
        }
        Ok(streams)
    }

    /// Ends every connection cleanly; all must have lived and been answered exactly.
    pub fn finish(self) -> Result<Whole> {
        let connections = self.threads.len();
        let bytes = self.finish_each().into_iter().sum::<Result<u64>>()?;
        Ok(Whole { connections, bytes })
    }

    /// The same, connection by connection.
    pub fn finish_each(self) -> Vec<Result<u64>> {
        self.stop.order();
        self.threads.into_iter().map(join).collect()
    }
}

/// Bytes that went there and back until the stop.
fn converse(id: u64, to: SocketAddr, stop: &Stop, ready: Sender<()>) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let (mut bytes, mut number) = (0, 0);
    let mut ready = Some(ready);
    while number == 0 || !stop.is_ordered() {
        let sent = message(id, number);
        let mut answer = vec![0; sent.len()];
        stream.write_all(&sent).with_context(|| format!("sending message {number}"))?;
        stream.read_exact(&mut answer).with_context(|| format!("the answer to message {number}"))?;
        let differs = sent.iter().zip(&answer).position(|(sent, came)| sent != came);
        ensure!(differs.is_none(), "the answer to message {number} differs from byte {}", differs.unwrap_or_default());
        // The last sender that goes ends the start's wait.
        ready.take().map(|ready| ready.send(()));
        bytes += sent.len() as u64;
        number += 1;
        std::thread::sleep(PAUSE);
    }
    stream.shutdown(std::net::Shutdown::Write).context("closing")?;
    let rest = stream.read_to_end(&mut Vec::new()).context("awaiting the other side's close")?;
    ensure!(rest == 0, "{rest} bytes more than were sent came back");
    Ok(bytes)
}

/// Every eight bytes tell connection and message.
fn message(id: u64, number: u64) -> Vec<u8> {
    let words = 1 + (number * 97 + id * 31) % (LONGEST / 8);
    let word = |at: u64| ((id << 48) | (number << 16) | (at & 0xffff)).to_be_bytes();
    (0..words).flat_map(word).collect()
}
