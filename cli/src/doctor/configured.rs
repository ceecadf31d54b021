//! Checks what the configuration names on this machine: the account, agents' keys, the address for load reports. The start
//! makes the same checks.

use super::finding::Finding;
use shunt_config::Config;
use shunt_instances::{TakenAddress, runs};
use shunt_process::find_account;
use shunt_publish::agents::Agents;
use std::io;
use std::net::SocketAddr;

/// Runs the checks.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![account(config)];
    findings.extend(keys(config));
    let taken = TakenAddress::find(config, |_| false);
    findings.extend(taken.iter().map(|taken| taken_address(&taken.problem(config).to_string())));
    if let Some(listen) = config.feedback.listen {
        findings.push(feedback(listen, try_bind(listen), runs(&config.instance)));
    }
    findings
}

/// Whether control could listen on the address.
fn try_bind(listen: SocketAddr) -> io::Result<()> {
    std::net::UdpSocket::bind(listen).map(drop)
}

fn account(config: &Config) -> Finding {
    const CHECK: &str = "user";
    match find_account(&config.user) {
        Err(fault) => refusal(CHECK, &config.source.problem("user", fault.to_string()).to_string()),
        Ok(_) => Finding::ok(CHECK, format!("there is an account {}", config.user)),
    }
}

fn keys(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "agent-key";
    let agents = &config.feedback.agents;
    let (_, missing) = Agents::load(&config.feedback);
    let finding = |name: &String| match missing.iter().find(|key| key.agent == *name) {
        Some(key) => refusal(CHECK, &key.problem(&config.source).to_string()),
        None => Finding::ok(CHECK, "can be read, by nobody else"),
    };
    agents.iter().map(|agent| finding(&agent.name).of(&*agent.name)).collect()
}

/// The finding for an address of another instance; the remedy follows the message's last colon.
fn taken_address(problem: &str) -> Finding {
    let (text, mend) = problem.rsplit_once(": ").unwrap_or((problem, "choose another address"));
    Finding::fail("service-address", text, mend)
}

/// The finding for a problem that would refuse a start; the remedy follows the message's first semicolon.
fn refusal(check: &'static str, text: &str) -> Finding {
    let (text, mend) = text.split_once("; ").unwrap_or((text, "correct the configuration"));
    Finding::fail(check, text, mend)
}

/// `bound` is the result of binding the address. A running instance has it bound itself.
fn feedback(listen: SocketAddr, bound: io::Result<()>, runs: bool) -> Finding {
    const CHECK: &str = "feedback";
    match bound {
        Ok(()) => Finding::ok(CHECK, format!("control can listen at {listen}")),
        Err(error) if runs && error.kind() == io::ErrorKind::AddrInUse => {
            Finding::ok(CHECK, format!("{listen} is in use, and this instance runs"))
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("feedback.listen {listen}: {error}: no load report would arrive"),
            "set it to a free address and port of this machine (ip addr, ss -lunp)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(user: &str, key_file: &str, listen: &str) -> Config {
        let text = format!(
            "instance = \"t-{}-doctor\"\nuser = {user:?}\n[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n\
             [[service]]\nname = \"web\"\naddress = \"198.18.0.1:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.backend]]\nname = \"b1\"\naddress = \"198.18.1.1:80\"\n[feedback]\nlisten = {listen:?}\n\
             [[agent]]\nname = \"a\"\nkey_file = {key_file:?}\nbackends = [\"b1\"]\n",
            std::process::id()
        );
        Config::parse(&text, "shunt.toml").unwrap()
    }

    #[test]
    fn what_the_start_would_refuse_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = path.display().to_string();
        std::fs::write(&path, [b'k'; 32]).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let failed = |config: &Config| {
            let findings = examine(config);
            assert_eq!(
                findings.iter().map(|finding| finding.check).collect::<Vec<_>>(),
                ["user", "agent-key", "feedback"]
            );
            findings.into_iter().filter(|finding| finding.level == Level::Fail).collect::<Vec<_>>()
        };
        let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().to_string();
        mode(0o600);
        assert_eq!(failed(&config("nobody", &key, &free)), []);
        for (user, key, listen, check, said) in [
            ("no-such-account", &*key, &*free, "user", "shunt.toml:2: user: there is no account"),
            ("nobody", "/nonexistent/key", &*free, "agent-key", "key_file: /nonexistent/key cannot be read: No such"),
            ("nobody", &key, "198.18.9.9:7946", "feedback", "feedback.listen 198.18.9.9:7946: Cannot assign requested"),
        ] {
            let [finding] = <[Finding; 1]>::try_from(failed(&config(user, key, listen))).unwrap();
            assert!(finding.check == check && finding.text.contains(said) && finding.mend.is_some(), "{finding}");
        }
        mode(0o644);
        let [finding] = <[Finding; 1]>::try_from(failed(&config("nobody", &key, &free))).unwrap();
        assert!(finding.text.contains("has mode 0644") && finding.mend.unwrap().contains("chmod 0600"));
    }

    #[test]
    fn an_address_of_another_instance_is_in_the_way() {
        let finding = taken_address(
            "shunt.toml:7: service.web.address: address 198.18.0.1 is served by instance \"lab\" of this machine: \
             stop that instance, or choose another address",
        );
        assert!(
            finding.level == Level::Fail && finding.text.ends_with("instance \"lab\" of this machine"),
            "{finding}"
        );
        assert_eq!(finding.mend.as_deref(), Some("stop that instance, or choose another address"));
    }

    #[test]
    fn an_address_is_in_use_by_the_instance_itself_while_it_runs() {
        let listen = "127.0.0.1:7946".parse().unwrap();
        let in_use = |runs| feedback(listen, Err(io::ErrorKind::AddrInUse.into()), runs).level;
        assert_eq!((in_use(true), in_use(false)), (Level::Ok, Level::Fail));
    }
}
