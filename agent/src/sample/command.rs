//! An operator's command that prints metrics, one per line:
//!
//! ```text
//!  in_flight=12
//!  execution_us=1500
//!  state=drain
//! ```

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command as Process, Stdio};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Source;
use super::log_latch::LogLatch;
use super::number::{self, narrowed};
use super::window::{Window, microseconds};
use crate::settings::Command as Settings;
use shunt_report::{ReportedLoad, ServerState};

const LONGEST_OUTPUT_BYTES: usize = 16 << 10;

/// Parsed output of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Said {
    state: Option<ServerState>,
    clients: Option<u64>,
    in_flight: Option<u64>,
    cpu_permille: Option<u64>,
    memory_permille: Option<u64>,
    execution_us: Option<u64>,
    workers: Option<u64>,
    /// A counter.
    requests: Option<u64>,
}

/// A run in progress.
struct Run {
    child: Child,
    /// Closed at end of output.
    output: Option<ChildStdout>,
    begun: Instant,
    said: Vec<u8>,
    is_killed: bool,
}

/// The command and the result of its last run.
pub struct Command {
    settings: Settings,
    run: Option<Run>,
    begun: Instant,
    asked: Option<Instant>,
    said: Said,
    rate: Window,
    latch: LogLatch,
}

impl Command {
    /// Not yet run.
    pub fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            settings: settings.clone(),
            run: None,
            begun: now,
            asked: None,
            said: Said::default(),
            rate: Window::default(),
            latch: LogLatch::new(format!("command {:?}", settings.run)),
        }
    }

    fn record(&mut self, ended: Result<Said, String>, now: Instant) {
        match ended {
            Ok(said) => {
                if let Some(requests) = said.requests {
                    self.rate.record(now, microseconds(self.begun, now), requests);
                }
                self.said = said;
                self.latch.clear();
            }
            Err(error) => {
                // Unknown values are better than outdated ones.
                (self.said, self.rate) = (Said::default(), Window::default());
                self.latch.report(error);
            }
        }
    }
}

impl Source for Command {
    fn ask(&mut self, now: Instant) {
        let is_due = self.asked.is_none_or(|asked| now.duration_since(asked) >= self.settings.interval);
        if self.run.is_some() || !is_due {
            return;
        }
        self.asked = Some(now);
        match Run::start(&self.settings.run, now) {
            Ok(run) => self.run = Some(run),
            Err(error) => self.record(Err(format!("cannot be started: {error}")), now),
        }
    }

    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        Some((self.run.as_ref()?.output.as_ref()?.as_fd(), PollFlags::POLLIN))
    }

    fn is_prompt(&self) -> bool {
        false
    }

    fn advance(&mut self, now: Instant) {
        let Some(run) = &mut self.run else {
            return;
        };
        if now.duration_since(run.begun) >= self.settings.time_limit {
            run.kill();
        }
        run.read();
        if let Some(ended) = run.end() {
            let limit_ms = self.settings.time_limit.as_millis();
            let ended = if run.is_killed { Err(format!("killed after {limit_ms} ms, its time limit")) } else { ended };
            self.run = None;
            self.record(ended, now);
        }
    }

    fn contribute(&self, load: &mut ReportedLoad) {
        let Said { state, clients, in_flight, cpu_permille, memory_permille, execution_us, workers, .. } = self.said;
        let wide = |number: Option<u64>| number.map(|number| narrowed(number, u32::MAX));
        let share = |number: Option<u64>| number.map(|number| narrowed(number, u16::MAX));
        load.state = state.unwrap_or(load.state);
        load.clients = wide(clients).or(load.clients);
        load.in_flight = wide(in_flight).or(load.in_flight);
        load.cpu_permille = share(cpu_permille).or(load.cpu_permille);
        load.memory_permille = share(memory_permille).or(load.memory_permille);
        load.execution_us = wide(execution_us).or(load.execution_us);
        load.workers = workers.and_then(number::workers).or(load.workers);
        load.requests_per_s_milli = self.rate.ratio(1_000_000_000).or(load.requests_per_s_milli);
    }
}

impl Run {
    /// Uses its own process group, so that the shell's children end with it.
    fn start(command: &str, now: Instant) -> io::Result<Self> {
        let mut process = Process::new("/bin/sh");
        process.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = process.spawn()?;
        let output = child.stdout.take();
        if let Some(output) = &output {
            fcntl(output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self { child, output, begun: now, said: Vec::new(), is_killed: false })
    }

    /// Killing the group also closes the output, unless a process left the group; the output is then dropped.
    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have exited already.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        (self.is_killed, self.output) = (true, None);
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(output) = &mut self.output {
            match output.read(&mut bytes) {
                Ok(length) if length > 0 && self.said.len() + length <= LONGEST_OUTPUT_BYTES => {
                    self.said.extend_from_slice(&bytes[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // End of output, or output limit exceeded: a process that continues writing gets SIGPIPE.
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    /// The parsed output, once the output has ended and the process has exited.
    fn end(&mut self) -> Option<Result<Said, String>> {
        if self.output.is_some() {
            return None;
        }
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) if status.success() => Some(parse(&self.said)),
            Ok(Some(status)) => Some(Err(format!("failed: {status}"))),
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

fn parse(output: &[u8]) -> Result<Said, String> {
    let text = std::str::from_utf8(output).map_err(|_| "output is not UTF-8".to_owned())?;
    let mut said = Said::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("prints in line {}: {:?}", index + 1, line.chars().take(64).collect::<String>());
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{place}: write KEY=NUMBER"))?;
        let (key, value) = (key.trim(), value.trim());
        let number =
            || Some(value.parse().map_err(|_| format!("{place}: {value:?} is not a whole number"))).transpose();
        match key {
            "state" => {
                said.state = Some(parse_state(value).ok_or_else(|| format!("{place}: write up, drain or down"))?)
            }
            "clients" => said.clients = number()?,
            "in_flight" => said.in_flight = number()?,
            "cpu_permille" => said.cpu_permille = number()?,
            "memory_permille" => said.memory_permille = number()?,
            "execution_us" => said.execution_us = number()?,
            "workers" => said.workers = number()?,
            "requests" => said.requests = number()?,
            _ => {
                let keys = "state, clients, in_flight, cpu_permille, memory_permille, execution_us, workers, requests";
                return Err(format!("{place}: {key:?} is unknown; the keys are {keys}"));
            }
        }
    }
    Ok(said)
}

fn parse_state(word: &str) -> Option<ServerState> {
    match word {
        "up" => Some(ServerState::Up),
        "drain" => Some(ServerState::Drain),
        "down" => Some(ServerState::Down),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    /// Runs `command` until it is over, for all the time it needs; `at` is the time it is told.
    fn load_after(command: &mut Command, at: Instant) -> ReportedLoad {
        command.ask(at);
        while command.run.is_some() {
            command.advance(at);
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        command.contribute(&mut load);
        load
    }

    fn command(run: &str, begin: Instant) -> Command {
        let (interval, time_limit) = (Duration::from_secs(1), Duration::from_millis(500));
        Command::new(&Settings { run: run.to_owned(), interval, time_limit }, begin)
    }

    #[test]
    fn what_it_prints_is_the_load() {
        let begin = Instant::now();
        let mut told =
            command("echo in_flight = 12; echo workers=4; echo; echo state=drain; echo requests=$((7 * 1000))", begin);
        let load = load_after(&mut told, begin);
        assert_eq!(
            (load.in_flight, load.state, load.clients, load.workers),
            (Some(12), ServerState::Drain, None, NonZeroU32::new(4))
        );
        assert_eq!(load.requests_per_s_milli, None, "of one run");
        told.settings.run = "echo requests=8000; echo workers=0".to_owned();
        let load = load_after(&mut told, begin + Duration::from_millis(999));
        assert_eq!(load.in_flight, Some(12), "not due yet");
        let load = load_after(&mut told, begin + Duration::from_secs(1));
        assert_eq!((load.in_flight, load.requests_per_s_milli), (None, Some(1_000_000)));
        assert_eq!(load.workers, None, "0 says nothing");
    }

    #[test]
    fn what_fails_is_not_believed() {
        let begin = Instant::now();
        for run in ["echo in_flight=1; exit 3", "echo in_flight=many", "/nonexistent", "yes in_flight=1"] {
            let mut failing = command(run, begin);
            assert_eq!(load_after(&mut failing, begin), ReportedLoad::unknown("b1".parse().unwrap()), "{run}");
        }
    }

    #[test]
    fn what_hangs_is_killed_with_all_it_started() {
        let begin = Instant::now();
        let mut hanging = command("echo in_flight=1; sleep 3600 & wait", begin);
        hanging.ask(begin);
        let group = Pid::from_raw(hanging.run.as_ref().unwrap().child.id() as i32);
        hanging.advance(begin + Duration::from_millis(499));
        assert!(!hanging.run.as_ref().unwrap().is_killed);
        while hanging.run.is_some() {
            hanging.advance(begin + Duration::from_millis(500));
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        hanging.contribute(&mut load);
        assert_eq!(load.in_flight, None);
        // Those that it started are reaped by init some time later.
        let is_gone = || killpg(group, None::<Signal>).is_err();
        assert!((0..5000).any(|_| is_gone() || {
            std::thread::sleep(Duration::from_millis(1));
            false
        }));
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(mistake("clients=1\nclients\n"), "prints in line 2: \"clients\": write KEY=NUMBER");
        assert_eq!(mistake("clients=-1"), "prints in line 1: \"clients=-1\": \"-1\" is not a whole number");
        assert!(mistake("load=1").contains("\"load\" is unknown; the keys are state, clients"));
        assert!(mistake("state=off").contains("write up, drain or down"));
    }

    proptest! {
        #[test]
        fn arbitrary_output_never_panics(output in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&output);
        }
    }
}
