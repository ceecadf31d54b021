//! Queries HAProxy agents ("agent-check"): one task for each backend of a service with agent checks connects, reads one
//! line and returns the answer. As in HAProxy, fields missing in an answer keep their values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use shunt_config::Config;
use shunt_report::agent_check::{Administration, AgentAnswer, AgentHealth, LONGEST_BYTES};
use shunt_shmlayout::report_outcome::ReportOutcome;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::LoadSource;
use crate::health::BackendKey;
use crate::master::feedback::{AgentState, Measures};
use crate::tasks::Tasks;

/// Timeout of an agent's answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which agent to query, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The backend that the answer is about.
    pub key: BackendKey,
    /// The agent's listening address.
    pub target: SocketAddr,
    /// Interval between queries.
    pub interval: Duration,
}

impl Question {
    /// Time without an answer after which an agent counts as silent.
    fn silence_ms(&self) -> u64 {
        (self.interval * 3 + PATIENCE).as_millis() as u64
    }
}

/// The result of one query.
#[derive(Debug)]
pub struct Outcome {
    /// The backend that it is about.
    pub key: BackendKey,
    /// The answer, or the error.
    pub answer: Result<AgentAnswer, String>,
}

/// The configured queries.
pub fn questions(config: &Config) -> Vec<Question> {
    let asked = config.services.iter().filter_map(|service| Some((service, service.agent_check.as_ref()?)));
    let each = asked.flat_map(|(service, check)| {
        service.backends.iter().map(|backend| Question {
            key: BackendKey { service: service.name.clone(), backend: backend.name.clone() },
            target: SocketAddr::new(backend.address.ip(), check.port),
            interval: Duration::from_millis(check.interval_ms.into()),
        })
    });
    each.collect()
}

/// Runs queries on the current tokio runtime until dropped.
pub struct Questioner {
    running: Tasks<Question>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Questioner {
    /// Starts without queries. The channel is unbounded: each task sends at most one result per interval.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        (Self { running: Tasks::default(), outcomes }, receiver)
    }

    /// Runs exactly these queries from now on; unchanged ones continue.
    pub fn apply(&mut self, questions: Vec<Question>) {
        let outcomes = &self.outcomes;
        self.running.apply(questions.into_iter().map(|question| (question.key.clone(), question)), |_, question| {
            tokio::spawn(repeat(question.clone(), outcomes.clone())).abort_handle()
        });
    }
}

async fn repeat(question: Question, outcomes: mpsc::UnboundedSender<Outcome>) {
    let mut due = interval(question.interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let answer = ask(question.target).await;
        if outcomes.send(Outcome { key: question.key.clone(), answer }).is_err() {
            return;
        }
    }
}

async fn ask(target: SocketAddr) -> Result<AgentAnswer, String> {
    let read = async {
        let stream = TcpStream::connect(target).await?;
        let mut bytes = Vec::new();
        // One byte more than the longest, to detect a longer one.
        let mut stream = stream.take(LONGEST_BYTES as u64 + 1);
        while !bytes.contains(&b'\n') && stream.read_buf(&mut bytes).await? != 0 {}
        std::io::Result::Ok(bytes)
    };
    let bytes = timeout(PATIENCE, read).await.map_err(|_| format!("no answer within {} ms", PATIENCE.as_millis()))?;
    AgentAnswer::parse(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// The accumulated answers of all queried agents.
#[derive(Debug, Default)]
pub struct AgentChecks(BTreeMap<BackendKey, Asked>);

/// An agent's answers, and their lifetime.
#[derive(Debug)]
struct Asked {
    known: Known,
    silence_ms: u64,
}

impl AgentChecks {
    /// Applies a configuration; returns its queries. Answers of agents that it still names are kept.
    pub fn configure(&mut self, config: &Config) -> Vec<Question> {
        let questions = questions(config);
        let before = std::mem::take(&mut self.0);
        let asked = questions.iter().map(|question| {
            let known = before.get(&question.key).map_or(Known::default(), |asked| asked.known);
            (question.key.clone(), Asked { known, silence_ms: question.silence_ms() })
        });
        self.0 = asked.collect();
        questions
    }

    /// Records a query's result; returns how it counts. `None` if the agent is no longer queried.
    pub fn record(&mut self, outcome: Outcome, now_ms: u64) -> Option<ReportOutcome> {
        let asked = self.0.get_mut(&outcome.key)?;
        match outcome.answer {
            Ok(answer) => {
                asked.known.add(answer, now_ms + asked.silence_ms);
                Some(ReportOutcome::CheckAnswered)
            }
            Err(_) => Some(ReportOutcome::CheckFailed),
        }
    }
}

impl LoadSource for AgentChecks {
    fn expects(&self, key: &BackendKey) -> bool {
        self.0.contains_key(key)
    }

    fn agent_state(&self, key: &BackendKey, _opened: i64, now_ms: u64) -> AgentState {
        self.0.get(key).map_or(AgentState::None, |asked| asked.known.agent_state(now_ms))
    }
}

/// One agent's accumulated answers.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    answer: AgentAnswer,
    expires_ms: u64,
}

impl Known {
    /// Merges an answer.
    fn add(&mut self, answer: AgentAnswer, expires_ms: u64) {
        self.answer = AgentAnswer {
            health: answer.health.or(self.answer.health),
            administration: answer.administration.or(self.answer.administration),
            weight_percent: answer.weight_percent.or(self.answer.weight_percent),
            most_connections: answer.most_connections.or(self.answer.most_connections),
        };
        self.expires_ms = expires_ms;
    }

    /// The resulting agent state.
    fn agent_state(&self, now_ms: u64) -> AgentState {
        let AgentAnswer { health, administration, weight_percent, .. } = self.answer;
        let leaves = matches!(administration, Some(Administration::Drain | Administration::Maintenance));
        match weight_percent {
            _ if now_ms >= self.expires_ms => AgentState::Silent,
            _ if leaves || health == Some(AgentHealth::Down) => AgentState::Declines,
            Some(0) => AgentState::Declines,
            Some(percent) => AgentState::Percent(percent),
            None => AgentState::Takes(Measures::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn answer_with(text: &'static [u8]) -> Result<AgentAnswer, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(text).await;
            stream
        });
        let answer = ask(target).await;
        serve.abort();
        answer
    }

    #[tokio::test]
    async fn a_line_is_an_answer_before_the_connection_ends() {
        assert_eq!(answer_with(b"up 75%\n").await.unwrap().weight_percent, Some(75));
        assert_eq!(answer_with(&[b'x'; 600]).await.unwrap_err(), "an answer of more than 512 bytes");
        assert!(answer_with(b"hello\n").await.unwrap_err().contains("hello"));
    }

    #[test]
    fn what_is_not_said_stays_and_nothing_stays_for_ever() {
        let mut known = Known::default();
        assert_eq!(known.agent_state(0), AgentState::Silent);
        known.add(AgentAnswer::parse(b"up ready 40%").unwrap(), 100);
        assert_eq!(known.agent_state(0), AgentState::Percent(40));
        known.add(AgentAnswer::parse(b"drain").unwrap(), 200);
        assert_eq!(known.agent_state(100), AgentState::Declines);
        known.add(AgentAnswer::parse(b"ready").unwrap(), 300);
        assert_eq!(known.agent_state(200), AgentState::Percent(40));
        assert_eq!(known.agent_state(300), AgentState::Silent);
        known.add(AgentAnswer::parse(b"0%").unwrap(), 400);
        assert_eq!(known.agent_state(300), AgentState::Declines);
    }

    #[test]
    fn every_backend_of_a_service_that_has_agents_is_asked() {
        let text = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\n\
            address = \"198.18.0.1:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\nagent_check = { port = 9777, interval_ms = 20 }\n\
            [[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.1:8080\"\n";
        let all = questions(&Config::parse(text, "test.toml").unwrap());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].target, all[0].interval.as_millis()), ("198.18.1.1:9777".parse().unwrap(), 20));
    }
}
