//! What the sidecar counts of its own requests.

use std::time::Duration;

use http::{Method, StatusCode};

/// What the sidecar counts of its own requests.
#[derive(Default)]
pub(crate) struct Metrics {}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, _method: &Method, _operation: &str, _status: StatusCode, _took: Duration) {}
}
