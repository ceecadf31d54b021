//! The pseudo-interface (patent Fig. 8): ordinary programs of the balancer's own machine, unchanged, behind Shunt.

use super::far::{FAR, Far, output};
use anyhow::{Context, Result, ensure};
use shunt_tests::lab::{HOST, INNER, Lab, SHARED, Shape, WEB};
use shunt_tests::namespace::Namespace;
use shunt_tests::runner::Test;
use shunt_tests::traffic::bystander::Bystander;
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::ping::ping;
use shunt_tests::traffic::streams::Streams;
use shunt_tests::wait::until;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The box's own nginx.
const HOST_WEB: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 80);
/// An echo server of the tests, on the box itself.
const HOST_ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 7000);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const BACKEND: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 11);
const CALM: Duration = Duration::from_millis(300);

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (mode, port, switchers) in
        [("nat", "af_xdp", 1), ("nat", "af_xdp", 2), ("nat", "af_packet", 1), ("dsr", "af_xdp", 1)]
    {
        let shape = Shape { mode, port, switchers, ..Shape::default() };
        tests.push(Test::new(format!("host_traffic_{mode}_{port}_{switchers}"), move || traffic(shape)));
    }
    let shape = Shape { idle: "wait", ..Shape::default() };
    tests.push(Test::new("host_traffic_nat_af_xdp_1_wait", move || traffic(shape)));
    tests.push(Test::new("host_programs", programs));
    tests.push(Test::new("host_death", death));
    for port in ["af_xdp", "af_packet"] {
        let shape = Shape { port, inner: true, ..Shape::default() };
        tests.push(Test::new(format!("host_first_embodiment_{port}"), move || first_embodiment(shape)));
    }
    tests.push(Test::new("host_path_mtu", path_mtu));
    tests.push(Test::new("host_bad_packets", bad_packets));
    tests
}

/// Both ways, opened from outside and from the box, beside the services, over every kind of port.
fn traffic(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("host", shape)?;
    let (client, balancer) = (lab.client(), lab.balancer());
    let _shared = Bystander::start_at(&balancer, SHARED)?;
    let _echo = Bystander::start_at(&balancer, HOST_ECHO)?;
    client.inside(|| (0..5).try_for_each(|sequence| ping(HOST.into(), sequence))).context("client pings the box")?;
    let streams = [HOST_ECHO, SHARED].map(|to| Streams::start(&client, to, 4));
    let answers = get_many(&client, WEB, 40)?;
    ensure!(answers.keys().eq(lab.backends().iter()), "a shared address' port 80 was answered by {answers:?}");
    let answers = get_many(&client, HOST_WEB, 40)?;
    ensure!(answers.keys().eq(["host"].iter()), "the host's port 80 was answered by {answers:?}");
    balancer
        .inside(|| (0..5).try_for_each(|sequence| ping(CLIENT.into(), sequence)))
        .context("the box pings a client")?;
    let from_host = ["--interface", "198.18.0.101"];
    for name in lab.backends().iter().take(1) {
        let page =
            output(balancer.command("curl").args(["-s", "-m", "5"]).args(from_host).arg(format!("http://{BACKEND}/")))?;
        ensure!(page.trim() == name, "back-end {name} answered the box {page:?}");
    }
    let ours = Bystander::start_at(&client, SocketAddr::new(CLIENT.into(), 7001))?;
    Streams::start(&balancer, SocketAddr::new(CLIENT.into(), 7001), 4)?.finish().context("the box to a client")?;
    drop(ours);
    for streams in streams {
        streams?.finish()?;
    }
    let host = lab.operator().status()?.host.context("status shows no pseudo-interface")?;
    let packets = |to_host: bool| -> u64 {
        host.stores.iter().map(|store| if to_host { store.to_host.packets } else { store.from_host.packets }).sum()
    };
    ensure!(host.device == "shunt0" && packets(true) > 100 && packets(false) > 100, "{host:?}");
    lab.operator().await_balance(0)
}

/// Programs that know nothing of Shunt. What isn't installed is said and left out.
fn programs() -> Result<()> {
    let lab = Lab::up_patient("programs", Shape::default())?;
    let (client, balancer) = (lab.client(), lab.balancer());
    let host = HOST.to_string();
    let run = |program: &str, arguments: &str, expected: &str| -> Result<()> {
        if !is_installed(program) {
            println!("  SKIPPED: {program} isn't installed (deploy/install-packages test)");
            return Ok(());
        }
        let words = arguments.replace("HOST", &host);
        let text = output(client.command(program).args(words.split_whitespace()))?;
        ensure!(text.contains(expected), "{program} {words}: {text}");
        println!("  {program} {words}: as expected");
        Ok(())
    };
    run("ping", "-c 5 -i 0.2 HOST", " 0% packet loss")?;
    run("ping", "-c 3 -i 0.2 -s 4000 HOST", " 0% packet loss")?;
    run("traceroute", "-n -q 1 HOST", "1  198.18.0.101")?;
    run("traceroute", "-n -q 1 -I HOST", "1  198.18.0.101")?;
    run("tracepath", "-n HOST", "pmtu 1500")?;
    let listen = |program: &str, arguments: &str| -> Result<Option<Server>> {
        if !is_installed(program) {
            println!("  SKIPPED: {program} isn't installed (deploy/install-packages test)");
            return Ok(None);
        }
        Server::start(&balancer, program, &arguments.replace("HOST", &host)).map(Some)
    };
    let zone = "-k --no-resolv --no-hosts -C /dev/null --bind-interfaces -a HOST --address=/www.example/198.18.0.100";
    if let Some(_dns) = listen("dnsmasq", zone)? {
        await_listener(&client, SocketAddr::new(HOST.into(), 53))?;
        run("dig", "+short +tries=3 @HOST www.example", "198.18.0.100")?;
        run("dig", "+short +tcp @HOST www.example", "198.18.0.100")?;
    }
    // A server for each run: after a client, iperf3 opens its listener anew, and resets the next client if it is waiting already.
    for (port, options) in [(5201, ""), (5202, "-R"), (5203, "-u -b 10M")] {
        if let Some(_iperf) = listen("iperf3", &format!("-s -p {port} -B HOST"))? {
            await_bound(&balancer, port)?;
            run("iperf3", &format!("-c HOST -p {port} -t 1 {options}"), "receiver")?;
        }
    }
    secure_shell(&lab)?;
    lab.operator().await_balance(0)
}

/// sshd at the shared address: port 22 is the host's, port 80 the back-ends'.
fn secure_shell(lab: &Lab) -> Result<()> {
    if !is_installed("/usr/sbin/sshd") {
        println!("  SKIPPED: sshd isn't installed (deploy/install-packages test)");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    for key in ["host", "user"] {
        output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file(key)]))?;
    }
    std::fs::create_dir_all("/run/sshd")?;
    let options = format!(
        "-D -e -f /dev/null -h {} -o ListenAddress={SHARED} -o AuthorizedKeysFile={} -o PidFile=none -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes",
        file("host"),
        file("user.pub")
    );
    let _server = Server::start(&lab.balancer(), "/usr/sbin/sshd", &options)?;
    await_listener(&lab.client(), SHARED)?;
    let known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR";
    let to = format!("-F /dev/null -i {} {known} root@{} echo through Shunt", file("user"), SHARED.ip());
    let text = output(lab.client().command("ssh").args(to.split_whitespace()))?;
    ensure!(text.trim() == "through Shunt", "ssh: {text}");
    let answers = get_many(&lab.client(), WEB, 10)?;
    ensure!(answers.keys().all(|name| name.starts_with('b')), "{answers:?}");
    println!("  ssh to {SHARED}: as expected");
    Ok(())
}

/// Connections through the store live on, whichever process is killed.
fn death() -> Result<()> {
    let lab = Lab::up_patient("hostkill", Shape::default())?;
    let _echo = Bystander::start_at(&lab.balancer(), HOST_ECHO)?;
    let streams = Streams::start(&lab.client(), HOST_ECHO, 8)?;
    let victims: [&[&str]; 6] = [
        &["ifdaemon"],
        &["switcher.0"],
        &["control"],
        &["keeper"],
        &["keeper", "switcher.0"],
        &["ifdaemon", "switcher.0"],
    ];
    for victims in victims {
        std::thread::sleep(CALM);
        lab.kill(victims).with_context(|| format!("{victims:?} killed"))?;
        get_many(&lab.client(), HOST_WEB, 5).with_context(|| format!("after {victims:?}"))?;
    }
    let whole = streams.finish()?;
    println!("  {} connections through the pseudo-interface whole, {} KiB", whole.connections, whole.bytes / 1024);
    Ok(())
}

/// Fig. 7: the service's address becomes the box's real one in the back-end network, and replies are re-written back.
fn first_embodiment(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("inner", shape)?;
    let answers = get_many(&lab.client(), INNER, 40)?;
    ensure!(answers.keys().eq(["inner"].iter()), "answered by {answers:?}");
    let answers = get_many(&lab.client(), WEB, 20)?;
    ensure!(answers.keys().eq(lab.backends().iter()), "answered by {answers:?}");
    let inner = lab.operator().backend("inner")?;
    ensure!(inner.opened == 40, "40 requests opened {} connections", inner.opened);
    lab.operator().await_balance(0)
}

/// A router behind the client with a smaller link: what the box sends is too big, and it learns so.
fn path_mtu() -> Result<()> {
    let lab = Lab::up_patient("mtu", Shape::default())?;
    Far::behind_client(&lab)?.fetch_big(HOST_WEB)?;
    let learned = lab.balancer().ip(&format!("route get {FAR} from {HOST}"))?;
    ensure!(learned.contains("mtu 1280"), "the box didn't learn the path's MTU: {learned}");
    lab.operator().await_balance(0)
}

/// What the kernel hands to the device and the host may not send is dropped by reason.
fn bad_packets() -> Result<()> {
    let lab = Lab::up_patient("hostbad", Shape::default())?;
    let balancer = lab.balancer();
    balancer.ip("address add 203.0.113.9/32 dev lo")?;
    balancer.ip("route add 203.0.113.10/32 dev shunt0 src 203.0.113.9")?;
    let ping = |arguments: &[&str]| {
        balancer.command("ping").args(["-c", "3", "-i", "0.1", "-W", "1"]).args(arguments).output()
    };
    ping(&["203.0.113.10"])?;
    output(balancer.command("sysctl").args(["-q", "-w", "net.ipv6.conf.shunt0.disable_ipv6=0"]))?;
    balancer.ip("address add 2001:db8::1/64 dev shunt0 nodad")?;
    ping(&["-6", "2001:db8::2"])?;
    // A port of a back-ends' service at the shared address: the kernel has the address, but not the service.
    let drops = until("both drops", || {
        let drops = lab.operator().status()?.host.context("no pseudo-interface")?.drops;
        let count = |name: &str| drops.iter().find(|drop| drop.reason == name).map_or(0, |drop| drop.count);
        let counts = (count("host_foreign_source"), count("host_ipv6"));
        Ok((counts.0 >= 3 && counts.1 >= 3).then_some(counts))
    })?;
    println!("  foreign source {}, IPv6 {}", drops.0, drops.1);
    get_many(&lab.client(), HOST_WEB, 10)?;
    lab.operator().await_balance(0)
}

fn is_installed(program: &str) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/"];
    folders.iter().any(|folder| std::path::Path::new(folder).join(program).exists())
}

fn await_listener(from: &Namespace, to: SocketAddr) -> Result<()> {
    until(&format!("a listener at {to}"), || {
        from.inside(move || {
            let connected = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1));
            Ok(connected.ok().map(drop))
        })
    })
}

/// Waits for a listener without calling it.
fn await_bound(at: &Namespace, port: u16) -> Result<()> {
    until(&format!("a listener at port {port}"), || {
        let listeners = output(at.command("ss").args(["-Hltn", &format!("sport = :{port}")]))?;
        Ok((!listeners.is_empty()).then_some(()))
    })
}

/// A program that runs until the value is dropped.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace, program: &str, arguments: &str) -> Result<Self> {
        let mut command = namespace.command(program);
        command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).with_context(|| program.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
