//! Several changes of pools in one call: all take effect or none.
//!
//! The engine decides each pool on the core that owns it, so changes of several pools are checked together first, then put
//! with the versions that they were made from. When somebody else's change of one of these pools comes between, what was
//! put is taken back, under the versions that it got.

use std::collections::HashSet;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use plimsoll_client::protocol::VERSION_ABSENT;
use plimsoll_client::{Applied, Change, Client, Pool, PoolDefinition, PutResult, Refusal, Status};
use plimsoll_form::{PoolForm, etag_of};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::Context;
use crate::conditions::{self, Conditions};
use crate::definition::{DefinitionBody, DefinitionPatch};
use crate::json_body::{JsonBody, invalid_in, reply};
use crate::limits::CHANGE_COUNT_MAX;
use crate::path::Path;
use crate::pointer;
use crate::pool_edits;
use crate::pools;
use crate::problem::{FieldError, Problem};
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{BodyProblems, ChangeProblems, Changed, EngineProblems, PoolMissing, QueryProblems};
use crate::putting::{check_all, put_all, to_its_end, unknown};
use crate::query::NoQuery;
use crate::values::PoolName;

/// Changes of different pools.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PoolChanges)]
pub(crate) struct ChangesBody {
    #[schema(min_items = 1, max_items = 5000)]
    changes: Vec<ChangeBody>,
    /// Check everything, change nothing.
    #[serde(default)]
    #[schema(required = false)]
    dry_run: bool,
}

/// A change of one pool: a patch of what stands, or a whole definition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PoolChange)]
struct ChangeBody {
    pool: PoolName,
    /// The ETag that the change was made from.
    #[schema(example = "\"1f-7\"")]
    if_match: Option<String>,
    /// `*`: there must be no such pool.
    #[schema(example = "*")]
    if_none_match: Option<String>,
    /// An RFC 7396 merge patch. Either this or `definition`.
    patch: Option<DefinitionPatch>,
    /// The whole definition. Either this or `patch`.
    definition: Option<DefinitionBody>,
}

/// What the changes did, or would do.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangesDone<'a> {
    created: u64,
    changed: u64,
    unchanged: u64,
    /// The pools afterwards, in the order of the changes; of a dry run, as they would be, with the ETags that stand.
    pools: Vec<PoolForm<'a>>,
}

/// A pool that is not what a change was made from.
#[derive(Serialize)]
struct Conflict<'a> {
    pool: &'a str,
    etag: Option<String>,
    current: Option<PoolForm<'a>>,
}

/// Change several pools: all or none.
///
/// Up to 5,000 changes of different pools, each under its own ETag. 412 names in `conflicts` all that were changed meanwhile, and nothing is done.
///
/// They are checked together, and then made one after another, each on the core that owns its pool. Whoever reads meanwhile may see some of them made. When one
/// cannot be made after all, the others are taken back; a pool that was created stays, and so does what a crash came between. Then it is 500
/// `partly-applied`, with the names in `pools`: read those, and send again what is missing.
#[utoipa::path(
    post, path = "/v1/pools/changes", operation_id = "change_pools", tag = "pools", request_body = ChangesBody,
    responses(
        (status = 200, description = "All are done, or would be", body = ChangesDone),
        BodyProblems, PoolMissing, Changed, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn change(
    State(context): State<Context>,
    JsonBody { value: body, bytes }: JsonBody<ChangesBody>,
) -> Result<Response, Problem> {
    let client = context.app.engine.client()?;
    let dimensions = client.dimensions();
    let asked = check(&body.changes, &dimensions).map_err(|errors| invalid_in(&bytes, errors))?;
    let names: Vec<&str> = body.changes.iter().map(|change| change.pool.0.as_str()).collect();
    let standing = named(&client, &names).await?;
    let are_held: Vec<bool> = asked
        .iter()
        .zip(&standing)
        .map(|(asked, pool)| asked.hold(pool.as_ref()))
        .collect();
    if are_held.contains(&false) {
        return Err(conflicts(&names, &standing, &are_held, &dimensions));
    }
    let definitions = definitions(&body.changes, &standing, &dimensions, &bytes)?;
    let mut results = check_all(&client, &definitions).await?;
    judge(&client, &names, &results, &dimensions).await?;
    if !body.dry_run {
        let (client, dimensions) = (client.clone(), dimensions.clone());
        let (definitions, standing) = (definitions.clone(), standing.clone());
        let put = async move { put(&client, &definitions, &standing, &dimensions).await };
        results = to_its_end(&context.app.changes, put).await?;
    }
    let pools = match body.dry_run {
        false => named(&client, &names).await.map_err(|_| Problem::unseen())?,
        true => standing,
    };
    if !body.dry_run && pools.contains(&None) {
        return Err(Problem::unseen());
    }
    let pools: Vec<Pool> = pools
        .into_iter()
        .zip(&definitions)
        .zip(&results)
        .map(|((pool, definition), result)| shown(pool, definition, result, body.dry_run))
        .collect();
    let count = |change| results.iter().filter(|result| result.change == change).count() as u64;
    let done = ChangesDone {
        created: count(Change::Created),
        changed: count(Change::Changed),
        unchanged: count(Change::Unchanged),
        pools: pools.iter().map(|pool| PoolForm::new(pool, &dimensions)).collect(),
    };
    Ok(reply(StatusCode::OK, &done))
}

/// A pool as it is afterwards, or would be.
fn shown(pool: Option<Pool>, definition: &PoolDefinition, result: &PutResult, is_dry: bool) -> Pool {
    let zeros = || vec![0; definition.limits.len()];
    let mut pool = pool.unwrap_or_else(|| Pool {
        id: result.pool.unwrap_or(plimsoll_client::PoolId(0)),
        definition: PoolDefinition {
            version: result.version,
            ..definition.clone()
        },
        held: zeros(),
        confirmed: zeros(),
    });
    if is_dry {
        let version = pool.definition.version;
        pool.definition = PoolDefinition {
            version,
            ..definition.clone()
        };
    }
    pool
}

async fn named(client: &Client, names: &[&str]) -> Result<Vec<Option<Pool>>, Problem> {
    client
        .pools_named(names)
        .await
        .map_err(|error| Problem::of_read(&error))
}

/// Checks what can be checked without the pools, and reads the conditions.
fn check(changes: &[ChangeBody], dimensions: &[String]) -> Result<Vec<Conditions>, Vec<FieldError>> {
    let count = changes.len();
    let error = |pointer: String, detail: String| FieldError { pointer, detail };
    if !(1..=CHANGE_COUNT_MAX).contains(&count) {
        let detail = format!("expected 1 to {CHANGE_COUNT_MAX} changes, found {count}");
        return Err(vec![error("/changes".to_owned(), detail)]);
    }
    let mut names = HashSet::with_capacity(count);
    let mut errors = Vec::new();
    let mut conditions = Vec::with_capacity(count);
    for (index, change) in changes.iter().enumerate() {
        let place = format!("/changes/{index}");
        if !names.insert(change.pool.0.as_str()) {
            let detail = format!("{:?} is changed by an earlier one already", change.pool.0);
            errors.push(error(pointer::to(&place, "pool"), detail));
        }
        if change.patch.is_some() == change.definition.is_some() {
            let detail = "give either `patch` or `definition`".to_owned();
            errors.push(error(place.clone(), detail));
        }
        let patch = change.patch.as_ref();
        let patch = patch.map_or(Ok(()), |patch| patch.check(dimensions, &pointer::to(&place, "patch")));
        let definition = change.definition.as_ref().map_or(Ok(()), |definition| {
            let place = pointer::to(&place, "definition");
            definition.read(&change.pool.0, dimensions, &place).map(drop)
        });
        errors.extend(patch.err().into_iter().chain(definition.err()).flatten());
        match Conditions::of_texts(change.if_match.as_deref(), change.if_none_match.as_deref()) {
            Ok(asked) => conditions.push(asked),
            Err(field) => errors.push(error(pointer::to(&place, field), conditions::EXPECTED.to_owned())),
        }
    }
    if errors.is_empty() { Ok(conditions) } else { Err(errors) }
}

/// The definitions that are asked for, each under the version that stands.
fn definitions(
    changes: &[ChangeBody],
    standing: &[Option<Pool>],
    dimensions: &[String],
    bytes: &[u8],
) -> Result<Vec<PoolDefinition>, Problem> {
    let mut definitions = Vec::with_capacity(changes.len());
    let mut errors = Vec::new();
    for (index, (change, pool)) in changes.iter().zip(standing).enumerate() {
        let place = format!("/changes/{index}");
        let read = match (&change.patch, &change.definition, pool) {
            (Some(patch), _, Some(pool)) => patch.apply(&pool.definition, dimensions, &pointer::to(&place, "patch")),
            (None, Some(definition), _) => {
                let read = definition.read(&change.pool.0, dimensions, &pointer::to(&place, "definition"));
                read.map(|definition| PoolDefinition {
                    version: pool.as_ref().map_or(VERSION_ABSENT, |pool| pool.definition.version),
                    ..definition
                })
            }
            _ => return Err(pools::pool_not_found().with("pool", &change.pool.0)),
        };
        match read {
            Ok(definition) => definitions.push(definition),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        Ok(definitions)
    } else {
        Err(invalid_in(bytes, errors))
    }
}

/// Puts the definitions; those of pools that exist first, since these can be taken back.
async fn put(
    client: &Client,
    definitions: &[PoolDefinition],
    standing: &[Option<Pool>],
    dimensions: &[String],
) -> Result<Vec<PutResult>, Problem> {
    let mut order: Vec<usize> = (0..definitions.len()).collect();
    order.sort_by_key(|index| standing[*index].is_none());
    let new_from = order.partition_point(|index| standing[*index].is_some());
    let mut done: Vec<(usize, PutResult)> = Vec::with_capacity(order.len());
    for part in [&order[..new_from], &order[new_from..]] {
        let part_definitions: Vec<_> = part.iter().map(|index| definitions[*index].clone()).collect();
        if part_definitions.is_empty() {
            continue;
        }
        let results = match put_all(client, &part_definitions).await {
            Err(problem) if done.is_empty() => return Err(problem),
            // What was put before is taken back all the same.
            Err(_) => vec![unknown(); part.len()],
            Ok(results) => results,
        };
        done.extend(part.iter().copied().zip(results));
        if done.iter().any(|(_, result)| !result.status.is_ok()) {
            return Err(taken_back(client, definitions, standing, &done, dimensions).await);
        }
    }
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Takes back what was put, and says why.
async fn taken_back(
    client: &Client,
    definitions: &[PoolDefinition],
    standing: &[Option<Pool>],
    done: &[(usize, PutResult)],
    dimensions: &[String],
) -> Problem {
    let mut earlier = Vec::new();
    let mut stay: Vec<&str> = Vec::new();
    for (index, result) in done {
        match (result.change, &standing[*index]) {
            (Change::Changed, Some(pool)) => earlier.push(PoolDefinition {
                version: result.version,
                ..pool.definition.clone()
            }),
            // A pool that is there stays there.
            (Change::Created, _) => stay.push(&definitions[*index].name),
            _ if result.status.applied() == Applied::Unknown => stay.push(&definitions[*index].name),
            _ => {}
        }
    }
    match put_all(client, &earlier).await {
        Ok(results) => {
            let pairs = earlier
                .iter()
                .zip(&results)
                .filter(|(_, result)| !result.status.is_ok());
            stay.extend(pairs.map(|(definition, _)| definition.name.as_str()));
        }
        Err(_) => stay.extend(earlier.iter().map(|definition| definition.name.as_str())),
    }
    if !stay.is_empty() {
        let detail =
            "not all of the changes could be made, and not all that were made, or may have been, could be taken back";
        return Problem::new(ProblemKind::PartlyApplied, detail).with("pools", stay);
    }
    let results: Vec<PutResult> = done.iter().map(|(_, result)| *result).collect();
    let names: Vec<&str> = done
        .iter()
        .map(|(index, _)| definitions[*index].name.as_str())
        .collect();
    match judge(client, &names, &results, dimensions).await {
        Err(problem) => problem,
        Ok(()) => Problem::new(ProblemKind::Internal, "the engine refused a change without a reason"),
    }
}

/// Whether the engine takes all of them.
async fn judge(client: &Client, names: &[&str], results: &[PutResult], dimensions: &[String]) -> Result<(), Problem> {
    let changed: Vec<&str> = names
        .iter()
        .zip(results)
        .filter(|(_, result)| result.status == Status::ChangedMeanwhile.into())
        .map(|(name, _)| *name)
        .collect();
    if !changed.is_empty() {
        let standing = named(client, &changed).await?;
        return Err(conflicts(&changed, &standing, &vec![false; changed.len()], dimensions));
    }
    match names.iter().zip(results).find(|(_, result)| !result.status.is_ok()) {
        Some((name, result)) => Err(Problem::refused(&Refusal::new(result.status)).with("pool", name)),
        None => Ok(()),
    }
}

/// The problem of changes that were made from something else than what stands.
fn conflicts(names: &[&str], standing: &[Option<Pool>], are_held: &[bool], dimensions: &[String]) -> Problem {
    let conflicts: Vec<Conflict<'_>> = names
        .iter()
        .zip(standing)
        .zip(are_held)
        .filter(|(_, is_held)| !**is_held)
        .map(|((name, pool), _)| Conflict {
            pool: name,
            etag: pool.as_ref().map(etag_of),
            current: pool.as_ref().map(|pool| PoolForm::new(pool, dimensions)),
        })
        .collect();
    let detail = format!(
        "{} of the pools are not what the changes were made from; nothing was changed",
        conflicts.len()
    );
    Problem::new(ProblemKind::ChangedMeanwhile, detail).with("conflicts", conflicts)
}

/// A pool may be called `changes`: then this path is its own for the other methods.
pub(crate) mod a_pool_of_this_name {
    use plimsoll_form::PoolForm;

    use super::{
        BodyProblems, ChangeProblems, Changed, Context, DefinitionBody, DefinitionPatch, EngineProblems, HeaderMap,
        JsonBody, NoQuery, Path, PoolMissing, Problem, QueryProblems, Response, State, pool_edits, pools,
    };

    fn name() -> Path {
        Path("changes".to_owned())
    }

    /// Show the pool that has this name.
    #[utoipa::path(
        get, path = "/v1/pools/changes", operation_id = "get_pool_changes", tag = "pools",
        responses((status = 200, description = "The pool now", body = PoolForm), PoolMissing, QueryProblems, EngineProblems),
    )]
    pub(crate) async fn get(context: State<Context>, no_query: NoQuery) -> Result<Response, Problem> {
        pools::get(context, name(), no_query).await
    }

    /// Create the pool that has this name, or change it to this definition.
    #[utoipa::path(
        put, path = "/v1/pools/changes", operation_id = "put_pool_changes", tag = "pools", request_body = DefinitionBody,
        responses(
            (status = 201, description = "Created", body = PoolForm),
            (status = 200, description = "Changed, or like that already", body = PoolForm),
            BodyProblems, Changed, EngineProblems, ChangeProblems,
        ),
    )]
    pub(crate) async fn put(
        context: State<Context>,
        headers: HeaderMap,
        body: JsonBody<DefinitionBody>,
    ) -> Result<Response, Problem> {
        pool_edits::put(context, name(), headers, body).await
    }

    /// Change some of the definition of the pool that has this name.
    #[utoipa::path(
        patch, path = "/v1/pools/changes", operation_id = "patch_pool_changes", tag = "pools",
        request_body(content((DefinitionPatch = "application/merge-patch+json"), (DefinitionPatch = "application/json"))),
        responses((status = 200, description = "Changed, or like that already", body = PoolForm), BodyProblems, PoolMissing, Changed, EngineProblems, ChangeProblems),
    )]
    pub(crate) async fn patch(
        context: State<Context>,
        headers: HeaderMap,
        body: JsonBody<DefinitionPatch>,
    ) -> Result<Response, Problem> {
        pool_edits::patch(context, name(), headers, body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_wrong(changes: &str, pointer: &str) {
        let body: ChangesBody = serde_json::from_str(&format!("{{\"changes\": {changes}}}")).unwrap();
        let errors = check(&body.changes, &[]).unwrap_err();
        assert_eq!(errors[0].pointer, pointer, "{changes}: {errors:?}");
    }

    #[test]
    fn what_cannot_be_a_change_is_named() {
        check_wrong("[]", "/changes");
        check_wrong(
            r#"[{"pool": "a", "patch": {}}, {"pool": "a", "patch": {}}]"#,
            "/changes/1/pool",
        );
        check_wrong(r#"[{"pool": "a"}]"#, "/changes/0");
        check_wrong(
            r#"[{"pool": "a", "patch": {}, "if_match": "\"a"}]"#,
            "/changes/0/if_match",
        );
    }
}
