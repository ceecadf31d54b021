//! Checks that take a client's way, against a real kernel at both ends. Without root they say so and pass.

mod namespaces;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Duration;

use namespaces::{Peer, in_namespace, ip};
use nix::sched::{CloneFlags, setns};
use shunt_config::Probe;
use shunt_control::health::as_client::{ClientWay, Path, Paths, Sender};
use shunt_control::health::probe::ask;
use shunt_control::health::{BackendKey, Check};
use tokio::sync::watch;

const SERVICE: &str = "198.18.0.100";
const BACKEND: &str = "198.18.1.11";
const MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];
/// The box's addresses on the link to the backend, and on the one to clients.
const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// A backend behind `back`, and a link to clients. The box filters reverse paths strictly, and replies from a service's address
/// never come from where the box would look for it.
fn laboratory() -> Peer {
    let backend = Peer::start();
    ip("link set lo up");
    ip(&format!("link add back type veth peer name eth0 netns {}", backend.pid()));
    backend.ip("link set lo up");
    backend.ip("link set eth0 address 02:00:00:00:01:0b up");
    backend.ip(&format!("addr add {BACKEND}/24 dev eth0"));
    // It keeps quiet about an address on its loopback, also when it asks for others.
    backend.run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
    ip(&format!("addr add {INSIDE}/24 dev back"));
    ip("link set back up");
    ip("link add client type veth peer name clients");
    ip("link set clients up");
    ip(&format!("addr add {OUTSIDE}/24 dev client"));
    ip("link set client up");
    for link in ["all", "back", "client"] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "1").unwrap();
    }
    backend
}

/// An HTTP server on all of the backend's addresses, until the test ends.
fn serve(backend: &Peer) {
    let namespace = File::open(format!("/proc/{}/ns/net", backend.pid())).unwrap();
    let listener = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind("0.0.0.0:80").unwrap()
    });
    let listener = listener.join().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                // Longer than a segment, so that it comes in several.
                let cookie = "x".repeat(6000);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\n\r\n");
            }
        }
    });
}

fn http() -> Probe {
    Probe::Http { path: "/".into(), host: None, status_first: 200, status_last: 399 }
}

/// What comes of one check, and how it is said.
async fn found(target: &str, source: Ipv4Addr, probe: Probe) -> Result<(), String> {
    let backend: IpAddr = BACKEND.parse().unwrap();
    let check = Check {
        key: BackendKey { service: "web".into(), backend: "b1".into() },
        target: target.parse().unwrap(),
        way: Some(ClientWay { backend, sender: Sender::Neighbour }),
        probe,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 1,
    };
    let ifindex = nix::net::if_::if_nametoindex("back").unwrap();
    let paths = Paths::from([(check.key.clone(), Ok(Path { ifindex, mac: MAC, source }))]);
    let paths = watch::Sender::new(paths);
    ask(&check, &mut paths.subscribe()).await.map_err(|failure| failure.to_string())
}

#[test]
fn a_backend_is_up_only_while_it_has_the_service_s_address() {
    in_namespace(async || {
        let backend = laboratory();
        serve(&backend);
        let at_service = format!("{SERVICE}:80");
        let black_hole = found(&at_service, INSIDE, Probe::Tcp).await.unwrap_err();
        assert!(black_hole.starts_with("no answer within 2000 ms by a client's way"), "{black_hole}");
        backend.ip(&format!("addr add {SERVICE}/32 dev lo"));
        assert_eq!(found(&at_service, INSIDE, Probe::Tcp).await, Ok(()));
        assert_eq!(found(&at_service, INSIDE, http()).await, Ok(()));
        let refused = found(&format!("{SERVICE}:81"), INSIDE, Probe::Tcp).await.unwrap_err();
        assert!(refused.starts_with("cannot connect: connection refused"), "{refused}");
        // Shared by the box's own programs: its kernel would keep what is sent there, and drop what comes from there.
        ip(&format!("addr add {SERVICE}/32 dev client"));
        assert_eq!(found(&at_service, INSIDE, http()).await, Ok(()));
    });
}

#[test]
fn a_nat_backend_must_send_its_replies_to_the_clients_side_by_the_box() {
    in_namespace(async || {
        let backend = laboratory();
        serve(&backend);
        let target = format!("{BACKEND}:80");
        assert_eq!(found(&target, INSIDE, http()).await, Ok(()), "to its neighbour it answers anyway");
        let astray = found(&target, OUTSIDE, Probe::Tcp).await.unwrap_err();
        assert!(astray.starts_with("no answer within 2000 ms by a client's way"), "{astray}");
        backend.ip(&format!("route add default via {INSIDE}"));
        assert_eq!(found(&target, OUTSIDE, http()).await, Ok(()));
    });
}
