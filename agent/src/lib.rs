//! The agent: measures the load on a back-end server and reports it to control (patent, "agents" on the application
//! servers: "the number of clients presently being served, the utilization rates of the CPU and memory, the average
//! execution time, and the number of requests per second").
//!
//! One thread runs the loop in [`run`]. The library `report` contains what control needs too: reports and agent-check
//! answers.
//!
//! ```text
//!  sample/ sockets, machine, cgroup --+
//!          nginx, prometheus ---------+--> Load of each back-end --> report --UDP--> control
//!          command, statsd -----------+                         \--> check_server <--TCP-- HAProxy
//! ```

pub mod check_server;
pub mod dead_band;
pub mod epoch;
pub mod listening;
pub mod run;
pub mod sample;
pub mod settings;
