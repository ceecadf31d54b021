//! One attempt of a check: connects to a backend, sends the request and evaluates the answer.
//!
//! The request is an [`Exchange`], one file per implementation: `tcp_connect`, `http_get`. A new kind of check adds a file
//! here and a variant of `shunt_config::Probe`; [`converse`] does not compile without it. The check determines how to
//! connect: through the kernel, or like a client (`as_client`).

mod http_get;
mod tcp_connect;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use shunt_config::Probe;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Check;
use super::as_client::{NoPath, Paths, Stream};
use http_get::HttpGet;
use tcp_connect::TcpConnect;

/// A check's request on an open connection, and its validation of the answer.
trait Exchange {
    /// Runs the exchange with the backend at `target`.
    async fn run(&self, target: SocketAddr, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure>;
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Timeout.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Timeout on a client's path: the server may be alive and still unreachable for clients.
    #[error(
        "no answer within {} ms by a client's way; if the server answers this box otherwise, it lacks the service's address \
         on its loopback (dsr) or its replies' route through Shunt (nat)",
        .0.as_millis()
    )]
    TimeoutAsClient(Duration),
    /// The client's path is unknown.
    #[error("{0}")]
    NoPath(NoPath),
    /// The connection was refused or failed.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke before the answer was complete.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The answer isn't HTTP, or is too long.
    #[error("not an HTTP answer: {0}")]
    Malformed(String),
    /// The status is out of the accepted range.
    #[error("status {found}, wanted {} to {}", .wanted.0, .wanted.1)]
    Status {
        /// The received status.
        found: u16,
        /// The accepted range.
        wanted: (u16, u16),
    },
}

/// Runs one attempt. A check that takes a client's path waits until `paths` contains it.
pub async fn ask(check: &Check, paths: &mut watch::Receiver<Paths>) -> Result<(), Failure> {
    if check.way.is_some() {
        await_path(paths, |paths| paths.contains_key(&check.key).then_some(())).await;
    }
    let attempt = async {
        match (check.way, check.target) {
            (Some(_), SocketAddr::V4(target)) => {
                // The neighbour may still be unresolved.
                let path = await_path(paths, |paths| paths.get(&check.key)?.as_ref().ok().copied()).await;
                converse(check, Stream::connect(path, target).await.map_err(Failure::Connect)?).await
            }
            _ => converse(check, TcpStream::connect(check.target).await.map_err(Failure::Connect)?).await,
        }
    };
    let outcome = timeout(check.timeout, attempt).await;
    outcome.unwrap_or_else(|_| match paths.borrow().get(&check.key) {
        Some(Err(no_path)) => Err(Failure::NoPath(no_path.clone())),
        _ if check.way.is_some() => Err(Failure::TimeoutAsClient(check.timeout)),
        _ => Err(Failure::Timeout(check.timeout)),
    })
}

async fn await_path<T>(paths: &mut watch::Receiver<Paths>, wanted: impl Fn(&Paths) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(&paths.borrow_and_update()) {
            return found;
        }
        if paths.changed().await.is_err() {
            std::future::pending::<()>().await; // control ends
        }
    }
}

/// Runs the check's exchange on an open connection.
async fn converse(check: &Check, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    match &check.probe {
        Probe::Tcp => TcpConnect.run(check.target, stream).await,
        Probe::Http { path, host, status_first, status_last } => {
            let (host, wanted) = (host.as_deref(), (*status_first, *status_last));
            HttpGet { path, host, wanted }.run(check.target, stream).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::BackendKey;
    use super::super::as_client::{ClientWay, Sender};
    use super::*;

    fn check(target: SocketAddr, probe: Probe) -> Check {
        Check {
            key: BackendKey { service: "web".into(), backend: "b1".into() },
            target,
            way: None,
            probe,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(10),
            rise: 1,
            fall: 1,
        }
    }

    async fn ask(check: &Check) -> Result<(), Failure> {
        super::ask(check, &mut watch::Sender::default().subscribe()).await
    }

    fn http(target: SocketAddr) -> Check {
        let (path, host) = ("/health".into(), Some("b1.test".into()));
        check(target, Probe::Http { path, host, status_first: 200, status_last: 399 })
    }

    /// A server that takes one connection, reads a request, writes `answer` and hangs up; it yields the request.
    async fn serve_once(answer: Vec<u8>) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            // The client may have heard enough, and hung up.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(request).unwrap()
        });
        (address, server)
    }

    #[tokio::test]
    async fn a_good_status_passes_and_the_request_is_as_it_should_be() {
        let answer = b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n";
        let (address, server) = serve_once(answer.to_vec()).await;
        ask(&http(address)).await.unwrap();
        let request = server.await.unwrap();
        let start = "GET /health HTTP/1.1\r\nHost: b1.test\r\n";
        assert!(request.starts_with(start), "{request}");
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_bad_status_fails_and_is_named() {
        let (address, _server) = serve_once(b"HTTP/1.0 503 Busy\r\n\r\n".to_vec()).await;
        let failure = ask(&http(address)).await.unwrap_err();
        assert_eq!(failure.to_string(), "status 503, wanted 200 to 399");
    }

    #[tokio::test]
    async fn an_endless_header_is_cut_off() {
        let mut answer = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        answer.resize(http_get::MAX_ANSWER_BYTES + 1, b'x');
        let (address, _server) = serve_once(answer).await;
        assert!(matches!(ask(&http(address)).await, Err(Failure::Malformed(_))));
    }

    #[tokio::test]
    async fn a_half_answer_is_a_lost_connection() {
        let (address, _server) = serve_once(b"HTTP/1.1 200 OK\r\n".to_vec()).await;
        assert!(matches!(ask(&http(address)).await, Err(Failure::Lost(_))));
    }

    #[tokio::test]
    async fn silence_is_a_timeout_for_http_and_a_success_for_tcp() {
        // Never accepted: the kernel completes the connection, and no process answers.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        ask(&check(address, Probe::Tcp)).await.unwrap();
        let impatient = Check { timeout: Duration::from_millis(20), ..http(address) };
        assert!(matches!(ask(&impatient).await, Err(Failure::Timeout(_))));
    }

    #[tokio::test]
    async fn a_client_s_way_is_waited_for_and_its_absence_named() {
        let target = "198.18.0.100:80".parse().unwrap();
        let backend = "198.18.1.11".parse().unwrap();
        let way = Some(ClientWay { backend, sender: Sender::Neighbour });
        let timeout = Duration::from_millis(20);
        let check = Check { way, timeout, ..check(target, Probe::Tcp) };
        let paths = watch::Sender::<Paths>::default();
        let mut receiver = paths.subscribe();
        let mut asked = std::pin::pin!(super::ask(&check, &mut receiver));
        let early = tokio::time::timeout(5 * timeout, asked.as_mut()).await;
        assert!(early.is_err(), "not before control has looked");
        paths.send_replace([(check.key.clone(), Err(NoPath::Unresolved(backend)))].into());
        let failure = asked.await.unwrap_err().to_string();
        assert_eq!(failure, "no Ethernet address for 198.18.1.11: no host answers ARP for it");
        assert_eq!(check.to_string(), "198.18.0.100:80 by 198.18.1.11");
    }

    #[tokio::test]
    async fn nobody_listening_is_a_failure_to_connect() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let failure = ask(&check(address, Probe::Tcp)).await.unwrap_err();
        assert!(matches!(failure, Failure::Connect(_)), "{failure}");
    }
}
