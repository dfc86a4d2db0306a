//! Events as they happen, as server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use plimsoll_client::EventKind;
use plimsoll_form::broken_name_rule;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::Context;
use crate::event_page::Filter;
use crate::event_stream::{EventStream, Start, bad_last_event_id};
use crate::limits::KIND_COUNT_MAX;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{EngineProblems, IdProblems, QueryProblems};
use crate::query::{self, Query};
use crate::values::Time;

/// Which events, and from when on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsParameters {
    /// Only events of this pool.
    pool: Option<String>,
    /// Only events of pools in this zone.
    zone: Option<String>,
    /// Only these kinds, separated by commas or one for each `kind`.
    #[serde(default)]
    #[param(example = "pool_changed,turned_away")]
    kind: Vec<String>,
    /// From this time on; without it, from now. Unix seconds or RFC 3339.
    #[param(example = "2027-01-04T00:00:00Z")]
    since: Option<Time>,
}

/// Follow events as they happen.
///
/// Server-sent events: `event` is the kind, `data` the event on one line, `id` a cursor. With the header `Last-Event-ID` the stream goes on behind that
/// cursor, without a loss; an event may come twice. Events of one pool come in their order. A comment `: lag_ms=N` says at least every five seconds how
/// far the stream is behind. With `since` or `Last-Event-ID` the past comes first, and an event `caught_up` behind it. Whoever reads too slowly is cut
/// off, and resumes.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "follow_events", tag = "pools",
    params(EventsParameters, ("Last-Event-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._~-]+$", description = "The last `id` of an earlier stream")),
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream"), IdProblems, QueryProblems, EngineProblems),
)]
pub(crate) async fn follow(
    State(context): State<Context>,
    headers: HeaderMap,
    Query(parameters): Query<EventsParameters>,
) -> Result<Response, Problem> {
    let filter = Filter {
        kinds: kinds_of(&parameters.kind)?,
        pool: parameters.pool,
        zone: parameters.zone,
    };
    if let Some(rule) = filter.pool.as_deref().and_then(broken_name_rule) {
        return Err(Problem::invalid_field("/pool", rule));
    }
    let start = match (last_event_id(&headers)?, parameters.since) {
        (Some(cursor), _) => Start::Behind(cursor),
        (None, Some(since)) => Start::Since(since.0),
        (None, None) => Start::Now,
    };
    let Ok(place) = Arc::clone(&context.app.streams).try_acquire_owned() else {
        return Err(Problem::new(
            ProblemKind::Overloaded,
            "there are too many event streams",
        ));
    };
    let stream = EventStream::open(Arc::clone(&context.app), filter, start, place).await?;
    let mut response = Response::new(Body::from_stream(stream.into_stream()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // For proxies that would gather an answer before they pass it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn kinds_of(texts: &[String]) -> Result<Vec<EventKind>, Problem> {
    let names = texts.iter().flat_map(|text| text.split(','));
    let mut kinds = Vec::new();
    for name in names {
        let kind = EventKind::from_name(name);
        kinds.push(kind.ok_or_else(|| Problem::invalid_field("/kind", format!("there is no kind {name:?}")))?);
    }
    if kinds.len() > KIND_COUNT_MAX {
        let detail = format!("at most {KIND_COUNT_MAX} kinds, found {}", kinds.len());
        return Err(Problem::invalid_field("/kind", detail));
    }
    Ok(kinds)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| bad_last_event_id())?;
    if text.is_empty() {
        return Ok(None);
    }
    query::cursor(Some(text)).map_err(|_| bad_last_event_id())?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_commas_and_repeated() {
        let texts = ["reserved,released".to_owned(), "expired".to_owned()];
        let expected = [EventKind::Reserved, EventKind::Released, EventKind::Expired];
        assert_eq!(kinds_of(&texts).unwrap(), expected);
        assert!(kinds_of(&["nonsense".to_owned()]).is_err() && kinds_of(&[String::new()]).is_err());
    }
}
