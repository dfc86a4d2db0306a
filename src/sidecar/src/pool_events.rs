//! What happened to a pool.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use plimsoll_form::EventForm;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Context;
use crate::json_body::reply;
use crate::path::Path;
use crate::pools::name_of;
use crate::problem::Problem;
use crate::problem_responses::{EngineProblems, IdProblems, PoolMissing, QueryProblems};
use crate::query::{self, Query};
use crate::reservations::page_problem;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsParameters {
    /// Most events on the page; 100 when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// From `next` of an earlier page.
    #[param(pattern = "^[A-Za-z0-9._~-]+$")]
    cursor: Option<String>,
}

/// A page of events, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventsPage)]
pub(crate) struct EventsPage<'a> {
    events: Vec<EventForm<'a>>,
    /// For `cursor`; null: there are no more.
    #[schema(required)]
    next: Option<String>,
}

/// What happened to a pool, the newest first.
///
/// To all pools that ever had the name.
#[utoipa::path(
    get, path = "/v1/pools/{name}/events", operation_id = "list_pool_events", tag = "pools",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", description = "The pool's name"), EventsParameters),
    responses((status = 200, description = "A page", body = EventsPage), IdProblems, PoolMissing, QueryProblems, EngineProblems),
)]
pub(crate) async fn list(
    State(context): State<Context>,
    Path(name): Path,
    Query(parameters): Query<EventsParameters>,
) -> Result<Response, Problem> {
    let name = name_of(&name)?;
    let limit = query::page_size(parameters.limit)?;
    let cursor = query::cursor(parameters.cursor.as_deref())?;
    let client = context.app.engine.client()?;
    let found = client.pool_events(name, cursor, limit).await;
    let found = found.map_err(|error| page_problem(&error))?;
    let welcome = client.welcome();
    let page = EventsPage {
        events: found
            .events
            .iter()
            .map(|event| EventForm::new(event, &welcome.dimensions))
            .collect(),
        next: found.next,
    };
    Ok(reply(StatusCode::OK, &page))
}
