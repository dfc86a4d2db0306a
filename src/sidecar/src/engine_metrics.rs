//! The engine's figures for Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use plimsoll_client::{CoreStats, Distribution, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::metrics::SECONDS;

/// The bounds of the histogram of records in a sync.
const RECORDS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0,
];

const MICROS: f64 = 1e-6;

/// The engine's figures.
#[derive(Debug)]
pub(crate) struct EngineMetrics(pub(crate) Stats);

type Labels = Vec<(&'static str, String)>;

/// What a core is asked for its number.
type OfCore = fn(&CoreStats) -> u64;

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.commands(&mut encoder)?;
        self.cores(&mut encoder)?;
        self.syncs(&mut encoder)?;
        self.server(&mut encoder)
    }
}

impl EngineMetrics {
    fn commands(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Commands that left the engine, by outcome";
        let mut family = encoder.encode_descriptor("commands", help, None, MetricType::Counter)?;
        for (core, stats) in self.0.cores.iter().enumerate() {
            for count in &stats.commands {
                let labels: Labels = vec![
                    ("core", core.to_string()),
                    ("operation", count.action.to_owned()),
                    ("outcome", count.outcome.to_owned()),
                ];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(&count.count, None)?;
            }
        }
        let mut sums: BTreeMap<(&str, &str), Distribution> = BTreeMap::new();
        for latency in self.0.cores.iter().flat_map(|core| &core.latencies) {
            let sum = sums.entry((latency.action, latency.outcome)).or_default();
            *sum = sum.with(&latency.micros);
        }
        let help = "How long frames of commands took in the engine, from being taken to being answered; of one in 16";
        let unit = Unit::Seconds;
        let mut family = encoder.encode_descriptor("command_duration", help, Some(&unit), MetricType::Histogram)?;
        for ((action, outcome), micros) in &sums {
            let labels: Labels = vec![("operation", (*action).to_owned()), ("outcome", (*outcome).to_owned())];
            let (sum, buckets) = buckets(micros, &SECONDS, MICROS, micros.sum());
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, micros.count(), &buckets, None)?;
        }
        Ok(())
    }

    /// What each core has a number of.
    fn cores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters: [(&str, &str, Option<Unit>, OfCore); 4] = [
            (
                "commands_shed",
                "Commands that were refused as overloaded before an engine took them",
                None,
                |core| core.commands_shed,
            ),
            (
                "availability_answers",
                "Questions for availability that were answered",
                None,
                |core| core.availability_answers,
            ),
            ("journal_records", "Records that were made durable", None, |core| {
                core.records
            }),
            (
                "journal_written",
                "Bytes that were appended to the journal",
                Some(Unit::Bytes),
                |core| core.journal_bytes,
            ),
        ];
        for (name, help, unit, of) in counters {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for (core, stats) in self.0.cores.iter().enumerate() {
                family
                    .encode_family(&[("core", core.to_string())])?
                    .encode_counter::<NoLabelSet, _, f64>(&of(stats), None)?;
            }
        }
        let gauges: [(&str, &str, OfCore); 6] = [
            (
                "commands_in_engine",
                "Commands that wait in the engine, or are decided and not durable yet",
                |core| core.commands_in_engine,
            ),
            (
                "commands_unanswered",
                "Commands that connections sent and that are not answered yet",
                |core| core.commands_unanswered,
            ),
            ("batches_waiting", "Batches that wait for their sync to begin", |core| {
                core.tickets_waiting
            }),
            ("connections", "Open connections to the engine", |core| core.connections),
            ("pools", "Pools", |core| core.pools),
            (
                "reservation_slots",
                "Slots for reservations, those of ended ones included",
                |core| core.reservation_slots,
            ),
        ];
        for (name, help, of) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (core, stats) in self.0.cores.iter().enumerate() {
                family
                    .encode_family(&[("core", core.to_string())])?
                    .encode_gauge(&(of(stats) as i64))?;
            }
        }
        let states: [(&str, OfCore); 2] = [
            ("held", |core| core.reservations_held),
            ("confirmed", |core| core.reservations_confirmed),
        ];
        let mut family = encoder.encode_descriptor("reservations", "Live reservations", None, MetricType::Gauge)?;
        for (core, stats) in self.0.cores.iter().enumerate() {
            for (state, of) in states {
                let labels: Labels = vec![("core", core.to_string()), ("state", state.to_owned())];
                family.encode_family(&labels)?.encode_gauge(&(of(stats) as i64))?;
            }
        }
        Ok(())
    }

    fn syncs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long syncs of the journal took";
        let unit = Unit::Seconds;
        let mut family =
            encoder.encode_descriptor("journal_sync_duration", help, Some(&unit), MetricType::Histogram)?;
        for (core, stats) in self.0.cores.iter().enumerate() {
            let (sum, buckets) = buckets(&stats.sync_times, &SECONDS, MICROS, stats.sync_micros);
            family
                .encode_family(&[("core", core.to_string())])?
                .encode_histogram::<NoLabelSet>(sum, stats.sync_times.count(), &buckets, None)?;
        }
        let help = "Records that each sync made durable";
        let mut family = encoder.encode_descriptor("journal_sync_records", help, None, MetricType::Histogram)?;
        for (core, stats) in self.0.cores.iter().enumerate() {
            let (sum, buckets) = buckets(&stats.records_per_sync, &RECORDS, 1.0, stats.records);
            family
                .encode_family(&[("core", core.to_string())])?
                .encode_histogram::<NoLabelSet>(sum, stats.records_per_sync.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0;
        let gauges: [(&str, &str, Unit, f64); 5] = [
            (
                "engine_start_time",
                "When the engine started, since 1970",
                Unit::Seconds,
                stats.started_at as f64 * MICROS,
            ),
            (
                "availability_lag",
                "How old the oldest part of an availability answer is",
                Unit::Seconds,
                availability_lag(stats),
            ),
            (
                "memory_resident",
                "What the engine's process has in memory",
                Unit::Bytes,
                stats.memory_bytes as f64,
            ),
            (
                "disk_size",
                "The file system of the data directory",
                Unit::Bytes,
                stats.disk_size_bytes as f64,
            ),
            (
                "disk_free",
                "What is free of it",
                Unit::Bytes,
                stats.disk_free_bytes as f64,
            ),
        ];
        for (name, help, unit, value) in gauges {
            encoder
                .encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        let help = "Whether archives and sealed segments are whole, as far as they have been checked";
        encoder
            .encode_descriptor("history_whole", help, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(stats.is_history_whole))
    }
}

/// How old the oldest part of an availability answer is, in seconds.
pub(crate) fn availability_lag(stats: &Stats) -> f64 {
    let oldest = stats
        .cores
        .iter()
        .map(|core| core.published_at)
        .min()
        .unwrap_or(stats.at);
    (stats.at - oldest).max(0) as f64 * MICROS
}

/// The sum and the buckets of a distribution whose values are to be multiplied.
fn buckets(values: &Distribution, bounds: &[f64], factor: f64, sum: u64) -> (f64, Vec<(f64, u64)>) {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = bounds
        .iter()
        .map(|bound| {
            // Half a unit above: bounds are decimal fractions, values whole.
            let upto = values.count_up_to((bound / factor + 0.5) as u64);
            (*bound, upto - std::mem::replace(&mut before, upto))
        })
        .collect();
    buckets.push((f64::INFINITY, values.count() - before));
    (sum as f64 * factor, buckets)
}
