//! One request on a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// What became of a request.
pub struct Outcome {
    /// How long after it was due its connection was begun.
    pub late: Duration,
    /// From when it was due to the end of its answer.
    pub latency: Duration,
    /// Who answered, or why nobody did.
    pub result: Result<String, Failure>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Not in time.
    Timeout,
    /// The connection couldn't be opened.
    Connect,
    /// The connection was cut before the answer, or the answer isn't one.
    Cut,
}

impl Failure {
    /// As the summary calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Cut => "cut",
        }
    }
}

/// Asks, and waits until `limit` after the request was due.
pub async fn ask(target: SocketAddr, due: Instant, limit: Duration) -> Outcome {
    let late = due.elapsed();
    let result = timeout_at(due + limit, exchange(target)).await.unwrap_or(Err(Failure::Timeout));
    Outcome { late, latency: due.elapsed(), result }
}

async fn exchange(target: SocketAddr) -> Result<String, Failure> {
    let stream = TcpStream::connect(target).await.map_err(|_| Failure::Connect)?;
    let answer = converse(stream).await.map_err(|_| Failure::Cut)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(Failure::Cut)?;
    let whole = head.starts_with("HTTP/1.0 200 ") && body.ends_with('\n');
    whole.then(|| body.trim_end().to_owned()).ok_or(Failure::Cut)
}

async fn converse(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
