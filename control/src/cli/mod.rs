//! The `shunt` command: an ordinary reader of the shared memory, and a client of control's admin socket.
//!
//! It writes nothing that another process reads. `memory` attaches, `configuration` copies the active generation,
//! `views` make rows and tables of both, `admin` gives orders, `check` and `doctor` look before Shunt is started.

mod admin;
mod check;
mod command;
mod configuration;
mod doctor;
mod drain;
pub(crate) mod format;
mod instance;
mod memory;
mod output;
mod table;
mod views;

pub use command::{Arguments, run};
