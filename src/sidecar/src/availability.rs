//! What can be sold.

use axum::extract::State;
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use plimsoll_client::{AvailabilityQuery, Error, Status, Units};
use plimsoll_form::AvailabilityForm;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::Context;
use crate::document::SomeUnits;
use crate::json_body::{JsonBody, invalid_in, reply};
use crate::limits::{AVAILABILITY_AGE_SECONDS_MAX, AVAILABILITY_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::problem::{FieldError, Problem};
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{AdminProblems, BodyProblems, EngineProblems, QueryProblems};
use crate::query::Query;
use crate::values::{Time, UnitsMap, Whole, some_in_order, units_of_text};

/// Which pools to look at. A zone or a location is needed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AvailabilityQuery)]
pub(crate) struct Ask {
    /// Those of this zone.
    zone: Option<String>,
    /// Those whose coverage holds a prefix of this location.
    location: Option<String>,
    /// Only those of this kind.
    kind: Option<String>,
    /// Windows that overlap what comes from this time on; without it, from now.
    from: Option<Time>,
    /// Windows that begin before this time.
    to: Option<Time>,
    /// What has to fit; without it, one unit of any dimension is enough.
    #[schema(value_type = Option<SomeUnits>)]
    units: Option<UnitsMap>,
    /// Bands, or what remains in numbers too; bands when it is not said.
    detail: Option<Detail>,
    /// Most pools in the answer; 200 when it is not said.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Whole>,
}

/// The same as query parameters. A zone or a location is needed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskParameters {
    /// Those of this zone.
    zone: Option<String>,
    /// Those whose coverage holds a prefix of this location.
    location: Option<String>,
    /// Only those of this kind.
    kind: Option<String>,
    /// Windows that overlap what comes from this time on; without it, from now. Unix seconds or RFC 3339.
    #[param(example = "2027-01-04T00:00:00Z")]
    from: Option<Time>,
    /// Windows that begin before this time.
    to: Option<Time>,
    /// What has to fit: NAME=AMOUNT, several separated by commas.
    #[param(example = "orders=1,items=12")]
    units: Option<String>,
    /// Bands, or what remains in numbers too; bands when it is not said.
    #[param(inline)]
    detail: Option<Detail>,
    /// Most pools in the answer; 200 when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// How much an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Detail {
    /// `none`, `low`, `some` or `plenty`.
    Band,
    /// What remains in each dimension too.
    Exact,
}

/// Which pools sell, and how much is left.
#[utoipa::path(
    post, path = "/v1/availability", operation_id = "ask_availability", tag = "availability", request_body = Ask,
    responses((status = 200, description = "Selling pools, also full ones, by `starts_at`, then name", body = AvailabilityForm), AdminProblems, BodyProblems, EngineProblems),
)]
pub(crate) async fn post(
    State(context): State<Context>,
    JsonBody { value: ask, bytes }: JsonBody<Ask>,
) -> Result<Response, Problem> {
    answer(&context, &ask, &bytes).await
}

/// Which pools sell, and how much is left, in a form that may be kept for a second.
#[utoipa::path(
    get, path = "/v1/availability", operation_id = "get_availability", tag = "availability", params(AskParameters),
    responses((status = 200, description = "Selling pools, also full ones, by `starts_at`, then name", body = AvailabilityForm), AdminProblems, QueryProblems, EngineProblems),
)]
pub(crate) async fn get(
    State(context): State<Context>,
    Query(parameters): Query<AskParameters>,
) -> Result<Response, Problem> {
    let units = parameters.units.as_deref().map(units_of_text).transpose();
    let ask = Ask {
        zone: parameters.zone,
        location: parameters.location,
        kind: parameters.kind,
        from: parameters.from,
        to: parameters.to,
        units: units.map_err(|rule| Problem::invalid_field("/units", rule))?,
        detail: parameters.detail,
        limit: parameters.limit.map(Whole),
    };
    let mut response = answer(&context, &ask, &[]).await?;
    if ask.detail != Some(Detail::Exact) {
        let value = format!("public, max-age={AVAILABILITY_AGE_SECONDS_MAX}");
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(CACHE_CONTROL, value);
        }
    }
    Ok(response)
}

async fn answer(context: &Context, ask: &Ask, bytes: &[u8]) -> Result<Response, Problem> {
    let is_exact = ask.detail == Some(Detail::Exact);
    if is_exact && !context.audience.exact {
        return Err(Problem::new(
            ProblemKind::AdminOnly,
            "exact numbers are told on the other address only; ask for bands",
        ));
    }
    let client = context.app.engine.client()?;
    let welcome = client.welcome();
    let (units, errors) = check(ask, &welcome.dimensions);
    if !errors.is_empty() {
        return Err(invalid_in(bytes, errors));
    }
    let mut query = match (ask.zone.as_deref(), ask.location.as_deref()) {
        (Some(zone), Some(location)) => AvailabilityQuery::in_zone(zone).at_location(location),
        (Some(zone), None) => AvailabilityQuery::in_zone(zone),
        (None, location) => AvailabilityQuery::of_location(location.unwrap_or_default()),
    };
    if let Some(kind) = ask.kind.as_deref() {
        query = query.of_kind(kind);
    }
    if let Some(from) = ask.from {
        query = query.from(from.0);
    }
    if let Some(to) = ask.to {
        query = query.until(to.0);
    }
    if let Some(units) = &units {
        query = query.fitting(Units::InOrder(units));
    }
    query = query.limit(ask.limit.map_or(AVAILABILITY_SIZE_DEFAULT, |limit| limit.0));
    if is_exact {
        query = query.exact();
    }
    let found = client.availability(&query).await.map_err(|error| match &error {
        // What else can be out of its range was checked; without `from`, only the engine knows when now is.
        Error::Refused(refusal) if refusal.is(Status::Invalid) => {
            Problem::invalid_field("/to", refusal.detail.clone().unwrap_or_default())
        }
        error => Problem::of_read(error),
    })?;
    Ok(reply(
        StatusCode::OK,
        &AvailabilityForm::new(&found, &welcome.dimensions),
    ))
}

/// The units in their order, and everything that is wrong.
fn check(ask: &Ask, dimensions: &[String]) -> (Option<Vec<u32>>, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: String| {
        errors.push(FieldError {
            pointer: pointer.to_owned(),
            detail,
        });
    };
    if ask.zone.is_none() && ask.location.is_none() {
        wrong("", "give a zone, a location, or both".to_owned());
    }
    if let Some(Whole(limit)) = ask.limit
        && !(1..=PAGE_SIZE_MAX).contains(&limit)
    {
        wrong("/limit", format!("expected 1 to {PAGE_SIZE_MAX}, found {limit}"));
    }
    if let (Some(from), Some(to)) = (ask.from, ask.to)
        && to.0 < from.0
    {
        wrong("/to", "it is before `from`".to_owned());
    }
    let units = match &ask.units {
        None => None,
        Some(units) => match some_in_order(units, dimensions, "/units") {
            Ok(units) => Some(units),
            Err(found) => {
                errors.extend(found);
                None
            }
        },
    };
    (units, errors)
}
