//! A server in a network namespace of its own: its programs, its agent, and control at the other end.

use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use shunt_report::{AgentKey, Arrival, LoadReport, ReplayWindow, ReportedLoad, open};
use tempfile::TempDir;

/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: [u8; 32] = [b'k'; 32];

/// Runs `test` in a thread whose network namespace is new and unnamed, so that it vanishes with the thread.
pub fn in_server(test: impl FnOnce(Server) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip, of iproute2");
        assert!(up.success());
        test(Server { folder: tempfile::tempdir().expect("a folder"), programs: Vec::new() });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Whether `program` is there; says so if not.
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Looks until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never seen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The namespace, a folder for files, and what runs there; all end with this value.
pub struct Server {
    folder: TempDir,
    programs: Vec<Child>,
}

impl Server {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).expect("a file");
        self.path(name)
    }

    /// Starts a program that ends with the server. Its namespace is this thread's.
    pub fn start(&mut self, program: &str, arguments: &[&str]) {
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
        self.programs.push(child.unwrap_or_else(|error| panic!("{program}: {error}")));
    }

    /// Starts the agent, with `lines` after what each needs, reporting to the value that is returned.
    pub fn start_agent(&mut self, lines: &str) -> Control {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let key = self.path("agent.key");
        let mut file = std::fs::File::create(&key).expect("a key file");
        file.write_all(&SECRET).expect("a key");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        let control = socket.local_addr().expect("an address");
        let folder = self.folder.path().display();
        let settings =
            format!("name = \"server-1\"\ncontrol = \"{control}\"\nkey_file = \"{}\"\n{lines}", key.display());
        let settings = self.write("agent.toml", &settings.replace("FOLDER", &folder.to_string()));
        self.start(env!("CARGO_BIN_EXE_shunt-agent"), &["--config", &settings.display().to_string()]);
        Control { socket, key: AgentKey::new(&SECRET).expect("a key"), window: ReplayWindow::default() }
    }

    /// A configuration of nginx with stub_status on port 8081 and a page on 8080.
    pub fn start_nginx(&mut self) {
        let folder = self.folder.path().display().to_string();
        let http = "access_log off; client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER; \
            uwsgi_temp_path FOLDER; scgi_temp_path FOLDER; keepalive_timeout 60s; \
            server { listen 127.0.0.1:8080; location / { return 200 hello; } } \
            server { listen 127.0.0.1:8081; location = /stub_status { stub_status; } }";
        let text = format!(
            "daemon off; master_process off; pid FOLDER/pid; error_log stderr warn; events {{}} http {{ {http} }}"
        );
        let file = self.write("nginx.conf", &text.replace("FOLDER", &folder));
        self.start("nginx", &["-e", "stderr", "-c", &file.display().to_string()]);
        until("nginx listens", || std::net::TcpStream::connect("127.0.0.1:8081").ok());
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// What takes the agent's reports.
pub struct Control {
    socket: UdpSocket,
    key: AgentKey,
    window: ReplayWindow,
}

impl Control {
    /// The next report; each must be authentic and new.
    pub fn next(&mut self) -> LoadReport {
        let mut bytes = [0; 2048];
        let length = self.socket.recv(&mut bytes).expect("a report");
        let known = |agent: &shunt_report::ConfigName| (agent.as_str() == "server-1").then_some(&self.key);
        let report = open(&bytes[..length], known).expect("an authentic report");
        assert_eq!(self.window.admit(&report, shunt_agent::epoch::of_clock()), Ok(Arrival::Newest));
        report
    }

    /// Takes reports until the first back-end's load is as wanted.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&ReportedLoad) -> bool) -> ReportedLoad {
        let end = Instant::now() + PATIENCE;
        loop {
            let report = self.next();
            if wanted(&report.loads[0]) {
                return report.loads[0].clone();
            }
            assert!(Instant::now() < end, "never reported: {what}; last {report:#?}");
        }
    }
}
