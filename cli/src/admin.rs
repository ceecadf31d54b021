//! Commands to control through its admin socket: one JSON object per line in each direction.

use super::memory::advise;
use super::start_fault::start_fault;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use shunt_instances::{addresses_beside, runs};
use shunt_process::{Instance, control_socket, runtime_directory};
use shunt_protocol::admin::{Accepted, BackendStatus, Command, FileStatus, Reply};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Timeout of a command that changes something. A reload publishes within 100 ms; if it takes longer, control is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Timeout of a query. It is answered in the turn that accepts it. Monitoring plug-ins have 10 s in total.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Maximum length of an answer.
const ANSWER_BYTES: u64 = 16 << 20;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No process listens.
    #[error(
        "shunt-control of instance {0} is not running: `shunt status` says which processes are; the supervisor starts it again"
    )]
    NotRunning(Instance),
    /// The instance does not exist.
    #[error("instance {instance} is not running; {advice}")]
    NoInstance {
        /// Name of the instance.
        instance: Instance,
        /// The remedy.
        advice: String,
    },
    /// Not root.
    #[error("the admin socket of instance {0} is open to root only: run it with sudo")]
    Denied(Instance),
    /// No answer, or an incomplete one.
    #[error(
        "shunt-control of instance {instance} did not answer: {source}; whether it did what was asked is not known"
    )]
    NoAnswer {
        /// Name of the instance.
        instance: Instance,
        /// The system's error.
        source: io::Error,
    },
    /// Control accepted the connection or the command, but sent no answer in time.
    #[error(
        "control{} of instance {instance} does not answer; see `shunt status`; whether the order was carried out is not known",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Silent {
        /// Name of the instance.
        instance: Instance,
        /// Pid of control, if known.
        pid: Option<i32>,
    },
    /// The answer has an unknown format.
    #[error(
        "shunt-control of instance {0} answered something else than expected: use the same build for all processes"
    )]
    Unintelligible(Instance),
    /// Control refused the command, with its reason.
    #[error("{0}")]
    Refused(String),
    /// Control accepted the command, and it is not in force yet.
    #[error("{}: {why}", name(what))]
    Pending {
        /// What was accepted.
        what: Accepted,
        /// Which switchers still use an older generation.
        why: String,
    },
}

/// Sends a command and returns control's answer, unless that is a refusal.
pub fn order(instance: &Instance, command: &Command) -> Result<Reply, AdminError> {
    let path = control_socket(instance);
    let exists = runtime_directory(instance).exists();
    let stream = UnixStream::connect(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if !exists => {
            AdminError::NoInstance { instance: instance.clone(), advice: advise(instance) }
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(instance.clone()),
        io::ErrorKind::PermissionDenied => AdminError::Denied(instance.clone()),
        _ => AdminError::NoAnswer { instance: instance.clone(), source },
    })?;
    let line = exchange(&stream, command, patience(command)).map_err(|source| unanswered(instance, &stream, source))?;
    accepted(Reply::parse(&line).ok_or_else(|| AdminError::Unintelligible(instance.clone()))?)
}

/// Turns a refusal or a pending command into an error.
fn accepted(reply: Reply) -> Result<Reply, AdminError> {
    match reply {
        Reply::Refused { error } => Err(AdminError::Refused(error)),
        Reply::Pending { what, error } => Err(AdminError::Pending { what, why: error }),
        reply => Ok(reply),
    }
}

/// Describes what was accepted.
fn name(what: &Accepted) -> String {
    match what {
        Accepted::Changed { backends } => backends.join(", "),
        Accepted::Reloaded { services, backends } => {
            format!("configuration of {services} services, {backends} back-ends")
        }
    }
}

/// Sends a command that changes something; returns the configuration in force and its epoch.
pub fn change(instance: &Instance, command: &Command) -> Result<(Accepted, u64), AdminError> {
    match order(instance, command)? {
        Reply::InForce { what, epoch } => Ok((what, epoch)),
        _ => Err(AdminError::Unintelligible(instance.clone())),
    }
}

/// The error number of an expired timeout means nothing to a user, so it is replaced.
fn unanswered(instance: &Instance, stream: &UnixStream, source: io::Error) -> AdminError {
    let instance = instance.clone();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let peer = getsockopt(stream, PeerCredentials).ok();
            AdminError::Silent { instance, pid: peer.map(|peer| peer.pid()) }
        }
        _ => AdminError::NoAnswer { instance, source },
    }
}

fn patience(command: &Command) -> Duration {
    match command {
        Command::Reload | Command::Drain(_) | Command::Enable(_) => ANSWER_WITHIN,
        Command::Backends | Command::Configuration => TOLD_WITHIN,
    }
}

fn exchange(mut stream: &UnixStream, command: &Command, within: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    stream.write_all(command.line()?.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut line)?;
    match line.ends_with('\n') {
        true => Ok(line),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
    }
}

/// The configuration file of a running instance.
pub struct ConfigurationFile {
    /// Control's status of it.
    pub status: FileStatus,
    /// Why a start with it would be refused now.
    pub fault: Option<String>,
}

impl ConfigurationFile {
    /// Asks control for its path, and reads it.
    pub fn of(instance: &Instance) -> Result<Self, AdminError> {
        file_status(instance).map(|status| Self::read(status, instance))
    }

    fn read(status: FileStatus, instance: &Instance) -> Self {
        let fault = start_fault(status.file.as_ref(), || runs(instance), addresses_beside);
        Self { status, fault }
    }
}

/// Control's status of its configuration file.
pub fn file_status(instance: &Instance) -> Result<FileStatus, AdminError> {
    match order(instance, &Command::Configuration)? {
        Reply::Configuration(status) => Ok(status),
        _ => Err(AdminError::Unintelligible(instance.clone())),
    }
}

/// Details of a backend that only control has.
#[derive(Debug, Default, Clone)]
pub struct BackendDetails {
    /// Reason for its health state.
    pub health: Option<String>,
    /// Reason for its weight, by service.
    pub feedback: HashMap<String, String>,
}

/// Control's details of each backend, by name.
pub fn backend_details(instance: &Instance) -> Result<HashMap<String, BackendDetails>, AdminError> {
    let Reply::Backends { backends } = order(instance, &Command::Backends)? else {
        return Err(AdminError::Unintelligible(instance.clone()));
    };
    let details = |BackendStatus { name, health, feedback, .. }: BackendStatus| {
        (name, BackendDetails { health: Some(health), feedback: feedback.into_iter().collect() })
    };
    Ok(backends.into_iter().map(details).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_protocol::admin::ReportPath;

    #[test]
    fn what_is_accepted_and_not_in_force_is_no_refusal() {
        let error = "accepted, but not in force: switcher 1 (pid 7) still uses epoch 3".to_owned();
        let pending = |what| accepted(Reply::Pending { what, error: error.clone() }).unwrap_err();
        let changed = pending(Accepted::Changed { backends: vec!["b1".to_owned(), "b2".to_owned()] });
        assert!(matches!(changed, AdminError::Pending { what: Accepted::Changed { .. }, .. }), "{changed:?}");
        assert_eq!(changed.to_string(), format!("b1, b2: {error}"));
        let reloaded = pending(Accepted::Reloaded { services: 2, backends: 5 });
        assert_eq!(reloaded.to_string(), format!("configuration of 2 services, 5 back-ends: {error}"));
        let refused = accepted(Reply::Refused { error: "no such back-end".to_owned() }).unwrap_err();
        assert!(matches!(refused, AdminError::Refused(_)), "{refused:?}");
    }

    #[test]
    fn a_stuck_control_is_named_without_an_error_number() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let said = unanswered(&Instance::default(), &stream, io::ErrorKind::WouldBlock.into());
        let (text, pid) = (said.to_string(), format!("(pid {})", std::process::id()));
        assert!(text.contains(&pid) && text.contains("does not answer; see `shunt status`"), "{text}");
        assert!(std::error::Error::source(&said).is_none(), "nothing that is said again");
    }

    #[test]
    fn a_file_s_fault_is_found_without_control() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let status = FileStatus {
            file: path.clone(),
            refusal: None,
            unsaved: false,
            missing_keys: Vec::new(),
            reports: ReportPath::default(),
            unanswered: Vec::new(),
        };
        let read = || ConfigurationFile::read(status.clone(), &"test-none".parse().unwrap());
        assert!(read().fault.is_some_and(|fault| fault.starts_with(&format!("{path}:1: is empty"))));
        std::fs::write(file.path(), "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n").unwrap();
        assert_eq!(read().fault, None);
    }

    #[test]
    fn one_line_goes_and_one_comes_back() {
        let (mine, theirs) = UnixStream::pair().unwrap();
        let control = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(&theirs).read_line(&mut line).unwrap();
            (&theirs).write_all(b"{\"ok\":true}\n").unwrap();
            line
        });
        assert_eq!(exchange(&mine, &Command::Reload, ANSWER_WITHIN).unwrap(), "{\"ok\":true}\n");
        assert_eq!(control.join().unwrap(), "{\"command\":\"reload\"}\n");
    }

    #[test]
    fn a_busy_control_is_waited_for_no_longer_than_was_asked() {
        let (mine, _theirs) = UnixStream::pair().unwrap();
        let begun = std::time::Instant::now();
        let error = exchange(&mine, &Command::Backends, Duration::from_millis(50)).unwrap_err();
        assert!(error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < ANSWER_WITHIN, "{error}");
        assert!(patience(&Command::Backends) < patience(&Command::Reload));
    }

    #[test]
    fn a_control_that_hangs_up_has_not_answered() {
        let (mine, theirs) = UnixStream::pair().unwrap();
        let control = std::thread::spawn(move || {
            BufReader::new(&theirs).read_line(&mut String::new()).unwrap();
            (&theirs).write_all(b"{\"ok\":tr").unwrap();
        });
        assert_eq!(
            exchange(&mine, &Command::Backends, ANSWER_WITHIN).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        control.join().unwrap();
    }
}
