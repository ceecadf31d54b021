//! Use of the machine's CPUs and memory: proc_stat(5), proc_meminfo(5).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::log_latch::LogLatch;
use super::window::Window;

/// The kernel counts CPU time in steps of 10 ms and sums all CPUs at each read: shorter intervals only cost CPU time.
const INTERVAL: Duration = Duration::from_millis(100);

/// CPU time and memory use of the machine.
pub struct Machine {
    stat: File,
    meminfo: File,
    cpu: Window,
    memory_permille: Option<u16>,
    looked: Option<Instant>,
    latch: LogLatch,
}

impl Machine {
    /// Opens both files; they stay open, since a read at offset 0 returns current values.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            stat: File::open("/proc/stat")?,
            meminfo: File::open("/proc/meminfo")?,
            cpu: Window::default(),
            memory_permille: None,
            looked: None,
            latch: LogLatch::new("/proc"),
        })
    }

    /// Reads both files, once per interval.
    pub fn look(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < INTERVAL) {
            return;
        }
        self.looked = Some(now);
        let read = read_start(&self.stat).and_then(|stat| Ok((stat, read_start(&self.meminfo)?)));
        match read {
            Ok((stat, meminfo)) => {
                if let Some((total, busy)) = cpu_times(&stat) {
                    self.cpu.record(now, total, busy);
                }
                self.memory_permille = memory_permille(&meminfo);
                self.latch.clear();
            }
            Err(error) => self.latch.report(error),
        }
    }

    /// Share of the CPU time in use.
    pub fn cpu_permille(&self) -> Option<u16> {
        self.cpu.ratio(1000).and_then(|permille| u16::try_from(permille).ok())
    }

    /// Share of the memory that is not available.
    pub fn memory_permille(&self) -> Option<u16> {
        self.memory_permille
    }
}

/// The required lines come first.
fn read_start(file: &File) -> io::Result<String> {
    let mut bytes = [0; 512];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Total and busy time of all CPUs. Guest time is part of user and nice.
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times.split_whitespace().map_while(|time| time.parse().ok()).take(8).collect();
    let (idle, waiting_for_io) = (times.get(3)?, times.get(4).unwrap_or(&0));
    let total = times.iter().try_fold(0_u64, |sum, time| sum.checked_add(*time))?;
    Some((total, total - idle - waiting_for_io))
}

fn memory_permille(meminfo: &str) -> Option<u16> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kilobytes("MemTotal")?, kilobytes("MemAvailable")?);
    let used = total.saturating_sub(available);
    u16::try_from(used.checked_mul(1000)?.checked_div(total)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting() {
        let stat = "cpu  100 10 50 800 30 5 5 0 7 0\ncpu0 1 2 3\n";
        assert_eq!(cpu_times(stat), Some((1000, 170)));
        for other in ["", "cpu", "cpu 1 2", "intr 5", "cpu  1 2 3 18446744073709551615 18446744073709551615 0 0 0"] {
            assert_eq!(cpu_times(other), None, "{other}");
        }
    }

    #[test]
    fn memory_is_used_if_it_is_not_available() {
        let meminfo = "MemTotal:        1000 kB\nMemFree:  10 kB\nMemAvailable:    250 kB\n";
        assert_eq!(memory_permille(meminfo), Some(750));
        assert_eq!(memory_permille("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(memory_permille("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn this_machine_has_both() {
        let mut machine = Machine::open().unwrap();
        let begin = Instant::now();
        machine.look(begin);
        assert!(machine.memory_permille().is_some_and(|permille| permille <= 1000));
        // The counter steps after 10 ms at the latest.
        let grown = (1..1000).any(|turn| {
            std::thread::sleep(Duration::from_millis(10));
            machine.look(begin + turn * INTERVAL);
            machine.cpu_permille().is_some_and(|permille| permille <= 1000)
        });
        assert!(grown, "CPU time stands still");
    }
}
