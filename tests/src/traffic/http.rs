//! Short HTTP requests, a new connection each.

use super::{ANSWER_TIMEOUT, Stop};
use crate::namespace::{Namespace, join};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two requests of a thread.
const PAUSE: Duration = Duration::from_millis(3);

/// One request from this thread's namespace; the body, which is the backend's name.
pub fn get(from: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&from, ANSWER_TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").context("request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no whole answer: {answer:?}"))?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.trim().to_owned())
}

/// `count` requests one after the other, none of which may fail; how many each backend answered.
pub fn get_many(namespace: &Namespace, from: SocketAddr, count: usize) -> Result<BTreeMap<String, usize>> {
    namespace.inside(move || {
        let mut answers = BTreeMap::new();
        for number in 0..count {
            *answers.entry(get(from).with_context(|| format!("request {number}"))?).or_default() += 1;
        }
        Ok(answers)
    })
}

/// Requests without a pause until it is finished.
pub struct HttpLoad {
    stop: Stop,
    threads: Vec<JoinHandle<Result<HttpAccount>>>,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct HttpAccount {
    /// By backend that answered.
    pub answers: BTreeMap<String, usize>,
    /// What went wrong, each with the request's number.
    pub failures: Vec<String>,
}

impl HttpAccount {
    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (name, count) in other.answers {
            *self.answers.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

impl HttpLoad {
    /// From so many threads.
    pub fn start(namespace: &Namespace, from: SocketAddr, threads: usize) -> Result<Self> {
        let stop = Stop::default();
        let one = |_| {
            let stop = stop.clone();
            namespace.spawn(move || Ok(repeat(from, &stop)))
        };
        Ok(Self { threads: (0..threads).map(one).collect::<Result<_>>()?, stop })
    }

    /// Ends it and adds up.
    pub fn finish(self) -> Result<HttpAccount> {
        self.stop.order();
        let mut account = HttpAccount::default();
        for thread in self.threads {
            account.add(join(thread)?);
        }
        Ok(account)
    }
}

fn repeat(from: SocketAddr, stop: &Stop) -> HttpAccount {
    let mut account = HttpAccount::default();
    while !stop.is_ordered() {
        match get(from) {
            Ok(name) => *account.answers.entry(name).or_default() += 1,
            Err(error) => account.failures.push(format!("request {}: {error:#}", account.answered())),
        }
        std::thread::sleep(PAUSE);
    }
    account
}
