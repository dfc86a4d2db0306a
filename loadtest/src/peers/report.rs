//! The figures of the peers, printed and written behind those of Plimsoll.

use std::fmt;

use serde::Serialize;

use super::Work;
use super::load::{Plan, Used};
use crate::ledger::{Counts, Ledger};
use crate::report::{grouped, time, us};

/// What came of driving one system.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) version: String,
    pub(super) how: String,
    pub(super) plan: Plan,
    pub(super) ledger: Ledger,
    pub(super) used: Used,
    pub(super) sums: Result<String, String>,
}

/// The figures of one system.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerReport {
    system: String,
    how: String,
    /// Commands a second that took effect durably; of `availability` answers a second.
    rate: f64,
    /// Plimsoll's rate over this one.
    ratio: Option<f64>,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    #[serde(flatten)]
    counts: Counts,
    seconds: f64,
    server_cpu: f64,
    /// All processes, what they share counted once.
    server_rss_bytes: u64,
    /// Bytes that it caused to be written to the disk within the window.
    journal_bytes: u64,
    /// By how much its log grew within the window, as it says itself.
    log_bytes: u64,
    generator_cpu: f64,
    connections: usize,
    in_flight: usize,
    sums: String,
    sums_are_right: bool,
    problem: Option<String>,
}

impl PeerReport {
    /// `rate` is Plimsoll's.
    pub(super) fn new(measured: Measured, rate: f64) -> Self {
        let Measured {
            version,
            how,
            plan,
            ledger,
            used,
            sums,
        } = measured;
        let seconds = plan.seconds as f64;
        let done = match plan.work {
            Work::Queries => ledger.counts.answered,
            Work::Reserves | Work::ReservesAndReleases => ledger.counts.applied(),
        };
        let own = done as f64 / seconds;
        let latencies = &ledger.latencies;
        let sums_are_right = sums.is_ok();
        Self {
            system: version,
            how,
            rate: own,
            ratio: (own > 0.0).then(|| rate / own),
            p50_us: us(latencies, 0.5),
            p90_us: us(latencies, 0.9),
            p99_us: us(latencies, 0.99),
            p999_us: us(latencies, 0.999),
            max_us: latencies.max() as f64 / 1e3,
            counts: ledger.counts,
            seconds,
            server_cpu: used.server_cpu,
            server_rss_bytes: used.server_rss_bytes,
            journal_bytes: used.written_bytes,
            log_bytes: used.log_bytes,
            generator_cpu: used.generator_cpu,
            connections: plan.connections,
            in_flight: plan.in_flight * plan.commands,
            sums: sums.unwrap_or_else(|wrong| wrong),
            sums_are_right,
            problem: ledger.problem,
        }
    }

    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, seconds, .. } = self;
        writeln!(f, "{name}: {}, {}", self.system, self.how)?;
        let mut row = |name: &str, value: &str| writeln!(f, "  {name:<11}{value}");
        row("rate", &format!("{}/s, for {seconds:.1} s", grouped(self.rate)))?;
        if let Some(ratio) = self.ratio {
            row("ratio", &format!("{ratio:.2} = Plimsoll's rate / this one"))?;
        }
        row(
            "",
            &format!(
                "{} refused, {} errors, {} unknown",
                counts.refused, counts.errors, counts.unknown
            ),
        )?;
        row(
            "latency",
            &format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                time(self.p50_us),
                time(self.p90_us),
                time(self.p99_us),
                time(self.p999_us),
                time(self.max_us)
            ),
        )?;
        row(
            "server",
            &format!(
                "{:.2} processors, {} MiB resident, {} MiB written (/proc/PID/io, whole pages)",
                self.server_cpu / seconds,
                self.server_rss_bytes >> 20,
                self.journal_bytes >> 20,
            ),
        )?;
        let each = self.log_bytes as f64 / counts.applied().max(1) as f64;
        row(
            "log",
            &format!("{} MiB, {each:.0} bytes a command", self.log_bytes >> 20),
        )?;
        row("generator", &format!("{:.2} processors", self.generator_cpu / seconds))?;
        if let Some(problem) = &self.problem {
            row("problem", problem)?;
        }
        let wrong = if self.sums_are_right { "" } else { "WRONG: " };
        row("sums", &format!("{wrong}{}", self.sums))
    }
}

/// What other systems did beside Plimsoll, in the order in which they ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    measured: Vec<(&'static str, PeerReport)>,
    /// A sentence for each that was asked for and not driven.
    remarks: Vec<String>,
}

impl Beside {
    pub(super) fn add(&mut self, name: &'static str, report: PeerReport) {
        self.measured.push((name, report));
    }

    pub(super) fn not_driven(&mut self, name: &str, preset: &str) {
        self.remarks
            .push(format!("{name}: not driven, there is no load like {preset} for it"));
    }

    /// Whether each of them holds what it acknowledged.
    pub(crate) fn sums_are_right(&self) -> bool {
        self.measured.iter().all(|(_, report)| report.sums_are_right)
    }

    /// Puts it behind a report.
    pub(crate) fn behind<'run, R>(&'run self, report: &'run R) -> WithPeers<'run, R> {
        WithPeers { report, peers: self }
    }
}

impl Serialize for Beside {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.measured.iter().map(|(name, report)| (name, report)))
    }
}

/// A report, and the peers behind it.
#[derive(Debug, Serialize)]
pub(crate) struct WithPeers<'run, R> {
    #[serde(flatten)]
    report: &'run R,
    peers: &'run Beside,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, report) in &self.measured {
            report.show(name, f)?;
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        Ok(())
    }
}

impl<R: fmt::Display> fmt::Display for WithPeers<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        self.peers.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ledger::{Fate, Window};

    fn beside(sums: Result<String, String>) -> Beside {
        let mut ledger = Ledger::new(2, Arc::default()).expect("the bounds are sound");
        let start = Instant::now();
        let second = Duration::from_secs(1);
        ledger.set_window(Window {
            start,
            end: start + 2 * second,
            interval: second,
        });
        ledger.arrived(start);
        for _ in 0..2000 {
            ledger.latency(Duration::from_micros(200), 1);
            ledger.reserve(0, Fate::Applied);
        }
        let used = Used {
            server_cpu: 1.0,
            server_rss_bytes: 3 << 20,
            written_bytes: 8 << 20,
            log_bytes: 354_000,
            generator_cpu: 0.5,
        };
        let measured = Measured {
            version: "Redis 7".to_owned(),
            how: "by hand".to_owned(),
            plan: Plan::of_test(Work::Reserves, 2),
            ledger,
            used,
            sums,
        };
        let mut beside = Beside::default();
        beside.add("redis", PeerReport::new(measured, 5000.0));
        beside.not_driven("postgres", "open100k");
        beside
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let beside = beside(Ok("right".to_owned()));
        let report = serde_json::json!({ "preset": "p16" });
        let json = serde_json::to_value(beside.behind(&report)).expect("it is plain data");
        assert_eq!(json["preset"], "p16");
        let redis = &json["peers"]["redis"];
        assert_eq!((&redis["rate"], &redis["ratio"]), (&1000.0.into(), &5.0.into()));
        assert_eq!((&redis["errors"], &redis["server_cpu"]), (&0.into(), &1.0.into()));
        assert_eq!(
            (&redis["server_rss_bytes"], &redis["journal_bytes"]),
            (&(3 << 20).into(), &(8 << 20).into())
        );
        for name in ["p50_us", "p99_us", "p999_us", "max_us"] {
            let us = redis[name].as_f64().expect(name);
            assert!((199.0..=201.0).contains(&us), "{name}: {us}");
        }
        assert!(json["peers"]["postgres"].is_null(), "nothing was measured");
        let alone = serde_json::to_value(Beside::default().behind(&report)).expect("it is plain data");
        assert_eq!(alone["peers"], serde_json::json!({}));
    }

    #[test]
    fn the_text_shows_ratio_and_wrong_sums() {
        let wrong = beside(Err("off by one".to_owned()));
        let text = wrong.behind(&"p16\n").to_string();
        for part in [
            "p16\nredis: Redis 7, by hand",
            "1,000/s",
            "ratio      5.00",
            "177 bytes a command",
            "WRONG: off by one",
            "postgres: not driven",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!wrong.sums_are_right());
        assert!(beside(Ok(String::new())).sums_are_right());
    }
}
