//! A simulated pool of back-end servers: how long each request takes, decided by numbers instead of by this machine.
//!
//! `serve-load` answers by it, `generate-load` draws its arrivals from the same [`random::Random`], so that every device
//! of `tests/bench/balance` meets the same arrivals and the same kind of servers.

pub mod demand;
pub mod random;
pub mod station;
pub mod summary;
pub mod wave;
