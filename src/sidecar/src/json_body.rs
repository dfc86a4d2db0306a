//! Bodies of JSON: read within bounds, and judged so that a mistake is named by field, line and column.

use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::Segment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::Context;
use crate::limits::{BODY_SIZE_BYTES_FREE, BODY_TIMEOUT, ERRORS_TOLD_MAX, JSON_SIZE_BYTES_MAX};
use crate::pointer;
use crate::problem::{FieldError, Problem};
use crate::problem_kind::ProblemKind;
use crate::query::NoQuery;

/// A body of JSON, with its bytes, so that what is found wrong later can be given its line. What goes with it stands in it: such a request has no
/// parameters.
pub(crate) struct JsonBody<T> {
    pub(crate) value: T,
    pub(crate) bytes: Received,
}

/// A body that has arrived. It has its room for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: DeserializeOwned> FromRequest<Context> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        NoQuery::from_request_parts(&mut parts, context).await?;
        let request = Request::from_parts(parts, body);
        let media_type = media_type(request.headers());
        if !matches!(&*media_type, "application/json" | "application/merge-patch+json") {
            return Err(wrong_media_type(&media_type, "application/json"));
        }
        let bytes = read(request, JSON_SIZE_BYTES_MAX, &context.app.bodies).await?;
        let value = parse(&bytes)?;
        Ok(JsonBody { value, bytes })
    }
}

/// The type that a request's body has, in lower case and without parameters; empty when none is named.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    named
        .and_then(|text| text.split(';').next())
        .map_or_else(String::new, |media_type| media_type.trim().to_ascii_lowercase())
}

pub(crate) fn wrong_media_type(found: &str, expected: &str) -> Problem {
    let found = if found.is_empty() { "none" } else { found };
    Problem::new(
        ProblemKind::UnsupportedMediaType,
        format!("expected Content-Type {expected}, found {found}"),
    )
}

/// Reads a body of at most so many bytes, and takes room for it as it comes; a small one needs none.
pub(crate) async fn read(request: Request, size_max: usize, bodies: &Arc<Semaphore>) -> Result<Received, Problem> {
    let headers = request.headers();
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|size| size > size_max as u64) {
        return Err(too_large(size_max));
    }
    let encoding = headers.get(CONTENT_ENCODING);
    if let Some(encoding) = encoding.filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = format!("expected a body without Content-Encoding, found {encoding:?}");
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let reading = gather(request.into_body(), size_max, bodies);
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {BODY_TIMEOUT:?}");
        Err(Problem::new(ProblemKind::Timeout, detail))
    })
}

async fn gather(body: Body, size_max: usize, bodies: &Arc<Semaphore>) -> Result<Received, Problem> {
    let mut body = Limited::new(body, size_max);
    // Most come in one piece, which stays where it is.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(size_max),
            None => Problem::new(ProblemKind::NotJson, format!("the body cannot be read: {error}")),
        })?;
        // Trailers tell nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        let size = whole.len() + pieces.len() + piece.len();
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if size > BODY_SIZE_BYTES_FREE && size > has {
            let more = Arc::clone(bodies).try_acquire_many_owned((size - has) as u32);
            let busy = "too many large bodies are being read";
            let more = more.map_err(|_| Problem::new(ProblemKind::Overloaded, busy))?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
        }
        if size == piece.len() {
            whole = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&piece);
        }
    }
    let bytes = if pieces.is_empty() { whole } else { pieces.freeze() };
    Ok(Received { bytes, _room: room })
}

fn too_large(size_max: usize) -> Problem {
    let detail = format!("a body has at most {size_max} bytes here");
    Problem::new(ProblemKind::TooLarge, detail)
}

/// Reads a value, or says where it is wrong: 400 for what is not JSON, 422 for JSON that does not fit.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // What is right is read without keeping account of where.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    // What is passed over below is not looked at for it.
    if let Err(error) = std::str::from_utf8(bytes) {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len) + 1;
        return Err(Problem::new(
            ProblemKind::NotJson,
            format!("the body is not UTF-8 at line {line} column {column}"),
        ));
    }
    // A field may be wrong before the place where the text stops being JSON.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Err(Problem::new(
            ProblemKind::NotJson,
            format!("the body is not JSON: {error}"),
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(value) => Ok(value),
        Err(error) => Err(Problem::invalid(vec![field_error(&error, "")])),
    }
}

/// Where and what is wrong, with the pointer below `place`.
pub(crate) fn field_error(error: &serde_path_to_error::Error<serde_json::Error>, place: &str) -> FieldError {
    let mut found = place.to_owned();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => pointer::push(&mut found, &index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => pointer::push(&mut found, key),
            Segment::Unknown => {}
        }
    }
    let text = error.inner().to_string();
    // Where a field is missing or repeated, the place that was reached is the object.
    for beginning in ["missing field `", "duplicate field `"] {
        if let Some(name) = text.strip_prefix(beginning).and_then(|rest| rest.split('`').next()) {
            pointer::push(&mut found, name);
        }
    }
    FieldError {
        pointer: found,
        detail: text,
    }
}

/// What is wrong in fields of a body whose JSON fits: each that is listed gets the line and column of its value.
pub(crate) fn invalid_in(bytes: &[u8], mut errors: Vec<FieldError>) -> Problem {
    for error in errors.iter_mut().take(ERRORS_TOLD_MAX) {
        if let Some((line, column)) = pointer::locate(bytes, &error.pointer) {
            error.detail = format!("{} at line {line} column {column}", error.detail);
        }
    }
    Problem::invalid(errors)
}

/// An answer of JSON that nobody keeps.
pub(crate) fn reply(status: StatusCode, value: &impl Serialize) -> Response {
    let body = match serde_json::to_vec(value) {
        Ok(body) => body,
        Err(error) => return Problem::new(ProblemKind::Internal, error.to_string()).into_response(),
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::values::{PoolName, UnitsMap};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters here")]
    struct Order {
        pool: PoolName,
        units: UnitsMap,
        notes: Option<Vec<u32>>,
    }

    fn check(text: &str, status: u16, pointer: &str, detail: &str) {
        let problem = parse::<Order>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.status().as_u16(), status, "{text}: {problem:?}");
        if status == 422 {
            let error = &problem.errors()[0];
            assert_eq!(error.pointer, pointer, "{text}: {error:?}");
            assert!(error.detail.contains(detail), "{text}: {error:?}");
        } else {
            let document = serde_json::to_value(problem.document()).unwrap();
            assert!(document["detail"].as_str().unwrap().contains(detail), "{document}");
        }
    }

    #[test]
    fn a_mistake_is_named_by_field_and_line() {
        check(
            "{\"pool\": \"a\",\n \"units\": {\"rooms\": \"x\"}}",
            422,
            "/units/rooms",
            "line 2 column",
        );
        check(
            "{\"pool\": \"a\", \"units\": {\"a/b~c\": -1}}",
            422,
            "/units/a~1b~0c",
            "from 0 to 2147483647",
        );
        check(
            "{\"pool\": \"a\", \"units\": {\"a\": 1, \"a\": 1}}",
            422,
            "/units/a",
            "twice",
        );
        check(
            "{\"pool\": \"a\", \"units\": {\"a\": 2147483648}}",
            422,
            "/units/a",
            "from 0 to 2147483647",
        );
        check(
            "{\"pool\": \"a\", \"pool\": \"a\", \"units\": {}}",
            422,
            "/pool",
            "duplicate field `pool`",
        );
        check("{\"pool\": \"a\"}", 422, "/units", "missing field `units`");
        check("{\"pool\": \"a b\", \"units\": {}}", 422, "/pool", "must match");
        check(
            "{\"pool\": \"a\", \"units\": {}, \"colour\": 1}",
            422,
            "/colour",
            "unknown field `colour`",
        );
        check(
            "{\"pool\": \"a\", \"units\": {}, \"notes\": [1, 2, null]}",
            422,
            "/notes/2",
            "null",
        );
        check("[]", 422, "", "line 1");
        check("{\"pool\": 1,\n", 400, "", "line 2 column 0");
        check("", 400, "", "EOF");
        check("{} x", 400, "", "trailing");
    }

    #[test]
    fn of_many_mistakes_the_first_are_listed() {
        let error = |index: usize| FieldError {
            pointer: format!("/{index}"),
            detail: "wrong".to_owned(),
        };
        let bytes = serde_json::to_vec(&vec![0; 5000]).unwrap();
        let problem = invalid_in(&bytes, (0..5000).map(error).collect());
        let document = serde_json::to_value(problem.document()).unwrap();
        let errors = document["errors"].as_array().unwrap();
        assert_eq!(errors.len(), ERRORS_TOLD_MAX);
        assert_eq!(errors[99]["detail"], "wrong at line 1 column 200");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.ends_with("and 4999 more"), "{detail}");
    }

    #[tokio::test]
    async fn large_bodies_share_a_room() {
        let bodies = Arc::new(Semaphore::new(50_000));
        let read_of = async |pieces: &[usize]| {
            let pieces: Vec<Result<Bytes, std::io::Error>> =
                pieces.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect();
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            read(Request::new(body), 60_000, &bodies).await
        };
        let small = read_of(&[1, 2, 16_381]).await.unwrap();
        assert_eq!((small.len(), bodies.available_permits()), (16_384, 50_000));
        let first = read_of(&[16_384, 13_616]).await.unwrap();
        assert_eq!((first.len(), bodies.available_permits()), (30_000, 20_000));
        assert_eq!(read_of(&[30_000]).await.unwrap_err().status(), 429);
        assert_eq!(read_of(&[10_000, 10_000, 10_000]).await.unwrap_err().status(), 429);
        drop(first);
        assert_eq!(bodies.available_permits(), 50_000);
        assert_eq!(read_of(&[30_000, 30_001]).await.unwrap_err().status(), 413);
        assert_eq!(bodies.available_permits(), 50_000);
    }

    #[test]
    fn what_is_not_utf8_is_not_json() {
        let text = b"{\"pool\": \"a\",\n \"units\": {\"\xff\": 1}}";
        let problem = parse::<Order>(text).unwrap_err();
        let document = serde_json::to_value(problem.document()).unwrap();
        assert_eq!(
            (&document["status"], &document["detail"]),
            (&400.into(), &"the body is not UTF-8 at line 2 column 13".into())
        );
    }

    #[test]
    fn fields_that_are_found_wrong_later_have_their_line_too() {
        let text = b"{\"pool\": \"a\",\n  \"units\": {\"rooms\": 1}}";
        let error = FieldError {
            pointer: "/units/rooms".into(),
            detail: "there is no such dimension".into(),
        };
        let problem = invalid_in(text, vec![error]);
        assert_eq!(
            problem.errors()[0].detail,
            "there is no such dimension at line 2 column 22"
        );
    }
}
