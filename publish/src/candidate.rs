//! A checked configuration and everything derived from it. Creating a candidate performs every check; using one cannot
//! fail, so that a reload is applied completely or not at all.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use log::warn;
use shunt_config::{Config, ConfigError, Problem, document};
use shunt_instances::{AddressLocks, own_addresses};
use shunt_shmlayout::address::Address;

use crate::agents::{Agents, KeyMissing};
use crate::rehearsal::Rehearsal;
use crate::table::{NamedIds, Table};

/// A configuration and its text.
#[derive(Debug)]
pub struct Document {
    /// Content of the file.
    pub text: String,
    /// The parsed configuration.
    pub config: Config,
}

impl Document {
    /// Reads and validates a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = document::read_text(path)?;
        let config = Config::parse(&text, &path.display().to_string())?;
        Ok(Self { text, config })
    }
}

/// What a configuration is validated against.
pub struct Grounds<'a> {
    /// Private memory of the same size as the shared one.
    pub rehearsal: &'a Rehearsal,
    /// The current services and backends.
    pub table: &'a Table,
    /// Ids in use.
    pub named: &'a NamedIds,
    /// The running configuration; `None` at the first start.
    pub running: Option<&'a Config>,
    /// Lists the machine's own addresses, which no service may have: [`shunt_instances::addresses_beside`].
    pub local: fn(&Config) -> io::Result<BTreeSet<Address>>,
    /// Whether an unusable agent key refuses the configuration. A reload requires all keys, since its author can fix them.
    pub needs_keys: bool,
}

/// A configuration that is ready to be applied.
pub struct Candidate {
    /// The configuration and its text.
    pub document: Document,
    /// The resulting table.
    pub table: Table,
    /// The agents that may report.
    pub agents: Agents,
    /// Unusable keys: reports of their agents are refused.
    pub missing_keys: Vec<KeyMissing>,
}

impl Candidate {
    /// Validates a configuration that may replace the running one, and locks its addresses. If it is refused, the running
    /// configuration's addresses stay locked.
    pub fn new(document: Document, grounds: &Grounds<'_>, locks: &mut AddressLocks) -> Result<Self, ConfigError> {
        let candidate = Self::lock_and_check(document, grounds, locks);
        locks.settle(candidate.as_ref().map_or(grounds.running, |candidate| Some(&candidate.document.config)));
        candidate
    }

    fn lock_and_check(
        document: Document,
        grounds: &Grounds<'_>,
        locks: &mut AddressLocks,
    ) -> Result<Self, ConfigError> {
        let Document { config, .. } = &document;
        let mut problems: Vec<Problem> = grounds.running.map(|now| fixed_differences(now, config)).unwrap_or_default();
        match locks.claim(config, |address| grounds.table.has_address(&address.into())) {
            Ok(taken) => problems.extend(taken.iter().map(|taken| taken.problem(config))),
            Err(error) => problems.push(config.source.problem("service", format!("cannot lock addresses: {error}"))),
        }
        match (grounds.local)(config) {
            Ok(local) => problems.extend(own_addresses(config, &local)),
            Err(error) => problems.push(config.source.problem(
                "service",
                format!("cannot list the machine's own addresses, which no service may have: {error}"),
            )),
        }
        let (agents, missing_keys) = Agents::load(&config.feedback);
        let needed = missing_keys.iter().filter(|_| grounds.needs_keys);
        problems.extend(needed.map(|key| key.problem(&config.source)));
        let table = grounds.rehearsal.table(grounds.table, config, grounds.named);
        match table {
            Ok(table) if problems.is_empty() => Ok(Self { document, table, agents, missing_keys }),
            Ok(_) => Err(ConfigError::Refused(problems)),
            Err(refusal) => {
                problems.push(refusal.problem(&config.source));
                Err(ConfigError::Refused(problems))
            }
        }
    }

    /// The configuration that ran before; it keeps its addresses, which switchers serve.
    pub fn resumed(document: Document, grounds: &Grounds<'_>, locks: &mut AddressLocks) -> Result<Self, ConfigError> {
        let Document { config, .. } = &document;
        if let Err(error) = locks.claim(config, |_| true) {
            warn!("cannot lock addresses: {error}");
        }
        locks.settle(Some(config));
        let table = grounds.rehearsal.table(grounds.table, config, grounds.named);
        let table = table.map_err(|refusal| ConfigError::Refused(vec![refusal.problem(&config.source)]))?;
        let (agents, missing_keys) = Agents::load(&config.feedback);
        Ok(Self { document, table, agents, missing_keys })
    }
}

/// Lists the changed fields that cannot change while Shunt runs.
fn fixed_differences(now: &Config, next: &Config) -> Vec<Problem> {
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
    let fields = whole.into_iter().chain(limits).filter(|(differs, _)| *differs).map(|(_, field)| field.to_owned());
    let problem =
        |field| next.source.problem(field, "differs from what Shunt was started with; restart Shunt to change it");
    fields.map(problem).chain(interface_differences(now, next)).collect()
}

/// Interfaces that were added, removed or changed, each by its name.
fn interface_differences(now: &Config, next: &Config) -> Vec<Problem> {
    const RESTART: &str = "restart Shunt to change it";
    let problem = |field: String, text: &str| next.source.problem(field, format!("{text}; {RESTART}"));
    let of_next = next.interfaces.iter().filter_map(|interface| {
        let text = match now.interfaces.iter().find(|before| before.name == interface.name) {
            None => "is none of those that Shunt was started with",
            Some(before) if before != interface => "differs from what Shunt was started with",
            Some(_) => return None,
        };
        Some(problem(format!("interface.{}", interface.name), text))
    });
    let gone = now.interfaces.iter().filter(|before| next.interfaces.iter().all(|i| i.name != before.name));
    let gone = gone.map(|before| problem("interface".to_owned(), &format!("{} is missing", before.name)));
    let differences: Vec<Problem> = of_next.chain(gone).collect();
    match differences.is_empty() && now.interfaces != next.interfaces {
        true => vec![problem("interface".to_owned(), "the order differs from what Shunt was started with")],
        false => differences,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_shmlayout::regions::ControlShape;

    const TEXT: &str = "[switchers]\ncount = 1\n[limits]\nbackends = 2\n[[interface]]\nname = \"eth0\"\n\
        [[service]]\nname = \"web\"\naddress = \"198.18.0.1:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
        [[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.1:80\"\n";

    fn reload_text(text: &str) -> Result<Candidate, ConfigError> {
        candidate(text, true)
    }

    fn candidate(text: &str, needs_keys: bool) -> Result<Candidate, ConfigError> {
        reload_where(text, needs_keys, |_| Ok([Address::from_v4([198, 18, 0, 9])].into()))
    }

    fn reload_where(
        text: &str,
        needs_keys: bool,
        local: fn(&Config) -> io::Result<BTreeSet<Address>>,
    ) -> Result<Candidate, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shunt.toml");
        std::fs::write(&path, text).unwrap();
        let rehearsal = Rehearsal::new(&ControlShape::new(4, 2, 5000, 8, 8)).unwrap();
        let running = Config::parse(TEXT, "shunt.toml").unwrap();
        let table = rehearsal.empty_table();
        let (named, running) = (&NamedIds::default(), Some(&running));
        let grounds = Grounds { rehearsal: &rehearsal, table: &table, named, running, local, needs_keys };
        Candidate::new(Document::read(&path)?, &grounds, &mut AddressLocks::at(&folder.path().join("locks")).unwrap())
    }

    fn refusal(text: &str) -> String {
        reload_text(text).map(drop).expect_err("a refusal").to_string()
    }

    #[test]
    fn a_service_at_an_address_of_the_machine_is_refused() {
        let text = refusal(&TEXT.replace("198.18.0.1:80", "198.18.0.9:80"));
        assert!(text.contains("shunt.toml:9: service.web.address: 198.18.0.9 is an address of this machine"), "{text}");
    }

    #[test]
    fn without_the_machine_s_addresses_nothing_is_accepted() {
        let refused =
            reload_where(TEXT, true, |_| Err(io::Error::other("no netlink"))).map(drop).unwrap_err().to_string();
        assert!(refused.contains("shunt.toml:7: service: cannot list the machine's own addresses"), "{refused}");
        assert!(refused.contains("no netlink"), "{refused}");
    }

    #[test]
    fn services_and_backends_may_change() {
        let Candidate { document, table, .. } =
            reload_text(&TEXT.replace("b1", "b7").replace("\"web\"", "\"www\"")).unwrap();
        assert_eq!(document.config.services[0].name, "www");
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
            ("\"eth0\"", "\"eth0\"\nport = \"af_packet\"", "interface.eth0"),
        ] {
            let text = refusal(&TEXT.replacen(from, to, 1));
            let said = format!(": {field}: differs from what Shunt was started with; restart Shunt to change it");
            assert!(text.contains(&said), "{field}: {text}");
        }
    }

    #[test]
    fn every_fixed_field_is_told_with_its_own_line() {
        let next = TEXT.replace("backends = 2", "backends = 3").replace("count = 1", "count = 1\nidle = \"yield\"");
        let text = refusal(&next.replace("\"eth0\"", "\"eth1\""));
        for said in [
            "shunt.toml:3: switchers.idle: differs",
            "shunt.toml:5: limits.backends: differs",
            "interface.eth1: is none of those that Shunt was started with; restart Shunt",
            "interface: eth0 is missing; restart Shunt",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_refused() {
        let agent =
            "[feedback]\nlisten = \"198.18.1.1:7946\"\n[[agent]]\nname = \"a\"\nkey_file = \"/nonexistent/key\"\n";
        let text = refusal(&format!("{TEXT}{agent}backends = [\"b1\"]\n"));
        assert!(
            text.contains("shunt.toml:19: agent.a.key_file: /nonexistent/key cannot be read: No such file"),
            "{text}"
        );
        let started = candidate(&format!("{TEXT}{agent}backends = [\"b1\"]\n"), false).unwrap();
        let [missing] = &started.missing_keys[..] else { panic!("one key") };
        assert_eq!(missing.agent, "a", "a start goes on without it");
    }

    #[test]
    fn a_bad_file_and_one_without_room_are_refused() {
        assert!(refusal("[switchers").contains("is not TOML"));
        let slots = TEXT.replace("mode = \"nat\"", "mode = \"nat\"\nslots = 16381");
        let said = refusal(&slots);
        assert!(
            said.contains("shunt.toml:12: service.web.slots: the tables of all services take 16381 slots"),
            "{said}"
        );
    }
}
