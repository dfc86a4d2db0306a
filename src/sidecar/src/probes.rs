//! `/livez` and `/readyz`: alive; ready and useful.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use plimsoll_client::Stats;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Context;
use crate::engine_metrics::availability_lag;
use crate::json_body::reply;
use crate::limits::{AVAILABILITY_LAG_SECONDS_MAX, DISK_FREE_BYTES_MIN, DISK_FREE_SHARE_MIN};

/// How long the engine may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the sidecar is alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    alive: bool,
}

/// Say whether the sidecar is alive.
#[utoipa::path(
    get, path = "/livez", operation_id = "is_alive", tag = "service",
    responses((status = 200, description = "It is", body = Alive)),
)]
pub(crate) async fn livez() -> Response {
    reply(StatusCode::OK, &Alive { alive: true })
}

/// Whether requests can be answered, and why not.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    ready: bool,
    /// What was looked at; with `verbose`, and when something is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    checks: Vec<Check>,
}

/// One thing that must hold.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Check {
    name: &'static str,
    ok: bool,
    /// What was found.
    detail: String,
}

/// Say whether requests can be answered.
///
/// Ready and useful: every core answers, journals can be written to, lag and free space are within bounds.
#[utoipa::path(
    get, path = "/readyz", operation_id = "is_ready", tag = "service",
    params(("verbose" = Option<String>, Query, description = "Tell what was looked at; it needs no value")),
    responses(
        (status = 200, description = "They can", body = Readiness),
        (status = 503, description = "They cannot: `checks` says why", body = Readiness),
    ),
)]
pub(crate) async fn readyz(State(context): State<Context>, RawQuery(query): RawQuery) -> Response {
    let checks = look(&context).await;
    let ready = checks.iter().all(|check| check.ok);
    let query = query.unwrap_or_default();
    let is_verbose = query
        .split('&')
        .any(|part| matches!(part, "verbose" | "verbose=" | "verbose=true" | "verbose=1"));
    let readiness = Readiness {
        ready,
        checks: if is_verbose || !ready { checks } else { Vec::new() },
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(status, &readiness)
}

async fn look(context: &Context) -> Vec<Check> {
    let check = |name, ok, detail: &str| Check {
        name,
        ok,
        detail: detail.to_owned(),
    };
    if context.app.is_draining() {
        return vec![check("running", false, "the server is stopping")];
    }
    let mut checks = vec![check("running", true, "it is")];
    let client = match context.app.engine.client() {
        Ok(client) => client,
        Err(_) => {
            checks.push(check("engine", false, "no engine has answered yet"));
            return checks;
        }
    };
    // A list of pools is asked of every core.
    match tokio::time::timeout(PROBE_TIMEOUT, client.pools(None, 1)).await {
        Ok(Ok(_)) => checks.push(check("engine", true, "every core answers")),
        Ok(Err(error)) => checks.push(check("engine", false, &error.to_string())),
        Err(_) => {
            let detail = format!("not every core answered within {PROBE_TIMEOUT:?}");
            checks.push(check("engine", false, &detail));
        }
    }
    match tokio::time::timeout(PROBE_TIMEOUT, client.stats()).await {
        Ok(Ok(stats)) => checks.extend(judge(&stats)),
        Ok(Err(error)) => checks.push(check("figures", false, &error.to_string())),
        Err(_) => {
            let detail = format!("the engine did not tell its figures within {PROBE_TIMEOUT:?}");
            checks.push(check("figures", false, &detail));
        }
    }
    checks
}

/// What the engine's figures say of its usefulness.
fn judge(stats: &Stats) -> [Check; 4] {
    let lag = availability_lag(stats);
    let full = stats.cores.iter().enumerate().filter(|(_, core)| core.is_journal_full);
    let full: Vec<usize> = full.map(|(index, _)| index).collect();
    let (size, free) = (stats.disk_size_bytes, stats.disk_free_bytes);
    let is_enough = free >= DISK_FREE_BYTES_MIN.min(size) && free as f64 >= size as f64 * DISK_FREE_SHARE_MIN;
    [
        Check {
            name: "lag",
            ok: lag <= AVAILABILITY_LAG_SECONDS_MAX,
            detail: format!("availability is {lag:.3} s old, at most {AVAILABILITY_LAG_SECONDS_MAX} are allowed"),
        },
        Check {
            name: "journals",
            ok: full.is_empty(),
            detail: match full.is_empty() {
                true => "every core can write to its journal".to_owned(),
                false => {
                    format!("no segment left for the journals of cores {full:?}: reserves are refused, or soon will be")
                }
            },
        },
        Check {
            name: "disk",
            ok: size == 0 || is_enough,
            detail: format!("{free} of {size} bytes are free"),
        },
        Check {
            name: "history",
            ok: stats.is_history_whole,
            detail: match stats.is_history_whole {
                true => "archives and sealed segments are whole, as far as they have been checked".to_owned(),
                false => "a file is damaged: see 'plimsoll replay verify'".to_owned(),
            },
        },
    ]
}
