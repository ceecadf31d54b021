//! Removes what an instance left in the system. Errors are logged and do not stop the rest.

use shunt_process::{Instance, accepted_configuration, bpf_directory, health_notes};
use shunt_shmlayout::map::Region;

use super::regions::Regions;

/// Unlinks the regions; existing mappings stay valid.
pub(super) fn remove_memory(regions: &Regions) {
    for name in &regions.names {
        if let Err(error) = Region::unlink(name) {
            log::warn!("removing shared memory {name}: {error}");
        }
    }
}

/// Removes the files that control keeps for a successor: they describe the memory that is removed.
pub(super) fn remove_saved(instance: &Instance) {
    for path in [accepted_configuration(instance), health_notes(instance)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => log::warn!("{}: {error}", path.display()),
            _ => {}
        }
    }
}

/// Unmounts the bpffs, which removes its pins and so detaches the programs.
pub(super) fn remove_pins(instance: &Instance) {
    if let Err(error) = crate::bpf::unmount(&bpf_directory(instance)) {
        log::warn!("{error}");
    }
}
