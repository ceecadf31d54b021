//! What feedback makes of a service's members: factors of their weights, and who declines.

use shunt_shmlayout::address::{BackendId, ServiceId};

use super::service::NEUTRAL_PERMILLE;
use super::table::Table;

impl Table {
    /// Takes over what feedback makes of a service's members. What is hardly another factor stays as it was, so that
    /// noise makes no publications. False if nothing changed.
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

    /// Forgets what feedback made of a service that nobody reports about any more: nobody would take it back.
    pub fn forget_feedback(&mut self, service: ServiceId) {
        let Some(service) = self.services.get_mut(&service) else { return };
        for member in &mut service.members {
            (member.factor_permille, member.declined) = (NEUTRAL_PERMILLE, false);
        }
        service.refill(&self.backends);
    }
}

/// Whether a factor is so different that a publication is worth it: by a hundredth, or where it returns to neutral.
fn differs(now: u16, next: u16) -> bool {
    let hundredth = now.div_ceil(100);
    now.abs_diff(next) >= hundredth || now != next && next == NEUTRAL_PERMILLE
}
