//! Changing a reservation: confirm, release, other units or another deadline.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use plimsoll_client::{Confirming, Error, Invalid, Releasing, Reservation, Resize, Resizing, Status};
use plimsoll_form::ReservationForm;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::Context;
use crate::document::ResizeUnits;
use crate::json_body::{JsonBody, invalid_in, reply};
use crate::path::Path;
use crate::problem::Problem;
use crate::problem_responses::{
    BodyProblems, ChangeProblems, Conflicts, EngineProblems, Gone, IdProblems, QueryProblems, ReservationMissing,
};
use crate::query::NoQuery;
use crate::reservations::{id_of, outcome_unknown, refused};
use crate::values::{HoldSeconds, UnitsMap, in_order};

/// Make a hold permanent.
///
/// Again does no harm: what is confirmed stays confirmed.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/confirm", operation_id = "confirm_reservation", tag = "reservations",
    params(("id" = String, Path, pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$", description = "The reservation's id")),
    responses(
        (status = 200, description = "It is confirmed, now or before", body = ReservationForm),
        IdProblems, QueryProblems, ReservationMissing, Conflicts, Gone, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn confirm(State(context): State<Context>, Path(id): Path, _: NoQuery) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    match context.app.engine.client()?.confirm(id, None).await {
        Ok(Confirming::Confirmed(reservation)) => as_it_is(&context, &reservation).await,
        Ok(Confirming::Refused(refusal)) => Err(Problem::refused(&refusal)),
        Ok(Confirming::Unknown(unknown)) => Err(outcome_unknown(&unknown)),
        Err(error) => Err(Problem::of_change(&error)),
    }
}

/// Give a reservation's units back.
///
/// Again does no harm: the answer is the state that it ended in.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/release", operation_id = "release_reservation", tag = "reservations",
    params(("id" = String, Path, pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$", description = "The reservation's id")),
    responses(
        (status = 200, description = "It has ended, now or before", body = ReservationForm),
        IdProblems, QueryProblems, ReservationMissing, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn release(State(context): State<Context>, Path(id): Path, _: NoQuery) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    match context.app.engine.client()?.release(id, None).await {
        Ok(Releasing::Released(reservation)) => as_it_is(&context, &reservation).await,
        Ok(Releasing::Refused(refusal)) => Err(Problem::refused(&refusal)),
        Ok(Releasing::Unknown(unknown)) => Err(outcome_unknown(&unknown)),
        Err(error) => Err(Problem::of_change(&error)),
    }
}

/// Give a reservation's units back.
///
/// The same as `POST /v1/reservations/{id}/release`.
#[utoipa::path(
    delete, path = "/v1/reservations/{id}", operation_id = "delete_reservation", tag = "reservations",
    params(("id" = String, Path, pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$", description = "The reservation's id")),
    responses(
        (status = 200, description = "It has ended, now or before", body = ReservationForm),
        IdProblems, QueryProblems, ReservationMissing, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn delete(context: State<Context>, id: Path, no_query: NoQuery) -> Result<Response, Problem> {
    release(context, id, no_query).await
}

/// What a reservation has from now on. Values are absolute; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Resize)]
pub(crate) struct ResizeBody {
    /// Units by dimension; at least one of the reservation stays above 0.
    #[schema(value_type = Option<ResizeUnits>)]
    units: Option<UnitsMap>,
    /// From now on, how long it is held.
    hold_seconds: Option<HoldSeconds>,
}

/// Change a reservation's units, or how long it is held.
///
/// It takes effect as a whole or not at all.
#[utoipa::path(
    patch, path = "/v1/reservations/{id}", operation_id = "resize_reservation", tag = "reservations", request_body = ResizeBody,
    params(("id" = String, Path, pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$", description = "The reservation's id")),
    responses(
        (status = 200, description = "It has what was asked for", body = ReservationForm),
        BodyProblems, ReservationMissing, Conflicts, Gone, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn resize(
    State(context): State<Context>,
    Path(id): Path,
    JsonBody { value: body, bytes }: JsonBody<ResizeBody>,
) -> Result<Response, Problem> {
    let reservation = id_of(&id)?;
    if body.units.as_ref().is_none_or(|units| units.0.is_empty()) && body.hold_seconds.is_none() {
        return Err(Problem::invalid_field("", "give units, hold_seconds, or both"));
    }
    let client = context.app.engine.client()?;
    let welcome = client.welcome();
    let asked = body.units.unwrap_or_default();
    let in_order = in_order(&asked, &welcome.dimensions, "/units").map_err(|errors| invalid_in(&bytes, errors))?;
    let units: Vec<(&str, u32)> = asked.0.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    let resize = Resize {
        units: &units,
        hold: body.hold_seconds.map(HoldSeconds::duration),
        ..Resize::new(reservation)
    };
    match client.resize(&resize).await {
        Ok(Resizing::Resized(reservation)) => as_it_is(&context, &reservation).await,
        Ok(Resizing::Refused(refusal)) if refusal.is(Status::Invalid) => {
            let detail = refusal.detail.unwrap_or_else(|| Status::Invalid.meaning().to_owned());
            Err(Problem::invalid_field("/units", detail))
        }
        Ok(Resizing::Refused(refusal)) => Err(refused(&refusal, &context, &in_order, &welcome.dimensions)),
        Ok(Resizing::Unknown(unknown)) => Err(outcome_unknown(&unknown)),
        Err(Error::Invalid(error @ Invalid::UnitsZero)) => Err(Problem::invalid_field("/units", error.to_string())),
        Err(error) => Err(Problem::of_change(&error)),
    }
}

/// A reservation that a command has changed, as it is now.
async fn as_it_is(context: &Context, reservation: &Reservation) -> Result<Response, Problem> {
    let welcome = context.app.engine.client()?.welcome();
    let details = Problem::seen(context.app.lookups.find(reservation.id).await)?;
    Ok(reply(
        StatusCode::OK,
        &ReservationForm::new(&details, &welcome.dimensions),
    ))
}
