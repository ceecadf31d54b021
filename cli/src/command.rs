//! The command line, and what each command does.

use super::admin::{self, BackendDetails};
use super::configuration::Configuration;
use super::drain::Selected;
use super::memory::{Memory, MemoryError};
use super::output::{self, Output};
use super::views::{
    BackendsReport, ConnectionsReport, DropsReport, Filter, Outside, Process, ProcessRow, ProcessState, Sample,
    ServicesReport, Severity, StatusReport, StatusView, control_unanswered, faulty_host, faulty_links, fields,
    process_problems, processes,
};
use super::{check, doctor, drain, instance};
use clap::{Parser, Subcommand};
use shunt_config::ConfigError;
use shunt_instances::living_processes;
use shunt_process::{Instance, REFUSED, give_up, say};
use shunt_shmlayout::clock::now_ms as monotonic_ms;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit status of `shunt status`, as for monitoring plug-ins: warning, critical, unknown.
const DEGRADED: u8 = 1;
const NOT_SERVING: u8 = 2;
const UNKNOWN: u8 = 3;
/// Interval between the two samples from which `shunt status` computes how idle a switcher is.
const LOOK: Duration = Duration::from_millis(100);

/// Shows and steers a running Shunt; checks a configuration and a machine before it runs.
#[derive(Debug, Parser)]
#[command(name = "shunt", version)]
pub struct Arguments {
    /// Which instance [default: $SHUNT_INSTANCE, or the only one there is, or "shunt"].
    #[arg(long, global = true, value_name = "NAME")]
    instance: Option<Instance>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Processes, ports, connection table, whether every frame is accounted for, and what is wrong. Exit status 0 to 3.
    #[command(after_help = fields::STATUS)]
    Status {
        /// Count the connections in the table instead of subtracting those closed from those opened.
        #[arg(long)]
        exact: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Services: backends, connections, packets and bytes.
    #[command(after_help = fields::SERVICES)]
    Services {
        #[command(flatten)]
        output: Output,
    },
    /// Backends: state, weight, share, next hop, connections.
    #[command(after_help = fields::BACKENDS)]
    Backends {
        #[command(flatten)]
        output: Output,
    },
    /// Connections that live now.
    #[command(after_help = fields::CONNECTIONS)]
    Connections {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// Frames dropped, by reason.
    #[command(after_help = fields::DROPS)]
    Drops {
        /// Reasons that never occurred, too.
        #[arg(long)]
        all: bool,
        /// A column for each switcher.
        #[arg(long)]
        per_switcher: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Give back-ends no new connections; those they have go on. All that are given, or none if one is unknown.
    #[command(after_help = fields::DRAIN)]
    Drain(Selected),
    /// Give drained back-ends new connections again. All that are given, or none if one is unknown.
    #[command(after_help = fields::DRAIN)]
    Enable(Selected),
    /// Read the configuration again; a bad one is refused, and the old one stays.
    Reload,
    /// Say whether a configuration can be used. Exit status 78 if not.
    Check {
        /// Print INSTANCE=... and SWITCHERS=..., a line each, for a supervisor: of the instance that runs by this file, even if
        /// the file is bad by now.
        #[arg(long)]
        shell: bool,
        /// The configuration.
        file: PathBuf,
    },
    /// The living processes of an instance, whichever process started them: NAME PID START-TIME, a line each, for a supervisor.
    Processes,
    /// Say what on this machine is in Shunt's way, and how to mend it. Exit status 1 if something fails.
    Doctor {
        /// Look at what this configuration needs, too.
        file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(arguments: Arguments) -> ExitCode {
    match execute(arguments) {
        Ok(code) => code,
        // Its lines already begin with the file's name.
        Err(error) if error.is::<ConfigError>() => {
            say(error);
            ExitCode::from(REFUSED)
        }
        Err(error) => give_up("shunt", format_args!("{error:#}"), false),
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let named = arguments.instance;
    match arguments.command {
        Command::Status { exact, output } => return Ok(status(named, exact, output)),
        Command::Services { output } => services(&mut attach(named)?, output)?,
        Command::Backends { output } => backends(&mut attach(named)?, output)?,
        Command::Connections { filter, output } => connections(&mut attach(named)?, &filter, output)?,
        Command::Drops { all, per_switcher, output } => drops(&mut attach(named)?, all, per_switcher, output)?,
        Command::Drain(selected) => drain::drain(&instance::choose(named)?, selected)?,
        Command::Enable(selected) => drain::enable(&instance::choose(named)?, selected)?,
        Command::Reload => {
            admin::change(&instance::choose(named)?, &shunt_protocol::admin::Command::Reload)?;
            output::write("reloaded\n")?;
        }
        Command::Check { shell, file } => {
            output::write(&if shell { check::settings(&file)? } else { checked(&file)? })?;
        }
        Command::Processes => {
            let processes = living_processes(&instance::choose(named)?);
            output::write(&processes.iter().map(|process| format!("{process}\n")).collect::<String>())?;
        }
        Command::Doctor { file, json } => return doctor::run(file.as_deref(), json),
    }
    Ok(ExitCode::SUCCESS)
}

/// Problems of the machine do not make the file invalid.
fn checked(file: &Path) -> anyhow::Result<String> {
    let check::Checked { summary, warnings } = check::check(file)?;
    warnings.iter().for_each(say);
    Ok(summary)
}

fn attach(named: Option<Instance>) -> anyhow::Result<Memory> {
    let memory = Memory::attach(&instance::choose(named)?)?;
    Ok(memory)
}

/// Warns if the values shown were left by a dead process.
fn warn_of_missing(memory: &Memory) -> anyhow::Result<()> {
    process_problems(&processes(memory, monotonic_ms())).iter().for_each(|problem| say(problem.line().trim_end()));
    Ok(())
}

/// Whether control's loop turns. Querying a stuck control would block until the timeout.
fn control_runs(memory: &Memory) -> bool {
    let runs = |row: &ProcessRow| row.process == Process::Control && row.state == ProcessState::Running;
    processes(memory, monotonic_ms()).iter().any(runs)
}

/// Control's details of each backend; a failure is printed once.
fn backend_details(memory: &Memory, has_warned: &mut bool) -> HashMap<String, BackendDetails> {
    let details = if control_runs(memory) { admin::backend_details(&memory.instance) } else { Ok(HashMap::new()) };
    details.unwrap_or_else(|error| {
        if !std::mem::replace(has_warned, true) {
            say(control_unanswered(&error).line().trim_end());
        }
        HashMap::new()
    })
}

/// The exit status tells the severity of the worst problem.
fn status(named: Option<Instance>, exact: bool, output: Output) -> ExitCode {
    let mut memory = None;
    let shown = instance::choose(named)
        .map_err(anyhow::Error::from)
        .and_then(|instance| output.show(|| sample(&instance, &mut memory, exact)));
    match shown.map(|view| view.worst()) {
        Ok(None | Some(Severity::Notice)) => ExitCode::SUCCESS,
        Ok(Some(Severity::Degraded)) => ExitCode::from(DEGRADED),
        Ok(Some(Severity::NotServing)) => ExitCode::from(NOT_SERVING),
        Err(error) => {
            say(format_args!("shunt: {error:#}"));
            let report = serde_json::json!({ "health": "unknown", "error": format!("{error:#}") });
            // If this cannot be printed, the exit status still reports it.
            let _ = output::json(&report).map(|text| output.json && output::write(&text).is_ok());
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Samples an instance once; its memory may be removed or recreated between two samples.
fn sample(instance: &Instance, memory: &mut Option<Memory>, exact: bool) -> anyhow::Result<StatusView> {
    let attached = match memory.take() {
        Some(mut attached) => attached.refresh().map(|()| attached),
        None => Memory::attach(instance),
    };
    let memory = match attached {
        Ok(attached) => memory.insert(attached),
        Err(MemoryError::NotRunning { missing, advice, .. }) => {
            return Ok(StatusView::absent(instance, &missing, &advice));
        }
        Err(error) => return Err(error.into()),
    };
    let before = Sample::take(memory);
    std::thread::sleep(LOOK);
    let file = control_runs(memory).then(|| admin::ConfigurationFile::of(instance));
    let outside = match shunt_routing::addresses() {
        Ok(kernel) => {
            let (links, host) = (faulty_links(&memory.keeper, &kernel), faulty_host(&memory.keeper, &kernel));
            Outside { file, links, host }
        }
        Err(error) => {
            say(format_args!("shunt: the state of the interfaces is unknown: {error}"));
            Outside { file, ..Outside::default() }
        }
    };
    Ok(StatusView::Present(Box::new(StatusReport::read(memory, &before, &outside, exact, monotonic_ms()))))
}

fn services(memory: &mut Memory, output: Output) -> anyhow::Result<()> {
    warn_of_missing(memory)?;
    output.show(|| {
        memory.refresh()?;
        Ok(ServicesReport::read(memory, &Configuration::read(&memory.control)?))
    })?;
    Ok(())
}

fn backends(memory: &mut Memory, output: Output) -> anyhow::Result<()> {
    warn_of_missing(memory)?;
    let mut has_warned = false;
    output.show(|| {
        memory.refresh()?;
        let details = backend_details(memory, &mut has_warned);
        Ok(BackendsReport::read(memory, &Configuration::read(&memory.control)?, &details, monotonic_ms()))
    })?;
    Ok(())
}

fn connections(memory: &mut Memory, filter: &Filter, output: Output) -> anyhow::Result<()> {
    warn_of_missing(memory)?;
    output.show(|| {
        memory.refresh()?;
        let configuration = Configuration::read(&memory.control)?;
        Ok(ConnectionsReport::read(memory, &configuration, filter, monotonic_ms())?)
    })?;
    Ok(())
}

fn drops(memory: &mut Memory, all: bool, per_switcher: bool, output: Output) -> anyhow::Result<()> {
    warn_of_missing(memory)?;
    output.show(|| {
        memory.refresh()?;
        Ok(DropsReport::read(memory, all, per_switcher))
    })?;
    Ok(())
}
