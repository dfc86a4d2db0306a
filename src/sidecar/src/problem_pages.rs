//! The pages that explain problems.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::path::Path;
use crate::problem::Problem;
use crate::problem_kind::{KINDS, ProblemKind};

/// Explain a kind of problem.
#[utoipa::path(
    get, path = "/problems/{slug}", operation_id = "explain_problem", tag = "service",
    params(("slug" = String, Path, description = "The last part of a problem's `type`", example = "pool-closed")),
    responses(
        (status = 200, description = "A page for people", body = String, content_type = "text/html"),
        (status = 404, description = "`not-found`", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(Path(slug): Path) -> Result<Response, Problem> {
    let row = KINDS.iter().find(|row| row.slug == slug);
    let row = row.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such kind of problem"))?;
    let again = match row.retryable {
        true => "Sending the same again may help.",
        false => "Sending the same again does not help.",
    };
    let applied = match row.applied {
        Some(_) => "It had no effect.",
        None => "It may have had an effect.",
    };
    // Nothing here comes from outside.
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title} - Plimsoll</title>\n<h1>{title}</h1>\n<p>Status {status}, <code>{slug}</code>. {applied} {again}</p>\n<p>{help}</p>\n",
        title = row.title,
        status = row.status.as_u16(),
        slug = row.slug,
        help = html(row.help),
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=3600"),
    ];
    Ok((headers, page).into_response())
}

/// What stands between backticks is code.
fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => part.to_owned(),
            _ => format!("<code>{part}</code>"),
        })
        .collect()
}
