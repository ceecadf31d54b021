//! Connections whose back-end dies, is drained for too long or leaves the configuration: UDP flows with a port of their own go
//! on at another one, TCP connections are reset at both ends where the service says so.

use anyhow::{Context, Result, bail, ensure};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{ECHO, Lab, Shape, UDP_ECHO, WEB};
use shunt_tests::namespace::Namespace;
use shunt_tests::runner::Test;
use shunt_tests::wait::until;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two messages of a connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Drain timeouts: one that a slow machine doesn't reach within a few messages, and one that is waited for.
const PATIENT_S: u32 = 60;
const QUICK_S: u32 = 1;
/// What the echo servers answer with their name.
const WHO: &[u8] = b"whoami";

/// A service at an address of its own.
const OTHER: &str = r#"
[[service]]
name = "other"
protocol = "tcp"
address = "198.18.0.102:80"
mode = "nat"
backend = [{ name = "b1", address = "198.18.1.11:80" }]
health.kind = "none"
"#;

pub fn tests() -> Vec<Test> {
    let reset = |mode: &'static str, port: &'static str| {
        Test::new(format!("stale_tcp_{mode}_{port}"), move || tcp(Shape { mode, port, ..Shape::default() }))
    };
    vec![
        Test::new("stale_udp_nat", || udp("nat")),
        Test::new("stale_udp_dsr", || udp("dsr")),
        reset("nat", "af_xdp"),
        reset("nat", "af_packet"),
        reset("dsr", "af_xdp"),
        Test::new("unsupported_callers", callers),
    ]
}

/// A client that sends all its queries from one port, as some resolvers do.
struct Resolver(UdpSocket);

impl Resolver {
    fn new(from: &Namespace) -> Result<Self> {
        from.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:40053")?;
            socket.connect(UDP_ECHO)?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(Self(socket))
        })
    }

    /// Who answers.
    fn ask(&self) -> Result<String> {
        self.0.send(WHO)?;
        let mut answer = [0; 64];
        let length = self.0.recv(&mut answer).context("no answer")?;
        Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
    }

    /// Who answers each of a dozen queries.
    fn ask_often(&self, expected: impl Fn(&str) -> bool) -> Result<()> {
        for query in 0..12 {
            let name = self.ask().with_context(|| format!("query {query}"))?;
            ensure!(expected(&name), "query {query} was answered by {name}");
        }
        Ok(())
    }
}

fn udp(mode: &'static str) -> Result<()> {
    let lab = Lab::up("stale", Shape { backends: 3, mode, ..Shape::default() })?;
    let operator = lab.operator();
    let usual = lab.configuration()?;
    let patient = usual.with("name = \"udp-echo\"\n", &drain_timeout("udp-echo", PATIENT_S))?;
    let quick = usual.with("name = \"udp-echo\"\n", &drain_timeout("udp-echo", QUICK_S))?;
    lab.reload(&patient)?;
    let resolver = Resolver::new(&lab.client())?;

    let dead = resolver.ask()?;
    let number = dead.trim_start_matches('b').parse()?;
    lab.stop_backend(number)?;
    operator.await_state(&[&format!("{dead}-udp")], "down")?;
    resolver.ask_often(|name| name != dead).context("after its back-end died")?;
    ensure!(operator.service("udp-echo")?.moved == 1, "{:?}", operator.service("udp-echo")?);
    lab.start_backend(number)?;
    operator.await_state(&[&format!("{dead}-udp")], "up")?;

    let drained = resolver.ask()?;
    operator.order(&format!("drain {drained}-udp"))?;
    resolver.ask_often(|name| name == drained).context("before the deadline")?;
    lab.reload(&quick)?; // counts for later drains only
    operator.order(&format!("enable {drained}-udp"))?;
    operator.order(&format!("drain {drained}-udp"))?;
    await_other(&resolver, &drained).context("after its back-end was drained")?;
    operator.order(&format!("enable {drained}-udp"))?;

    let removed = resolver.ask()?;
    lab.reload(&quick.without_backend(&format!("{removed}-udp"))?)?;
    await_other(&resolver, &removed).context("after its back-end left the configuration")?;
    operator.await_balance(0)
}

/// Every query is answered, and one day by another back-end.
fn await_other(resolver: &Resolver, before: &str) -> Result<()> {
    until("another back-end's answer", || Ok((resolver.ask()? != before).then_some(())))
}

fn tcp(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("reset", shape)?;
    let operator = lab.operator();
    let usual = lab.configuration()?;
    lab.reload(&resetting(&usual, PATIENT_S)?)?;
    let mut stream = lab.client().inside(|| Ok(TcpStream::connect_timeout(&ECHO, ANSWER_TIMEOUT)?))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    exchange(&mut stream).context("the first message")?;
    let port = stream.local_addr()?.port();
    let holders: Vec<usize> = (1..=2).filter(|number| has(&lab, *number, port).unwrap_or(false)).collect();
    let [holder] = holders[..] else { bail!("{holders:?} have the connection") };

    operator.order(&format!("drain b{holder}-echo"))?;
    exchange(&mut stream).context("before the deadline")?;
    lab.reload(&resetting(&usual, QUICK_S)?)?; // counts for later drains only
    operator.order(&format!("enable b{holder}-echo"))?;
    operator.order(&format!("drain b{holder}-echo"))?;
    let error = until("a reset at the client", || {
        std::thread::sleep(PAUSE);
        Ok(exchange(&mut stream).err())
    })?;
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    ensure!(kind == Some(ErrorKind::ConnectionReset), "the client saw {error:#}");
    until("the back-end's end of it", || Ok((!has(&lab, holder, port)?).then_some(())))?;
    let service = operator.service("echo")?;
    ensure!(service.reset == 1, "{service:?}");
    let drops = operator.drops()?;
    ensure!(drops.answered("stale_backend") >= 1, "{drops:?}");
    operator.await_balance(0)
}

/// The echo service resets connections so many seconds after a drain.
fn resetting(configuration: &Configuration, drain_timeout_s: u32) -> Result<Configuration> {
    let lines = drain_timeout("echo", drain_timeout_s) + "on_backend_down = \"reset\"\n";
    configuration.with("name = \"echo\"\n", &lines)
}

fn drain_timeout(service: &str, seconds: u32) -> String {
    format!("name = \"{service}\"\ndrain_timeout_s = {seconds}\n")
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"message")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"message", "{answer:?} came back");
    Ok(())
}

/// Whether a back-end server has an open connection with this port of the client.
fn has(lab: &Lab, number: usize, port: u16) -> Result<bool> {
    let output = lab.server(number).command("ss").args(["-Htn", "state", "established"]).output()?;
    let port = format!(":{port}");
    Ok(String::from_utf8(output.stdout)?.split_whitespace().any(|word| word.ends_with(&port)))
}

/// Who can't be a client: counted, each with a sentence.
fn callers() -> Result<()> {
    let lab = Lab::up_patient("callers", Shape::default())?;
    let operator = lab.operator();
    // Every call of b1 to the service comes back to b1.
    operator.order("drain b2")?;
    let refused = lab.server(1).inside(|| {
        let attempt = |_| TcpStream::connect_timeout(&WEB, ANSWER_TIMEOUT).err().map(|error| error.kind());
        Ok((0..8).map(attempt).filter(|kind| *kind == Some(ErrorKind::ConnectionRefused)).count() as u64)
    })?;
    let drops = operator.drops()?;
    ensure!(refused > 0 && drops.answered("backend_to_itself") >= refused, "{refused} of 8 were refused: {drops:?}");
    // With [host] the box's kernel has the first service's address; this one has nobody. From the box's address on the
    // link, packets don't go by the pseudo-interface.
    lab.reload(&Configuration(lab.configuration()?.0 + OTHER))?;
    lab.balancer().inside(|| {
        UdpSocket::bind("198.18.0.1:0")?.send_to(WHO, "198.18.0.102:80")?;
        Ok(())
    })?;
    until("the box's own call noted", || Ok((operator.drops()?.noted("own_call") > 0).then_some(())))
}
