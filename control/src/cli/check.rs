//! `shunt check FILE`: reads a configuration as the keeper and control would, and says what it is or what is wrong.

use crate::publish::rehearsal::Rehearsal;
use crate::publish::table::NamedIds;
use anyhow::Context;
use shunt_config::{Config, ConfigError};
use std::collections::HashSet;
use std::path::Path;

/// Summarizes a file that may be used: a line for people, or assignments for a script.
pub fn check(file: &Path, shell: bool) -> anyhow::Result<String> {
    let config = Config::load(file)?;
    rehearse(&config)?;
    Ok(if shell { assignments(&config) } else { format!("{}: ok: {}\n", file.display(), summary(&config)) })
}

/// Publishes it into memory of its limits, as control would at its first start.
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

/// An instance name is made of `a`-`z`, `0`-`9` and `-`, so that nothing needs quotation marks.
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

    #[test]
    fn a_good_file_is_summed_up_and_assigned() {
        let file = example("nat.toml");
        let line = check(&file, false).unwrap();
        assert!(
            line.ends_with("nat.toml: ok: 2 services, 3 backends, 2 switchers, 2 interfaces, instance shunt\n"),
            "{line}"
        );
        assert_eq!(check(&file, true).unwrap(), "INSTANCE=shunt\nSWITCHERS=2\n");
    }

    #[test]
    fn a_missing_file_is_refused_by_name() {
        assert!(check(Path::new("/nowhere.toml"), true).unwrap_err().to_string().contains("/nowhere.toml"));
    }
}
