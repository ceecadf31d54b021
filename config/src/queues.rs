//! Assigns queues to switchers and computes the ports and frames required. `shunt check` uses it with the minimum queue
//! counts, `shunt doctor` and the keeper with the machine's.

use std::ops::RangeInclusive;

use crate::error::Problem;
use crate::types::{Config, Interface, Limits, PortKind};

/// Maximum ports per switcher.
pub const MOST_PORTS: usize = 64;
/// Range of `limits.frames`. The minimum is one batch.
pub const FRAMES: RangeInclusive<u32> = 64..=1 << 20;

/// Rings per queue that hold frames: the fill ring and the transmit ring.
const RINGS: u64 = 2;

/// Field path and message of a problem.
pub(crate) type QueueProblem = (String, String);

/// The settings that determine ports and frames.
pub(crate) struct Demand<'c> {
    pub switchers: u32,
    pub interfaces: &'c [Interface],
    pub limits: &'c Limits,
}

impl Config {
    fn demand(&self) -> Demand<'_> {
        let switchers = self.switchers.cpus.count() as u32; // 64 at most
        Demand { switchers, interfaces: &self.interfaces, limits: &self.limits }
    }

    /// The queues, out of `count`, of an interface that a switcher polls.
    pub fn queues_of(&self, switcher: u32, interface: usize, count: u32) -> impl Iterator<Item = u32> + '_ {
        let (demand, interface) = (self.demand(), &self.interfaces[interface]);
        (0..count).filter(move |queue| demand.poller(interface, *queue) == switcher)
    }

    /// Problems with these queue counts, given in the configuration's order.
    pub fn queue_problems(&self, queues: &[u32]) -> Vec<Problem> {
        let problems = self.demand().problems(queues);
        problems.into_iter().map(|(field, sentence)| self.source.problem(field, sentence)).collect()
    }
}

impl Demand<'_> {
    /// Problems on any machine: assumes one queue per interface, or those that the file names.
    pub fn least_problems(&self) -> Vec<QueueProblem> {
        let named = |interface: &Interface| interface.queues.keys().max().map_or(1, |last| last + 1);
        self.problems(&self.interfaces.iter().map(named).collect::<Vec<_>>())
    }

    fn problems(&self, queues: &[u32]) -> Vec<QueueProblem> {
        let mut problems = Vec::new();
        for (Interface { name, queues: named, .. }, count) in self.interfaces.iter().zip(queues) {
            problems.extend(named.keys().filter(|queue| *queue >= count).map(|queue| {
                let sentence =
                    format!("{name} has {count} queues, numbered from 0; name one of them (ethtool -l {name})");
                (format!("interface.{name}.queues.{queue}"), sentence)
            }));
        }
        let polled: Vec<Vec<u32>> = (0..self.switchers).map(|switcher| self.polled(switcher, queues)).collect();
        problems.extend((0..).zip(&polled).filter_map(|(switcher, polled)| self.check_ports(switcher, polled)));
        let busiest = (0..).zip(&polled).max_by_key(|(switcher, polled)| (self.rings(polled), u32::MAX - switcher));
        problems.extend(busiest.and_then(|(switcher, polled)| self.check_frames(switcher, polled)));
        problems
    }

    /// The switcher that polls a queue: as configured, otherwise round robin.
    fn poller(&self, interface: &Interface, queue: u32) -> u32 {
        interface.queues.get(&queue).copied().unwrap_or(queue % self.switchers)
    }

    /// How many queues of each interface a switcher polls.
    fn polled(&self, switcher: u32, queues: &[u32]) -> Vec<u32> {
        let own = |(interface, count): (&Interface, &u32)| {
            (0..*count).filter(|queue| self.poller(interface, *queue) == switcher).count() as u32
        };
        self.interfaces.iter().zip(queues).map(own).collect()
    }

    /// One port per queue; a transmit-only port where there is none, and a single one for AF_PACKET.
    fn check_ports(&self, switcher: u32, polled: &[u32]) -> Option<QueueProblem> {
        let ports_of = |(interface, polled): (&Interface, &u32)| match interface.port {
            PortKind::AfPacket => 1,
            PortKind::Auto | PortKind::AfXdp => (*polled).max(1),
        };
        let ports: u32 = self.interfaces.iter().zip(polled).map(ports_of).sum();
        (ports as usize > MOST_PORTS).then(|| {
            let sentence = format!("switcher {switcher} would need {ports} ports, more than the limit of {MOST_PORTS}");
            ("interface".to_owned(), format!("{sentence}; use more switchers, or fewer queues (ethtool -L)"))
        })
    }

    /// AF_XDP queues, whose rings use frames of the pool; AF_PACKET has its own memory.
    fn rings(&self, polled: &[u32]) -> u64 {
        let pairs = self.interfaces.iter().zip(polled);
        let queues = pairs.filter(|(interface, _)| interface.port != PortKind::AfPacket).map(|(_, polled)| *polled);
        queues.map(u64::from).sum::<u64>() * RINGS
    }

    /// With fewer frames, the rings of some queues take all of them, and the others never receive.
    fn check_frames(&self, switcher: u32, polled: &[u32]) -> Option<QueueProblem> {
        let Limits { frames, ring, .. } = self.limits;
        let rings = self.rings(polled);
        let needed = rings * u64::from(*ring);
        if u64::from(*frames) >= needed {
            return None;
        }
        let sentence =
            format!("{frames} are too few for switcher {switcher}, whose {rings} rings of {ring} take {needed}");
        let enough = needed.next_power_of_two();
        let remedy = match enough <= u64::from(*FRAMES.end()) {
            true => format!("write {enough}, or a smaller limits.ring"),
            false => "write a smaller limits.ring, or use more switchers or fewer queues (ethtool -L)".to_owned(),
        };
        Some(("limits.frames".to_owned(), format!("{sentence}; {remedy}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(switchers: u32, lines: &str) -> Config {
        let text = format!(
            "[switchers]\ncount = {switchers}\n[[interface]]\nname = \"a\"\n{lines}\n[[interface]]\nname = \"b\"\n"
        );
        Config::parse(&text, "shunt.toml").expect("a good configuration")
    }

    fn problems(config: &Config, queues: &[u32]) -> Vec<String> {
        config.queue_problems(queues).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_queue_has_its_rings_full_of_frames() {
        assert_eq!(problems(&config(1, ""), &[31, 1]), [""; 0]);
        let few = "shunt.toml:1: limits.frames: 16384 are too few for switcher 0, whose 66 rings of 256 take 16896; \
                   write 32768, or a smaller limits.ring";
        assert_eq!(problems(&config(1, ""), &[32, 1]), [few]);
        assert_eq!(problems(&config(2, ""), &[32, 1]), [""; 0], "half of them each");
        assert_eq!(problems(&config(1, "port = \"af_packet\""), &[60, 1]), [""; 0], "memory of its own");
        let ring = config(1, "[limits]\nring = 65536\nframes = 1048576");
        assert!(
            problems(&ring, &[8, 1])[0]
                .ends_with("write a smaller limits.ring, or use more switchers or fewer queues (ethtool -L)")
        );
    }

    #[test]
    fn queues_that_are_not_there_and_too_many_are_told_with_their_line() {
        let named = config(1, "queues = { \"5\" = 0 }");
        let [missing, many, ..] = &problems(&named, &[2, 80])[..] else { panic!("too few problems") };
        assert_eq!(
            missing,
            "shunt.toml:5: interface.a.queues.5: a has 2 queues, numbered from 0; name one of them (ethtool -l a)"
        );
        assert!(many.contains("interface: switcher 0 would need 82 ports, more than the limit of 64"), "{many}");
    }

    #[test]
    fn named_queues_count_for_the_check_of_a_file() {
        let text = "[switchers]\ncount = 1\n[limits]\nring = 1024\nframes = 2048\n[[interface]]\nname = \"a\"\n";
        assert!(Config::parse(text, "shunt.toml").is_ok());
        let named = format!("{text}queues = {{ \"1\" = 0 }}\n");
        let refusal = Config::parse(&named, "shunt.toml").expect_err("two queues").to_string();
        assert!(refusal.starts_with("shunt.toml:5: limits.frames: 2048 are too few for switcher 0"), "{refusal}");
    }
}
