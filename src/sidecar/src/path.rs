//! What stands in a path in place of `{id}` or `{name}`.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// What stands in the path, decoded.
pub(crate) struct Path(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(text)) => Ok(Path(text)),
            Err(rejection) => Err(Problem::new(ProblemKind::BadId, rejection.body_text())),
        }
    }
}
