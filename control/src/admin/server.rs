//! The admin socket: accepts clients, reads commands, writes replies.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use shunt_protocol::admin::{Command, Reply};

/// Longest line, bytes.
const LINE_BYTES: u64 = 64 << 10;
/// Limit of concurrent clients; others wait in the socket's queue.
const CLIENTS: usize = 32;
/// Timeout of a client that sends nothing or does not read its reply.
const SILENCE: Duration = Duration::from_secs(30);
/// Delay after a failed accept, for example without free descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A command, and the channel for its reply.
pub struct Order {
    /// What is to be done.
    pub command: Command,
    /// The channel to the waiting client.
    pub answer: oneshot::Sender<Reply>,
}

/// Binds the socket, and replaces one that a predecessor left; the caller holds the instance lock.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket in a task of its own; the receiver gets the commands.
pub fn serve(listener: UnixListener) -> mpsc::Receiver<Order> {
    let (orders, receiver) = mpsc::channel(CLIENTS);
    tokio::spawn(accept(listener, orders));
    receiver
}

async fn accept(listener: UnixListener, orders: mpsc::Sender<Order>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let orders = orders.clone();
                tokio::spawn(async move {
                    if let Err(error) = attend(stream, &orders).await {
                        debug!("a client of the admin socket: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!("cannot accept a client on the admin socket: {error}");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one client until it disconnects, times out or sends a line that is too long.
async fn attend(stream: UnixStream, orders: &mpsc::Sender<Order>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LINE_BYTES);
        timeout(SILENCE, limited.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n") || (line.len() as u64) < LINE_BYTES;
        let reply = match is_whole {
            true => handle_command(&line, orders).await,
            false => Reply::Refused { error: format!("an order takes at most {LINE_BYTES} bytes") },
        };
        timeout(SILENCE, write.write_all(reply.line().as_bytes())).await??;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn handle_command(line: &[u8], orders: &mpsc::Sender<Order>) -> Reply {
    let command = match Command::parse(line) {
        Ok(command) => command,
        Err(error) => return Reply::Refused { error },
    };
    let (answer, reply) = oneshot::channel();
    let stopping = || Reply::Refused { error: "shunt-control is stopping".into() };
    if orders.send(Order { command, answer }).await.is_err() {
        return stopping();
    }
    reply.await.unwrap_or_else(|_| stopping())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket in a folder of its own, and a main loop that refuses everything with the order's own words.
    fn start() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        std::fs::write(&path, "left by a predecessor").unwrap();
        let mut orders = serve(listen(&path).unwrap());
        tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                let _ = order.answer.send(Reply::Refused { error: format!("{:?}", order.command) });
            }
        });
        (folder, path)
    }

    async fn ask(stream: &mut BufReader<UnixStream>, request: &[u8]) -> String {
        stream.write_all(request).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line
    }

    #[tokio::test]
    async fn each_line_is_answered_while_others_are_silent() {
        let (_folder, path) = start();
        let _silent = UnixStream::connect(&path).await.unwrap();
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        assert_eq!(ask(&mut stream, b"{\"command\":\"reload\"}\n").await, "{\"ok\":false,\"error\":\"Reload\"}\n");
        assert!(ask(&mut stream, b"hello\n").await.starts_with("{\"ok\":false,\"error\":\"not an order: "));
        assert_eq!(ask(&mut stream, b"{\"command\":\"backends\"}\n").await, "{\"ok\":false,\"error\":\"Backends\"}\n");
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_off_and_nobody_else_can_connect() {
        let (_folder, path) = start();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let answer = ask(&mut stream, &vec![b'x'; LINE_BYTES as usize]).await;
        assert_eq!(answer, "{\"ok\":false,\"error\":\"an order takes at most 65536 bytes\"}\n");
        assert_eq!(stream.read_line(&mut String::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn as_many_clients_as_there_are_are_served_in_turn() {
        let (_folder, path) = start();
        for _ in 0..3 * CLIENTS {
            let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
            assert!(ask(&mut stream, b"{\"command\":\"reload\"}\n").await.contains("Reload"));
        }
    }
}
