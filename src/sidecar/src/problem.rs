//! Problem documents (RFC 9457): what went wrong, in a form for programs and for people.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER as RETRY_AFTER_HEADER};
use http::{HeaderValue, StatusCode};
use plimsoll_client::{Applied, Error, Refusal, Status, StatusNumber};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::limits::{ERRORS_TOLD_MAX, RETRY_AFTER};
use crate::problem_kind::ProblemKind;

/// A problem document. Kinds add fields of their own.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// Names the kind, and leads to a page about it: `/problems/<slug>`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What it was this time.
    detail: String,
    /// Whether the same request, sent again unchanged, may succeed.
    retryable: bool,
    /// Whether it took effect; null when nobody can tell.
    #[schema(required)]
    applied: Option<bool>,
    /// How long to wait before another try; null when that would not help.
    #[schema(required)]
    retry_after_ms: Option<u64>,
    /// What was wrong where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, value_type = Vec<ProblemError>)]
    errors: Vec<FieldError>,
    /// What belongs to the kind.
    #[serde(flatten)]
    #[schema(value_type = Object, additional_properties)]
    more: Map<String, Value>,
}

/// Something wrong in a field, or in a line of a file.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it tells the OpenAPI document what `errors` holds")]
enum ProblemError {
    Field(FieldError),
    Line(plimsoll_form::FileError),
}

/// Something wrong in a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// A JSON pointer (RFC 6901) into the body; a query parameter as if the query was an object.
    pub(crate) pointer: String,
    /// What is wrong, with line and column of the body where they are known.
    pub(crate) detail: String,
}

/// What a handler answers when it does not do what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Content>);

#[derive(Clone, Debug)]
struct Content {
    kind: ProblemKind,
    document: ProblemDocument,
    etag: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Problem {
        let row = kind.row();
        let retry_after = row.retryable.then_some(RETRY_AFTER.as_millis() as u64);
        Problem(Box::new(Content {
            kind,
            document: ProblemDocument {
                kind: format!("/problems/{}", row.slug),
                title: row.title,
                status: row.status.as_u16(),
                detail: detail.into(),
                retryable: row.retryable,
                applied: row.applied,
                retry_after_ms: retry_after,
                errors: Vec::new(),
                more: Map::new(),
            },
            etag: None,
        }))
    }

    /// 422 for these fields, of which the first are listed.
    pub(crate) fn invalid(mut errors: Vec<FieldError>) -> Problem {
        let detail = match &errors[..] {
            [] => "a value is out of its range".to_owned(),
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            [first, rest @ ..] => format!("{}: {}, and {} more", first.pointer, first.detail, rest.len()),
        };
        errors.truncate(ERRORS_TOLD_MAX);
        let mut problem = Problem::new(ProblemKind::Invalid, detail);
        problem.0.document.errors = errors;
        problem
    }

    /// 422 for one field.
    pub(crate) fn invalid_field(pointer: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem::invalid(vec![FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        }])
    }

    /// A field that belongs to the kind.
    pub(crate) fn with(mut self, name: &str, value: impl Serialize) -> Problem {
        // Nothing that is added can fail to be JSON.
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.0.document.more.insert(name.to_owned(), value);
        self
    }

    /// The entity tag that stands.
    pub(crate) fn with_etag(mut self, etag: Option<String>) -> Problem {
        self.0.etag = etag.clone();
        self.with("etag", etag)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.kind.row().status
    }

    pub(crate) fn document(&self) -> &ProblemDocument {
        &self.0.document
    }

    /// Whether this field is what is wrong.
    pub(crate) fn is_of(&self, pointer: &str) -> bool {
        self.0.document.errors.iter().any(|error| error.pointer == pointer)
    }

    #[cfg(test)]
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.0.document.errors
    }

    /// Why something had no effect.
    pub(crate) fn refused(refusal: &Refusal) -> Problem {
        let kind = kind_of(refusal.status);
        let meaning = match refusal.status.known() {
            Some(status) => status.meaning().to_owned(),
            None => refusal.status.to_string(),
        };
        let detail = match &refusal.detail {
            Some(detail) if !meaning.contains(detail.as_str()) => format!("{meaning}: {detail}"),
            _ => meaning,
        };
        let problem = Problem::new(kind, detail);
        match refusal.status.known() {
            Some(Status::PoolClosed) => problem.with("reason", "closed"),
            Some(Status::PoolNotOpenYet) => problem.with("reason", "not_open_yet"),
            Some(Status::PoolPastClosing) => problem.with("reason", "past_closing"),
            _ => problem,
        }
    }

    /// Why a call that changes something has no result.
    pub(crate) fn of_change(error: &Error) -> Problem {
        match error {
            Error::Unknown(unknown) => Problem::new(ProblemKind::OutcomeUnknown, unknown.to_string()),
            other => Problem::of_read(other),
        }
    }

    /// What stands since a change took effect, as it was found.
    pub(crate) fn seen<T, E>(found: Result<Option<T>, E>) -> Result<T, Problem> {
        found.ok().flatten().ok_or_else(Problem::unseen)
    }

    /// A change took effect, and what stands since cannot be read.
    pub(crate) fn unseen() -> Problem {
        let detail = "it took effect, but what stands since could not be read; send it again, or look";
        Problem::new(ProblemKind::OutcomeUnknown, detail)
    }

    /// Why a call that only reads has no result: then nothing is unknown but what was asked for.
    pub(crate) fn of_read(error: &Error) -> Problem {
        match error {
            Error::Invalid(invalid) => Problem::invalid_field("", invalid.to_string()),
            Error::Refused(refusal) => Problem::refused(refusal),
            Error::QueueFull { .. } => Problem::new(ProblemKind::Overloaded, error.to_string()),
            other => Problem::new(ProblemKind::Unavailable, other.to_string()),
        }
    }
}

/// The kind that a status of the engine is.
fn kind_of(status: StatusNumber) -> ProblemKind {
    match status.known() {
        Some(Status::PoolNotFound) => ProblemKind::PoolNotFound,
        Some(Status::ReservationNotFound) => ProblemKind::ReservationNotFound,
        Some(Status::InsufficientCapacity) => ProblemKind::InsufficientCapacity,
        Some(Status::PoolClosed | Status::PoolNotOpenYet | Status::PoolPastClosing) => ProblemKind::PoolClosed,
        Some(Status::KeyReused) => ProblemKind::KeyReused,
        Some(Status::ReservationEnded) => ProblemKind::ReservationEnded,
        Some(Status::HoldExpired) => ProblemKind::HoldExpired,
        Some(Status::ChangedMeanwhile) => ProblemKind::ChangedMeanwhile,
        Some(Status::NotHeld) => ProblemKind::NotHeld,
        Some(Status::Invalid | Status::TooManyChanges) => ProblemKind::Invalid,
        Some(Status::Unsupported) => ProblemKind::Unsupported,
        Some(Status::FrameTooLarge) => ProblemKind::TooLarge,
        Some(Status::HistoryDamaged) => ProblemKind::HistoryDamaged,
        Some(Status::Overloaded) => ProblemKind::Overloaded,
        Some(Status::Unavailable | Status::StorageFull) => ProblemKind::Unavailable,
        _ if status.applied() == Applied::Unknown => ProblemKind::OutcomeUnknown,
        _ if status.retryable() => ProblemKind::Unavailable,
        _ => ProblemKind::Internal,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Content { kind, document, etag } = *self.0;
        let row = kind.row();
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (row.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if document.retry_after_ms.is_some() {
            headers.insert(RETRY_AFTER_HEADER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(ETAG, etag);
        }
        response.extensions_mut().insert(kind);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_engine_has_a_kind_that_says_the_same_of_its_effect() {
        for status in Status::all().filter(|status| *status != Status::Ok) {
            let row = kind_of(status.into()).row();
            let applied = match status.applied() {
                Applied::Yes => Some(true),
                Applied::No => Some(false),
                Applied::Unknown => None,
            };
            assert_eq!((row.applied, row.retryable), (applied, status.retryable()), "{status}");
        }
    }

    #[test]
    fn a_document_has_what_the_kind_says_and_what_was_added() {
        let problem = Problem::refused(&Refusal::new(Status::PoolPastClosing)).with("pool", "a");
        let document = serde_json::to_value(problem.document()).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "/problems/pool-closed", "title": "The pool does not sell", "status": 409, "detail": "from `closes_at` on",
                "retryable": false, "applied": false, "retry_after_ms": null, "reason": "past_closing", "pool": "a",
            })
        );
    }
}
