//! A copy of the active generation of the configuration table.
//!
//! Control does not wait for this command before it fills a buffer, so the command reads the active word before and after
//! the copy, and copies again if it changed.

use shunt_config::document::listed;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::config_table::{ClassRecord, Generation, MemberRecord};
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::regions::ControlRegion;
use shunt_shmlayout::service::{BackendView, ServiceView};
use shunt_shmlayout::sync::{Ordering, fence};
use std::collections::HashMap;

/// Maximum number of copies. Control publishes at most once per 10 ms; a copy takes less than 1 ms.
const COPIES: usize = 20;

/// Why there is no configuration to show.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Control has not published yet, or does not run.
    #[error("no configuration is published yet: `shunt status` says whether shunt-control runs")]
    NothingPublished,
    /// Every copy was overwritten.
    #[error("the configuration changed {COPIES} times while it was read: try again")]
    Overtaken,
    /// The operator's name does not exist.
    #[error("there is no {what} {name:?}; there is: {}", listed(names.iter().cloned()))]
    Unknown {
        /// "service" or "backend".
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The names that exist.
        names: Vec<String>,
    },
}

/// A service.
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: ServiceView,
    /// Its backends.
    pub members: Vec<MemberRecord>,
    /// Number of client ranges, if it has rules.
    pub classes: Vec<ClassRecord>,
    /// Number of slots of each backend.
    pub slots: HashMap<BackendId, u32>,
}

/// A backend.
pub struct Backend {
    /// Its id.
    pub id: BackendId,
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: BackendView,
}

/// A copy of one generation.
pub struct Configuration {
    /// By id.
    pub services: Vec<Service>,
    /// By id.
    pub backends: Vec<Backend>,
}

impl Configuration {
    /// Copies the active generation.
    pub fn read(control: &ControlRegion) -> Result<Self, ConfigurationError> {
        for _ in 0..COPIES {
            let active = Active(control.head.active.load(Ordering::Acquire)); // pairs with flip::publish()
            if active == Active::NONE {
                return Err(ConfigurationError::NothingPublished);
            }
            let copy = Self::copy(&control.generations[active.buffer()]);
            fence(Ordering::Acquire); // orders the copy before the second load: pairs with the fence in flip::publish()
            if control.head.active.load(Ordering::Relaxed) == active.0 {
                return Ok(copy);
            }
        }
        Err(ConfigurationError::Overtaken)
    }

    fn copy(generation: &Generation) -> Self {
        let services = (0..generation.services.len()).map(|id| ServiceId(id as u16));
        let backends = (0..generation.backends.len()).map(|id| BackendId(id as u16));
        Self {
            services: services.filter_map(|id| Service::copy(generation, id)).collect(),
            backends: backends.filter_map(|id| Backend::copy(generation, id)).collect(),
        }
    }

    /// The backend with this id.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.id == id)
    }

    /// Ids of the services with this name: two, while a removed one still has connections.
    pub fn services_named(&self, name: &str) -> Result<Vec<ServiceId>, ConfigurationError> {
        let ids = self.services.iter().filter(|service| service.name == name).map(|service| service.id).collect();
        known("service", name, ids, || self.services.iter().map(|service| service.name.clone()).collect())
    }

    /// Ids of the backends with this name.
    pub fn backends_named(&self, name: &str) -> Result<Vec<BackendId>, ConfigurationError> {
        let ids = self.backends.iter().filter(|backend| backend.name == name).map(|backend| backend.id).collect();
        known("backend", name, ids, || self.backends.iter().map(|backend| backend.name.clone()).collect())
    }
}

fn known<T>(
    what: &'static str,
    name: &str,
    ids: Vec<T>,
    names: impl FnOnce() -> Vec<String>,
) -> Result<Vec<T>, ConfigurationError> {
    if ids.is_empty() {
        return Err(ConfigurationError::Unknown { what, name: name.to_owned(), names: names() });
    }
    Ok(ids)
}

impl Service {
    fn copy(generation: &Generation, id: ServiceId) -> Option<Self> {
        let record = generation.service(id)?;
        let first = record.slots_first as usize;
        let cells = generation.slots.get(first..first + record.slots_count as usize).unwrap_or_default();
        let mut slots = HashMap::new();
        for cell in cells {
            *slots.entry(BackendId(cell.load(Ordering::Relaxed))).or_default() += 1;
        }
        let name = generation.service_names.get(usize::from(id.0))?.load().to_string();
        let (members, classes) = (generation.members_of(&record).collect(), generation.classes_of(&record).collect());
        Some(Self { id, name, members, classes, record, slots })
    }
}

impl Backend {
    fn copy(generation: &Generation, id: BackendId) -> Option<Self> {
        let record = generation.backend(id)?;
        let name = generation.backend_names.get(usize::from(id.0))?.load().to_string();
        Some(Self { id, name, record })
    }

    /// Whether the flag is set, as `BackendRecord::UP`.
    pub fn is(&self, flag: u8) -> bool {
        self.record.flags & flag != 0
    }
}
