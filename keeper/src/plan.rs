//! Assigns queues to switchers. Pure: computed from the configuration and the interfaces' queue counts.
//!
//! Each queue is polled by exactly one switcher, and every switcher can send on every interface.

use shunt_config::{Config, MOST_PORTS, Problem};
use shunt_shmlayout::regions::{PORT_RECEIVES, PORTS, PortKind, PortMode, PortRecord};

use super::system::NetworkInterface;

const _: () = assert!(MOST_PORTS == PORTS);

/// The ports of all switchers, in port-number order per switcher. `kinds` has the port kind of each interface; the modes of
/// AF_XDP ports are filled in later.
pub(super) fn plan(config: &Config, interfaces: &[NetworkInterface], kinds: &[PortKind]) -> Vec<PortRecord> {
    let switchers = config.switchers.cpus.count() as u16;
    let mut ports = Vec::new();
    for switcher in 0..switchers {
        for (interface, kind) in (0u16..).zip(kinds) {
            let port = PortRecord { switcher, interface, kind: kind.code(), ..PortRecord::default() };
            match kind {
                PortKind::AfXdp => plan_queues(config, interfaces, port, &mut ports),
                // The kernel spreads connections over the sockets, so one covers all queues.
                PortKind::AfPacket => {
                    ports.push(PortRecord { mode: PortMode::Mmap.code(), flags: PORT_RECEIVES, ..port });
                }
            }
        }
    }
    ports
}

/// Adds one switcher's queues of an interface; a transmit-only port if it has none.
fn plan_queues(config: &Config, interfaces: &[NetworkInterface], port: PortRecord, ports: &mut Vec<PortRecord>) {
    let interface = usize::from(port.interface);
    let own = config.queues_of(port.switcher.into(), interface, interfaces[interface].queues);
    let before = ports.len();
    ports.extend(own.map(|queue| PortRecord { queue: queue as u16, flags: PORT_RECEIVES, ..port }));
    if ports.len() == before {
        ports.push(PortRecord { kind: PortKind::AfPacket.code(), mode: PortMode::TransmitOnly.code(), ..port });
    }
}

/// Problems of the queue assignment, one message each.
pub(super) fn check(config: &Config, interfaces: &[NetworkInterface]) -> Vec<String> {
    let queues: Vec<u32> = interfaces.iter().map(|interface| interface.queues).collect();
    config.queue_problems(&queues).iter().map(Problem::to_string).collect()
}

/// Upper bound on the port count for any port kinds.
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
        let only_sending = ports.iter().filter(|port| port.mode() == Some(PortMode::TransmitOnly));
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
    fn queues_without_frames_are_told_with_line_need_and_remedy() {
        let problems = check(&config(1, ""), &interfaces([32, 8]));
        let expected = "test.toml:1: limits.frames: 16384 are too few for switcher 0, whose 80 rings of 256 take 20480; \
                        write 32768, or a smaller limits.ring";
        assert_eq!(problems, [expected]);
        assert!(check(&config(2, ""), &interfaces([32, 8])).is_empty(), "20 queues each");
    }
}
