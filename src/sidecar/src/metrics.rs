//! `/metrics`, and what the sidecar counts of its own requests.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hdrhistogram::Histogram as Recent;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE as TEXT, encode};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::app::Context;
use crate::engine_metrics::EngineMetrics;
use crate::limits::STREAM_COUNT_MAX;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// The bounds of the histograms of durations, in seconds.
pub(crate) const SECONDS: [f64; 16] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// How long the engine may take to tell its own figures; without them the sidecar's are told all the same.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(1);

/// The paths that there are; others count as one.
const PATHS: [&str; 20] = [
    "/v1/reservations",
    "/v1/reservations/{id}",
    "/v1/reservations/{id}/confirm",
    "/v1/reservations/{id}/release",
    "/v1/reservations/batch",
    "/v1/availability",
    "/v1/pools",
    "/v1/pools/{name}",
    "/v1/pools/{name}/events",
    "/v1/pools/import",
    "/v1/pools/changes",
    "/v1/events",
    "/v1/settings",
    "/v1/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/problems/{slug}",
    "/openapi.json",
    "/page/{*path}",
];

/// The path of everything else.
const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    path: &'static str,
    status: u16,
}

#[derive(Clone)]
struct NewHistogram;

impl MetricConstructor<Histogram> for NewHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// What the sidecar counts of its own requests.
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Histogram, NewHistogram>,
    /// What was answered since the last sample, in microseconds.
    recent: Mutex<Recent<u64>>,
}

/// What was answered in a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecentRequests {
    pub(crate) count: u64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let recent = Recent::new_with_bounds(1, 3_600_000_000, 2);
        Metrics {
            requests: Family::new_with_constructor(NewHistogram),
            recent: Mutex::new(recent.expect("these bounds are sound")),
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, method: &Method, operation: &str, status: StatusCode, took: Duration) {
        let labels = RequestLabels {
            method: method_name(method),
            path: path_name(operation),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .saturating_record(micros.max(1));
    }

    /// What was answered since the last call.
    pub(crate) fn take_recent(&self) -> RecentRequests {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = RecentRequests {
            count: recent.len(),
            p50_micros: recent.value_at_quantile(0.5),
            p99_micros: recent.value_at_quantile(0.99),
        };
        recent.reset();
        taken
    }
}

/// Whoever asks may invent methods and paths; labels are only what there is.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => OTHER,
    }
}

fn path_name(operation: &str) -> &'static str {
    PATHS.into_iter().find(|path| *path == operation).unwrap_or(OTHER)
}

/// Show figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "service",
    responses((status = 200, description = "Prometheus text, version 0.0.4", body = String, content_type = "text/plain")),
)]
pub(crate) async fn get(State(context): State<Context>) -> Result<Response, Problem> {
    let app = &context.app;
    let stats = match app.engine.client() {
        Ok(client) => tokio::time::timeout(ENGINE_TIMEOUT, client.stats())
            .await
            .ok()
            .and_then(Result::ok),
        Err(_) => None,
    };
    let mut registry = Registry::with_prefix("plimsoll");
    let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The program", info);
    registry.register_with_unit(
        "http_request_duration",
        "How long HTTP requests took, from their head to the head of their answer",
        Unit::Seconds,
        app.metrics.requests.clone(),
    );
    let in_flight = app.requests.load(std::sync::atomic::Ordering::Relaxed) as u64;
    let streams = (STREAM_COUNT_MAX - app.streams.available_permits()) as u64;
    for (name, help, value) in [
        (
            "http_requests_in_flight",
            "HTTP requests that are being answered",
            in_flight,
        ),
        ("event_streams", "Open event streams", streams),
        (
            "engine_up",
            "Whether the engine tells its figures",
            u64::from(stats.is_some()),
        ),
    ] {
        registry.register(name, help, ConstGauge::new(value as i64));
    }
    if let Some(position) = app.follower.position() {
        let lag = position.lag_ms(app.options.feed_interval_ms()) as f64 / 1000.0;
        let help = "How far the shared reader of events is behind";
        registry.register_with_unit("event_stream_lag", help, Unit::Seconds, ConstGauge::new(lag));
    }
    if let Some(stats) = stats {
        registry.register_collector(Box::new(EngineMetrics(stats)));
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    Ok(([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_only_what_there_is() {
        assert_eq!(path_name("/v1/pools/{name}"), "/v1/pools/{name}");
        assert_eq!(path_name("/v1/pools/a"), OTHER);
        assert_eq!(method_name(&Method::from_bytes(b"BREW").unwrap()), OTHER);
    }

    #[test]
    fn every_documented_path_has_its_label() {
        let document = crate::router::general();
        for path in document.paths.paths.keys() {
            assert_eq!(path_name(path), path, "add it to PATHS");
        }
    }

    #[test]
    fn what_was_answered_is_taken_once() {
        let metrics = Metrics::default();
        for millis in 1..=100 {
            metrics.answered(&Method::GET, "/livez", StatusCode::OK, Duration::from_millis(millis));
        }
        let recent = metrics.take_recent();
        assert_eq!(recent.count, 100);
        assert!(
            (49_000..=51_000).contains(&recent.p50_micros) && recent.p99_micros >= 98_000,
            "{recent:?}"
        );
        assert_eq!(metrics.take_recent().count, 0);
    }
}
