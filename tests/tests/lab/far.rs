//! A machine behind the clients' one, which is its router: the link between them takes fewer bytes than both say.

use anyhow::{Context, Result, ensure};
use shunt_tests::lab::Lab;
use shunt_tests::namespace::Namespace;
use shunt_tests::wait::until;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Its address.
pub const FAR: &str = "198.18.2.2";
/// Bytes of the page that is fetched.
const BIG: &str = "10485760";

/// A namespace that goes with the value.
pub struct Far {
    name: String,
}

impl Far {
    /// Makes it. The balancer finds it behind the clients.
    pub fn behind_client(lab: &Lab) -> Result<Self> {
        let name = format!("{}-far", lab.name());
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let far = Self { name };
        let client = lab.client();
        client.ip(&format!("link add far0 mtu 1280 type veth peer name eth0 netns {}", far.name))?;
        output(client.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]))?;
        client.ip("address add 198.18.2.1/24 dev far0")?;
        client.ip("link set far0 up")?;
        // It takes 1500 bytes and says so to its peers; only the router knows better.
        far.namespace().ip("link set eth0 mtu 1500 up")?;
        far.namespace().ip(&format!("address add {FAR}/24 dev eth0"))?;
        far.namespace().ip("route add default via 198.18.2.1")?;
        lab.balancer().ip("route add 198.18.2.0/24 via 198.18.0.2 dev client0")?;
        Ok(far)
    }

    fn namespace(&self) -> Namespace {
        Namespace::named(&self.name)
    }

    /// Fetches a page of many packets, which are too big for the last link unless their sender learns so.
    pub fn fetch_big(&self, from: SocketAddr) -> Result<()> {
        let fetch = || {
            let size = ["-s", "-o", "/dev/null", "-m", "20", "-w", "%{size_download}"];
            output(self.namespace().command("curl").args(size).arg(format!("http://{from}/big")))
        };
        let size = until("a whole page by the smaller link", || Ok(fetch().ok()))?;
        ensure!(size == BIG, "{size} bytes came");
        Ok(())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// What a program printed; it must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
