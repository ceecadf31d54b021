//! The agent as a process beside real servers, in network namespaces of its own. Without root it says so and passes.
#![allow(missing_docs)]

mod laboratory;

use laboratory::{has, in_server, until};
use shunt_report::{Listening, ServerState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

/// Connections that say nothing.
fn connect(to: &str, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(to).expect("a connection")).collect()
}

#[test]
fn clients_and_the_machine_are_reported_and_an_end_of_listening_at_once() {
    in_server(|mut server| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        // The longest period: what comes sooner is a sharp change.
        let mut control =
            server.start_agent("period_ms = 1000\nlook_ms = 20\n[[backend]]\nname = \"b1\"\nport = 8080\n");
        let first = control.next();
        assert_eq!((first.agent.as_str(), first.sequence, first.period_ms), ("server-1", 1, 1000));
        let load =
            control.until("CPU and memory", |load| load.cpu_permille.is_some() && load.memory_permille.is_some());
        assert_eq!((load.backend.as_str(), load.state, load.clients), ("b1", ServerState::Up, Some(0)));
        assert_eq!((load.port, load.listening), (8080, Listening::Yes));
        assert!(load.cpu_permille <= Some(1000) && load.memory_permille <= Some(1000));
        let clients = connect("127.0.0.1:8080", 20);
        assert_eq!(control.until("clients", |load| load.clients == Some(20)).state, ServerState::Up);
        drop(listener);
        control.until("down", |load| (load.state, load.listening) == (ServerState::Down, Listening::NoLonger));
        drop(clients);
        let _again = TcpListener::bind("127.0.0.1:8080").unwrap();
        control.until("up again", |load| (load.state, load.listening) == (ServerState::Up, Listening::Yes));
    });
}

#[test]
fn a_port_that_nobody_listens_on_is_reported_so_unless_it_is_served_elsewhere() {
    in_server(|mut server| {
        let _dns = UdpSocket::bind("127.0.0.1:53").unwrap();
        let backend = |name: &str, lines: &str| format!("[[backend]]\nname = \"{name}\"\n{lines}\n");
        let backends = [
            backend("typo", "port = 8080"),
            backend("dns", "port = 53\nprotocol = \"udp\""),
            backend("udp-typo", "port = 54\nprotocol = \"udp\""),
            backend("container", "port = 8090\nlistener = \"elsewhere\""),
        ];
        let mut control = server.start_agent(&format!("period_ms = 1000\nlook_ms = 20\n{}", backends.concat()));
        let seen: Vec<_> = control.next().loads.iter().map(|load| (load.listening, load.clients)).collect();
        use Listening::{Never, Unobserved, Yes};
        assert_eq!(seen, [(Never, Some(0)), (Yes, None), (Never, None), (Unobserved, None)]);
        let _late = TcpListener::bind("127.0.0.1:8080").unwrap();
        control.until("a late listener", |load| load.listening == Yes);
    });
}

#[test]
fn nginx_tells_requests_in_flight_and_their_rate() {
    in_server(|mut server| {
        if !has("nginx") {
            return;
        }
        server.start_nginx();
        let lines =
            "period_ms = 20\n[[backend]]\nname = \"b1\"\nport = 8080\n[backend.nginx]\naddress = \"127.0.0.1:8081\"\n";
        let mut control = server.start_agent(lines);
        control.until("an idle nginx", |load| load.in_flight == Some(0) && load.requests_per_s_milli == Some(0));
        // Half a request each: nginx waits for the rest, and so they are in flight.
        let mut clients = connect("127.0.0.1:8080", 12);
        clients.iter_mut().for_each(|client| client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap());
        control.until("12 in flight", |load| load.in_flight == Some(12) && load.clients == Some(12));
        // Each ends its request and sends one whole after the other, one for each report.
        let mut request = &b"\r\n"[..];
        let load = until("their rate", || {
            clients.iter_mut().for_each(|client| client.write_all(request).unwrap());
            request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            Some(control.next().loads[0].clone()).filter(|load| load.requests_per_s_milli > Some(0))
        });
        assert!(load.execution_us.is_some(), "{load:?}");
        control.until("12 idle clients", |load| load.in_flight == Some(0) && load.clients == Some(12));
    });
}

#[test]
fn a_server_that_hangs_does_not_make_the_agent_hang() {
    in_server(|mut server| {
        // Accepts by the kernel alone, and never answers.
        let hanging = TcpListener::bind("127.0.0.1:8081").unwrap();
        let page = "address = \"127.0.0.1:8081\"\n";
        let lines = format!("period_ms = 20\n[[backend]]\nname = \"b1\"\nport = 8081\n[backend.nginx]\n{page}");
        let mut control = server.start_agent(&lines);
        for _ in 0..50 {
            assert_eq!(control.next().loads[0].in_flight, None);
        }
        drop(hanging);
    });
}

const PROMETHEUS: &str = r##"
import http.server
class Metrics(http.server.BaseHTTPRequestHandler):
    ended = 0
    def do_GET(self):
        Metrics.ended += 10
        text = "".join([
            "# TYPE busy gauge\n", 'busy{worker="1"} 3\n', 'busy{worker="2"} 4\n',
            "time_seconds_sum %f\n" % (Metrics.ended * 0.002), "time_seconds_count %d\n" % Metrics.ended])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", 9100), Metrics).serve_forever()
"##;

#[test]
fn a_prometheus_page_tells_execution_times() {
    in_server(|mut server| {
        if !has("python3") {
            return;
        }
        let script = server.write("metrics.py", PROMETHEUS);
        server.start("python3", &[&script.display().to_string()]);
        let lines = "period_ms = 20\n[[backend]]\nname = \"b1\"\nport = 8080\n[backend.prometheus]\n\
            address = \"127.0.0.1:9100\"\nin_flight = \"busy\"\nexecution = \"time_seconds\"\n";
        let mut control = server.start_agent(lines);
        let load =
            control.until("execution", |load| load.execution_us.is_some() && load.requests_per_s_milli > Some(0));
        assert_eq!((load.in_flight, load.execution_us, load.clients), (Some(7), Some(2000), Some(0)));
    });
}

#[test]
fn a_command_and_pushed_lines_tell_the_rest() {
    in_server(|mut server| {
        let lines = "period_ms = 1000\nlook_ms = 20\nstatsd_socket = \"FOLDER/statsd.sock\"\n\
            [[backend]]\nname = \"b1\"\nport = 8080\n[backend.statsd]\nin_flight = \"busy\"\nexecution = \"time\"\n\
            [[backend]]\nname = \"b2\"\nport = 8090\n[backend.command]\nrun = \"cat FOLDER/load\"\ninterval_ms = 1000\n";
        server.write("load", "in_flight=5\nexecution_us=700\n");
        let mut control = server.start_agent(lines);
        control.next();
        let socket = server.path("statsd.sock");
        let application = UnixDatagram::unbound().unwrap();
        application.send_to(b"time:3|ms\ntime:5|ms", &socket).unwrap();
        application.send_to(b"busy:30|g", &socket).unwrap();
        let load = control.until("pushed lines", |load| load.in_flight == Some(30));
        assert_eq!(load.execution_us, Some(4000));
        let b2 = until("the command", || Some(control.next().loads[1].clone()).filter(|load| load.in_flight.is_some()));
        assert_eq!((b2.in_flight, b2.execution_us, b2.state), (Some(5), Some(700), ServerState::Up));
        server.write("load", "state=drain\n");
        until("its state", || Some(control.next().loads[1].state).filter(|state| *state == ServerState::Drain));
    });
}

const HAPROXY: &str = "global\n stats socket FOLDER/haproxy.sock\ndefaults\n mode tcp\n timeout connect 1s\n timeout client 9s\n \
    timeout server 9s\nlisten web\n bind 127.0.0.1:8000\n \
    server b1 127.0.0.1:8080 check inter 50 weight 100 agent-check agent-port 7947 agent-inter 50 agent-send b1\\n\n";

/// HAProxy's own words about its server: weight, status.
fn haproxy_s_view(socket: &std::path::Path) -> Option<(u32, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"show stat\n").ok()?;
    let mut table = String::new();
    stream.read_to_string(&mut table).ok()?;
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let server: Vec<&str> = lines.find(|line| line.starts_with("web,b1,"))?.split(',').collect();
    let of = |name: &str| server.get(columns.iter().position(|column| *column == name)?).copied();
    Some((of("weight")?.parse().ok()?, of("status")?.to_owned()))
}

#[test]
fn haproxy_takes_weight_and_state_from_the_agent() {
    in_server(|mut server| {
        if !has("haproxy") {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let lines = "look_ms = 20\nstatsd_socket = \"FOLDER/statsd.sock\"\n[[backend]]\nname = \"b1\"\nport = 8080\n\
            capacity = 1000\ndrain_file = \"FOLDER/drain\"\nagent_check = \"127.0.0.1:7947\"\n[backend.statsd]\nin_flight = \"busy\"\n";
        let mut control = server.start_agent(lines);
        control.next();
        let folder = server.folder().display().to_string();
        let configuration = server.write("haproxy.cfg", &HAPROXY.replace("FOLDER", &folder));
        server.start("haproxy", &["-db", "-f", &configuration.display().to_string()]);
        let socket = server.path("haproxy.sock");
        let sees = |what: &str, wanted: &dyn Fn(u32, &str) -> bool| {
            until(what, || haproxy_s_view(&socket).filter(|(weight, status)| wanted(*weight, status)))
        };
        let busy = |load: u32| {
            let application = UnixDatagram::unbound().unwrap();
            application.send_to(format!("busy:{load}|g").as_bytes(), server.path("statsd.sock")).unwrap();
        };
        // The CPUs' load is part of the weight, so that it can be lower still.
        busy(750);
        sees("a weight of the fourth", &|weight, status| weight <= 25 && status == "UP");
        busy(990);
        sees("a weight of one", &|weight, status| weight == 1 && status == "UP");
        server.write("drain", "");
        sees("draining", &|_, status| status.starts_with("DRAIN"));
        std::fs::remove_file(server.path("drain")).unwrap();
        sees("ready again", &|_, status| status == "UP");
        drop(listener);
        sees("down", &|_, status| status.starts_with("DOWN"));
    });
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let agent = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_shunt-agent")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = agent(&["--config", "/nonexistent/agent.toml"]);
    assert_eq!(status, Some(78));
    assert_eq!(
        said,
        "shunt-agent: /nonexistent/agent.toml: cannot be read: No such file or directory (os error 2); \
        check the path and its permissions\n"
    );
    let flags = ["--name", "a", "--control", "198.18.1.1:7946", "--backend", "b1=8080", "--key-file", "/nonexistent"];
    let (status, said) = agent(&flags);
    assert_eq!(
        (status, said.starts_with("shunt-agent: --key-file /nonexistent: cannot be read")),
        (Some(78), true),
        "{said}"
    );
    let (folder, key) = (tempfile::tempdir().unwrap(), "k".repeat(32));
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("key"), key).unwrap();
    std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let epoch = path("missing/epoch");
    let text = format!(
        "name = \"a\"\ncontrol = \"127.0.0.1:7946\"\nkey_file = {:?}\nepoch_file = {epoch:?}\n[[backend]]\nname = \"b1\"\n\
         port = 8080\n",
        path("key")
    );
    std::fs::write(path("agent.toml"), text).unwrap();
    let (status, said) = agent(&["--config", &path("agent.toml")]);
    let expected = format!("shunt-agent: epoch_file {epoch}: No such file or directory (os error 2); make its folder");
    assert_eq!((status, said.starts_with(&expected)), (Some(78), true), "{said}");
    for wrong in [&["--name", "a b"][..], &["--name", "a"], &[], &["--period-ms", "5"], &["--backend", "b1"]] {
        assert_eq!(agent(wrong).0, Some(2), "{wrong:?}");
    }
}
