//! What a process has used, as the kernel tells it.

use std::fs;

use anyhow::{Context, Result};

/// The kernel's unit of processor time in `/proc/PID/stat`: fixed at 100 a second on every platform that Plimsoll runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Processor time, all threads, user and kernel.
    pub(crate) cpu_seconds: f64,
    /// Resident memory now.
    pub(crate) rss_bytes: u64,
    /// Most resident memory so far.
    pub(crate) rss_max_bytes: u64,
    /// Bytes that it caused to be written to a disk (`write_bytes` of `/proc/PID/io`): each page that it made dirty counts
    /// as a whole, and again when it is made dirty after a sync.
    pub(crate) written_bytes: u64,
}

impl Usage {
    /// Of the process with this id, or of `self`.
    pub(crate) fn of(process: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let cpu_seconds =
            cpu_seconds(&read("stat")?).with_context(|| format!("/proc/{process}/stat has another form"))?;
        let status = read("status")?;
        let size = |name: &str| value(&status, name).unwrap_or(0) * 1024;
        let written_bytes = value(&read("io")?, "write_bytes:").unwrap_or(0);
        Ok(Self {
            cpu_seconds,
            rss_bytes: size("VmRSS:"),
            rss_max_bytes: size("VmHWM:"),
            written_bytes,
        })
    }

    /// Together with what a process before it has used.
    pub(crate) fn after(self, before: &Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + before.cpu_seconds,
            rss_bytes: self.rss_bytes,
            rss_max_bytes: self.rss_max_bytes.max(before.rss_max_bytes),
            written_bytes: self.written_bytes + before.written_bytes,
        }
    }
}

/// Processor time of the whole machine since it was started, also what a hypervisor took away.
pub(crate) fn machine_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_seconds(&stat).context("/proc/stat has another form")
}

/// The first line is `cpu user nice system idle iowait irq softirq steal ..`.
fn busy_seconds(stat: &str) -> Option<f64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times
        .split_ascii_whitespace()
        .map_while(|time| time.parse().ok())
        .take(8)
        .collect();
    let idle = times.get(3)? + times.get(4)?;
    Some((times.iter().sum::<u64>() - idle) as f64 / TICKS_PER_SECOND)
}

/// User and kernel time. The program's name, in parentheses, may hold spaces and parentheses itself.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The first of them is the third of the line, the state.
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let user = times.next()?.ok()?;
    let kernel = times.next()?.ok()?;
    Some((user + kernel) as f64 / TICKS_PER_SECOND)
}

/// The number behind a name at the start of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_stands_behind_the_name() {
        let stat = "77 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 5 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("77"), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  100 10 50 4000 300 0 40 100 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_seconds(stat), Some(3.0));
        assert_eq!(busy_seconds("cpu  1 2"), None);
        assert!(machine_cpu_seconds().is_ok());
    }

    #[test]
    fn named_values() {
        let io = "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        assert_eq!(value(io, "write_bytes:"), Some(4096));
        assert_eq!(value("VmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234));
        assert_eq!(value(io, "absent:"), None);
    }

    #[test]
    fn of_this_process() {
        let usage = Usage::of("self").expect("/proc is there");
        assert!(usage.rss_bytes > 0);
    }
}
