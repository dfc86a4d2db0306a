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
                "{:.2} processors, {} MiB resident, {} MiB written, {:.0} bytes a command",
                self.server_cpu / seconds,
                self.server_rss_bytes >> 20,
                self.journal_bytes >> 20,
                self.journal_bytes as f64 / counts.applied().max(1) as f64,
            ),
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

impl<R: fmt::Display> fmt::Display for WithPeers<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        for (name, report) in &self.peers.measured {
            report.show(name, f)?;
        }
        for remark in &self.peers.remarks {
            writeln!(f, "{remark}")?;
        }
        Ok(())
    }
}
