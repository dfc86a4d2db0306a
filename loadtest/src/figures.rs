//! The figures that only some loads have.

use std::fmt;

use serde::Serialize;

use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::load::account::Account;
use crate::load::detail::Detail;
use crate::load::mix::Operation;
use crate::load::work::Work;
use crate::report::{grouped, time, us};
use crate::schedule::Arrivals;

/// How well the generator kept the schedule of an open loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct OpenFigures {
    /// Commands a second as the schedule says.
    pub(crate) intended_rate: f64,
    /// Commands a second that were sent.
    pub(crate) sent_rate: f64,
    /// Commands that were sent more than a millisecond after they were due.
    pub(crate) late: u64,
    /// Commands that were due and never sent.
    pub(crate) unsent: u64,
    /// From when a command was due until it was written.
    pub(crate) lag_p50_us: f64,
    pub(crate) lag_p99_us: f64,
    pub(crate) lag_max_us: f64,
}

/// The figures of one operation.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct OperationFigures {
    pub(crate) operation: Operation,
    /// Commands that took effect, or queries that were answered.
    pub(crate) applied: u64,
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
    /// Of those that took effect.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// How often an operation was answered with a status other than ok.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StatusFigures {
    pub(crate) operation: Operation,
    pub(crate) status: String,
    pub(crate) count: u64,
}

/// The figures that only some loads have.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Extra {
    /// What the load consists of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_loop: Option<OpenFigures>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) operations: Vec<OperationFigures>,
    /// Answers other than ok by operation and status, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) statuses: Vec<StatusFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused_p99_us: Option<f64>,
    /// Connections that were lost and made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reconnects: Option<u64>,
    /// Lines of a file that asked for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<u64>,
    /// What happened to the server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Account>,
    /// `hot`: the rate of one pool over that of many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uniform_rate: Option<f64>,
    /// `overload`: commands a second of `p16` on the same processors, before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rate: Option<f64>,
    /// The share of the peak that took effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<f64>,
    /// Commands a second of `p16` a second after the overload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after_rate: Option<f64>,
    /// From the end of the overload until 0.9 of the peak were reached again; it was not looked at within the first second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) normal_after_ms: Option<f64>,
    /// The most resident memory of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_max_bytes: Option<u64>,
    /// What must be known of the processors to read the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remarks: Vec<String>,
}

impl Extra {
    /// Of a load of the open driver.
    pub(crate) fn of_work(work: &Work, ledger: &Ledger, seconds: f64) -> Self {
        let mut extra = Self {
            load: Some(describe(work)),
            ..Self::default()
        };
        let Some(detail) = &ledger.detail else { return extra };
        extra.take(detail);
        extra.reconnects = Some(detail.reconnects).filter(|count| *count > 0);
        extra.skipped = work.replay.as_ref().map(|_| detail.skipped);
        if work.arrivals != Arrivals::Closed || work.replay.is_some() {
            extra.open_loop = Some(OpenFigures {
                intended_rate: detail.due as f64 / seconds,
                sent_rate: detail.sent as f64 / seconds,
                late: detail.late,
                unsent: detail.unsent,
                lag_p50_us: us(&detail.lag, 0.5),
                lag_p99_us: us(&detail.lag, 0.99),
                lag_max_us: detail.lag.max() as f64 / 1e3,
            });
        }
        extra
    }

    fn take(&mut self, detail: &Detail) {
        for (operation, found) in Operation::ALL.into_iter().zip(&detail.operations) {
            let applied = found.latencies.len();
            if applied + found.refused + found.errors + found.unknown == 0 {
                continue;
            }
            self.operations.push(OperationFigures {
                operation,
                applied,
                refused: found.refused,
                errors: found.errors,
                unknown: found.unknown,
                p50_us: us(&found.latencies, 0.5),
                p99_us: us(&found.latencies, 0.99),
                p999_us: us(&found.latencies, 0.999),
                max_us: found.latencies.max() as f64 / 1e3,
            });
        }
        let statuses = detail
            .statuses
            .iter()
            .map(|((operation, status), count)| StatusFigures {
                operation: Operation::ALL[*operation],
                status: status.to_string(),
                count: *count,
            });
        self.statuses = statuses.collect();
        self.statuses.sort_by_key(|found| std::cmp::Reverse(found.count));
        self.refused_p99_us = (!detail.refused.is_empty()).then(|| us(&detail.refused, 0.99));
    }

    /// Rows of the table: names and values.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(open) = &self.open_loop {
            rows.push(("schedule", open.to_string()));
        }
        for found in &self.operations {
            rows.push((found.operation.name(), found.to_string()));
        }
        if !self.statuses.is_empty() {
            let texts = self.statuses.iter().map(|found| {
                let operation = found.operation.name();
                format!("{} {operation}: {}", grouped(found.count as f64), found.status)
            });
            let latency = self
                .refused_p99_us
                .map_or(String::new(), |us| format!("; p99 of refusals {}", time(us)));
            rows.push(("refusals", texts.collect::<Vec<_>>().join(", ") + &latency));
        }
        if !self.faults.is_empty() {
            let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
            rows.push(("faults", faults.join(", ")));
        }
        if let Some(count) = self.reconnects {
            rows.push(("connections", format!("{count} lost and made anew")));
        }
        if let Some(count) = self.skipped {
            rows.push((
                "skipped",
                format!("{} lines that asked for nothing", grouped(count as f64)),
            ));
        }
        if let Some(account) = &self.account {
            rows.push(("account", account.to_string()));
            rows.extend(account.problem.iter().map(|problem| ("missing", problem.clone())));
        }
        if let (Some(ratio), Some(uniform)) = (self.ratio, self.uniform_rate) {
            rows.push((
                "uniform",
                format!("{}/s of many pools, the mean of before and after", grouped(uniform)),
            ));
            rows.push(("ratio", format!("{ratio:.2} = this rate / that of many pools")));
        }
        if let (Some(share), Some(peak)) = (self.share, self.peak_rate) {
            rows.push((
                "peak",
                format!("{}/s in a closed loop on the same processors", grouped(peak)),
            ));
            rows.push(("share", format!("{share:.2} of the peak took effect")));
        }
        if let Some(rss) = self.rss_max_bytes {
            rows.push(("memory", format!("{} MiB resident at most", rss >> 20)));
        }
        if let Some(after) = self.after_rate {
            let normal = self.normal_after_ms.map_or_else(
                || "not normal within the probe".to_owned(),
                |ms| format!("normal {} after the overload", time(ms * 1e3)),
            );
            rows.push(("afterwards", format!("{}/s in a closed loop; {normal}", grouped(after))));
        }
        rows.extend(self.remarks.iter().map(|remark| ("remark", remark.clone())));
        rows
    }
}

/// What a load consists of, in words.
fn describe(work: &Work) -> String {
    let arrivals = match work.arrivals {
        _ if work.replay.is_some() => "orders",
        Arrivals::Closed => "closed",
        Arrivals::Constant => "constant",
        Arrivals::Poisson => "poisson",
        Arrivals::Burst => "burst",
        Arrivals::Ramp => "ramp",
    };
    let rate = match (work.arrivals, &work.replay) {
        (_, Some(replay)) => format!(
            ", {} times as fast, {}/s on average",
            grouped(replay.speed),
            grouped(replay.rate())
        ),
        (Arrivals::Closed, None) => String::new(),
        (Arrivals::Ramp, None) => format!(", {} to {}/s", grouped(work.rate.from), grouped(work.rate.to)),
        (_, None) => format!(", {}/s", grouped(work.rate.mean())),
    };
    if work.replay.is_some() {
        // Without a limit, pools of a running server are as they were.
        let limit = work
            .limit
            .map_or_else(String::new, |limit| format!("; pools of {limit} units"));
        return format!("{arrivals}{rate}{limit}");
    }
    let limit = work
        .limit
        .map_or_else(|| "never full".to_owned(), |limit| format!("of {limit} units"));
    let Work { mix, choice, units, .. } = work;
    format!("{arrivals}{rate}; {mix}; {units} units; pools {choice}, {limit}")
}

impl fmt::Display for OpenFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/s due, {}/s sent; {} late, {} never sent; sent p50 {} p99 {} max {} after they were due",
            grouped(self.intended_rate),
            grouped(self.sent_rate),
            grouped(self.late as f64),
            grouped(self.unsent as f64),
            time(self.lag_p50_us),
            time(self.lag_p99_us),
            time(self.lag_max_us),
        )
    }
}

impl fmt::Display for OperationFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} refused; p50 {}  p99 {}  p99.9 {}  max {}",
            grouped(self.applied as f64),
            grouped(self.refused as f64),
            time(self.p50_us),
            time(self.p99_us),
            time(self.p999_us),
            time(self.max_us)
        )
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reservations acknowledged or settled, {} commands settled; {} stand and were asked for, {} missing",
            grouped(self.reservations as f64),
            grouped(self.settled as f64),
            grouped(self.asked as f64),
            self.missing
        )
    }
}
