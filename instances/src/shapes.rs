//! Sizes of an instance's shared memory: the keeper creates it, and the doctor checks for room.

use shunt_config::Config;
use shunt_shmlayout::connections::CHUNK as CONNECTIONS_CHUNK;
use shunt_shmlayout::frames::CHUNK;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, IfdaemonRegion, IfdaemonShape, KeeperRegion,
    KeeperShape, StoreRegion, StoreShape, SwitcherRegion, SwitcherShape, Typed,
};

/// The shape of each region.
pub struct Shapes {
    /// The control region.
    pub control: ControlShape,
    /// The keeper region.
    pub keeper: KeeperShape,
    /// The connection table.
    pub connections: ConnectionsShape,
    /// Each switcher's region.
    pub switcher: SwitcherShape,
    /// Each packet store, if a pseudo-interface is configured.
    pub store: Option<StoreShape>,
    /// Number of switchers.
    pub switchers: usize,
}

impl Shapes {
    /// Computes the shapes, with room for this number of ports.
    pub fn new(config: &Config, ports: u64) -> Self {
        let limits = &config.limits;
        let (interfaces, switchers) = (config.interfaces.len() as u64, config.switchers.cpus.count());
        let (services, backends) = (limits.services, limits.backends);
        Self {
            control: ControlShape::new(services, backends, limits.slots, limits.neighbours, limits.routes),
            keeper: KeeperShape { interfaces, switchers: switchers as u64, ports, reserved: [0; 5] },
            // Each switcher records into its own chunks: without one it would refuse every connection.
            connections: ConnectionsShape::new(limits.connections.max((switchers * CONNECTIONS_CHUNK) as u32)),
            switcher: SwitcherShape {
                services: services.into(),
                backends: backends.into(),
                interfaces,
                frames: limits.frames.into(),
                reserved: [0; 4],
            },
            store: config.host.as_ref().map(|_| StoreShape::new(limits.store)),
            switchers,
        }
    }

    /// Bytes of all regions, frame pools included.
    pub fn bytes(&self) -> u64 {
        let store = self.store.map_or(0, |store| <StoreRegion>::length(&store));
        let a_switcher = (<SwitcherRegion>::length(&self.switcher) + store) as u64 + self.switcher.frames * CHUNK;
        let daemon = self.store.map_or(0, |_| <IfdaemonRegion>::length(&IfdaemonShape::default()));
        let one_of_each = <ControlRegion>::length(&self.control)
            + <KeeperRegion>::length(&self.keeper)
            + <ConnectionsRegion>::length(&self.connections)
            + daemon;
        one_of_each as u64 + a_switcher * self.switchers as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(limits: &str, host: &str) -> u64 {
        let text = format!("[switchers]\ncount = 2\n[[interface]]\nname = \"a\"\n{limits}{host}");
        Shapes::new(&Config::parse(&text, "shunt.toml").unwrap(), 2).bytes()
    }

    #[test]
    fn the_daemon_has_memory_beside_its_stores_and_each_switcher_connections() {
        let daemon = <IfdaemonRegion>::length(&IfdaemonShape::default()) as u64;
        let stores = 2 * <StoreRegion>::length(&StoreShape::new(64)) as u64;
        let limits = "[limits]\nstore = 64\n";
        let host = "[host]\naddresses = [\"198.18.0.101\"]\n";
        assert_eq!(bytes(limits, host) - bytes(limits, ""), daemon + stores);
        let few = format!("[limits]\nconnections = {}\n", 2 * CONNECTIONS_CHUNK);
        assert_eq!(bytes("[limits]\nconnections = 1\n", ""), bytes(&few, ""));
    }
}
