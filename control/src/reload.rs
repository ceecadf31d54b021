//! What a reload may change, and what only a restart can. Pure.

use std::path::Path;

use shunt_config::{Config, ConfigError};

use crate::other_instances::{TakenAddress, check_addresses};
use crate::publish::error::CapacityError;
use crate::publish::table::{NamedIds, Table};
use crate::resource_manager::agents::{Agents, AgentsError};

/// Why a reload was refused. Nothing of it was used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that was fixed when the processes started.
    #[error("{file}: {field} differs from what Shunt was started with; restart Shunt to change it")]
    Fixed {
        /// The file.
        file: String,
        /// Which field.
        field: String,
    },
    /// Another instance has an address.
    #[error("{file}: {source}")]
    Taken {
        /// The file.
        file: String,
        /// Which, and who.
        source: TakenAddress,
    },
    /// No room.
    #[error("{file}: {source}")]
    Capacity {
        /// The file.
        file: String,
        /// For what.
        source: CapacityError,
    },
    /// An agent's key.
    #[error("{file}: {source}")]
    Agents {
        /// The file.
        file: String,
        /// Which, and why not.
        source: AgentsError,
    },
}

/// What a file comes to.
pub struct Reloaded {
    /// What it says.
    pub config: Config,
    /// What the table becomes.
    pub table: Table,
    /// Who may report.
    pub agents: Agents,
}

/// Reads the file again.
pub fn reload(path: &Path, config: &Config, table: &Table, named: &NamedIds) -> Result<Reloaded, ReloadError> {
    let file = || path.display().to_string();
    let next = Config::load(path)?;
    if let Some(field) = fixed_difference(config, &next) {
        return Err(ReloadError::Fixed { file: file(), field });
    }
    check_addresses(&next, config).map_err(|source| ReloadError::Taken { file: file(), source })?;
    let table = table.configured(&next, named).map_err(|source| ReloadError::Capacity { file: file(), source })?;
    let agents = Agents::load(&next.feedback).map_err(|source| ReloadError::Agents { file: file(), source })?;
    Ok(Reloaded { config: next, table, agents })
}

/// The first field that differs although it can't while Shunt runs.
fn fixed_difference(now: &Config, next: &Config) -> Option<String> {
    let whole = [
        (now.instance != next.instance, "instance"),
        (now.user != next.user, "user"),
        (now.switchers.cpus != next.switchers.cpus, "switchers.cpus"),
        (now.switchers.idle != next.switchers.idle, "switchers.idle"),
        (now.host != next.host, "host"),
    ];
    let (a, b) = (&now.limits, &next.limits);
    let limits = [
        (a.connections != b.connections, "limits.connections"),
        (a.services != b.services, "limits.services"),
        (a.backends != b.backends, "limits.backends"),
        (a.slots != b.slots, "limits.slots"),
        (a.neighbours != b.neighbours, "limits.neighbours"),
        (a.routes != b.routes, "limits.routes"),
        (a.frames != b.frames, "limits.frames"),
        (a.ring != b.ring, "limits.ring"),
        (a.store != b.store, "limits.store"),
    ];
    let mut fields = whole.into_iter().chain(limits);
    let field = fields.find(|(differs, _)| *differs).map(|(_, field)| field.to_owned());
    field.or_else(|| interface_difference(now, next))
}

fn interface_difference(now: &Config, next: &Config) -> Option<String> {
    let names = |config: &Config| config.interfaces.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
    if names(now) != names(next) {
        return Some("the list of interfaces".to_owned());
    }
    let mut pairs = now.interfaces.iter().zip(&next.interfaces);
    pairs.find(|(a, b)| a != b).map(|(a, _)| format!("interface {}", a.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::table::Capacity;

    const TEXT: &str = "[switchers]\ncount = 1\n[limits]\nbackends = 2\n[[interface]]\nname = \"eth0\"\n\
        [[service]]\nname = \"web\"\naddress = \"198.18.0.1:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
        [[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.1:80\"\n";

    fn reload_text(text: &str) -> Result<Reloaded, ReloadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shunt.toml");
        std::fs::write(&path, text).unwrap();
        let capacity = Capacity { services: 4, backends: 2, slots: 5000, members: 8, classes: 8 };
        let config = Config::parse(TEXT, "shunt.toml").unwrap();
        reload(&path, &config, &Table::new(capacity), &NamedIds::default())
    }

    fn refusal(text: &str) -> String {
        reload_text(text).map(drop).expect_err("a refusal").to_string()
    }

    #[test]
    fn services_and_backends_may_change() {
        let Reloaded { config, table, .. } =
            reload_text(&TEXT.replace("b1", "b7").replace("\"web\"", "\"www\"")).unwrap();
        assert_eq!(config.services[0].name, "www");
        assert!(table.backend_named("b7").is_some());
    }

    #[test]
    fn what_is_fixed_is_refused_by_name() {
        for (from, to, field) in [
            ("backends = 2", "backends = 3", "limits.backends"),
            ("[switchers]", "user = \"daemon\"\n[switchers]", "user"),
            ("[switchers]", "instance = \"other\"\n[switchers]", "instance"),
            ("count = 1", "count = 1\nidle = \"yield\"", "switchers.idle"),
            ("[limits]", "[host]\n[limits]", "host"),
            ("backends = 2", "backends = 2\nstore = 64", "limits.store"),
            ("\"eth0\"", "\"eth1\"", "the list of interfaces"),
            ("\"eth0\"", "\"eth0\"\nport = \"af_packet\"", "interface eth0"),
        ] {
            let text = refusal(&TEXT.replacen(from, to, 1));
            let said =
                format!("shunt.toml: {field} differs from what Shunt was started with; restart Shunt to change it");
            assert!(text.ends_with(&said), "{text}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_refused() {
        let agent =
            "[feedback]\nlisten = \"198.18.1.1:7946\"\n[[agent]]\nname = \"a\"\nkey_file = \"/nonexistent/key\"\n";
        let text = refusal(&format!("{TEXT}{agent}backends = [\"b1\"]\n"));
        assert!(text.contains("the key of agent a, /nonexistent/key, cannot be read: No such file"), "{text}");
    }

    #[test]
    fn a_bad_file_and_one_without_room_are_refused() {
        assert!(refusal("[switchers").contains("is not TOML"));
        let slots = TEXT.replace("mode = \"nat\"", "mode = \"nat\"\nslots = 16381");
        assert!(refusal(&slots).contains("take 16381 slots, limits.slots is 5000"), "{}", refusal(&slots));
    }
}
