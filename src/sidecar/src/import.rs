//! Importing pools from a file, all or nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use plimsoll_client::{Change, PoolDefinition, PutResult, Refusal};
use plimsoll_form::limits::ERROR_COUNT_KEPT_MAX;
use plimsoll_form::{FileError, FileErrors, FileForm, PoolRow, read_pools, wire_form, without_byte_order_mark};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Context;
use crate::json_body::{media_type, read, reply, wrong_media_type};
use crate::limits::IMPORT_SIZE_BYTES_MAX;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{BodyProblems, ChangeProblems, EngineProblems};
use crate::putting::{check_all, put_all, to_its_end};
use crate::query::Query;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportParameters {
    /// Check everything, change nothing, and tell what would change.
    dry_run: Option<bool>,
}

/// What an import did, or would do.
#[derive(Serialize, ToSchema)]
pub(crate) struct Imported {
    /// Pools that are new.
    created: u64,
    /// Pools that have another definition from now on.
    changed: u64,
    /// Pools that are like that already.
    unchanged: u64,
    /// What is wrong, by line and column; empty here.
    errors: Vec<FileError>,
    /// Of a dry run: what each line would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    changes: Option<Vec<LineChange>>,
}

/// What a line does.
#[derive(Serialize, ToSchema)]
struct LineChange {
    line: u64,
    pool: String,
    /// `created`, `changed` or `unchanged`
    change: &'static str,
}

/// Create and change pools from a file, all or nothing.
///
/// CSV with a header (`,` or `;`), or an object on each line. Columns: `name, zone, kind, starts_at, ends_at`, optional
/// `opens_at, closes_at, coverage` (prefixes separated by spaces)`, state, mode, overbook_<dimension>`, and one for each dimension with the limit; `held_*,
/// confirmed_*, remaining_*` are ignored, so that a sheet can be edited and imported. With any error nothing is changed.
#[utoipa::path(
    post, path = "/v1/pools/import", operation_id = "import_pools", tag = "pools", params(ImportParameters),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Done, or what would be done", body = Imported),
        BodyProblems, EngineProblems, ChangeProblems,
    ),
)]
pub(crate) async fn import(
    State(context): State<Context>,
    Query(parameters): Query<ImportParameters>,
    request: Request,
) -> Result<Response, Problem> {
    let form = match &*media_type(request.headers()) {
        "text/csv" => FileForm::Csv,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => FileForm::Ndjson,
        other => return Err(wrong_media_type(other, "text/csv or application/x-ndjson")),
    };
    let client = context.app.engine.client()?;
    let Ok(permit) = Arc::clone(&context.app.imports).try_acquire_owned() else {
        return Err(Problem::new(
            ProblemKind::Overloaded,
            "too many files are being imported",
        ));
    };
    let content = read(request, IMPORT_SIZE_BYTES_MAX, &context.app.bodies).await?;
    let dimensions = client.dimensions();
    let dimension_count = dimensions.len();
    // A large file takes a while to read, in which others are answered.
    let reading = tokio::task::spawn_blocking(move || {
        let content = without_byte_order_mark(content.bytes.into());
        let rows = read_pools(form, &content, &dimensions)?;
        let definitions = rows.iter().map(|row| wire_form(&row.definition, dimensions.len()));
        let definitions: Vec<PoolDefinition> = definitions.collect();
        Ok((rows, definitions))
    });
    let read: Result<_, FileErrors> = reading
        .await
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    let (rows, definitions) = read.map_err(refused)?;
    debug_assert!(
        definitions
            .iter()
            .all(|definition| definition.limits.len() == dimension_count)
    );
    // All or nothing: everything is checked before anything is changed.
    let mut results = check_all(&client, &definitions).await?;
    judge(&rows, &results, false)?;
    let is_dry = parameters.dry_run.unwrap_or(false);
    if !is_dry {
        let put = async move {
            let _permit = permit;
            put_all(&client, &definitions).await
        };
        results = to_its_end(&context.app.changes, put).await?;
        judge(&rows, &results, true)?;
    }
    let count = |change| results.iter().filter(|result| result.change == change).count() as u64;
    let imported = Imported {
        created: count(Change::Created),
        changed: count(Change::Changed),
        unchanged: count(Change::Unchanged),
        errors: Vec::new(),
        changes: is_dry.then(|| changes(&rows, &results)),
    };
    Ok(reply(StatusCode::OK, &imported))
}

fn changes(rows: &[PoolRow], results: &[PutResult]) -> Vec<LineChange> {
    let pairs = rows.iter().zip(results);
    pairs
        .map(|(row, result)| LineChange {
            line: row.line,
            pool: row.definition.name.to_string(),
            change: match result.change {
                Change::Created => "created",
                Change::Changed => "changed",
                _ => "unchanged",
            },
        })
        .collect()
}

/// What the engine refuses, by the lines of the file; `is_done`: of what was to be done, not only checked.
fn judge(rows: &[PoolRow], results: &[PutResult], is_done: bool) -> Result<(), Problem> {
    let refused_results = || results.iter().filter(|result| !result.status.is_ok());
    if is_done && refused_results().next().is_some() && refused_results().count() < results.len() {
        let detail =
            "the engine changed its mind after the check; what is done stays: mend the cause and import the file again";
        let left = rows.iter().zip(results).filter(|(_, result)| !result.status.is_ok());
        let left: Vec<&str> = left
            .take(ERROR_COUNT_KEPT_MAX)
            .map(|(row, _)| &*row.definition.name)
            .collect();
        return Err(Problem::new(ProblemKind::PartlyApplied, detail).with("not_done", left));
    }
    if let Some(busy) = refused_results().find(|result| result.status.retryable()) {
        return Err(Problem::refused(&Refusal::new(busy.status)));
    }
    let mut errors = FileErrors::default();
    for (row, result) in rows.iter().zip(results).filter(|(_, result)| !result.status.is_ok()) {
        let why = match result.status.known() {
            Some(status) => format!("the engine answers {status}: {}", status.meaning()),
            None => format!("the engine answers {}", result.status),
        };
        errors.add(row.line, "name", why);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(refused(errors))
    }
}

/// A file that was not taken.
fn refused(errors: FileErrors) -> Problem {
    let count = errors.count();
    let kept = errors.into_kept();
    let detail = match &kept[..] {
        [only] if count == 1 => only.to_string(),
        [first, ..] => format!("{first}, and {} more", count - 1),
        [] => "the file cannot be read".to_owned(),
    };
    Problem::new(ProblemKind::Invalid, detail)
        .with("created", 0)
        .with("changed", 0)
        .with("unchanged", 0)
        .with("error_count", count)
        .with("errors", kept)
}
