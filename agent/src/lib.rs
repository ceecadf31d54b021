//! What runs on a back-end server: it measures the load there and reports it to control (patent, "agents" on the
//! application servers: "the number of clients presently being served, the utilization rates of the CPU and memory, the
//! average execution time, and the number of requests per second").
//!
//! One thread, one [`run`] loop. What control must know, too, is the library `report`: the reports, and the answers of
//! agent checks.
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
