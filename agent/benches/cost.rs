//! What the agent takes of a CPU: `cargo bench -p agent --bench cost`, as root. Each row runs the agent for 20 s beside
//! 1000 connections, and takes its CPU time from /proc/PID/stat (user and system, in ticks) and /proc/PID/schedstat
//! (nanoseconds).

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 1000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Ends with the value.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// CPU time so far: ticks of 10 ms, and nanoseconds.
    fn cpu_time(&self) -> Result<(u64, u64)> {
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", self.0.id()));
        let (stat, schedstat) = (read("stat")?, read("schedstat")?);
        // The fields after the name, which may have spaces: utime and stime are the 14th and 15th of all.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |index: usize| fields.get(index).ok_or("a short line")?.parse::<u64>().map_err(Box::<dyn Error>::from);
        let nanoseconds = schedstat.split_whitespace().next().ok_or("an empty line")?.parse()?;
        Ok((ticks(11)? + ticks(12)?, nanoseconds))
    }
}

fn main() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: network namespaces need root");
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNET)?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    // The kernel accepts for it.
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let clients = (0..CONNECTIONS).map(|_| {
        let client = TcpStream::connect(("127.0.0.1", port))?;
        Ok((client, server.accept()?))
    });
    let _clients = clients.collect::<std::io::Result<Vec<_>>>()?;
    let status_page = serve_status_page()?;
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    fs::write(&key, [b'k'; 32])?;
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600))?;
    println!("{:>9}  {:>11}  {:>9}  {:>13}  {:>9}", "PERIOD", "STUB_STATUS", "REPORTS/S", "UTIME+STIME", "OF A CPU");
    for (period_ms, page) in [(20, None), (50, None), (50, Some(status_page)), (1000, None)] {
        let (control, reports) = count_reports()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt-agent"));
        command.args(["--name", "server-1", "--control", &format!("127.0.0.1:{control}"), "--key-file"]).arg(&key);
        command.args(["--backend", &format!("b1={port}"), "--period-ms", &period_ms.to_string()]);
        if let Some(page) = page {
            command.args(["--nginx", &format!("127.0.0.1:{page}/stub_status")]);
        }
        let agent = Agent(command.spawn()?);
        std::thread::sleep(WARM_UP);
        let (begun, first, (ticks, ns)) = (Instant::now(), reports.load(Ordering::Relaxed), agent.cpu_time()?);
        std::thread::sleep(MEASURED);
        let (ticks_now, ns_now) = agent.cpu_time()?;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{period_ms:>6} ms  {:>11}  {:>9.1}  {:>10} ms  {:>7.2} %",
            if page.is_some() { "yes" } else { "no" },
            (reports.load(Ordering::Relaxed) - first) as f64 / seconds,
            (ticks_now - ticks) * 10,
            (ns_now - ns) as f64 / seconds / 1e7,
        );
    }
    Ok(())
}

/// Takes reports at a port, and counts them.
fn count_reports() -> Result<(u16, Arc<AtomicU64>)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (port, reports) = (socket.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&reports);
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while socket.recv(&mut bytes).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((port, reports))
}

/// A page like nginx's, at a port.
fn serve_status_page() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let page =
                "Active connections: 9 \nserver accepts handled requests\n 9 9 9 \nReading: 0 Writing: 1 Waiting: 8 \n";
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len());
            let mut bytes = [0; 1024];
            // A request comes in one piece.
            while stream.read(&mut bytes).is_ok_and(|length| length > 0) && stream.write_all(answer.as_bytes()).is_ok()
            {
            }
        }
    });
    Ok(port)
}
