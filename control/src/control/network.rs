//! Applies the kernel's and the keeper's interfaces, addresses and routes.

use log::warn;
use shunt_shmlayout::flip::Active;

use super::Control;
use super::cause::Cause;
use super::outside::Turn;
use crate::announcements::Update;
use shunt_publish::fib::{Fib, Interfaces};
use shunt_publish::own::OwnAddresses;
use shunt_routing::state::{Changes, State};

impl Control {
    pub(super) fn follow_network(&mut self, changes: Changes, turn: &mut Turn<'_>) {
        if changes.routes || changes.links || changes.addresses {
            self.find_ways(turn.kernel);
        }
        if changes.links {
            self.announce(turn);
        }
        self.publication.neighbours_changed |= changes.neighbours || changes.addresses;
    }

    /// The keeper gives a recreated interface its previous id.
    pub(super) fn follow_interfaces(&mut self, turn: &mut Turn<'_>) {
        let interfaces = Interfaces::read(&self.memory.keeper);
        if interfaces != self.interfaces {
            self.interfaces = interfaces;
            self.find_ways(turn.kernel);
            self.announce(turn);
            self.publication.mark(Cause::Interfaces);
            self.publication.neighbours_changed = true;
        }
    }

    fn find_ways(&mut self, kernel: &State) {
        let own = OwnAddresses::new(kernel, &self.interfaces);
        if own != self.own {
            self.own = own;
            self.publication.neighbours_changed = true;
        }
        let fib = Fib::new(kernel, &self.interfaces, &self.own);
        let (found, room) = (fib.intervals().len(), self.memory.control.generations[0].fib.len());
        if found > room {
            warn!(
                "the routes make {found} intervals of addresses, there is room for {room}: the forwarding table stays as it was; \
                 raise limits.routes and restart Shunt"
            );
        } else if fib != self.fib {
            self.fib = fib;
            self.publication.mark(Cause::Routes);
        }
    }

    /// Not before switchers answer for the addresses.
    pub(super) fn announce(&mut self, turn: &mut Turn<'_>) {
        if self.publication.publisher.active() != Active::NONE {
            let Update { new, left } = self.announcements.update(&self.table, &turn.kernel.links, &self.interfaces);
            turn.outputs.announce.extend(new);
            turn.outputs.stop_announcing.extend(left);
        }
    }
}
