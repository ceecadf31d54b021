//! The control processor (patent Fig. 4): everything that may block or allocate, so that switchers never do.

pub mod accepted;
pub mod admin;
pub mod announcements;
pub mod clock;
pub mod control;
pub mod health;
pub mod main_loop;
pub mod master;
pub mod packet_socket;
pub mod resource_manager;
pub mod routing_daemon;
pub mod start;
pub mod state_file;
pub mod tasks;
