//! What the tests across processes share: laboratories in network namespaces, traffic that tells what was lost, and
//! the operator's view of a running Shunt.

pub mod configuration;
pub mod lab;
pub mod namespace;
pub mod operator;
pub mod pool;
pub mod runner;
pub mod supervisor;
pub mod traffic;
pub mod wait;
