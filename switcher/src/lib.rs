//! The switching processor 44: packet engine (patent Fig. 5), packet filter (Fig. 6), network interfaces reached from
//! user level (Figs 10 to 13), and the keeper that prepares all that for it (Fig. 11).

pub mod assemble;
pub mod bpf;
pub mod choice;
pub mod engine;
pub mod filter;
pub mod handover;
pub mod idle;
pub mod keeper;
pub mod outlets;
pub mod packet;
pub mod port;
pub mod privileges;
mod waiting;
