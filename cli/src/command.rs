//! The command line, and what each command does.

use super::admin::{self, Told};
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

/// Exit status of `shunt status`, as monitoring plug-ins have it: warning, critical, unknown.
const DEGRADED: u8 = 1;
const NOT_SERVING: u8 = 2;
const UNKNOWN: u8 = 3;
/// Between the two looks from which `shunt status` tells how idle a switcher is.
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
    /// The living processes of an instance, whoever started them: NAME PID START-TIME, a line each, for a supervisor.
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

/// Does what the command line says.
pub fn run(arguments: Arguments) -> ExitCode {
    match execute(arguments) {
        Ok(code) => code,
        // Its lines begin with the file's name already.
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

/// What of the machine isn't as the file wants it is no refusal of the file.
fn checked(file: &Path) -> anyhow::Result<String> {
    let check::Checked { summary, warnings } = check::check(file)?;
    warnings.iter().for_each(say);
    Ok(summary)
}

fn attach(named: Option<Instance>) -> anyhow::Result<Memory> {
    let memory = Memory::attach(&instance::choose(named)?)?;
    Ok(memory)
}

/// What is shown is what a dead process left: say so, beside it.
fn warn_of_missing(memory: &Memory) -> anyhow::Result<()> {
    process_problems(&processes(memory, monotonic_ms())).iter().for_each(|problem| say(problem.line().trim_end()));
    Ok(())
}

/// Whether control turns. One that stands still would let whoever asks it wait for its answer.
fn control_runs(memory: &Memory) -> bool {
    let runs = |row: &ProcessRow| row.process == Process::Control && row.state == ProcessState::Running;
    processes(memory, monotonic_ms()).iter().any(runs)
}

/// What control tells of each backend; what keeps it from that is said once.
fn told(memory: &Memory, has_said: &mut bool) -> HashMap<String, Told> {
    let told = if control_runs(memory) { admin::tell(&memory.instance) } else { Ok(HashMap::new()) };
    told.unwrap_or_else(|error| {
        if !std::mem::replace(has_said, true) {
            say(control_unanswered(&error).line().trim_end());
        }
        HashMap::new()
    })
}

/// Says by its exit status how bad the worst problem is.
fn status(named: Option<Instance>, exact: bool, output: Output) -> ExitCode {
    let mut memory = None;
    let shown = instance::choose(named)
        .map_err(anyhow::Error::from)
        .and_then(|instance| output.show(|| look(&instance, &mut memory, exact)));
    match shown.map(|view| view.worst()) {
        Ok(None | Some(Severity::Notice)) => ExitCode::SUCCESS,
        Ok(Some(Severity::Degraded)) => ExitCode::from(DEGRADED),
        Ok(Some(Severity::NotServing)) => ExitCode::from(NOT_SERVING),
        Err(error) => {
            say(format_args!("shunt: {error:#}"));
            let report = serde_json::json!({ "health": "unknown", "error": format!("{error:#}") });
            // Where this can't be printed, the exit status says it.
            let _ = output::json(&report).map(|text| output.json && output::write(&text).is_ok());
            ExitCode::from(UNKNOWN)
        }
    }
}

/// One look at an instance, whose memory may come and go between two of them.
fn look(instance: &Instance, memory: &mut Option<Memory>, exact: bool) -> anyhow::Result<StatusView> {
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
            say(format_args!("shunt: whether interfaces are up isn't known: {error}"));
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
    let mut has_said = false;
    output.show(|| {
        memory.refresh()?;
        let told = told(memory, &mut has_said);
        Ok(BackendsReport::read(memory, &Configuration::read(&memory.control)?, &told, monotonic_ms()))
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
