//! The operator's TOML configuration: its format, how it is read, and why it is refused.
//!
//! Owns the format. Read by the keeper (switchers, interfaces, limits), by control (everything) and by `shunt check`. The
//! file is read-only and read as a whole: the result is either a [`Config`] with defaults filled in, or a [`ConfigError`]
//! that names every invalid line.
//!
//! ```text
//!  path -- read.rs --> text --> TOML table with places -- section.rs, check/ --> Config
//!                                                     \-- report.rs ---------> ConfigError
//! ```

mod check;
mod cpus;
mod duplicate;
mod error;
mod feedback;
mod kind;
mod near;
mod queues;
mod read;
mod report;
mod section;
mod slots;
mod source;
mod types;

use std::path::Path;

pub use cpus::{CpuError, Cpus};
pub use error::{ConfigError, Problem};
pub use feedback::{Agent, AgentCheck, Algorithm, Feedback, Network, NetworkError, Rule};
pub use queues::{FRAMES, MOST_PORTS};
pub use shunt_protocol::idle::Idle;
pub use source::Source;
pub use types::{
    Backend, Config, Health, Host, Interface, Limits, MTU_MAX, Mode, OnBackendDown, PortKind, Prefix, Probe, Protocol,
    Service, Side, Switchers, Target, Timeouts, XdpMode,
};

/// Building blocks for reading other files in the same way, such as the agent's configuration.
pub mod document {
    pub use crate::kind::{FileKind, refuse_other_kind};
    pub use crate::read::{parse_document, read_text, read_text_up_to};
    pub use crate::report::{Field, Place, Report, listed, quoted};
    pub use crate::section::Section;
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read::read_text(path)?, &path.display().to_string())
    }

    /// Checks `text`; messages refer to it as `file_name`.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let document = read::parse_document(text, file_name)?;
        kind::refuse_other_kind(document.get_ref(), file_name, kind::FileKind::Shunt)?;
        let report = report::Report::new(file_name, text);
        let config = check::resolve(&report, document.get_ref());
        report.conclude(config)
    }
}
