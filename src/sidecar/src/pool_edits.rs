//! Changing one pool: `PUT` and `PATCH`.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use plimsoll_client::protocol::VERSION_ABSENT;
use plimsoll_client::{Change, Client, PoolDefinition, PutResult, Refusal, Status};
use plimsoll_form::PoolForm;

use crate::app::Context;
use crate::conditions::{Conditions, changed_meanwhile};
use crate::definition::{DefinitionBody, DefinitionPatch};
use crate::json_body::{JsonBody, invalid_in};
use crate::limits::PATCH_ATTEMPT_COUNT_MAX;
use crate::path::Path;
use crate::pools::{find, name_of, pool_not_found, pool_reply};
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{BodyProblems, ChangeProblems, Changed, EngineProblems, PoolMissing};

/// Create a pool, or change it to this definition.
///
/// One that is in force already changes nothing and writes no event.
#[utoipa::path(
    put, path = "/v1/pools/{name}", operation_id = "put_pool", tag = "pools", request_body = DefinitionBody,
    params(
        ("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", description = "The pool's name; not `import`"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the definition that the change was made from"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: there must be no such pool"),
    ),
    responses(
        (status = 201, description = "Created", body = PoolForm, headers(("ETag" = String, description = "Names the definition"))),
        (status = 200, description = "Changed, or like that already", body = PoolForm, headers(("ETag" = String, description = "Names the definition"))),
        BodyProblems, Changed, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn put(
    State(context): State<Context>,
    Path(name): Path,
    headers: HeaderMap,
    JsonBody { value: body, bytes }: JsonBody<DefinitionBody>,
) -> Result<Response, Problem> {
    let name = name_of(&name)?;
    let conditions = Conditions::of(&headers)?;
    let client = context.app.engine.client()?;
    let dimensions = client.dimensions();
    let mut definition = body
        .read(name, &dimensions, "")
        .map_err(|errors| invalid_in(&bytes, errors))?;
    definition.version = if conditions.is_empty() {
        0
    } else if conditions.is_for_new() {
        VERSION_ABSENT
    } else {
        let current = find(&client, name).await?;
        if !conditions.hold(current.as_ref()) {
            return Err(changed_meanwhile(current.as_ref(), &dimensions));
        }
        current.map_or(VERSION_ABSENT, |pool| pool.definition.version)
    };
    let result = put_one(&client, &definition).await?;
    if result.status == Status::ChangedMeanwhile.into() {
        let current = find(&client, name).await?;
        return Err(changed_meanwhile(current.as_ref(), &dimensions));
    }
    answer(&client, name, &result).await
}

/// Change some of a pool's definition.
///
/// An RFC 7396 merge patch: what is named changes, null takes away, the rest stays. Without `If-Match` it is merged into whatever stands.
#[utoipa::path(
    patch, path = "/v1/pools/{name}", operation_id = "patch_pool", tag = "pools",
    request_body(content((DefinitionPatch = "application/merge-patch+json"), (DefinitionPatch = "application/json"))),
    params(
        ("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", description = "The pool's name"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the definition that the change was made from"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that must not stand"),
    ),
    responses(
        (status = 200, description = "Changed, or like that already", body = PoolForm, headers(("ETag" = String, description = "Names the definition"))),
        BodyProblems, PoolMissing, Changed, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn patch(
    State(context): State<Context>,
    Path(name): Path,
    headers: HeaderMap,
    JsonBody { value: patch, bytes }: JsonBody<DefinitionPatch>,
) -> Result<Response, Problem> {
    let name = name_of(&name)?;
    let conditions = Conditions::of(&headers)?;
    let client = context.app.engine.client()?;
    let dimensions = client.dimensions();
    patch
        .check(&dimensions, "")
        .map_err(|errors| invalid_in(&bytes, errors))?;
    let mut current = None;
    for _ in 0..PATCH_ATTEMPT_COUNT_MAX {
        current = find(&client, name).await?;
        if !conditions.hold(current.as_ref()) {
            return Err(changed_meanwhile(current.as_ref(), &dimensions));
        }
        let standing = current.as_ref().ok_or_else(pool_not_found)?;
        let definition = patch
            .apply(&standing.definition, &dimensions, "")
            .map_err(|errors| invalid_in(&bytes, errors))?;
        let result = put_one(&client, &definition).await?;
        if result.status != Status::ChangedMeanwhile.into() {
            return answer(&client, name, &result).await;
        }
    }
    Err(changed_meanwhile(current.as_ref(), &dimensions))
}

async fn put_one(client: &Client, definition: &PoolDefinition) -> Result<PutResult, Problem> {
    let results = client.put_pools(std::slice::from_ref(definition), false).await;
    let results = results.map_err(|error| Problem::of_change(&error))?;
    let none = || Problem::new(ProblemKind::Internal, "the engine says nothing of the pool");
    results.into_iter().next().ok_or_else(none)
}

/// The pool as it is after a change.
async fn answer(client: &Client, name: &str, result: &PutResult) -> Result<Response, Problem> {
    if !result.status.is_ok() {
        return Err(Problem::refused(&Refusal::new(result.status)));
    }
    let status = if result.change == Change::Created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let pool = Problem::seen(find(client, name).await)?;
    Ok(pool_reply(client, status, &pool))
}
