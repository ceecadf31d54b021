//! Inputs and outputs of a turn: plain values, so that a turn needs no socket, task or file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shunt_config::{Config, ConfigError};
use shunt_protocol::admin::{Command, Reply};
use shunt_publish::candidate::Candidate;
use shunt_publish::retirement::{ConnectionCounts, Leaving};
use shunt_publish::table::{NamedIds, Table};
use shunt_routing::event::NeighbourKey;
use shunt_routing::state::{Changes, State};

use super::cause::Causes;
use crate::clock::Now;
use crate::health::as_client::Paths;
use crate::health::{Check, Health, HealthUpdate};
use crate::resource_manager::agent_check::{Outcome, Question};
use crate::routing_daemon::announce::Place;

/// Identifies the client that waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An event since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A check's update.
    Health(HealthUpdate),
    /// The kernel's network state changed; the turn's [`Inputs::kernel`] has it.
    Network(Changes),
    /// The kernel's resolution of these neighbours failed, once per element.
    Unanswered(Vec<IpAddr>),
    /// An operator command.
    Order {
        /// The receiver of the reply.
        ticket: Ticket,
        /// The command.
        command: Command,
    },
    /// SIGHUP: read the configuration again; the only reply is the log.
    Hangup,
    /// A datagram arrived on the report socket.
    Datagram {
        /// Its source.
        source: IpAddr,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// The result of an agent-check query.
    Answer(Outcome),
    /// A connection count is complete.
    Counted(Count),
}

/// The inputs of a turn.
pub struct Inputs<'a> {
    /// The time, constant during the turn.
    pub now: Now,
    /// In order of occurrence.
    pub events: Vec<Event>,
    /// The kernel's network state after all events.
    pub kernel: &'a State,
    /// State of the process.
    pub circumstances: Circumstances,
}

/// The state of the process around control.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Whether saving the accepted configuration failed.
    pub is_unsaved: bool,
    /// The report address that cannot be listened on, and the error.
    pub not_listening: Option<(SocketAddr, String)>,
    /// Duration of the last turn, microseconds.
    pub last_turn_us: u64,
}

/// Reads the configuration on demand: the result depends on the table at that time.
pub trait Configurations {
    /// Reads and validates the file against the configuration `running`, its table and the ids in use (`named`).
    fn read(&mut self, table: &Table, named: &NamedIds, running: &Config) -> Result<Candidate, ConfigError>;
}

/// Requests a connection count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountRequest {
    /// What was removed when it started.
    pub leaving: Leaving,
    /// The configuration's number: in another one, removed items may be back or removed again.
    pub reloads: u64,
    /// Number of services that the memory has room for.
    pub services: usize,
    /// Number of backends that it has room for.
    pub backends: usize,
}

/// A complete connection count.
#[derive(Debug)]
pub struct Count {
    /// The request.
    pub request: CountRequest,
    /// The counts, or the error.
    pub counts: Result<ConnectionCounts, String>,
}

/// A generation that became active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its epoch.
    pub epoch: u64,
    /// Its causes.
    pub causes: Causes,
}

/// The outputs of a turn.
#[derive(Default)]
pub struct Outputs {
    /// Replies to commands.
    pub replies: Vec<(Ticket, Reply)>,
    /// Neighbours that the kernel must resolve.
    pub resolve: Vec<NeighbourKey>,
    /// Addresses to announce.
    pub announce: Vec<(Place, Vec<Ipv4Addr>)>,
    /// Addresses that are no longer Shunt's there.
    pub stop_announcing: Vec<(Place, Ipv4Addr)>,
    /// The complete list of checks to run, each with its health if it is new.
    pub checks: Option<Vec<(Check, Health)>>,
    /// The paths of checks that take a client's path.
    pub paths: Option<Paths>,
    /// The complete list of agents to query.
    pub questions: Option<Vec<Question>>,
    /// The address to listen on for reports; `None` stops listening.
    pub listen: Option<Option<SocketAddr>>,
    /// A connection count to start.
    pub count: Option<CountRequest>,
    /// The text of the accepted configuration, to be saved for a successor.
    pub accepted: Option<String>,
    /// Generations that became active.
    pub published: Option<Published>,
}

/// A turn in progress.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub kernel: &'a State,
    pub circumstances: Circumstances,
    pub configurations: &'a mut dyn Configurations,
    pub outputs: Outputs,
}

impl Turn<'_> {
    /// Replies to a command.
    pub fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.outputs.replies.push((ticket, reply));
    }
}
