//! Checks whether the machine's queues fit the configuration, as the keeper does at its start.

use super::files::Files;
use super::finding::Finding;
use shunt_config::{Config, Problem};

/// Checks all interfaces together, because their queues share the switchers' ports and frames. Returns nothing if an
/// interface is missing, which is reported separately.
pub fn examine(files: &Files, config: &Config) -> Vec<Finding> {
    let count = |name: &str| {
        let queues = files.list(&format!("sys/class/net/{name}/queues"));
        let receiving = queues.iter().filter(|queue| queue.starts_with("rx-")).count() as u32;
        (receiving != 0).then_some(receiving)
    };
    let counts: Option<Vec<u32>> = config.interfaces.iter().map(|interface| count(&interface.name)).collect();
    let Some(counts) = counts else { return Vec::new() };
    let problems = config.queue_problems(&counts);
    if problems.is_empty() {
        let text =
            format!("{} queues in all: every switcher has ports and frames for its own", counts.iter().sum::<u32>());
        return vec![Finding::ok("frames", text)];
    }
    problems.iter().map(finding).collect()
}

/// The remedy follows the semicolon.
fn finding(problem: &Problem) -> Finding {
    let text = problem.to_string();
    let (text, mend) = text.split_once("; ").unwrap_or((&text, "correct the configuration"));
    Finding::fail("frames", text, mend)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn findings(queues: usize, switchers: u32) -> Vec<Finding> {
        let root = tempfile::tempdir().unwrap();
        let text = format!("[switchers]\ncount = {switchers}\n[[interface]]\nname = \"eth0\"\n");
        let config = Config::parse(&text, "shunt.toml").unwrap();
        for queue in 0..queues {
            std::fs::create_dir_all(root.path().join(format!("sys/class/net/eth0/queues/rx-{queue}"))).unwrap();
        }
        examine(&Files::below(root.path()), &config)
    }

    #[test]
    fn more_queues_than_frames_are_told_as_the_keeper_tells_them() {
        let [few] = &findings(40, 1)[..] else { panic!("one finding") };
        assert_eq!(few.level, Level::Fail);
        assert_eq!(
            few.text,
            "shunt.toml:1: limits.frames: 16384 are too few for switcher 0, whose 80 rings of 256 take 20480"
        );
        assert_eq!(few.mend.as_deref(), Some("write 32768, or a smaller limits.ring"));
        assert_eq!(findings(40, 2)[0].level, Level::Ok);
        assert!(findings(0, 1).is_empty());
    }
}
