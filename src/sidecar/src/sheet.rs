//! Pools as a sheet: a CSV file that is written as it is read, and that an import takes.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use csv::Writer;
use futures_util::stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use plimsoll_client::Pool;
use plimsoll_form::{csv_header, csv_row};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::Context;
use crate::limits::PAGE_SIZE_MAX;
use crate::pools::Pages;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// A sheet that is being written.
struct Writing {
    pages: Pages,
    dimensions: Vec<String>,
    /// Rows that there is room for.
    room: usize,
    _permit: OwnedSemaphorePermit,
}

/// Answers with a sheet of all pages, or of the first pools of them.
pub(crate) async fn answer(context: &Context, mut pages: Pages, limit: Option<u32>) -> Result<Response, Problem> {
    let Ok(permit) = Arc::clone(&context.app.sheets).try_acquire_owned() else {
        return Err(Problem::new(
            ProblemKind::Overloaded,
            "too many sheets are being written",
        ));
    };
    let dimensions = pages.client.dimensions();
    let room = limit.map_or(usize::MAX, |limit| limit as usize);
    // What is wrong with the question is told as a problem, not in the middle of a file.
    let first = pages.next(room).await?;
    let begun = text(Some(&csv_header(&dimensions)), &first, dimensions.len())
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    let writing = Writing {
        room: room - first.len(),
        pages,
        dimensions,
        _permit: permit,
    };
    let body = stream::unfold((Some(begun), writing), |(begun, mut writing)| async {
        if let Some(begun) = begun {
            return Some((Ok(begun), (None, writing)));
        }
        let next = writing.next().await?;
        Some((next, (None, writing)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"pools.csv\""),
    );
    Ok(response)
}

impl Writing {
    /// The rows of one more page; `None`: that was the last. An error breaks the answer off, so that nobody takes a part for the whole.
    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        if self.room == 0 || self.pages.is_over() {
            return None;
        }
        let pools = match self.pages.next(self.room.min(PAGE_SIZE_MAX as usize)).await {
            Ok(pools) => pools,
            Err(problem) => {
                tracing::warn!(?problem, "a sheet is broken off");
                // Not once more after it.
                self.room = 0;
                return Some(Err(io::Error::other("the engine did not answer")));
            }
        };
        self.room -= pools.len();
        Some(text(None, &pools, self.dimensions.len()))
    }
}

fn text(header: Option<&[String]>, pools: &[Pool], dimension_count: usize) -> Result<Bytes, io::Error> {
    let mut writer = Writer::from_writer(Vec::new());
    if let Some(header) = header {
        writer.write_record(header)?;
    }
    for pool in pools {
        writer.write_record(csv_row(pool, dimension_count))?;
    }
    let written = writer
        .into_inner()
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(written.into())
}
