//! Which CPU each switcher is pinned to.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// CPUs of the switchers, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// Switcher N runs on the Nth of these.
    Listed(Vec<u32>),
    /// This number of the machine's last CPUs.
    Automatic {
        /// Number of switchers.
        count: u32,
    },
}

/// Why no CPU could be chosen for every switcher.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The system call failed.
    #[error("sched_getaffinity: {0}; list the CPUs by number in switchers.cpus")]
    Unknown(#[from] nix::Error),
    /// More switchers than CPUs.
    #[error(
        "switchers.count is {count}, but this process may use {allowed} CPUs; lower switchers.count or widen the affinity"
    )]
    TooFew {
        /// Switchers asked for.
        count: u32,
        /// CPUs that this process may use.
        allowed: usize,
    },
}

impl Cpus {
    /// How many switchers there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Listed(cpus) => cpus.len(),
            Self::Automatic { count } => *count as usize,
        }
    }

    /// The CPU of each switcher. Listed CPUs are not compared with this process's affinity: CPUs isolated for switchers
    /// (`isolcpus`) are outside it, and may still be pinned to.
    pub fn choose(&self) -> Result<Vec<u32>, CpuError> {
        match self {
            Self::Listed(cpus) => Ok(cpus.clone()),
            Self::Automatic { count } => choose_last(&allowed_cpus()?, *count),
        }
    }
}

fn allowed_cpus() -> Result<Vec<u32>, CpuError> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let allowed = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true));
    Ok(allowed.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// The last CPUs, because interrupts and housekeeping concentrate on the first.
fn choose_last(allowed: &[u32], count: u32) -> Result<Vec<u32>, CpuError> {
    let too_few = CpuError::TooFew { count, allowed: allowed.len() };
    let first = allowed.len().checked_sub(count as usize).ok_or(too_few)?;
    Ok(allowed[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_allowed_cpus_are_chosen_in_order() {
        assert_eq!(choose_last(&[0, 1, 4, 5], 2).expect("enough"), [4, 5]);
        assert_eq!(choose_last(&[0, 1], 2).expect("enough"), [0, 1]);
    }

    #[test]
    fn more_switchers_than_cpus_are_refused_with_both_numbers() {
        let error = choose_last(&[0, 1], 3).expect_err("too few");
        let expected =
            "switchers.count is 3, but this process may use 2 CPUs; lower switchers.count or widen the affinity";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn this_machine_has_a_cpu_for_one_switcher() {
        let chosen = Cpus::Automatic { count: 1 }.choose().expect("a CPU");
        assert_eq!(chosen.last(), allowed_cpus().expect("an affinity").last());
    }

    #[test]
    fn listed_cpus_stay_as_they_are() {
        let cpus = Cpus::Listed(vec![7, 3]);
        assert_eq!(cpus.choose().expect("listed"), [7, 3]);
        assert_eq!(cpus.count(), 2);
    }
}
