//! Answers HAProxy's agent checks, so that the agent serves HAProxy's users as well: whoever connects to a back-end's port
//! gets one line, and the connection is closed.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use shunt_report::agent_check::{Administration, Answer, Health};
use shunt_report::{Listening, Load, State};

/// Connections that were answered and not closed by the other side.
const MOST_OPEN: usize = 64;
/// How long one of them may stay so.
const PATIENCE: Duration = Duration::from_secs(2);

/// The port on which one back-end's load is asked for.
pub struct CheckServer {
    listener: TcpListener,
    answered: VecDeque<(TcpStream, Instant)>,
}

impl CheckServer {
    /// Listens there.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, answered: VecDeque::new() })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What to poll: one who connects.
    pub fn awaited(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers all who connected.
    pub fn answer(&mut self, answer: &Answer, now: Instant) {
        self.answered.retain_mut(|(stream, since)| now.duration_since(*since) < PATIENCE && !is_closed(stream));
        while let Ok((stream, _)) = self.listener.accept() {
            // A line always fits into the buffer of a new socket; who is gone meanwhile gets none.
            let said = stream
                .set_nonblocking(true)
                .and_then(|()| (&stream).write_all(format!("{answer}\n").as_bytes()))
                .and_then(|()| stream.shutdown(Shutdown::Write));
            if said.is_ok() {
                // Closing with something unread (HAProxy's agent-send) would reset the connection and lose the answer.
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

/// What HAProxy is told of a load: the share of the server that is free, hundredths. `capacity` is the number of requests
/// in flight, or of clients where these aren't known, with which it is full. Where nobody was ever seen listening, numbers
/// say nothing: HAProxy goes by the configured weight, and by its own check.
pub fn answer_for(load: &Load, capacity: Option<u32>) -> Answer {
    let counted = load.in_flight.or(load.clients).zip(capacity);
    let filled = counted.map(|(count, capacity)| u64::from(count) * 1000 / u64::from(capacity.max(1)));
    let used = filled.into_iter().chain(load.cpu_permille.map(u64::from)).max();
    // Zero would mean to drain it; a full server still gets a little, so that it is seen when it is free again.
    let free_percent = used.map(|permille| (100_u64.saturating_sub(permille / 10)).clamp(1, 100) as u16);
    match load.state {
        State::Up if load.listening == Listening::Never => Answer { weight_percent: Some(100), ..Answer::default() },
        State::Up => Answer {
            health: Some(Health::Up),
            administration: Some(Administration::Ready),
            weight_percent: free_percent,
            most_connections: None,
        },
        State::Drain => {
            Answer { health: Some(Health::Up), administration: Some(Administration::Drain), ..Answer::default() }
        }
        State::Down => Answer { health: Some(Health::Down), ..Answer::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(load: Load, capacity: Option<u32>) -> String {
        answer_for(&load, capacity).to_string()
    }

    #[test]
    fn the_weight_is_the_share_that_is_free() {
        let load = Load::unknown("b1".parse().unwrap());
        assert_eq!(said(load.clone(), Some(10)), "up ready");
        let busy = Load { in_flight: Some(4), clients: Some(9), ..load.clone() };
        assert_eq!(said(busy.clone(), Some(10)), "up ready 60%");
        assert_eq!(said(busy.clone(), None), "up ready", "of what?");
        assert_eq!(said(Load { in_flight: None, ..busy.clone() }, Some(10)), "up ready 10%");
        assert_eq!(said(Load { cpu_permille: Some(750), ..busy.clone() }, Some(10)), "up ready 25%");
        assert_eq!(said(Load { in_flight: Some(u32::MAX), ..busy.clone() }, Some(1)), "up ready 1%");
        assert_eq!(said(Load { listening: Listening::Never, ..busy.clone() }, Some(10)), "100%");
        assert_eq!(said(Load { state: State::Drain, ..busy.clone() }, Some(10)), "up drain");
        assert_eq!(said(Load { state: State::Down, ..busy }, Some(10)), "down");
    }

    #[test]
    fn who_connects_gets_one_line_even_if_he_says_something_first() {
        let mut server = CheckServer::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(server.address().unwrap()).unwrap();
        client.write_all(b"server b1\n").unwrap();
        let answer = answer_for(&Load::unknown("b1".parse().unwrap()), None);
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
