//! A view from outside the instance's network namespace.

use super::{Problem, Severity};
use crate::views::processes::{Process, ProcessRow, ProcessState};

/// A process of an instance whose network namespace is not the caller's, or is hidden from the caller's user; `None` if a
/// keeper or switcher runs in the caller's own. `namespace` returns a process's.
pub fn seen_from_outside(rows: &[ProcessRow], own: u32, namespace: impl Fn(u32) -> Option<u64>) -> Option<u32> {
    let opens_queues = |row: &&ProcessRow| matches!(row.process, Process::Keeper | Process::Switcher);
    let living = rows.iter().filter(opens_queues).filter(|row| row.state == ProcessState::Running);
    let pids: Vec<u32> = living.filter_map(|row| u32::try_from(row.pid?).ok()).collect();
    let own = namespace(own);
    let is_here = pids.iter().any(|pid| namespace(*pid) == own);
    pids.first().copied().filter(|_| !is_here)
}

/// A notice: nothing need be wrong.
pub fn unseen(pid: u32) -> Problem {
    let text = "whether interfaces and routes are in order can't be seen from this network namespace".to_owned();
    let mend = format!("as root: nsenter -t {pid} -n shunt status, or ip netns exec NAME shunt status");
    Problem::new("interfaces_unseen", Severity::Notice, "network namespace", text, &mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(state: ProcessState) -> [ProcessRow; 1] {
        let (heartbeat_age_ms, cpu, idle_percent, generation) = (None, None, None, None);
        let (process, number, pid, epoch) = (Process::Keeper, None, Some(7), 1);
        [ProcessRow { process, number, pid, state, heartbeat_age_ms, cpu, epoch, idle_percent, generation }]
    }

    #[test]
    fn an_instance_of_another_or_a_hidden_namespace_is_seen_from_outside() {
        let seen = |keeper: Option<u64>, state| {
            seen_from_outside(&rows(state), 1, |pid| if pid == 1 { Some(40) } else { keeper })
        };
        assert_eq!(seen(Some(41), ProcessState::Running), Some(7));
        assert_eq!(seen(None, ProcessState::Running), Some(7));
        assert_eq!(seen(Some(40), ProcessState::Running), None);
        assert_eq!(seen(Some(41), ProcessState::Dead), None, "process_dead says it");
    }

    #[test]
    fn it_is_a_notice_that_says_how_to_see() {
        let problem = unseen(7);
        assert_eq!(problem.severity, Severity::Notice);
        assert!(problem.line().contains("-> as root: nsenter -t 7 -n shunt status"), "{}", problem.line());
    }
}
