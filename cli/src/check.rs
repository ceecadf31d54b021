//! `shunt check FILE`: reads a configuration as the keeper and control would, and prints a summary or its problems.

use anyhow::Context;
use shunt_config::{Config, ConfigError};
use shunt_instances::running_configuration;
use shunt_process::say;
use shunt_publish::agents::{Agents, KeyMissing};
use shunt_publish::rehearsal::Rehearsal;
use shunt_publish::table::NamedIds;
use std::collections::HashSet;
use std::path::Path;

/// A valid file.
pub struct Checked {
    /// One-line summary.
    pub summary: String,
    /// Problems of this machine, without which it would still be used.
    pub warnings: Vec<String>,
}

/// Summarizes a valid file.
pub fn check(file: &Path) -> anyhow::Result<Checked> {
    let config = load(file)?;
    let summary = format!("{}: ok: {}\n", file.display(), summary(&config));
    Ok(Checked { summary, warnings: key_warnings(&config) })
}

/// Keys depend on the machine: a start continues without an agent's key, a reload does not.
fn key_warnings(config: &Config) -> Vec<String> {
    let (_, missing) = Agents::load(&config.feedback);
    let warn = |key: &KeyMissing| {
        let meaning = match key.is_denied() {
            true => "whether control can use it isn't known: check as root",
            false => "with it as it is, a start goes on without this agent's reports, and a reload is refused",
        };
        format!("{}; {meaning}", key.problem(&config.source))
    };
    missing.iter().map(warn).collect()
}

/// Settings for a supervisor, as assignments: of the instance that runs by this file, whatever the file contains now;
/// otherwise of the file, if it is valid.
pub fn settings(file: &Path) -> anyhow::Result<String> {
    let running = running_configuration(file).and_then(|running| {
        running.inspect_err(|error| say(format_args!("the configuration accepted last can't be used:\n{error}"))).ok()
    });
    Ok(assignments(&running.map_or_else(|| load(file), Ok)?))
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    rehearse(&config)?;
    Ok(config)
}

/// Publishes it into memory sized by its limits, as control would at its first start.
fn rehearse(config: &Config) -> anyhow::Result<()> {
    let rehearsal = Rehearsal::of_limits(&config.limits).context("memory to try the configuration out in")?;
    let table = rehearsal.table(&rehearsal.empty_table(), config, &NamedIds::default());
    table.map_err(|refusal| ConfigError::Refused(vec![refusal.problem(&config.source)]))?;
    Ok(())
}

fn summary(config: &Config) -> String {
    let all =
        config.services.iter().flat_map(|service| service.backends.iter().map(move |b| (b.address, service.protocol)));
    let backends: HashSet<_> = all.collect();
    format!(
        "{} services, {} backends, {} switchers, {} interfaces, instance {}",
        config.services.len(),
        backends.len(),
        config.switchers.cpus.count(),
        config.interfaces.len(),
        config.instance,
    )
}

/// An instance name consists of `a`-`z`, `0`-`9` and `-`, so no quoting is needed.
fn assignments(config: &Config) -> String {
    format!("INSTANCE={}\nSWITCHERS={}\n", config.instance, config.switchers.cpus.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name)
    }

    fn refusal(file: &Path) -> String {
        check(file).map(|checked| checked.summary).expect_err("a refusal").to_string()
    }

    #[test]
    fn unusable_keys_are_reported_with_their_lines() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [file, key] = ["shunt.toml", "key"].map(|name| folder.path().join(name));
        let agent = format!(
            "[feedback]\nlisten = \"198.18.1.1:7946\"\n[[agent]]\nname = \"a\"\nkey_file = {key:?}\nbackends = [\"b1\"]\n"
        );
        let text = std::fs::read_to_string(example("minimal.toml")).unwrap() + &agent;
        let line = 1 + text.lines().position(|line| line.starts_with("key_file")).unwrap();
        std::fs::write(&file, text).unwrap();
        let warnings = || check(&file).unwrap().warnings;
        let says = |said: &str| {
            let [warning] = <[String; 1]>::try_from(warnings()).unwrap();
            assert!(warning.contains(&format!("shunt.toml:{line}: agent.a.key_file: {}", key.display())), "{warning}");
            assert!(warning.contains(said) && warning.contains("a start goes on without"), "{warning}");
        };
        says("cannot be read: No such file");
        std::fs::write(&key, "short").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        says("holds 5 bytes");
        std::fs::write(&key, [b'k'; 32]).unwrap();
        assert_eq!(warnings(), [""; 0]);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        says("has mode 0644");
    }

    #[test]
    fn a_good_file_is_summed_up_and_assigned() {
        let file = example("nat.toml");
        let line = check(&file).unwrap().summary;
        assert!(
            line.ends_with("nat.toml: ok: 2 services, 3 backends, 2 switchers, 2 interfaces, instance shunt\n"),
            "{line}"
        );
        assert_eq!(settings(&file).unwrap(), "INSTANCE=shunt\nSWITCHERS=2\n");
    }

    #[test]
    fn an_agents_file_is_called_one() {
        let refusal = refusal(&example("agent.toml"));
        assert!(refusal.contains("agent.toml: is an agent's configuration, not Shunt's; "), "{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }

    #[test]
    fn what_only_publication_shows_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shunt.toml");
        let clients: Vec<String> = (0..40).map(|n| format!("\"198.18.6.{}\"", 2 * n)).collect();
        let text = std::fs::read_to_string(example("minimal.toml")).unwrap();
        let rule = format!("mode = \"nat\"\nrule = [{{ clients = [{}], backends = [\"b1\"] }}]", clients.join(","));
        let text = text.replacen("mode = \"nat\"", &rule, 1) + "[limits]\nservices = 1\n";
        std::fs::write(&file, &text).unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with("rule")).unwrap();
        let refusal = refusal(&file);
        let expected = format!("shunt.toml:{line}: service.web.rule: the rules of all services tell 80 ranges");
        assert!(refusal.contains(&expected) && refusal.contains("raise limits.services"), "{refusal}");
    }

    #[test]
    fn examples_name_one_server_the_same() {
        let feedback = Config::load(&example("feedback.toml")).unwrap().feedback;
        let agent = std::fs::read_to_string(example("agent.toml")).unwrap();
        let has = |name: &str| agent.contains(&format!("\nname = {name:?}\n"));
        let server = feedback.agents.iter().find(|server| has(&server.name)).expect("the agent's own name");
        assert!(server.backends.iter().all(|backend| has(backend)), "{server:?}");
    }

    #[test]
    fn a_missing_file_is_refused_by_name() {
        assert!(settings(Path::new("/nowhere.toml")).unwrap_err().to_string().contains("/nowhere.toml"));
    }
}
