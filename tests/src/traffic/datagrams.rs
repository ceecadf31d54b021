//! Numbered UDP datagrams to an echo server, and what became of each.

use super::{ANSWER_TIMEOUT, Stop};
use crate::namespace::{Namespace, join};
use anyhow::{Context, Result};
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two datagrams of a flow.
const PAUSE: Duration = Duration::from_millis(1);
/// After so long without an answer, what is missing is lost.
const SILENCE: Duration = Duration::from_secs(1);

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Without an answer.
    pub lost: u64,
    /// Answers to what had been answered.
    pub duplicated: u64,
    /// Answers after that to a later datagram.
    pub reordered: u64,
    /// What was never sent on that socket.
    pub foreign: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, duplicated, reordered, foreign } = self;
        write!(f, "{lost} of {sent} datagrams lost ({duplicated} doubled, {reordered} overtaken, {foreign} foreign)")
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
    }
}

/// Flows that send until they are finished, whether answers come or not.
pub struct Datagrams {
    stop: Stop,
    threads: Vec<JoinHandle<Result<Tally>>>,
}

impl Datagrams {
    /// So many flows.
    pub fn start(from: &Namespace, to: SocketAddr, flows: u64) -> Result<Self> {
        let stop = Stop::default();
        let one = |id| {
            let stop = stop.clone();
            from.spawn(move || {
                let mut flow = Flow::open(id, to)?;
                while !stop.is_ordered() {
                    flow.send();
                    flow.receive_waiting();
                    std::thread::sleep(PAUSE);
                }
                flow.settle()
            })
        };
        Ok(Self { threads: (0..flows).map(one).collect::<Result<_>>()?, stop })
    }

    /// Ends them, waits for the last answers, and adds up.
    pub fn finish(self) -> Result<Tally> {
        self.stop.order();
        let mut total = Tally::default();
        for thread in self.threads {
            total += join(thread)?;
        }
        Ok(total)
    }
}

/// `rounds` datagrams on each of `flows` flows, the next one only after the answer to the last.
pub fn exchange(from: &Namespace, to: SocketAddr, flows: u64, rounds: u64) -> Result<Tally> {
    from.inside(move || {
        let mut total = Tally::default();
        for id in 0..flows {
            let mut flow = Flow::open(id, to)?;
            flow.socket.set_nonblocking(false)?;
            flow.socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            for _ in 0..rounds {
                flow.send();
                flow.receive().with_context(|| format!("flow {id}: answer {}", flow.answered.len()))?;
            }
            total += flow.settle()?;
        }
        Ok(total)
    })
}

struct Flow {
    id: u64,
    socket: UdpSocket,
    /// By number: whether its answer came.
    answered: Vec<bool>,
    /// Number after the highest answered.
    next: usize,
    tally: Tally,
}

impl Flow {
    fn open(id: u64, to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(Self { id, socket, answered: Vec::new(), next: 0, tally: Tally::default() })
    }

    /// What the system refuses to send is lost.
    fn send(&mut self) {
        let number = self.answered.len() as u64;
        self.answered.push(false);
        self.tally.sent += 1;
        let _ = self.socket.send(&[self.id.to_be_bytes(), number.to_be_bytes()].concat());
    }

    fn receive_waiting(&mut self) {
        while self.receive().is_ok() {}
    }

    fn receive(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 64];
        let length = self.socket.recv(&mut bytes)?;
        match self.number_in(&bytes[..length]) {
            None => self.tally.foreign += 1,
            Some(number) if self.answered[number] => self.tally.duplicated += 1,
            Some(number) => {
                self.answered[number] = true;
                self.tally.reordered += u64::from(number < self.next);
                self.next = self.next.max(number + 1);
            }
        }
        Ok(())
    }

    /// The number of one of this flow's own datagrams.
    fn number_in(&self, bytes: &[u8]) -> Option<usize> {
        let words: &[u8; 16] = bytes.try_into().ok()?;
        let (id, number) = words.split_at(8);
        let number = usize::try_from(u64::from_be_bytes(number.try_into().ok()?)).ok()?;
        (id == self.id.to_be_bytes() && number < self.answered.len()).then_some(number)
    }

    /// Waits for what is still under way; the rest is lost.
    fn settle(mut self) -> Result<Tally> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(SILENCE))?;
        while self.answered.contains(&false) && self.receive().is_ok() {}
        self.tally.lost = self.answered.iter().filter(|answered| !**answered).count() as u64;
        Ok(self.tally)
    }
}
