//! An HTTP GET check with an accepted status range.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Exchange, Failure};

/// Limit of the answer: enough for any reasonable header, and a backend cannot exhaust the memory.
pub(super) const MAX_ANSWER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 96;

/// Passes if the final answer's status is in range.
pub(super) struct HttpGet<'a> {
    pub path: &'a str,
    /// The Host header; by default the backend's address.
    pub host: Option<&'a str>,
    /// First and last accepted status.
    pub wanted: (u16, u16),
}

impl Exchange for HttpGet<'_> {
    async fn run(&self, target: SocketAddr, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
        let host = self.host.map_or_else(|| host_of(target), str::to_owned);
        let found = get(stream, self.path, &host).await?;
        let wanted = self.wanted;
        if (wanted.0..=wanted.1).contains(&found) { Ok(()) } else { Err(Failure::Status { found, wanted }) }
    }
}

/// The default Host header (RFC 9112 section 3.2).
fn host_of(target: SocketAddr) -> String {
    if target.port() == 80 {
        let text = target.to_string();
        return text.strip_suffix(":80").unwrap_or(&text).to_owned();
    }
    target.to_string()
}

/// Sends a GET and reads until the final answer's header is complete.
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

/// The status of the first answer that is not interim (1xx, RFC 9110 section 15.2); `None` while it is incomplete.
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
}
