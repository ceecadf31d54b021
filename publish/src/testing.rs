//! Configurations and memory for the tests of publication.

use shunt_config::Config;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{BackendId, InterfaceId, ServiceId};
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::regions::{
    ControlRegion, ControlShape, InterfaceSide, KeeperRegion, KeeperShape, SwitcherRecord, SwitcherRegion,
    SwitcherShape, Whole,
};

use super::arp_cache::ArpCache;
use super::error::Unpublishable;
use super::fib::{Fib, Interfaces};
use super::image::{Image, hops};
use super::own::OwnAddresses;
use super::publisher::Publisher;
use super::table::{Capacity, NamedIds, Table};
use shunt_routing::event::{Link, Route, RouteKey, RouteTable, RouteTarget};
use shunt_routing::state::State;

/// The kernel's number of the only interface.
pub const IFINDEX: u32 = 7;
/// Shunt's id of it.
pub const INTERFACE: InterfaceId = InterfaceId(0);

/// A service: number, mode, and backends as (number, weight).
pub type ServiceOf<'a> = (u8, &'a str, &'a [(u8, u16)]);

/// Services sN at 198.18.0.N:80 with backends bN at 198.18.1.N:8080, all checked by TCP. With mode "host", the service is
/// the box's own, and so is the address 198.18.0.101.
pub fn config(services: &[ServiceOf<'_>]) -> Config {
    config_with(services, "")
}

/// The same, with lines more in the first service.
fn config_with(services: &[ServiceOf<'_>], lines: &str) -> Config {
    Config::parse(&text_with(services, lines), "test.toml").expect("a valid configuration")
}

/// The same as the text of a file.
pub fn text_with(services: &[ServiceOf<'_>], lines: &str) -> String {
    let mut text = String::from("[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n");
    for (index, (service, mode, backends)) in services.iter().enumerate() {
        let port = if *mode == "dsr" { 80 } else { 8080 };
        text += &format!("[[service]]\nname = \"s{service}\"\naddress = \"198.18.0.{service}:80\"\n");
        text += &match *mode {
            "host" => "protocol = \"tcp\"\ntarget = \"host\"\n".to_owned(),
            _ => format!("protocol = \"tcp\"\nmode = \"{mode}\"\nslots = 101\n"),
        };
        text += if index == 0 { lines } else { "" };
        text += "\n";
        for (backend, weight) in *backends {
            text += &format!("[[service.backend]]\nname = \"b{backend}\"\n");
            text += &format!("address = \"198.18.1.{backend}:{port}\"\nweight = {weight}\n");
        }
    }
    if services.iter().any(|(_, mode, _)| *mode == "host") {
        text += "[host]\naddresses = [\"198.18.0.101\"]\n";
    }
    text
}

/// A control region with room for a few of everything.
pub fn region() -> ControlRegion<Writer> {
    ControlRegion::anonymous(&ControlShape::new(8, 16, 2000, 64, 64)).expect("memory")
}

/// An unclaimed keeper region.
pub fn keeper() -> KeeperRegion<Writer> {
    KeeperRegion::anonymous(&KeeperShape { interfaces: 2, switchers: 2, ports: 4, reserved: [0; 5] }).expect("memory")
}

/// A switcher's region, claimed by this process, so that it counts as live.
pub fn switcher() -> SwitcherRegion<Writer, Writer> {
    let shape = SwitcherShape { services: 8, backends: 16, interfaces: 2, frames: 64, reserved: [0; 4] };
    let region = SwitcherRegion::anonymous(&shape).expect("memory");
    let pid = std::process::id();
    region.head.pid.set(pid.into());
    region.head.start_time.set(shunt_shmlayout::header::start_time(pid).expect("a living process"));
    region
}

/// The only interface.
pub fn interfaces() -> Interfaces {
    let mut interfaces = Interfaces::default();
    interfaces.add(IFINDEX, INTERFACE, InterfaceSide::Both);
    interfaces
}

/// What the kernel says: 198.18.0.0/15 on the interface, everything else by 198.18.0.254, but 192.0.2.0/24 by an
/// interface that isn't Shunt's.
pub fn kernel() -> State {
    let mut state = State::default();
    for ifindex in [IFINDEX, IFINDEX + 1] {
        let name = format!("eth{ifindex}");
        let link = Link { ifindex, name, mac: Some([2, 0, 0, 0, 0, 9]), mtu: 1500, up: true, carrier: true };
        state.links.insert(ifindex, link);
    }
    let routes = [
        ("198.18.0.0", 15, IFINDEX, None),
        ("0.0.0.0", 0, IFINDEX, Some("198.18.0.254")),
        ("192.0.2.0", 24, IFINDEX + 1, None),
    ];
    for (prefix, prefix_len, ifindex, gateway) in routes {
        let prefix = prefix.parse().expect("an address");
        let key = RouteKey { table: RouteTable::Main, prefix, prefix_len, metric: 0 };
        let gateway = gateway.map(|text: &str| text.parse().expect("an address"));
        state.routes.insert(key, Route { key, target: RouteTarget::Via { ifindex, gateway }, alternatives: false });
    }
    state
}

/// A region and everything that is published into it.
pub struct World {
    /// The memory.
    pub region: ControlRegion<Writer>,
    /// What is to be published.
    pub table: Table,
    /// The forwarding table there.
    pub fib: Fib,
    /// The cache in the memory.
    pub cache: ArpCache,
    /// What the keeper says: who has a switcher's memory.
    pub keeper: KeeperRegion<Writer>,
    /// The flip.
    pub publisher: Publisher,
    /// What the next publication takes for the time.
    pub now_ms: u64,
}

impl World {
    /// Starts as control does: from what the region holds.
    pub fn new(region: ControlRegion<Writer>, switchers: Vec<SwitcherRegion<Writer, Writer>>) -> Self {
        let keeper = keeper();
        for (record, switcher) in keeper.switchers.iter().zip(&switchers) {
            let (pid, start_time) = (switcher.head.pid.get() as u32, switcher.head.start_time.get());
            record.store(&SwitcherRecord { pid, start_time, ..SwitcherRecord::default() });
        }
        let publisher = Publisher::new(region, keeper.lend(), switchers.iter().map(SwitcherRegion::lend).collect(), 0);
        let table = match publisher.active() {
            Active::NONE => Table::new(Capacity::of(&region.generations[0])),
            active => Table::recover(&region.generations[active.buffer()]),
        };
        let cache = ArpCache::new(region.neighbours, &region.generations);
        Self {
            region,
            table,
            fib: Fib::new(&kernel(), &interfaces(), &OwnAddresses::default()),
            cache,
            keeper,
            publisher,
            now_ms: 0,
        }
    }

    /// Takes a configuration over.
    pub fn reload(&mut self, services: &[ServiceOf<'_>]) -> Result<(), Unpublishable> {
        let named = NamedIds::in_generations(&self.region.generations);
        self.table = self.table.configured(&config(services), &named)?;
        Ok(())
    }

    /// Publishes, if a buffer is free.
    pub fn publish(&mut self) -> Option<Generation> {
        self.now_ms += 100;
        let idle = self.publisher.room(self.now_ms)?;
        self.table.set_deadlines(self.now_ms);
        let interned = self.cache.keep(hops(&self.table, &self.fib), &self.region.generations);
        let image = Image::new(&self.table, &self.fib, &interned);
        let filled = self.publisher.fill(&idle, self.now_ms, |idle| image.write(idle, 1, self.now_ms));
        filled.expect("room for endpoints");
        self.publisher.advance(self.now_ms).expect("no keeper to wait for");
        Some(idle.lend())
    }

    /// Takes a configuration over and publishes it.
    pub fn apply(&mut self, services: &[ServiceOf<'_>]) -> Generation {
        self.reload(services).expect("room");
        self.publish().expect("a free buffer")
    }

    /// The same, with lines more in the first service.
    pub fn apply_with(&mut self, services: &[ServiceOf<'_>], lines: &str) -> Generation {
        let named = NamedIds::in_generations(&self.region.generations);
        self.table = self.table.configured(&config_with(services, lines), &named).expect("room");
        self.publish().expect("a free buffer")
    }

    /// The id of backend bN.
    pub fn backend(&self, number: u8) -> BackendId {
        self.table.backend_named(&format!("b{number}")).expect("configured")
    }

    /// The id of service sN.
    pub fn service(&self, number: u8) -> ServiceId {
        self.table.service_named(&format!("s{number}")).expect("configured")
    }
}
