//! The planner's page: the files of `page/app`, which are part of the program.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use rust_embed::{Embed, EmbeddedFile};

use crate::path::Path;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// A debug build reads them from the source, a release build has them in itself.
#[derive(Embed)]
#[folder = "page/app"]
#[allow_missing = true]
struct Files;

/// Nothing is loaded from elsewhere, nothing stands in the page itself, and no other page shows this one.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The types of files, by ending.
const TYPES: [(&str, &str); 8] = [
    (".html", "text/html; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".css", "text/css; charset=utf-8"),
    (".svg", "image/svg+xml"),
    (".json", "application/json"),
    (".png", "image/png"),
    (".webp", "image/webp"),
    (".woff2", "font/woff2"),
];

/// The page.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// Another file of it.
pub(crate) async fn get(Path(path): Path, headers: HeaderMap) -> Response {
    file(&path, &headers)
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    match Files::get(path) {
        Some(file) => answer(path, file, headers),
        None => Problem::new(ProblemKind::NotFound, "the page has no such file").into_response(),
    }
}

fn answer(path: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{hex}\"");
    let is_known = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content = match file.data {
            Cow::Borrowed(content) => Bytes::from_static(content),
            Cow::Owned(content) => Bytes::from(content),
        };
        Response::new(Body::from(content))
    };
    let media_type = TYPES.iter().find(|(ending, _)| path.ends_with(ending));
    let media_type = media_type.map_or("application/octet-stream", |(_, media_type)| media_type);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // Always asked for again, and not sent again while it is the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    response
}
