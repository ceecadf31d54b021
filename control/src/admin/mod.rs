//! The operator's orders: `/run/shunt/INSTANCE/control.sock`, one JSON object a line each way.
//!
//! `server` reads lines, each client in a task of its own, so that a slow or silent one delays nobody; the main loop
//! gets each order with a way to answer it, and answers when what was ordered is in force.

pub mod server;
