//! The figures of starts after a kill, as a table and as JSON.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::preset::Settings;
use crate::report::{OTHERS_PROCESSORS_MAX, grouped, time};
use crate::run::{command_line, is_on_disk, kernel};
use crate::server_log::CoreRecovery;
use crate::usage::Usage;

/// The figures of the preset `recovery`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecoveryReport {
    preset: &'static str,
    target: &'static str,
    live: usize,
    cores: u32,
    pools: usize,
    starts: Vec<Start>,
    seed: u64,
    server: String,
    data_is_on_disk: bool,
    processors: usize,
    kernel: String,
    command_line: String,
}

/// One start after a kill.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    /// Events that were caused behind the snapshot.
    tail: u64,
    /// Events that the server has replayed, all cores together.
    events: u64,
    /// Bytes of journal that it has read.
    bytes: u64,
    /// From starting the process to its line `ready`.
    ready_ms: f64,
    /// The core that took longest for its snapshot.
    restored_ms: f64,
    /// The core that took longest for its journal.
    replayed_ms: f64,
    /// What the events beyond those of the first start took, all cores together; `None` for the first start itself.
    events_per_second_and_core: Option<f64>,
    /// What the snapshots cover, by core; 0 without one.
    snapshot_lsns: Vec<u64>,
    server_cpu: f64,
    server_rss_bytes: u64,
    /// Processor time of everything else on the machine until `ready`.
    others_cpu: f64,
    /// What was found when the pools were added up.
    sums: String,
}

/// What a start has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) server: Usage,
    /// Processor time of the whole machine.
    pub(super) machine: f64,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn events_of(cores: &[CoreRecovery]) -> u64 {
    cores.iter().map(|core| core.events).sum()
}

fn replayed_in(core: &CoreRecovery) -> Duration {
    core.elapsed.saturating_sub(core.restored_in)
}

/// Of all cores together.
fn replay_time(cores: &[CoreRecovery]) -> Duration {
    cores.iter().map(replayed_in).sum()
}

impl Start {
    /// `base` is how the cores started behind the shortest tail: opening a journal takes its time whatever is in it.
    pub(super) fn new(
        tail: u64,
        ready_after: Duration,
        cores: &[CoreRecovery],
        base: Option<&[CoreRecovery]>,
        used: Used,
        sums: String,
    ) -> Self {
        let longest = |of: fn(&CoreRecovery) -> Duration| ms(cores.iter().map(of).max().unwrap_or_default());
        let rate = base.and_then(|base| {
            let events = events_of(cores).checked_sub(events_of(base))?;
            let time = replay_time(cores).checked_sub(replay_time(base))?;
            (!time.is_zero()).then(|| events as f64 / time.as_secs_f64())
        });
        Self {
            tail,
            events: events_of(cores),
            bytes: cores.iter().map(|core| core.bytes).sum(),
            ready_ms: ms(ready_after),
            restored_ms: longest(|core| core.restored_in),
            replayed_ms: longest(replayed_in),
            events_per_second_and_core: rate,
            snapshot_lsns: cores.iter().map(|core| core.from_lsn).collect(),
            server_cpu: used.server.cpu_seconds,
            server_rss_bytes: used.server.rss_bytes,
            others_cpu: (used.machine - used.server.cpu_seconds).max(0.0),
            sums,
        }
    }
}

impl RecoveryReport {
    pub(super) fn new(settings: &Settings, starts: Vec<Start>, seed: u64, server: String, directory: &Path) -> Self {
        Self {
            preset: settings.name,
            target: settings.target,
            live: settings.live,
            cores: settings.cores,
            pools: settings.pools,
            starts,
            seed,
            server,
            data_is_on_disk: is_on_disk(directory),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel(),
            command_line: command_line(),
        }
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} live, {} pools, server on {} cores, killed and started",
            self.preset,
            grouped(self.live as f64),
            self.pools,
            self.cores
        )?;
        writeln!(f, "  target     {}", self.target)?;
        writeln!(
            f,
            "  {:>11} {:>11} {:>9} {:>9} {:>9} {:>13} {:>9}  snapshots at LSN",
            "tail", "events read", "ready", "snapshot", "journal", "events/s/core", "resident"
        )?;
        for start in &self.starts {
            let lsns: Vec<String> = start.snapshot_lsns.iter().map(|lsn| grouped(*lsn as f64)).collect();
            writeln!(
                f,
                "  {:>11} {:>11} {:>9} {:>9} {:>9} {:>13} {:>5} MiB  {}",
                grouped(start.tail as f64),
                grouped(start.events as f64),
                time(start.ready_ms * 1e3),
                time(start.restored_ms * 1e3),
                time(start.replayed_ms * 1e3),
                start.events_per_second_and_core.map_or("-".to_owned(), grouped),
                start.server_rss_bytes >> 20,
                lsns.join(" and ")
            )?;
        }
        let others: f64 = self.starts.iter().map(|start| start.others_cpu).sum();
        let seconds: f64 = self.starts.iter().map(|start| start.ready_ms / 1e3).sum();
        let alone = others / seconds.max(f64::MIN_POSITIVE) <= OTHERS_PROCESSORS_MAX;
        let warning = if alone {
            ""
        } else {
            ": not alone on the machine, measure again"
        };
        writeln!(f, "  others     {:.2} processors{warning}", others / seconds)?;
        if !self.data_is_on_disk {
            writeln!(f, "  warning    the data directory is in memory; use --data")?;
        }
        match self.starts.last() {
            Some(last) => writeln!(f, "  sums       {}, after each start", last.sums),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_one_core() {
        let core = |core, events, restored: u64, elapsed: u64| CoreRecovery {
            core,
            from_lsn: 7 + core,
            events,
            bytes: events * 96,
            restored_in: Duration::from_millis(restored),
            elapsed: Duration::from_millis(elapsed),
        };
        let used = Used {
            server: Usage::default(),
            machine: 0.5,
        };
        let base = [core(0, 0, 10, 60), core(1, 0, 30, 80)];
        let cores = [core(0, 1000, 10, 110), core(1, 3000, 30, 130)];
        let ready_after = Duration::from_millis(200);
        let first = Start::new(0, ready_after, &base, None, used, String::new());
        assert_eq!((first.events, first.events_per_second_and_core), (0, None));
        let start = Start::new(4000, ready_after, &cores, Some(&base), used, String::new());
        assert_eq!((start.events, start.bytes), (4000, 4000 * 96));
        assert_eq!((start.restored_ms, start.replayed_ms), (30.0, 100.0));
        let rate = start.events_per_second_and_core.expect("it took longer than the first");
        assert!((rate - 40_000.0).abs() < 1.0, "{rate}");
        assert_eq!(start.snapshot_lsns, [7, 8]);
        assert_eq!(start.others_cpu, 0.5);
    }
}
