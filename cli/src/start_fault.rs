//! Why a start with a configuration file would be refused now.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use shunt_config::{Config, ConfigError};
use shunt_instances::own_addresses;
use shunt_shmlayout::address::Address;

/// `is_local` tells whether the instance runs in this network namespace: only then are the addresses here, which `local`
/// lists, those that a keeper would compare with the file's. A list that cannot be read is no fault of the file.
pub fn start_fault(
    file: &Path,
    is_local: impl FnOnce() -> bool,
    local: impl FnOnce(&Config) -> io::Result<BTreeSet<Address>>,
) -> Option<String> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    let local = is_local().then(|| local(&config).ok()).flatten()?;
    let own = own_addresses(&config, &local);
    (!own.is_empty()).then(|| ConfigError::Refused(own).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_s_address_on_an_interface_of_the_machine_refuses_a_start() {
        let file = format!("{}/../deploy/examples/minimal.toml", env!("CARGO_MANIFEST_DIR"));
        let fault = |is_local, last| {
            start_fault(file.as_ref(), || is_local, |_| Ok([Address::from_v4([198, 18, 0, last])].into()))
        };
        let said = fault(true, 100).unwrap();
        assert!(said.contains("service.web.address: 198.18.0.100 is an address of this machine"), "{said}");
        assert_eq!(fault(true, 1), None);
        assert_eq!(fault(false, 100), None, "another namespace's addresses say nothing");
        assert_eq!(start_fault(file.as_ref(), || true, |_| Err(io::ErrorKind::PermissionDenied.into())), None);
    }
}
