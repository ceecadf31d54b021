//! Which switcher polls which queue. Pure: from the configuration and the interfaces' numbers of queues.
//!
//! Each queue is polled by exactly one switcher, and every switcher can send on every interface.

use shunt_config::Config;
use shunt_shmlayout::regions::{PORT_RECEIVES, PORTS, PortKind, PortMode, PortRecord};

use super::system::NetworkInterface;

/// The ports of all switchers, in the order of their numbers within each switcher. `kinds` says how each interface is
/// reached; the modes of AF_XDP ports are filled in when they are known.
pub(super) fn plan(config: &Config, interfaces: &[NetworkInterface], kinds: &[PortKind]) -> Vec<PortRecord> {
    let switchers = config.switchers.cpus.count() as u16;
    let mut ports = Vec::new();
    for switcher in 0..switchers {
        for (interface, kind) in (0u16..).zip(kinds) {
            let port = PortRecord { switcher, interface, kind: *kind as u8, ..PortRecord::default() };
            match kind {
                PortKind::AfXdp => plan_queues(config, interfaces, port, switchers, &mut ports),
                // The kernel spreads connections over the sockets: one is enough for all queues.
                PortKind::AfPacket => {
                    ports.push(PortRecord { mode: PortMode::Mmap as u8, flags: PORT_RECEIVES, ..port });
                }
            }
        }
    }
    ports
}

/// The queues of one interface that are one switcher's; a port to send by if there are none.
fn plan_queues(
    config: &Config,
    interfaces: &[NetworkInterface],
    port: PortRecord,
    switchers: u16,
    ports: &mut Vec<PortRecord>,
) {
    let interface = usize::from(port.interface);
    let fixed = &config.interfaces[interface].queues;
    let poller = |queue: u32| fixed.get(&queue).copied().unwrap_or(queue % u32::from(switchers));
    let own = (0..interfaces[interface].queues).filter(|queue| poller(*queue) == u32::from(port.switcher));
    let before = ports.len();
    ports.extend(own.map(|queue| PortRecord { queue: queue as u16, flags: PORT_RECEIVES, ..port }));
    if ports.len() == before {
        ports.push(PortRecord { kind: PortKind::AfPacket as u8, mode: PortMode::TransmitOnly as u8, ..port });
    }
}

/// What can't be planned.
pub(super) fn check(config: &Config, interfaces: &[NetworkInterface]) -> Vec<String> {
    let mut problems = Vec::new();
    for (configured, found) in config.interfaces.iter().zip(interfaces) {
        let (name, queues) = (&configured.name, found.queues);
        let missing = configured.queues.keys().filter(|queue| **queue >= queues);
        problems.extend(missing.map(|queue| {
            format!("interface {name} has {queues} queues, there is no queue {queue}: see ethtool -l {name}")
        }));
    }
    let ports = plan(config, interfaces, &vec![PortKind::AfXdp; interfaces.len()]);
    for switcher in 0..config.switchers.cpus.count() {
        let count = ports.iter().filter(|port| usize::from(port.switcher) == switcher).count();
        if count > PORTS {
            problems.push(format!(
                "switcher {switcher} would poll {count} queues, {PORTS} is the most: use more switchers, or fewer queues (ethtool -L)"
            ));
        }
    }
    problems
}

/// Room for any plan of this configuration, whichever kinds come out.
pub(super) fn most_ports(config: &Config, interfaces: &[NetworkInterface]) -> usize {
    let switchers = config.switchers.cpus.count();
    interfaces.iter().map(|interface| interface.queues as usize + switchers).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(switchers: u32, queues: &str) -> Config {
        let text = format!(
            "[switchers]\ncpus = {:?}\n[[interface]]\nname = \"a\"\nqueues = {{ {queues} }}\n[[interface]]\nname = \"b\"\n\
             [[service]]\nname = \"w\"\naddress = \"198.18.0.1:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.backend]]\nname = \"x\"\naddress = \"198.18.1.1:80\"\n",
            (0..switchers).collect::<Vec<_>>()
        );
        Config::parse(&text, "test.toml").expect("a good configuration")
    }

    fn interfaces(queues: [u32; 2]) -> Vec<NetworkInterface> {
        let one = NetworkInterface {
            index: 2,
            mac: [2; 6],
            mtu: 1500,
            queues: 0,
            is_up: true,
            forwards: false,
            filters_reverse_path: false,
        };
        queues.map(|queues| NetworkInterface { queues, ..one.clone() }).into()
    }

    fn pollers(ports: &[PortRecord], interface: u16) -> Vec<(u16, u16)> {
        let receiving = ports.iter().filter(|port| port.interface == interface && port.flags & PORT_RECEIVES != 0);
        let mut pollers: Vec<_> = receiving.map(|port| (port.queue, port.switcher)).collect();
        pollers.sort_unstable();
        pollers
    }

    #[test]
    fn queues_go_round_and_each_has_one_poller() {
        let ports = plan(&config(2, ""), &interfaces([3, 2]), &[PortKind::AfXdp; 2]);
        assert_eq!(pollers(&ports, 0), [(0, 0), (1, 1), (2, 0)]);
        assert_eq!(pollers(&ports, 1), [(0, 0), (1, 1)]);
    }

    #[test]
    fn configured_queues_win() {
        let ports = plan(&config(2, "\"0\" = 1, \"1\" = 1"), &interfaces([2, 1]), &[PortKind::AfXdp; 2]);
        assert_eq!(pollers(&ports, 0), [(0, 1), (1, 1)]);
    }

    #[test]
    fn switcher_without_a_queue_can_send_all_the_same() {
        let ports = plan(&config(3, ""), &interfaces([1, 2]), &[PortKind::AfXdp; 2]);
        for switcher in 0..3 {
            for interface in 0..2 {
                assert!(ports.iter().any(|port| port.switcher == switcher && port.interface == interface));
            }
        }
        let only_sending = ports.iter().filter(|port| port.mode == PortMode::TransmitOnly as u8);
        assert_eq!(
            only_sending.map(|port| (port.switcher, port.interface)).collect::<Vec<_>>(),
            [(1, 0), (2, 0), (2, 1)]
        );
    }

    #[test]
    fn af_packet_has_one_socket_a_switcher() {
        let ports = plan(&config(2, ""), &interfaces([4, 4]), &[PortKind::AfPacket, PortKind::AfXdp]);
        assert_eq!(ports.iter().filter(|port| port.interface == 0).count(), 2);
        assert!(ports.len() <= most_ports(&config(2, ""), &interfaces([4, 4])));
    }

    #[test]
    fn queue_that_is_not_there_and_too_many_queues_are_told() {
        let problems = check(&config(1, "\"5\" = 0"), &interfaces([2, 80]));
        assert!(problems[0].contains("interface a has 2 queues, there is no queue 5"), "{problems:?}");
        assert!(problems[1].contains("switcher 0 would poll 82 queues"), "{problems:?}");
    }
}
