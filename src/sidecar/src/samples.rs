//! The last minutes of the service, sampled once a second, for whoever looks at a chart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use plimsoll_client::{CoreStats, Distribution, Stats};
use plimsoll_form::format_time;
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

use crate::app::{App, Context};
use crate::engine_metrics::availability_lag;
use crate::follower::now;
use crate::json_body::reply;
use crate::limits::SAMPLE_COUNT_MAX;
use crate::metrics::RecentRequests;

/// How often a sample is taken.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The last samples, the oldest first.
#[derive(Default)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

/// One second of the service. Null: not known.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Sample {
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    at: Option<String>,
    /// Commands that were decided, durably.
    #[schema(required)]
    commands_per_second: Option<f64>,
    /// Those that were refused for want of capacity, or otherwise.
    #[schema(required)]
    refused_per_second: Option<f64>,
    /// Those that were refused as overloaded.
    #[schema(required)]
    overloaded_per_second: Option<f64>,
    /// Questions for availability.
    #[schema(required)]
    availability_per_second: Option<f64>,
    /// Bytes of journal.
    #[schema(required)]
    journal_bytes_per_second: Option<f64>,
    #[schema(required)]
    syncs_per_second: Option<f64>,
    /// How long syncs took.
    #[schema(required)]
    sync_p50_ms: Option<f64>,
    #[schema(required)]
    sync_p99_ms: Option<f64>,
    /// How long commands took in the engine; of one frame in 16.
    #[schema(required)]
    command_p50_ms: Option<f64>,
    #[schema(required)]
    command_p99_ms: Option<f64>,
    /// Commands in the engine: waiting, or decided and not durable yet.
    #[schema(required)]
    commands_queued: Option<u64>,
    /// Batches that wait for their sync.
    #[schema(required)]
    batches_queued: Option<u64>,
    /// How old the oldest part of an availability answer was.
    #[schema(required)]
    availability_lag_ms: Option<f64>,
    /// How far the stream of events was behind; known while somebody follows it.
    #[schema(required)]
    lag_ms: Option<u64>,
    /// Connections to the engine.
    #[schema(required)]
    connections: Option<u64>,
    #[schema(required)]
    pools: Option<u64>,
    /// Held reservations.
    #[schema(required)]
    held: Option<u64>,
    /// Confirmed reservations.
    #[schema(required)]
    confirmed: Option<u64>,
    #[schema(required)]
    memory_bytes: Option<u64>,
    #[schema(required)]
    disk_free_bytes: Option<u64>,
    http_requests_per_second: f64,
    /// How long HTTP requests took.
    #[schema(required)]
    http_p50_ms: Option<f64>,
    #[schema(required)]
    http_p99_ms: Option<f64>,
    /// Open event streams.
    streams: u64,
}

/// The last minutes.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthForm {
    interval_ms: u64,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    at: Option<String>,
    /// The oldest first, at most 600.
    samples: Vec<Sample>,
}

/// Show how the service did in the last minutes.
#[utoipa::path(
    get, path = "/v1/health", operation_id = "get_health", tag = "service",
    responses((status = 200, description = "A sample for each second", body = HealthForm)),
)]
pub(crate) async fn get(State(context): State<Context>) -> Response {
    let samples = context.app.samples.0.lock().unwrap_or_else(PoisonError::into_inner);
    let samples = samples.iter().cloned().collect();
    let form = HealthForm {
        interval_ms: INTERVAL.as_millis() as u64,
        at: format_time(now()),
        samples,
    };
    reply(StatusCode::OK, &form)
}

/// Takes samples, until the future is dropped.
pub(crate) async fn take(app: Arc<App>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(i64, Option<Stats>)> = None;
    loop {
        ticks.tick().await;
        let stats = match app.engine.client() {
            Ok(client) => tokio::time::timeout(INTERVAL, client.stats())
                .await
                .ok()
                .and_then(Result::ok),
            Err(_) => None,
        };
        let at = now();
        let recent = app.metrics.take_recent();
        if let Some((earlier_at, earlier)) = &before {
            let seconds = ((at - earlier_at) as f64 / 1e6).max(0.001);
            let pair = stats.as_ref().zip(earlier.as_ref());
            // A server that has started again counts from 0.
            let pair = pair.filter(|(now, earlier)| now.started_at == earlier.started_at);
            let sample = sample(&app, at, seconds, stats.as_ref(), pair, recent);
            let mut samples = app.samples.0.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() == SAMPLE_COUNT_MAX {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
        before = Some((at, stats));
    }
}

fn sample(
    app: &App,
    at: i64,
    seconds: f64,
    stats: Option<&Stats>,
    pair: Option<(&Stats, &Stats)>,
    recent: RecentRequests,
) -> Sample {
    let sum = |stats: &Stats, of: &dyn Fn(&CoreStats) -> u64| stats.cores.iter().map(of).sum::<u64>();
    let rate = |of: &dyn Fn(&CoreStats) -> u64| {
        pair.map(|(now, earlier)| sum(now, of).saturating_sub(sum(earlier, of)) as f64 / seconds)
    };
    let gauge = |of: &dyn Fn(&CoreStats) -> u64| stats.map(|stats| sum(stats, of));
    let commands = |core: &CoreStats, outcomes: &[&str]| -> u64 {
        let counts = core.commands.iter().filter(|count| outcomes.contains(&count.outcome));
        counts.map(|count| count.count).sum()
    };
    let since = |of: &dyn Fn(&CoreStats) -> Distribution| {
        pair.map(|(now, earlier)| {
            let all = |stats: &Stats| {
                let distributions = stats.cores.iter().map(of);
                distributions.fold(Distribution::default(), |sum, core| sum.with(&core))
            };
            all(now).since(&all(earlier))
        })
    };
    let quantile = |values: &Option<Distribution>, share| {
        values
            .as_ref()
            .and_then(|values| values.quantile(share))
            .map(|micros| micros as f64 / 1000.0)
    };
    let syncs = since(&|core| core.sync_times.clone());
    let latencies = since(&|core| {
        let latencies = core.latencies.iter();
        latencies.fold(Distribution::default(), |sum, latency| sum.with(&latency.micros))
    });
    let http = |micros: u64| (recent.count > 0).then_some(micros as f64 / 1000.0);
    let position = app.follower.position();
    Sample {
        at: format_time(at),
        commands_per_second: rate(&|core| commands(core, &["applied", "repeated", "insufficient", "refused"])),
        refused_per_second: rate(&|core| commands(core, &["insufficient", "refused"])),
        overloaded_per_second: rate(&|core| commands(core, &["overloaded"]) + core.commands_shed),
        availability_per_second: rate(&|core| core.availability_answers),
        journal_bytes_per_second: rate(&|core| core.journal_bytes),
        syncs_per_second: rate(&|core| core.syncs),
        sync_p50_ms: quantile(&syncs, 0.5),
        sync_p99_ms: quantile(&syncs, 0.99),
        command_p50_ms: quantile(&latencies, 0.5),
        command_p99_ms: quantile(&latencies, 0.99),
        commands_queued: gauge(&|core| core.commands_in_engine),
        batches_queued: gauge(&|core| core.tickets_waiting),
        availability_lag_ms: stats.map(|stats| availability_lag(stats) * 1000.0),
        lag_ms: position.map(|position| position.lag_ms(app.options.feed_interval_ms())),
        connections: gauge(&|core| core.connections),
        pools: gauge(&|core| core.pools),
        held: gauge(&|core| core.reservations_held),
        confirmed: gauge(&|core| core.reservations_confirmed),
        memory_bytes: stats.map(|stats| stats.memory_bytes),
        disk_free_bytes: stats.map(|stats| stats.disk_free_bytes),
        http_requests_per_second: recent.count as f64 / seconds,
        http_p50_ms: http(recent.p50_micros),
        http_p99_ms: http(recent.p99_micros),
        streams: (crate::limits::STREAM_COUNT_MAX - app.streams.available_permits()) as u64,
    }
}
