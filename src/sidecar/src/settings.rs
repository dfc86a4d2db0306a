//! What a page or a program has to know of the installation.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Context;
use crate::json_body::reply;
use crate::limits::{CHANGE_COUNT_MAX, PAGE_SIZE_MAX};
use crate::problem::Problem;
use crate::problem_responses::EngineProblems;

/// What has to be known of the installation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Settings<'a> {
    /// An IANA name; in this time zone the page shows times.
    time_zone: &'a str,
    /// The names of the dimensions, in their order.
    dimensions: &'a [String],
    /// The sidecar's version.
    version: &'static str,
    /// Most items on a page.
    page_size_max: u32,
    /// Most changes of pools in one call.
    changes_max: usize,
    /// Whether exact numbers are told on this address.
    exact: bool,
}

/// Show what has to be known of the installation.
#[utoipa::path(
    get, path = "/v1/settings", operation_id = "get_settings", tag = "service",
    responses((status = 200, description = "The settings", body = Settings), EngineProblems),
)]
pub(crate) async fn get(State(context): State<Context>) -> Result<Response, Problem> {
    let welcome = context.app.engine.client()?.welcome();
    let settings = Settings {
        time_zone: &context.app.options.time_zone,
        dimensions: &welcome.dimensions,
        version: env!("CARGO_PKG_VERSION"),
        page_size_max: PAGE_SIZE_MAX,
        changes_max: CHANGE_COUNT_MAX,
        exact: context.audience.exact,
    };
    Ok(reply(StatusCode::OK, &settings))
}
