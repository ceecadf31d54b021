//! What runs on a back-end server: it measures the load there and reports it to control (patent, "agents" on the
//! application servers: "the number of clients presently being served, the utilization rates of the CPU and memory, the
//! average execution time, and the number of requests per second").
//!
//! Control has this library too, for what both must agree on: the [`report`]s, and the answers of [`agent_check`]s. The
//! rest is the agent: one thread, one [`run`] loop.
//!
//! ```text
//!  sample/ sockets, machine, cgroup --+
//!          nginx, prometheus ---------+--> Load of each back-end --> report --UDP--> control
//!          command, statsd -----------+                         \--> check_server <--TCP-- HAProxy
//! ```

pub mod agent_check;
pub mod check_server;
pub mod epoch;
pub mod listening;
pub mod report;
pub mod run;
pub mod sample;
pub mod settings;
pub mod sharp;
