//! Operator commands: `/run/shunt/INSTANCE/control.sock`, one JSON object per line each way.
//!
//! `server` reads lines, each client in a task of its own, so that a slow or silent one delays no other; the main loop gets
//! each command with a channel for its reply, and replies once the command is in force.

pub mod server;
