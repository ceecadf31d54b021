//! What a turn is given, and what it leaves to do: plain values, so that a turn needs neither socket nor task nor file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shunt_config::{Config, ConfigError};
use shunt_protocol::admin::{Command, Reply};
use shunt_publish::candidate::Candidate;
use shunt_publish::retirement::{Counts, Leaving};
use shunt_publish::table::{NamedIds, Table};
use shunt_routing::event::NeighbourKey;
use shunt_routing::state::{Changes, State};

use super::cause::Causes;
use crate::clock::Now;
use crate::health::as_client::Paths;
use crate::health::{Check, Health, Report};
use crate::resource_manager::agent_check::{Outcome, Question};
use crate::routing_daemon::announce::Place;

/// Who waits for the answer to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that happened since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A check has news.
    Health(Report),
    /// The kernel's network state changed; the turn's [`Inputs::kernel`] has it.
    Network(Changes),
    /// The kernel asked for these neighbours in vain, each as often as it did.
    Unanswered(Vec<IpAddr>),
    /// The operator wants something.
    Order {
        /// Where the answer goes.
        ticket: Ticket,
        /// What.
        command: Command,
    },
    /// SIGHUP: read the configuration again; the log is the only answer.
    Hangup,
    /// A datagram arrived at the socket of reports.
    Datagram {
        /// Where from.
        source: IpAddr,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// An HAProxy agent answered, or didn't.
    Answer(Outcome),
    /// A count of connections is done.
    Counted(Count),
}

/// What a turn is given.
pub struct Inputs<'a> {
    /// The time, for the whole turn.
    pub now: Now,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// The kernel's network state, as it is after all the events.
    pub kernel: &'a State,
    /// What isn't an event.
    pub circumstances: Circumstances,
}

/// What the process around control is like at present.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The accepted configuration couldn't be saved yet.
    pub is_unsaved: bool,
    /// Where reports should be taken and aren't, and why.
    pub not_listening: Option<(SocketAddr, String)>,
    /// What the last turn took, microseconds.
    pub last_turn_us: u64,
}

/// Reads the configuration when control says so: what it comes to depends on what the table has by then.
pub trait Configurations {
    /// What the file comes to, if all of it can be used where `running` runs, by which `table` has come about, and the ids
    /// `named` are taken.
    fn read(&mut self, table: &Table, named: &NamedIds, running: &Config) -> Result<Candidate, ConfigError>;
}

/// A count of connections that should begin, and what it is to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountRequest {
    /// Who was removed when it began.
    pub leaving: Leaving,
    /// Of which configuration: in another one, who was removed then may be back, or removed once more.
    pub reloads: u64,
    /// Services that the memory has room for.
    pub services: usize,
    /// Backends that it has room for.
    pub backends: usize,
}

/// A count that is made.
#[derive(Debug)]
pub struct Count {
    /// What it was to prove.
    pub request: CountRequest,
    /// Its result, or why there is none.
    pub counts: Result<Counts, String>,
}

/// A generation that became the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its epoch.
    pub epoch: u64,
    /// Why it was made.
    pub causes: Causes,
}

/// What a turn leaves to do.
#[derive(Default)]
pub struct Outputs {
    /// The answers to orders.
    pub replies: Vec<(Ticket, Reply)>,
    /// Neighbours that the kernel is to look for.
    pub resolve: Vec<NeighbourKey>,
    /// Addresses to announce.
    pub announce: Vec<(Place, Vec<Ipv4Addr>)>,
    /// Exactly these checks run from now on, each from this health if it is new.
    pub checks: Option<Vec<(Check, Health)>>,
    /// The ways of checks that take a client's.
    pub paths: Option<Paths>,
    /// Exactly these agents are asked from now on.
    pub questions: Option<Vec<Question>>,
    /// Reports are taken there from now on, or nowhere.
    pub listen: Option<Option<SocketAddr>>,
    /// Connections are to be counted.
    pub count: Option<CountRequest>,
    /// The text of the configuration that was accepted, to be kept for a successor.
    pub accepted: Option<String>,
    /// What became active.
    pub published: Option<Published>,
}

/// A turn under way.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub kernel: &'a State,
    pub circumstances: Circumstances,
    pub configurations: &'a mut dyn Configurations,
    pub outputs: Outputs,
}

impl Turn<'_> {
    /// Answers an order.
    pub fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.outputs.replies.push((ticket, reply));
    }
}
