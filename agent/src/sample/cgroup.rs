//! CPU time and memory use relative to a cgroup's limits (version 2), which may be lower than the machine's in a container
//! or under a systemd limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::window::{Window, microseconds};

/// As for the machine.
const INTERVAL: Duration = Duration::from_millis(100);
/// The mount point; inside a container its top is the container's own cgroup.
pub const TOP: &str = "/sys/fs/cgroup";

/// A cgroup and its ancestors, whose limits apply too.
pub struct Cgroup {
    folder: PathBuf,
    top: PathBuf,
    /// CPU time used over CPU time allowed, both microseconds.
    cpu: Window,
    allowed_us: u64,
    memory_permille: Option<u16>,
    looked: Option<Instant>,
    begun: Instant,
}

impl Cgroup {
    /// Selects the cgroup `folder`; by default the top, which has limits only inside a container.
    pub fn new(folder: Option<&Path>, top: &Path, now: Instant) -> Self {
        Self {
            folder: folder.unwrap_or(top).to_owned(),
            top: top.to_owned(),
            cpu: Window::default(),
            allowed_us: 0,
            memory_permille: None,
            looked: None,
            begun: now,
        }
    }

    /// Reads use and limits, once per interval.
    pub fn look(&mut self, now: Instant) {
        let last = self.looked.unwrap_or(self.begun);
        if self.looked.is_some() && now.duration_since(last) < INTERVAL {
            return;
        }
        self.looked = Some(now);
        self.memory_permille = self.find_memory_permille();
        match (self.cpu_limit_permille(), value_of(&self.folder.join("cpu.stat"), "usage_usec")) {
            (Some(limit), Some(used_us)) => {
                // Accumulated, because a limit may change.
                self.allowed_us += microseconds(last, now).saturating_mul(limit) / 1000;
                self.cpu.record(now, self.allowed_us, used_us);
            }
            _ => self.cpu = Window::default(),
        }
    }

    /// Share of the allowed CPU time in use; `None` without a limit.
    pub fn cpu_permille(&self) -> Option<u16> {
        // A burst may temporarily exceed the share.
        self.cpu.ratio(1000).map(|permille| permille.min(1000) as u16)
    }

    /// Share of the allowed memory in use; `None` without a limit.
    pub fn memory_permille(&self) -> Option<u16> {
        self.memory_permille
    }

    /// The cgroup and its ancestors.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folder.ancestors().take_while(|folder| folder.starts_with(&self.top))
    }

    /// The CPU limit, thousandths of one CPU.
    fn cpu_limit_permille(&self) -> Option<u64> {
        self.folders().filter_map(|folder| cpu_limit_permille(&read(&folder.join("cpu.max"))?)).min()
    }

    /// The highest share of the cgroup and its ancestors. The cache of unused files does not count: it is reclaimed first.
    fn find_memory_permille(&self) -> Option<u16> {
        let permille = |folder: &Path| -> Option<u16> {
            let limit: u64 = read(&folder.join("memory.max"))?.trim().parse().ok()?;
            let current: u64 = read(&folder.join("memory.current"))?.trim().parse().ok()?;
            let cache = value_of(&folder.join("memory.stat"), "inactive_file").unwrap_or(0);
            let used = u128::from(current.saturating_sub(cache)) * 1000;
            Some(used.checked_div(limit.into())?.min(1000) as u16)
        };
        self.folders().filter_map(permille).max()
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The value of `name` in a file of names and values.
fn value_of(path: &Path, name: &str) -> Option<u64> {
    let text = read(path)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

/// `cpu.max`: "max 100000" or "50000 100000", CPU time per period.
fn cpu_limit_permille(text: &str) -> Option<u64> {
    let (quota_us, period_us) = text.trim().split_once(' ')?;
    let (quota_us, period_us): (u64, u64) = (quota_us.parse().ok()?, period_us.parse().ok()?);
    quota_us.checked_mul(1000)?.checked_div(period_us).filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
    }

    #[test]
    fn the_narrowest_limit_on_the_way_up_counts() {
        let top = tempfile::tempdir().unwrap();
        let (slice, service) = (top.path().join("web.slice"), top.path().join("web.slice/nginx.service"));
        write(&slice, &[("cpu.max", "50000 100000\n"), ("memory.max", "1000\n"), ("memory.current", "900\n")]);
        write(&slice, &[("memory.stat", "anon 5\ninactive_file 500\n")]);
        write(&service, &[("cpu.max", "max 100000\n"), ("cpu.stat", "usage_usec 0\nuser_usec 0\n")]);
        write(&service, &[("memory.max", "max\n"), ("memory.current", "300\n")]);
        let begin = Instant::now();
        let mut cgroup = Cgroup::new(Some(&service), top.path(), begin);
        cgroup.look(begin);
        assert_eq!(cgroup.memory_permille(), Some(400), "the slice's, without its cache");
        assert_eq!(cgroup.cpu_permille(), None, "nothing to compare with yet");
        // Half of a CPU is allowed: of 400 ms, 200 ms.
        write(&service, &[("cpu.stat", "usage_usec 50000\nuser_usec 1\n")]);
        cgroup.look(begin + Duration::from_millis(400));
        assert_eq!(cgroup.cpu_permille(), Some(250));
    }

    #[test]
    fn without_a_limit_it_says_nothing() {
        let top = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        for files in [&[][..], &[("cpu.stat", "usage_usec 7"), ("cpu.max", "max 100000"), ("memory.max", "max")]] {
            write(top.path(), files);
            let mut cgroup = Cgroup::new(None, top.path(), begin);
            cgroup.look(begin);
            cgroup.look(begin + Duration::from_secs(1));
            assert_eq!((cgroup.cpu_permille(), cgroup.memory_permille()), (None, None));
        }
    }

    #[test]
    fn odd_limits_are_none() {
        assert_eq!(cpu_limit_permille("150000 100000"), Some(1500));
        for odd in ["", "max 100000", "5", "0 100000", "1 0", "-1 100000", "99999999999999999999 1"] {
            assert_eq!(cpu_limit_permille(odd), None, "{odd}");
        }
    }
}
