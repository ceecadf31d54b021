//! Applies feedback to a service's members: weight factors and declined members.

use shunt_shmlayout::address::{BackendId, ServiceId};

use super::service::NEUTRAL_PERMILLE;
use super::table::Table;

impl Table {
    /// Applies feedback to a service's members. Keeps factors that hardly change, so that noise causes no publications.
    /// Returns false if nothing changed.
    pub fn set_feedback(&mut self, service: ServiceId, made: &[(BackendId, u16, bool)]) -> bool {
        let Some(service) = self.services.get_mut(&service) else { return false };
        let mut changed = false;
        for (backend, factor_permille, declined) in made {
            let Some(member) = service.member_mut(*backend) else { continue };
            if differs(member.factor_permille, *factor_permille) || member.declined != *declined {
                (member.factor_permille, member.declined) = (*factor_permille, *declined);
                changed = true;
            }
        }
        if changed {
            service.refill(&self.backends);
        }
        changed
    }

    /// Resets the feedback of a service without reports, because no report would.
    pub fn forget_feedback(&mut self, service: ServiceId) {
        let Some(service) = self.services.get_mut(&service) else { return };
        for member in &mut service.members {
            (member.factor_permille, member.declined) = (NEUTRAL_PERMILLE, false);
        }
        service.refill(&self.backends);
    }
}

/// Returns true if a factor changed enough for a publication: by a hundredth, or back to neutral.
fn differs(now: u16, next: u16) -> bool {
    let hundredth = now.div_ceil(100);
    now.abs_diff(next) >= hundredth || now != next && next == NEUTRAL_PERMILLE
}
