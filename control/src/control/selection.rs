//! Resolves the backends that a command selects, by name and by host. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use shunt_config::document::listed;
use shunt_shmlayout::address::BackendId;

use shunt_protocol::admin::Selection;
use shunt_publish::table::{Backend, Table};

/// The selected backends of the configuration, with their names. The error lists every unknown one.
pub(super) fn select(table: &Table, selection: &Selection) -> Result<BTreeMap<BackendId, String>, String> {
    let configured = || table.backends().filter(|(_, backend)| !backend.removed);
    refuse_unknown_names(configured().map(|(_, backend)| backend.name.as_str()).collect(), &selection.backends)?;
    refuse_unknown_hosts(configured().map(|(_, backend)| host(backend)).collect(), &selection.hosts)?;
    let names: BTreeSet<&str> = selection.backends.iter().map(String::as_str).collect();
    let hosts: BTreeSet<&IpAddr> = selection.hosts.iter().collect();
    let is_selected = |backend: &Backend| names.contains(&*backend.name) || hosts.contains(&host(backend));
    let selected = configured().filter(|(_, backend)| is_selected(backend));
    let selected: BTreeMap<BackendId, String> = selected.map(|(id, backend)| (id, backend.name.clone())).collect();
    match selected.is_empty() {
        true => Err("the order selects no backend: give names, or the address of a host".to_owned()),
        false => Ok(selected),
    }
}

fn host(backend: &Backend) -> IpAddr {
    backend.identity.socket_address().ip()
}

fn refuse_unknown_names(known: BTreeSet<&str>, selected: &[String]) -> Result<(), String> {
    let unknown: Vec<String> = selected.iter().filter(|name| !known.contains(&***name)).cloned().collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => {
            let known = listed(known.into_iter().map(str::to_owned));
            Err(format!("no backend is called {}; there are: {known}", listed(unknown)))
        }
    }
}

fn refuse_unknown_hosts(known: BTreeSet<IpAddr>, selected: &[IpAddr]) -> Result<(), String> {
    let unknown: Vec<String> = selected.iter().filter(|host| !known.contains(host)).map(IpAddr::to_string).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => {
            let known = listed(known.iter().map(IpAddr::to_string));
            Err(format!("no backend has the address {}; there are: {known}", listed(unknown)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_publish::table::{Capacity, NamedIds};
    use shunt_publish::testing::{config, region};

    /// b1 to b3 at 198.18.1.1 to .3, each behind two services, b4 removed.
    fn table() -> Table {
        let table = Table::new(Capacity::of(&region().generations[0]));
        let with = |backends: &[(u8, u16)]| config(&[(1, "nat", backends), (2, "nat", backends)]);
        let table = table.configured(&with(&[(1, 1), (2, 1), (3, 1), (4, 1)]), &NamedIds::default()).unwrap();
        table.configured(&with(&[(1, 1), (2, 1), (3, 1)]), &NamedIds::default()).unwrap()
    }

    fn selected(backends: &[&str], hosts: &[[u8; 4]]) -> Result<Vec<String>, String> {
        let backends = backends.iter().map(|&name| name.to_owned()).collect();
        let selection = Selection { backends, hosts: hosts.iter().map(|&host| host.into()).collect() };
        select(&table(), &selection).map(|selected| selected.into_values().collect())
    }

    #[test]
    fn names_and_hosts_add_up_and_each_counts_once() {
        assert_eq!(selected(&["b3", "b1", "b3"], &[]).unwrap(), ["b1", "b3"]);
        assert_eq!(selected(&["b2"], &[[198, 18, 1, 2], [198, 18, 1, 1]]).unwrap(), ["b1", "b2"]);
    }

    #[test]
    fn whatever_is_unknown_is_named_and_nothing_is_selected() {
        let refusal = selected(&["b1", "b9", "b8"], &[]).unwrap_err();
        assert_eq!(refusal, "no backend is called b9, b8; there are: b1, b2, b3");
        let refusal = selected(&["b1"], &[[198, 18, 1, 1], [198, 18, 1, 9]]).unwrap_err();
        let there = "198.18.1.1, 198.18.1.2, 198.18.1.3";
        assert_eq!(refusal, format!("no backend has the address 198.18.1.9; there are: {there}"));
        assert!(selected(&["b4"], &[]).unwrap_err().starts_with("no backend is called b4"), "it was removed");
        assert!(selected(&[], &[]).unwrap_err().contains("selects no backend"));
    }
}
