//! Taking away what an instance left in the system. Errors are said, and the rest is done all the same.

use shunt_process::{Instance, accepted_configuration, bpf_directory, health_notes};
use shunt_shmlayout::map::Region;

use super::regions::Regions;

/// Removes the regions; who has one mapped keeps it until it ends.
pub(super) fn remove_memory(regions: &Regions) {
    for name in &regions.names {
        if let Err(error) = Region::unlink(name) {
            log::warn!("removing shared memory {name}: {error}");
        }
    }
}

/// Removes what control keeps for a successor: it tells of the memory that goes.
pub(super) fn remove_saved(instance: &Instance) {
    for path in [accepted_configuration(instance), health_notes(instance)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => log::warn!("{}: {error}", path.display()),
            _ => {}
        }
    }
}

/// Removes the bpffs and, with it, whatever is still pinned there: that detaches the programs.
pub(super) fn remove_pins(instance: &Instance) {
    if let Err(error) = crate::bpf::unmount(&bpf_directory(instance)) {
        log::warn!("{error}");
    }
}
