//! Clearing a generation (control only) and lending it to readers.

use super::Generation;
use crate::access::{Access, Lends, Writer};
use crate::map::{lend, lend_one};
use crate::record::Record;

impl Generation<Writer> {
    /// Control only: empties the generation before it is filled.
    pub fn clear(&self) {
        self.head.fib.set(0);
        self.head.stale.set(0);
        self.endpoints.iter().for_each(Record::clear);
        self.services.iter().for_each(Record::clear);
        self.backends.iter().for_each(Record::clear);
        self.service_names.iter().chain(self.backend_names).for_each(Record::clear);
    }
}

impl<A: Access> Generation<A> {
    /// The same generation with equal or fewer rights.
    pub fn lend<B: Access>(&self) -> Generation<B>
    where
        A: Lends<B>,
    {
        Generation {
            head: lend_one(self.head),
            endpoints: lend(self.endpoints),
            services: lend(self.services),
            backends: lend(self.backends),
            service_names: lend(self.service_names),
            backend_names: lend(self.backend_names),
            members: lend(self.members),
            slots: lend(self.slots),
            fib: lend(self.fib),
            classes: lend(self.classes),
            stale_table: lend(self.stale_table),
        }
    }
}
