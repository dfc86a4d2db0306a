//! Reserving, and reading reservations.

use axum::extract::State;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use plimsoll_client::{
    Error, Key, KeyError, KeySource, PoolRef, Refusal, Reservation, ReservationDetails, ReservationId, Reserve,
    Reserving, SearchQuery, Status, Units,
};
use plimsoll_form::{ByDimension, ReservationForm, ReservationState};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Context;
use crate::document::SomeUnits;
use crate::json_body::{JsonBody, invalid_in, reply};
use crate::path::Path;
use crate::problem::{FieldError, Problem};
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{
    BodyProblems, ChangeProblems, Conflicts, EngineProblems, IdProblems, PoolMissing, QueryProblems, ReservationMissing,
};
use crate::query::{self, NoQuery, Query};
use crate::trace;
use crate::values::{HoldSeconds, PoolName, Reference, Time, UnitsMap, some_in_order};

/// Units to take from a pool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reserve)]
pub(crate) struct ReserveBody {
    /// From which pool.
    #[schema(required, nullable = false)]
    pool: Option<PoolName>,
    /// How many; what is not named is 0, and at least one is above 0.
    #[schema(value_type = SomeUnits)]
    units: UnitsMap,
    /// How long it is held; without it, it is confirmed at once.
    hold_seconds: Option<HoldSeconds>,
    /// The caller's own name for what is reserved.
    reference: Option<Reference>,
    /// The caller's business time; it decides nothing and is kept with the event.
    occurred_at: Option<Time>,
    #[schema(ignore)]
    pools: Option<IgnoredAny>,
    #[schema(ignore)]
    any_of: Option<IgnoredAny>,
}

/// Take units from a pool.
///
/// Under an idempotency key: however often it is sent, it takes effect once. 200 with `Idempotency-Replayed: true` when an earlier attempt took effect;
/// callers treat 200 and 201 alike.
#[utoipa::path(
    post, path = "/v1/reservations", operation_id = "reserve", tag = "reservations", request_body = ReserveBody,
    params(
        ("Idempotency-Key" = String, Header, min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$", description = "The caller's own name for this reserve; a UUID does well", example = "order-4711"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; when it is sampled, it reaches the engine's log"),
    ),
    responses(
        (status = 201, description = "Reserved", body = ReservationForm, headers(("Location" = String, description = "Where the reservation is"))),
        (status = 200, description = "An earlier attempt with this key took effect: the reservation as it is now", body = ReservationForm, headers(("Idempotency-Replayed" = bool, description = "true"))),
        BodyProblems, PoolMissing, Conflicts, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn reserve(
    State(context): State<Context>,
    headers: HeaderMap,
    JsonBody { value: body, bytes }: JsonBody<ReserveBody>,
) -> Result<Response, Problem> {
    for (name, found) in [("pools", &body.pools), ("any_of", &body.any_of)] {
        if found.is_some() {
            let detail = format!("`{name}` is reserved for a later version; ask for one `pool`");
            return Err(Problem::new(ProblemKind::Unsupported, detail));
        }
    }
    let Some(PoolName(pool)) = &body.pool else {
        return Err(Problem::invalid_field("/pool", "missing field `pool`"));
    };
    let client = context.app.engine.client()?;
    let welcome = client.welcome();
    let dimensions = &welcome.dimensions;
    let units = some_in_order(&body.units, dimensions, "/units").map_err(|errors| invalid_in(&bytes, errors))?;
    let reserve = Reserve {
        pool: PoolRef::Name(pool),
        units: Units::InOrder(&units),
        key: key_of_header(&headers)?,
        hold: body.hold_seconds.map(HoldSeconds::duration),
        reference: body.reference.as_ref().map(|reference| reference.0.as_str()),
        occurred_at: body.occurred_at.map(|time| time.0),
    };
    let reserving = match trace::sampled(&headers) {
        None => client.reserve(&reserve).await,
        Some(traceparent) => trace::reserve(&client, &reserve, traceparent).await,
    };
    let reservation = match reserving {
        Ok(Reserving::Reserved(reservation)) => reservation,
        Ok(Reserving::Refused(refusal)) => return Err(refused(&refusal, &context, &units, dimensions)),
        Ok(Reserving::Unknown(unknown)) => return Err(outcome_unknown(&unknown)),
        Err(error) => return Err(Problem::of_change(&error)),
    };
    // An earlier attempt may have been changed since.
    let details = if reservation.repeated {
        Problem::seen(context.app.lookups.find(reservation.id).await)?
    } else {
        details_of(&reservation, pool, &units, reserve.reference)
    };
    let status = if reservation.repeated {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let mut response = reply(status, &ReservationForm::new(&details, dimensions));
    let headers = response.headers_mut();
    if reservation.repeated {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/reservations/{}", reservation.id)) {
        headers.insert(LOCATION, location);
    }
    Ok(response)
}

/// A reservation as an answer and what was asked for tell of it.
pub(crate) fn details_of(
    reservation: &Reservation,
    pool: &str,
    units: &[u32],
    reference: Option<&str>,
) -> ReservationDetails {
    ReservationDetails {
        id: reservation.id,
        state: reservation.state,
        pool: pool.to_owned(),
        units: units.to_vec(),
        reference: reference.map(str::to_owned),
        created_at: reservation.created_at,
        expires_at: reservation.expires_at,
        version: reservation.version,
        would_refuse: reservation.would_refuse,
    }
}

/// Why units were not taken.
pub(crate) fn refused(refusal: &Refusal, context: &Context, units: &[u32], dimensions: &[String]) -> Problem {
    let problem = Problem::refused(refusal);
    if !refusal.is(Status::InsufficientCapacity) {
        return problem;
    }
    let requested = ByDimension {
        dimensions,
        values: units.to_vec(),
    };
    let short: Vec<&str> = refusal.short.iter().map(|short| short.dimension.as_str()).collect();
    let problem = problem.with("requested", requested).with("dimensions", short);
    if !context.audience.exact {
        return problem;
    }
    let remaining = ByDimension {
        dimensions,
        values: refusal.remaining.clone(),
    };
    problem.with("remaining", remaining)
}

pub(crate) fn outcome_unknown(unknown: &plimsoll_client::Unknown) -> Problem {
    Problem::new(ProblemKind::OutcomeUnknown, unknown.to_string())
}

fn key_of_header(headers: &HeaderMap) -> Result<Key, Problem> {
    let mut found = headers.get_all("idempotency-key").iter();
    let Some(value) = found.next() else {
        return Err(Problem::new(
            ProblemKind::KeyMissing,
            "a reserve needs the header Idempotency-Key",
        ));
    };
    let bad = |why: String| Problem::new(ProblemKind::BadHeader, format!("Idempotency-Key: {why}"));
    if found.next().is_some() {
        return Err(bad("it is there twice".to_owned()));
    }
    let text = value
        .to_str()
        .map_err(|_| bad("expected visible ASCII characters".to_owned()))?;
    key_of(text).map_err(|error| bad(error.to_string()))
}

/// A key from its text, bare or quoted.
pub(crate) fn key_of(text: &str) -> Result<Key, KeyError> {
    Key::from_text(text)
}

/// An id from a path.
pub(crate) fn id_of(text: &str) -> Result<ReservationId, Problem> {
    text.parse().map_err(|error| {
        Problem::new(
            ProblemKind::BadId,
            format!("{text:?} is no id of a reservation: {error}"),
        )
    })
}

/// Show a reservation.
#[utoipa::path(
    get, path = "/v1/reservations/{id}", operation_id = "get_reservation", tag = "reservations",
    params(("id" = String, Path, pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$", description = "The reservation's id")),
    responses((status = 200, description = "The reservation as it is now", body = ReservationForm), IdProblems, QueryProblems, ReservationMissing, EngineProblems),
)]
pub(crate) async fn get(State(context): State<Context>, Path(id): Path, _: NoQuery) -> Result<Response, Problem> {
    let details = context.app.lookups.find(id_of(&id)?).await?;
    let Some(details) = details else {
        return Err(Problem::refused(&Refusal::new(Status::ReservationNotFound)));
    };
    let welcome = context.app.engine.client()?.welcome();
    Ok(reply(
        StatusCode::OK,
        &ReservationForm::new(&details, &welcome.dimensions),
    ))
}

/// Which reservations to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// The caller's own name for them.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64)]
    reference: Option<Reference>,
    /// Those of this pool. A reference or a pool is needed.
    #[param(value_type = Option<PoolName>)]
    pool: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<ReservationState>,
    /// Most reservations on the page; 100 when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// From `next` of an earlier page.
    #[param(pattern = "^[A-Za-z0-9._~-]+$")]
    cursor: Option<String>,
}

/// A page of reservations, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = ReservationsPage)]
pub(crate) struct ReservationsPage<'a> {
    reservations: Vec<ReservationForm<'a>>,
    /// For `cursor`; null: there are no more.
    #[schema(required)]
    next: Option<String>,
}

/// Search reservations.
///
/// By reference or pool, the newest first; those that ended long ago too.
#[utoipa::path(
    get, path = "/v1/reservations", operation_id = "search_reservations", tag = "reservations", params(Search),
    responses((status = 200, description = "A page", body = ReservationsPage), PoolMissing, QueryProblems, EngineProblems),
)]
pub(crate) async fn search(State(context): State<Context>, Query(search): Query<Search>) -> Result<Response, Problem> {
    if search.reference.is_none() && search.pool.is_none() {
        return Err(Problem::invalid_field(
            "/reference",
            "give a reference, a pool, or both",
        ));
    }
    if search
        .reference
        .as_ref()
        .is_some_and(|reference| reference.0.is_empty())
    {
        return Err(Problem::invalid_field("/reference", "it is empty"));
    }
    if let Some(rule) = search.pool.as_deref().and_then(plimsoll_form::broken_name_rule) {
        return Err(Problem::invalid_field("/pool", rule));
    }
    let query = SearchQuery {
        reference: search.reference.as_ref().map(|reference| reference.0.as_str()),
        pool: search.pool.as_deref(),
        state: search.state.map(Into::into),
        cursor: query::cursor(search.cursor.as_deref())?,
        limit: query::page_size(search.limit)?,
    };
    let client = context.app.engine.client()?;
    let found = client
        .search_reservations(&query)
        .await
        .map_err(|error| page_problem(&error))?;
    let welcome = client.welcome();
    let forms = found.reservations.iter();
    let page = ReservationsPage {
        reservations: forms
            .map(|details| ReservationForm::new(details, &welcome.dimensions))
            .collect(),
        next: found.next,
    };
    Ok(reply(StatusCode::OK, &page))
}

/// What an error means for a page of history: a cursor is the one thing that the engine alone can judge.
pub(crate) fn page_problem(error: &Error) -> Problem {
    match error {
        Error::Refused(refusal) if refusal.is(Status::Invalid) => {
            let detail = refusal
                .detail
                .clone()
                .unwrap_or_else(|| "not a cursor of this question".to_owned());
            Problem::invalid(vec![FieldError {
                pointer: "/cursor".to_owned(),
                detail,
            }])
        }
        error => Problem::of_read(error),
    }
}
