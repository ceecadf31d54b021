//! One attempt: ask a backend, and say what was wrong.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use shunt_config::Probe;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Check;
use super::as_client::{NoPath, Paths, Stream};

/// Of an answer, no more is read: enough for any sensible header, and no backend can fill the memory.
const MAX_ANSWER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 96;

/// Why a backend counts as failed this time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No answer in time by a client's way: the server may live and still be of no use to clients.
    #[error(
        "no answer within {} ms by a client's way; if the server answers this box otherwise, it lacks the service's address \
         on its loopback (dsr) or its replies' route through Shunt (nat)",
        .0.as_millis()
    )]
    TimeoutAsClient(Duration),
    /// A client's way there isn't known.
    #[error("{0}")]
    NoPath(NoPath),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke before the answer was there.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The answer isn't HTTP, or is too long.
    #[error("not an HTTP answer: {0}")]
    Malformed(String),
    /// A status out of the range that is good.
    #[error("status {found}, wanted {} to {}", .wanted.0, .wanted.1)]
    Status {
        /// What it was.
        found: u16,
        /// What is good.
        wanted: (u16, u16),
    },
}

/// Asks once; `paths` is for checks that take a client's way, and is waited for until it has theirs.
pub async fn ask(check: &Check, paths: &mut watch::Receiver<Paths>) -> Result<(), Failure> {
    if check.way.is_some() {
        await_path(paths, |paths| paths.contains_key(&check.key).then_some(())).await;
    }
    let attempt = async {
        match (check.way, check.target) {
            (Some(_), SocketAddr::V4(target)) => {
                // A neighbour may just be being resolved.
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

/// Asks for what the check wants to know, on an open connection.
async fn converse(check: &Check, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    let Probe::Http { path, host, status_first, status_last } = &check.probe else {
        return Ok(());
    };
    let host = host.clone().unwrap_or_else(|| host_of(check.target));
    let found = get(stream, path, &host).await?;
    let wanted = (*status_first, *status_last);
    if (wanted.0..=wanted.1).contains(&found) { Ok(()) } else { Err(Failure::Status { found, wanted }) }
}

/// The Host header for a backend that no name was given for (RFC 9112 section 3.2).
fn host_of(target: SocketAddr) -> String {
    if target.port() == 80 {
        let text = target.to_string();
        return text.strip_suffix(":80").unwrap_or(&text).to_owned();
    }
    target.to_string()
}

/// Sends a GET, and reads until the header of the final answer is whole.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, host: &str) -> Result<u16, Failure> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shunt-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(Failure::Lost)?;
    let mut answer = Vec::new();
    loop {
        if let Some(status) = final_status(&answer)? {
            return Ok(status);
        }
        let room = MAX_ANSWER_BYTES - answer.len();
        if room == 0 {
            return Err(Failure::Malformed(format!("no end of the header in {MAX_ANSWER_BYTES} bytes")));
        }
        let read = (&mut stream).take(room as u64).read_buf(&mut answer).await.map_err(Failure::Lost)?;
        if read == 0 {
            return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The status of the first answer that isn't interim (1xx, RFC 9110 section 15.2); None if it isn't whole yet.
fn final_status(mut answer: &[u8]) -> Result<Option<u16>, Failure> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(answer).map_err(|error| Failure::Malformed(error.to_string()))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        match response.code {
            Some(100..=199) => answer = &answer[length..],
            code => return Ok(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::super::BackendKey;
    use super::super::as_client::{ClientWay, Sender};
    use super::*;

    #[test]
    fn finds_the_status_once_the_header_is_whole() {
        let whole = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\nbody";
        for end in 0..38 {
            assert_eq!(final_status(&whole[..end]).unwrap(), None, "{end} bytes");
        }
        assert_eq!(final_status(whole).unwrap(), Some(204));
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 No\r\n\r\n";
        assert_eq!(final_status(answer).unwrap(), Some(503));
        assert_eq!(final_status(&answer[..30]).unwrap(), None);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(matches!(final_status(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(Failure::Malformed(_))));
    }

    #[test]
    fn host_names_the_port_unless_it_is_80() {
        assert_eq!(host_of("198.18.1.1:80".parse().unwrap()), "198.18.1.1");
        assert_eq!(host_of("[2001:db8::1]:80".parse().unwrap()), "[2001:db8::1]");
        assert_eq!(host_of("[2001:db8::1]:8080".parse().unwrap()), "[2001:db8::1]:8080");
    }

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
        answer.resize(MAX_ANSWER_BYTES + 1, b'x');
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
        // Never accepted: the kernel completes the connection, and nobody answers.
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
        assert_eq!(failure, "no Ethernet address for 198.18.1.11: nobody answers ARP for it");
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
