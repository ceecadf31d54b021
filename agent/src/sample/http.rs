//! Fetches one page repeatedly over one connection without blocking: connect, send and receive continue whenever the socket
//! is ready (RFC 9112, RFC 9110). The response size is limited.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::PATIENCE;
use crate::settings::Page;

/// Large enough for a large server's Prometheus page; nginx's has 100 bytes.
const LONGEST_ANSWER_BYTES: usize = 4 << 20;
const MOST_HEADERS: usize = 64;

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    #[error("no answer within {} ms", PATIENCE.as_millis())]
    Timeout,
    #[error("not an HTTP answer: {0}")]
    Malformed(String),
    #[error("status {0}, wanted 200")]
    Status(u16),
}

/// A pending response.
struct Asked {
    at: Instant,
    /// Bytes of the request already sent.
    sent: usize,
    received: Vec<u8>,
    /// The connection was used before: the server may have closed it since.
    is_reused: bool,
}

/// A page, and the connection to its server.
pub(crate) struct Fetch {
    address: SocketAddr,
    request: Vec<u8>,
    stream: Option<TcpStream>,
    asked: Option<Asked>,
}

impl Fetch {
    pub fn new(page: &Page) -> Self {
        let Page { address, path, host } = page;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shunt-agent\r\nAccept: text/plain\r\n\r\n");
        Self { address: *address, request: request.into_bytes(), stream: None, asked: None }
    }

    /// Requests the page, unless a response is pending. Returns true if it was requested.
    pub fn ask(&mut self, now: Instant) -> Result<bool, FetchError> {
        if self.asked.is_some() {
            return Ok(false);
        }
        let is_reused = self.stream.is_some();
        if !is_reused {
            self.stream = Some(begin_connection(self.address).map_err(FetchError::Connect)?);
        }
        self.asked = Some(Asked { at: now, sent: 0, received: Vec::new(), is_reused });
        Ok(true)
    }

    pub fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let (asked, stream) = (self.asked.as_ref()?, self.stream.as_ref()?);
        let flags = if asked.sent < self.request.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
        Some((stream.as_fd(), flags))
    }

    /// Continues without blocking; returns the page once it is complete.
    pub fn advance(&mut self, now: Instant) -> Option<Result<Vec<u8>, FetchError>> {
        let advanced = self.exchange();
        let asked = self.asked.as_ref()?;
        let is_late = now.duration_since(asked.at) >= PATIENCE;
        match advanced {
            Ok(None) if !is_late => return None,
            Ok(None) => {
                self.give_up();
                return Some(Err(FetchError::Timeout));
            }
            Ok(Some(answer)) => {
                self.asked = None;
                if !answer.stays_open {
                    self.stream = None;
                }
                return Some(Ok(answer.body));
            }
            // Closed while idle: only a new connection can tell whether the server answers.
            Err(FetchError::Lost(_)) if asked.is_reused && asked.received.is_empty() => {}
            Err(error) => {
                self.give_up();
                return Some(Err(error));
            }
        }
        self.give_up();
        self.ask(now).err().map(Err)
    }

    fn give_up(&mut self) {
        (self.stream, self.asked) = (None, None);
    }

    fn exchange(&mut self) -> Result<Option<Answer>, FetchError> {
        let (Some(stream), Some(asked)) = (&mut self.stream, &mut self.asked) else {
            return Ok(None);
        };
        while asked.sent < self.request.len() {
            match stream.write(&self.request[asked.sent..]) {
                Ok(written) => asked.sent += written,
                Err(error) if is_wait(&error) => return Ok(None),
                Err(error) if asked.sent == 0 && !asked.is_reused => return Err(FetchError::Connect(error)),
                Err(error) => return Err(FetchError::Lost(error)),
            }
        }
        let mut bytes = [0; 16 << 10];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => {
                    let lost = || FetchError::Lost(io::ErrorKind::UnexpectedEof.into());
                    return find_answer(&asked.received, true)?.ok_or_else(lost).map(Some);
                }
                Ok(length) => asked.received.extend_from_slice(&bytes[..length]),
                Err(error) if is_wait(&error) => return find_answer(&asked.received, false),
                Err(error) => return Err(FetchError::Lost(error)),
            }
            if asked.received.len() > LONGEST_ANSWER_BYTES {
                return Err(FetchError::Malformed(format!("more than {LONGEST_ANSWER_BYTES} bytes")));
            }
        }
    }
}

/// An unconnected socket returns NotConnected.
fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected)
}

fn begin_connection(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    body: Vec<u8>,
    stays_open: bool,
}

/// Parses the received response, if it is complete.
fn find_answer(received: &[u8], is_end: bool) -> Result<Option<Answer>, FetchError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(received).map_err(|error| FetchError::Malformed(error.to_string()))?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        return Ok(None);
    };
    match response.code {
        Some(200) => {}
        status => return Err(FetchError::Status(status.unwrap_or(0))),
    }
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let rest = &received[head_bytes..];
    let is_http_1_1 = response.version == Some(1);
    let stays_open = is_http_1_1 && header("connection").as_deref() != Some("close");
    let body = if header("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        join_chunks(rest)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| FetchError::Malformed(format!("Content-Length {length:?}")))?;
        rest.get(..length).map(<[u8]>::to_vec)
    } else {
        return Ok(is_end.then(|| Answer { body: rest.to_vec(), stays_open: false }));
    };
    Ok(body.map(|body| Answer { body, stays_open }))
}

/// RFC 9112 section 7.1; trailers are ignored.
fn join_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, FetchError> {
    let malformed = || FetchError::Malformed("a chunk's size is wrong".to_owned());
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(rest).map_err(|_| malformed())? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete((size_bytes, 0)) => {
                return Ok(rest[size_bytes..].ends_with(b"\r\n").then_some(body));
            }
            httparse::Status::Complete((size_bytes, size)) => {
                let end =
                    usize::try_from(size).ok().and_then(|size| size_bytes.checked_add(size)).ok_or_else(malformed)?;
                let Some(chunk) = rest.get(size_bytes..end) else {
                    return Ok(None);
                };
                body.extend_from_slice(chunk);
                match rest.get(end..end.saturating_add(2)) {
                    Some(b"\r\n") => rest = &rest[end + 2..],
                    Some(_) => return Err(malformed()),
                    None => return Ok(None),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str, is_end: bool) -> Option<(String, bool)> {
        let answer = find_answer(text.as_bytes(), is_end).unwrap()?;
        Some((String::from_utf8(answer.body).unwrap(), answer.stays_open))
    }

    /// Each prefix of an answer is awaited further, and the whole is the whole.
    fn assert_found(text: &str, body: &str, stays_open: bool) {
        for end in 0..text.len() {
            assert_eq!(whole(&text[..end], false), None, "{:?}", &text[..end]);
        }
        assert_eq!(whole(text, false), Some((body.to_owned(), stays_open)));
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        assert_found("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true);
        assert_found("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", "hi", false);
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_found(chunks, "hello", true);
        let until_end = "HTTP/1.0 200 OK\r\n\r\nhello";
        assert_eq!(whole(until_end, false), None);
        assert_eq!(whole(until_end, true), Some(("hello".to_owned(), false)));
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        let failure = |text: &str| find_answer(text.as_bytes(), true).unwrap_err().to_string();
        assert_eq!(failure("HTTP/1.1 404 Not Found\r\n\r\n"), "status 404, wanted 200");
        assert!(failure("SSH-2.0-OpenSSH_9.2\r\n").starts_with("not an HTTP answer"));
        assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").contains("Content-Length"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(failure(&format!("{chunked}zz\r\n")).contains("chunk"));
        assert!(failure(&format!("{chunked}1\r\nabc")).contains("chunk"));
        assert_eq!(whole(&format!("{chunked}fffffffff\r\nabc"), false), None, "never whole");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(head in "(HTTP/1.[01] 200 OK\r\n((Content-Length: [0-9]{1,20}|Transfer-Encoding: chunked)\r\n)?\r\n)?", rest in prop::collection::vec(any::<u8>(), 0..200), is_end: bool) {
            let _ = find_answer(&[head.as_bytes(), &rest].concat(), is_end);
        }
    }
}
