//! The configuration as an operator meets it: what is accepted, and how everything else is refused.
#![allow(missing_docs)]

mod accepted;
mod arbitrary;
mod common;
mod feedback;
mod files;
mod host;
mod machine;
mod services;
