//! What goes round every request: admission, the log, headers that every answer has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};

use crate::app::{App, Context};
use crate::limits::REQUEST_COUNT_MAX;
use crate::options::AccessLog;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
use crate::trace;

/// A request that took longer is logged with the errors.
const SLOW: Duration = Duration::from_secs(1);

/// Counts a request for as long as it is being answered.
struct Admitted(Arc<App>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn observe(State(context): State<Context>, request: Request, next: Next) -> Response {
    let app = &context.app;
    let began = Instant::now();
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    let path = request.extensions().get::<MatchedPath>().cloned();
    let operation = path.as_ref().map_or("none", MatchedPath::as_str);
    let method = request.method().clone();
    let line = Line::begin(app.options.access_log, &request);
    let before = app.requests.fetch_add(1, Ordering::Relaxed);
    let admitted = Admitted(Arc::clone(app));
    let mut response = if app.is_draining() && !is_probe {
        let mut response = Problem::new(ProblemKind::Unavailable, "the server is stopping").into_response();
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        response
    } else if before >= REQUEST_COUNT_MAX && !is_probe {
        Problem::new(ProblemKind::Overloaded, "too many requests are being answered").into_response()
    } else {
        next.run(request).await
    };
    drop(admitted);
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let took = began.elapsed();
    app.metrics.answered(&method, operation, response.status(), took);
    if let Some(line) = line {
        line.end(&method, operation, &response, took);
    }
    response
}

/// What the log says of a request that the answer does not know.
struct Line {
    access_log: AccessLog,
    path: String,
    trace: Option<String>,
}

impl Line {
    fn begin(access_log: AccessLog, request: &Request) -> Option<Line> {
        let trace = trace::parent(request.headers()).map(|parent| trace::id(parent).to_owned());
        (access_log != AccessLog::Off).then(|| Line {
            access_log,
            path: request.uri().path().to_owned(),
            trace,
        })
    }

    fn end(self, method: &Method, operation: &str, response: &Response, took: Duration) {
        let status = response.status();
        let is_wanted = match self.access_log {
            AccessLog::Off => false,
            AccessLog::Errors => status.is_client_error() || status.is_server_error() || took >= SLOW,
            AccessLog::All => true,
        };
        if !is_wanted {
            return;
        }
        let problem = response.extensions().get::<ProblemKind>().map(|kind| kind.row().slug);
        let (status, path, micros) = (status.as_u16(), self.path, took.as_micros() as u64);
        let trace = self.trace.as_deref().unwrap_or("-");
        let problem = problem.unwrap_or("-");
        if status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
            tracing::warn!(target: "plimsoll::access", %method, path, operation, status, micros, problem, trace);
        } else {
            tracing::info!(target: "plimsoll::access", %method, path, operation, status, micros, problem, trace);
        }
    }
}
