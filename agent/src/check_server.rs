//! Answers HAProxy's agent checks, so that HAProxy can use the agent too: each client that connects to a back-end's check
//! port gets one line, and the connection is closed.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use shunt_report::agent_check::{Administration, AgentAnswer, AgentHealth};
use shunt_report::{Listening, ReportedLoad, ServerState};

/// Limit of answered connections that the peer has not closed yet.
const MOST_OPEN: usize = 64;
/// Timeout of such a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The port for checks of one back-end.
pub struct CheckServer {
    listener: TcpListener,
    answered: VecDeque<(TcpStream, Instant)>,
}

impl CheckServer {
    /// Binds and listens.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, answered: VecDeque::new() })
    }

    /// The bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The listening socket, to poll.
    pub fn awaited(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers all pending connections.
    pub fn answer(&mut self, answer: &AgentAnswer, now: Instant) {
        self.answered.retain_mut(|(stream, since)| now.duration_since(*since) < PATIENCE && !is_closed(stream));
        while let Ok((stream, _)) = self.listener.accept() {
            // A line always fits the buffer of a new socket; a peer that has disconnected gets none.
            let said = stream
                .set_nonblocking(true)
                .and_then(|()| (&stream).write_all(format!("{answer}\n").as_bytes()))
                .and_then(|()| stream.shutdown(Shutdown::Write));
            if said.is_ok() {
                // Closing with unread data (HAProxy's agent-send) would reset the connection and lose the answer.
                self.answered.push_back((stream, now));
            }
            if self.answered.len() > MOST_OPEN {
                self.answered.pop_front();
            }
        }
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 256];
    match stream.read(&mut bytes) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Converts a load to a HAProxy answer: the server's free share, hundredths. `capacity` is the number of requests in
/// flight, or of clients if these are unknown, at full load. If no process was ever observed listening, the numbers are
/// meaningless: HAProxy then uses the configured weight and its own check.
pub fn answer_for(load: &ReportedLoad, capacity: Option<u32>) -> AgentAnswer {
    let counted = load.in_flight.or(load.clients).zip(capacity);
    let filled = counted.map(|(count, capacity)| u64::from(count) * 1000 / u64::from(capacity.max(1)));
    let used = filled.into_iter().chain(load.cpu_permille.map(u64::from)).max();
    // Zero would mean drain; a full server keeps a small share, so that its recovery is noticed.
    let free_percent = used.map(|permille| (100_u64.saturating_sub(permille / 10)).clamp(1, 100) as u16);
    match load.state {
        ServerState::Up if load.listening == Listening::Never => {
            AgentAnswer { weight_percent: Some(100), ..AgentAnswer::default() }
        }
        ServerState::Up => AgentAnswer {
            health: Some(AgentHealth::Up),
            administration: Some(Administration::Ready),
            weight_percent: free_percent,
            most_connections: None,
        },
        ServerState::Drain => AgentAnswer {
            health: Some(AgentHealth::Up),
            administration: Some(Administration::Drain),
            ..AgentAnswer::default()
        },
        ServerState::Down => AgentAnswer { health: Some(AgentHealth::Down), ..AgentAnswer::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(load: ReportedLoad, capacity: Option<u32>) -> String {
        answer_for(&load, capacity).to_string()
    }

    #[test]
    fn the_weight_is_the_share_that_is_free() {
        let load = ReportedLoad::unknown("b1".parse().unwrap());
        assert_eq!(said(load.clone(), Some(10)), "up ready");
        let busy = ReportedLoad { in_flight: Some(4), clients: Some(9), ..load.clone() };
        assert_eq!(said(busy.clone(), Some(10)), "up ready 60%");
        assert_eq!(said(busy.clone(), None), "up ready", "of what?");
        assert_eq!(said(ReportedLoad { in_flight: None, ..busy.clone() }, Some(10)), "up ready 10%");
        assert_eq!(said(ReportedLoad { cpu_permille: Some(750), ..busy.clone() }, Some(10)), "up ready 25%");
        assert_eq!(said(ReportedLoad { in_flight: Some(u32::MAX), ..busy.clone() }, Some(1)), "up ready 1%");
        assert_eq!(said(ReportedLoad { listening: Listening::Never, ..busy.clone() }, Some(10)), "100%");
        assert_eq!(said(ReportedLoad { state: ServerState::Drain, ..busy.clone() }, Some(10)), "up drain");
        assert_eq!(said(ReportedLoad { state: ServerState::Down, ..busy }, Some(10)), "down");
    }

    #[test]
    fn who_connects_gets_one_line_even_if_he_says_something_first() {
        let mut server = CheckServer::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(server.address().unwrap()).unwrap();
        client.write_all(b"server b1\n").unwrap();
        let answer = answer_for(&ReportedLoad::unknown("b1".parse().unwrap()), None);
        let begin = Instant::now();
        server.answer(&answer, begin);
        let mut line = String::new();
        client.read_to_string(&mut line).unwrap();
        assert_eq!(line, "up ready\n");
        assert_eq!(server.answered.len(), 1);
        server.answer(&answer, begin + PATIENCE);
        assert_eq!(server.answered.len(), 0, "who stays forever");
    }
}
