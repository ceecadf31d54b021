//! The switching processor 44: packet engine (patent Fig. 5), packet filter (Fig. 6), network interfaces reached from
//! user level (Figs 10 to 13), and the keeper that prepares all that for it (Fig. 11).

pub mod assemble;
pub mod choice;
pub mod egress;
pub mod engine;
pub mod filter;
pub mod idle;
pub mod port;
mod unresolved_queue;
