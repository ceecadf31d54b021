//! The control processor (patent Fig. 4): everything that may block or allocate, so that switchers never do.

pub mod cli;
pub mod health;
pub mod master;
pub mod publish;
pub mod routing_daemon;
