//! The figures of a run, as a table and as JSON.

use std::fmt;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::figures::Extra;
use crate::floors::{Floor, Floors};
use crate::ledger::{Counts, Ledger};
use crate::preset::{Preset, Settings};
use crate::requirement::Quantile;
use crate::usage::Usage;

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) preset: &'static str,
    pub(crate) target: &'static str,
    /// Commands a second that took effect durably; of `availability` answers a second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) seconds: f64,
    /// `None` with a server that somebody else started.
    pub(crate) server_cpu: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
    /// Bytes that the server caused to be written to the disk within the window.
    pub(crate) journal_bytes: Option<u64>,
    pub(crate) generator_cpu: f64,
    /// Processor time of everything else on the machine within the window, kernel threads included; `None` with a server
    /// that somebody else started.
    pub(crate) others_cpu: Option<f64>,
    pub(crate) floors: Option<FloorsReport>,
    /// Snapshots of single cores that were finished within the window; `None` with a server that somebody else started.
    pub(crate) snapshots: Option<u64>,
    /// From sending a reserve to an answer of a query that shows it; `availability` only.
    pub(crate) staleness_us: Option<Spread>,
    /// From the time as of which an answer of a query is true to its arrival; `availability` only.
    pub(crate) as_of_age_us: Option<Spread>,
    /// What was found when the pools were added up.
    pub(crate) sums: String,
    pub(crate) sums_are_right: bool,
    /// What the first error was.
    pub(crate) problem: Option<String>,
    #[serde(flatten)]
    pub(crate) extra: Extra,
    pub(crate) conditions: Conditions,
}

/// How times are spread, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without a time.
    fn new(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50: us(histogram, 0.5),
            p99: us(histogram, 0.99),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p99, max } = *self;
        write!(
            f,
            "p50 {}  p99 {}  max {}, of {}",
            time(p50),
            time(p99),
            time(max),
            grouped(count as f64)
        )
    }
}

/// What the machine itself takes for one command in flight.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FloorsReport {
    pub(crate) round_trip_p50_us: f64,
    pub(crate) round_trip_p99_us: f64,
    pub(crate) sync_p50_us: f64,
    pub(crate) sync_p99_us: f64,
    /// The median of the run over both medians added up.
    pub(crate) ratio: f64,
    /// The floors' medians added up, before and after the load: the greater over the lesser.
    pub(crate) drift: f64,
}

/// Under which conditions the figures came about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) cores: Option<u32>,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) commands_per_frame: usize,
    pub(crate) pools: usize,
    pub(crate) live: usize,
    pub(crate) threads: usize,
    pub(crate) via: &'static str,
    /// Whether each reserve is a hold that a second command confirms.
    pub(crate) hold: bool,
    /// Reserves a second beside the queries; `availability` only.
    pub(crate) changes: Option<u32>,
    /// What the server was told, if anything.
    pub(crate) snapshot_after: Option<String>,
    pub(crate) journal_space: Option<String>,
    pub(crate) seed: u64,
    pub(crate) server: String,
    pub(crate) data_is_on_disk: bool,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) command_line: String,
}

/// What the processes used within the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Before and after.
    pub(crate) server: Option<(Usage, Usage)>,
    pub(crate) generator: (Usage, Usage),
    /// Processor time of the whole machine.
    pub(crate) machine: f64,
    /// Snapshots that the server's log told of.
    pub(crate) snapshots: Option<u64>,
    pub(crate) seconds: f64,
}

/// What the rest of the machine may use before the figures are in doubt.
pub(crate) const OTHERS_PROCESSORS_MAX: f64 = 0.1;

/// How far apart what is measured before and after the load may be before the ratio is in doubt.
pub(crate) const DRIFT_MAX: f64 = 1.2;

/// How long something took at this point of the distribution, in microseconds.
pub(crate) fn us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

impl FloorsReport {
    fn new(floors: &Floors, p50_us: f64) -> Result<Self> {
        let Floor { round_trip, sync } = floors.together()?;
        let sum = |floor: &Floor| us(&floor.round_trip, 0.5) + us(&floor.sync, 0.5);
        let (before, after) = (sum(&floors.before), sum(&floors.after));
        let (round_trip_p50_us, sync_p50_us) = (us(&round_trip, 0.5), us(&sync, 0.5));
        Ok(Self {
            round_trip_p50_us,
            round_trip_p99_us: us(&round_trip, 0.99),
            sync_p50_us,
            sync_p99_us: us(&sync, 0.99),
            ratio: p50_us / (round_trip_p50_us + sync_p50_us),
            drift: before.max(after) / before.min(after),
        })
    }
}

impl Report {
    pub(crate) fn new(
        settings: &Settings,
        ledger: &Ledger,
        used: &Used,
        floors: Option<&Floors>,
        sums: Result<String, String>,
        conditions: Conditions,
    ) -> Result<Self> {
        let latencies = &ledger.latencies;
        let p50_us = us(latencies, 0.5);
        let floors = floors.map(|floors| FloorsReport::new(floors, p50_us)).transpose()?;
        let sums_are_right = sums.is_ok();
        let count = match settings.preset {
            Preset::Availability => ledger.counts.answered,
            Preset::Run => ledger.counts.applied() + ledger.counts.answered,
            _ => ledger.counts.applied(),
        };
        let cpu = |(before, after): (Usage, Usage)| after.cpu_seconds - before.cpu_seconds;
        let server_cpu = used.server.map(cpu);
        let generator_cpu = cpu(used.generator);
        Ok(Self {
            preset: settings.name,
            target: settings.target,
            rate: count as f64 / used.seconds,
            p50_us,
            p90_us: us(latencies, 0.9),
            p99_us: us(latencies, 0.99),
            p999_us: us(latencies, 0.999),
            max_us: latencies.max() as f64 / 1e3,
            counts: ledger.counts,
            seconds: used.seconds,
            server_cpu: used
                .server
                .map(|(before, after)| after.cpu_seconds - before.cpu_seconds),
            server_rss_bytes: used.server.map(|(_, after)| after.rss_bytes),
            journal_bytes: used
                .server
                .map(|(before, after)| after.written_bytes - before.written_bytes),
            generator_cpu,
            others_cpu: server_cpu.map(|server| (used.machine - server - generator_cpu).max(0.0)),
            floors,
            snapshots: used.snapshots,
            staleness_us: Spread::new(&ledger.staleness),
            as_of_age_us: Spread::new(&ledger.age),
            sums: sums.unwrap_or_else(|wrong| wrong),
            sums_are_right,
            problem: ledger.problem.clone(),
            extra: match &settings.work {
                Some(work) => Extra::of_work(work, ledger, used.seconds),
                None => Extra::default(),
            },
            conditions,
        })
    }

    pub(crate) fn latency_us(&self, quantile: Quantile) -> f64 {
        match quantile {
            Quantile::P50 => self.p50_us,
            Quantile::P90 => self.p90_us,
            Quantile::P99 => self.p99_us,
            Quantile::P999 => self.p999_us,
            Quantile::Max => self.max_us,
        }
    }
}

/// A whole number with a comma before every three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// A time with three digits that count.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            conditions,
            counts,
            seconds,
            ..
        } = self;
        let Conditions {
            connections,
            in_flight,
            commands_per_frame,
            pools,
            ..
        } = conditions;
        let commands = if *commands_per_frame == 1 {
            "1 command"
        } else {
            &format!("{commands_per_frame} commands")
        };
        let cores = conditions
            .cores
            .map_or(String::new(), |cores| format!(", server on {cores} cores"));
        writeln!(
            f,
            "{}: {connections} connections x {in_flight} frames of {commands}, {pools} pools{cores}",
            self.preset
        )?;
        let mut row = |name: &str, value: &str| writeln!(f, "  {name:<12} {value}");
        if !self.target.is_empty() {
            row("target", self.target)?;
        }
        if let Some(load) = &self.extra.load {
            row("load", load)?;
        }
        let what = if conditions.changes.is_some() {
            "answers"
        } else {
            "took effect durably"
        };
        row("rate", &format!("{}/s {what}, for {seconds:.1} s", grouped(self.rate)))?;
        let parts = [
            ("queries answered", counts.answered),
            ("reserved", counts.reserved),
            ("confirmed", counts.confirmed),
            ("released", counts.released),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(name, count)| *count > 0 || *name == "reserved")
            .map(|(name, count)| format!("{} {name}", grouped(*count as f64)))
            .collect();
        row("commands", &parts.join(", "))?;
        row(
            "",
            &format!(
                "{} refused, {} errors, {} unknown",
                counts.refused, counts.errors, counts.unknown
            ),
        )?;
        let latencies = [
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
            ("max", self.max_us),
        ];
        let latencies: Vec<String> = latencies
            .iter()
            .map(|(name, us)| format!("{name} {}", time(*us)))
            .collect();
        row(
            "latency",
            &format!(
                "{}, from {}",
                latencies.join("  "),
                if self.extra.open_loop.is_some() {
                    "when they were due"
                } else {
                    "the time of sending"
                }
            ),
        )?;
        for (name, value) in self.extra.rows() {
            row(name, &value)?;
        }
        if let Some(staleness) = &self.staleness_us {
            row(
                "staleness",
                &format!("{staleness}, from sending a reserve to an answer that shows it"),
            )?;
        }
        if let Some(age) = &self.as_of_age_us {
            row("as of", &format!("{age}, from `as_of` to the answer's arrival"))?;
        }
        if let (Some(cpu), Some(rss), Some(written)) = (self.server_cpu, self.server_rss_bytes, self.journal_bytes) {
            let each = match conditions.changes {
                Some(_) => String::new(),
                None => format!(
                    ", {:.0} bytes a command",
                    written as f64 / counts.applied().max(1) as f64
                ),
            };
            row(
                "server",
                &format!(
                    "{:.2} processors, {} MiB resident, {} MiB written{each} (/proc/PID/io, whole pages)",
                    cpu / seconds,
                    rss >> 20,
                    written >> 20,
                ),
            )?;
        }
        row(
            "generator",
            &format!(
                "{:.2} processors, {} threads, by {}",
                self.generator_cpu / seconds,
                conditions.threads,
                conditions.via
            ),
        )?;
        if let Some(snapshots) = self.snapshots {
            let after = conditions.snapshot_after.as_ref().map_or(String::new(), |after| {
                format!(", one after each {after} of a core's journal")
            });
            row("snapshots", &format!("{snapshots} finished{after}"))?;
        }
        if let Some(others) = self.others_cpu {
            let alone = others / seconds <= OTHERS_PROCESSORS_MAX;
            let warning = if alone {
                ""
            } else {
                ": not alone on the machine, measure again"
            };
            row("others", &format!("{:.2} processors{warning}", others / seconds))?;
        }
        if let Some(floors) = &self.floors {
            row(
                "floors",
                &format!(
                    "round trip p50 {} p99 {}, sync p50 {} p99 {}",
                    time(floors.round_trip_p50_us),
                    time(floors.round_trip_p99_us),
                    time(floors.sync_p50_us),
                    time(floors.sync_p99_us),
                ),
            )?;
            row("ratio", &format!("{:.2} = p50 / (round trip + sync)", floors.ratio))?;
            if floors.drift > DRIFT_MAX {
                row(
                    "warning",
                    &format!(
                        "the floors before and after differ {:.1} times: measure again",
                        floors.drift
                    ),
                )?;
            }
            if conditions.cores.is_none_or(|cores| cores > 1) {
                row(
                    "",
                    "with several cores most pools are on another core than the connection",
                )?;
            }
        }
        if !conditions.data_is_on_disk {
            row(
                "warning",
                "the data directory is in memory: nothing here is durable; use --data",
            )?;
        }
        if let Some(problem) = &self.problem {
            row("problem", problem)?;
        }
        row(
            "sums",
            &format!("{}{}", if self.sums_are_right { "" } else { "WRONG: " }, self.sums),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};
    use crate::ledger::{Fate, Window, latencies};
    use crate::requirement::parse_requirement;

    fn report(sums: Result<String, String>) -> Report {
        let parsed = Arguments::parse_from(["plimsoll-loadtest", "preset", "single"]).command;
        let Command::Preset(arguments) = parsed else {
            panic!("it is a preset");
        };
        let settings = Settings::new(&arguments).expect("the defaults are sound");
        let mut ledger = Ledger::new(1, Arc::default()).expect("the bounds are sound");
        let start = std::time::Instant::now();
        ledger.set_window(Window {
            start,
            end: start + Duration::from_secs(1),
            interval: Duration::from_secs(1),
        });
        ledger.arrived(start);
        ledger.latency(Duration::from_micros(200), 2000);
        for _ in 0..2000 {
            ledger.reserve(0, Fate::Applied);
        }
        let floor = |round_trip, sync| {
            let mut floor = Floor {
                round_trip: latencies()?,
                sync: latencies()?,
            };
            floor.round_trip.saturating_record(round_trip);
            floor.sync.saturating_record(sync);
            anyhow::Ok(floor)
        };
        let before = floor(50_000, 150_000).expect("the bounds are sound");
        let floors = Floors {
            after: before.clone(),
            before,
        };
        let after = Usage {
            cpu_seconds: 1.0,
            rss_bytes: 3 << 20,
            rss_max_bytes: 4 << 20,
            written_bytes: 8 << 20,
        };
        let used = Used {
            server: Some((Usage::default(), after)),
            generator: (Usage::default(), after),
            machine: 2.5,
            snapshots: Some(3),
            seconds: 2.0,
        };
        let conditions = Conditions {
            cores: Some(1),
            connections: 1,
            in_flight: 1,
            commands_per_frame: 1,
            pools: 1,
            live: 0,
            threads: 1,
            via: "frames",
            hold: false,
            changes: None,
            snapshot_after: Some("64MiB".to_owned()),
            journal_space: None,
            seed: 1,
            server: "test".to_owned(),
            data_is_on_disk: true,
            processors: 2,
            kernel: "test".to_owned(),
            command_line: "test".to_owned(),
        };
        Report::new(&settings, &ledger, &used, Some(&floors), sums, conditions).expect("histograms of one shape add up")
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let json = serde_json::to_value(report(Ok("right".to_owned()))).expect("it is plain data");
        assert_eq!(json["preset"], "single");
        assert_eq!(json["rate"], 1000.0);
        assert_eq!(json["errors"], 0);
        assert_eq!(json["server_cpu"], 1.0);
        assert_eq!(json["server_rss_bytes"], 3 << 20);
        assert_eq!(json["journal_bytes"], 8 << 20);
        assert_eq!((&json["snapshots"], &json["answered"]), (&3.into(), &0.into()));
        assert!(json["staleness_us"].is_null(), "nothing was measured");
        for name in ["p50_us", "p99_us", "p999_us", "max_us"] {
            let us = json[name].as_f64().expect(name);
            assert!((199.0..=201.0).contains(&us), "{name}: {us}");
        }
    }

    #[test]
    fn the_table_shows_ratio_and_wrong_sums() {
        let text = report(Err("off by one".to_owned())).to_string();
        for part in [
            "single: 1 connections x 1 frames of 1 command",
            "1,000/s",
            "p50 200 µs",
            "snapshots    3 finished, one after each 64MiB",
            "ratio        1.00",
            "WRONG: off by one",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn requirements() {
        let report = report(Ok(String::new()));
        let check = |text: &str, met: bool| {
            let requirement = parse_requirement(text).expect(text);
            assert_eq!(requirement.violation(&report).is_none(), met, "{text}");
        };
        check("p99=1ms", true);
        check("max=100us", false);
        check("rate=1k", true);
        check("rate=1.1k", false);
        check("ratio=1.3", true);
        check("ratio=0.5", false);
    }

    #[test]
    fn requirements_of_hot_and_overload_are_lower_bounds() {
        let mut report = report(Ok(String::new()));
        let met = |report: &Report, text: &str| {
            let requirement = parse_requirement(text).expect(text);
            requirement.violation(report).is_none()
        };
        assert!(!met(&report, "share=0.1"), "there is none");
        (report.extra.ratio, report.extra.share) = (Some(0.95), Some(0.8));
        assert!(met(&report, "ratio=0.9") && !met(&report, "ratio=0.99"));
        assert!(met(&report, "share=0.8") && !met(&report, "share=0.9"));
        let json = serde_json::to_value(&report).expect("it is plain data");
        assert_eq!((&json["ratio"], &json["share"]), (&0.95.into(), &0.8.into()));
    }

    #[test]
    fn groups_of_digits() {
        let check = |value, expected| assert_eq!(grouped(value), expected);
        check(0.0, "0");
        check(999.4, "999");
        check(1000.0, "1,000");
        check(1_234_567.0, "1,234,567");
        check(-1234.0, "-1,234");
    }
}
