//! The bounds of the sidecar.

use std::time::Duration;

/// The most connections of both listeners together; one more is closed at once.
pub(crate) const CONNECTION_COUNT_MAX: usize = 8192;

/// The most connections that come while the sidecar stops and are told so.
pub(crate) const LATE_CONNECTION_COUNT_MAX: usize = 256;

/// The most requests that are being answered; one more is refused as overloaded. Event streams do not count.
pub(crate) const REQUEST_COUNT_MAX: usize = 8192;

/// From the first byte of a request's head to its last, and how long an idle connection is kept.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request in bytes, to within one read of as many, and what is buffered of a body that nobody has asked for.
pub(crate) const HEAD_SIZE_BYTES_MAX: usize = 64 * 1024;

/// The most headers of a request.
pub(crate) const HEADER_COUNT_MAX: usize = 64;

/// How long a body may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take no byte of its answer.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body of JSON in bytes: a batch of 1,000 commands fits, and so do the definitions of 5,000 pools with 50 prefixes of coverage each.
pub(crate) const JSON_SIZE_BYTES_MAX: usize = 4 << 20;

/// What all bodies together may take in bytes while their requests are answered. A body that would be more is refused as overloaded.
pub(crate) const BODIES_SIZE_BYTES_MAX: usize = 256 << 20;

/// A body of up to so many bytes does not count for that: there are at most [`REQUEST_COUNT_MAX`] of them.
pub(crate) const BODY_SIZE_BYTES_FREE: usize = 16 << 10;

/// Changes of many pools at a time, those included whose caller went away.
pub(crate) const CHANGES_COUNT_MAX: usize = 64;

/// The largest body of an import in bytes: some hundred thousand pools.
pub(crate) const IMPORT_SIZE_BYTES_MAX: usize = 64 << 20;

/// The most imports at a time: each holds its file, and what it says.
pub(crate) const IMPORT_COUNT_MAX: usize = 2;

/// The most sheets of all pools at a time.
pub(crate) const SHEET_COUNT_MAX: usize = 4;

/// The most commands of a batch.
pub(crate) const BATCH_COMMAND_COUNT_MAX: usize = 1000;

/// The most changes of pools in one call: a week of all slots of a town's zones, which a planner copies at once.
pub(crate) const CHANGE_COUNT_MAX: usize = 5000;

/// The most items on a page, and how many there are when nobody says.
pub(crate) const PAGE_SIZE_MAX: u32 = 1000;
pub(crate) const PAGE_SIZE_DEFAULT: u32 = 100;

/// How many pools an availability answer holds when nobody says.
pub(crate) const AVAILABILITY_SIZE_DEFAULT: u32 = 200;

/// Pages of the engine that one request for a page of pools looks through; filters may let few of them pass.
pub(crate) const PAGES_PER_REQUEST_MAX: usize = 16;

/// How often a change of a pool is made again when another one came between, before it is refused.
pub(crate) const PATCH_ATTEMPT_COUNT_MAX: usize = 8;

/// The longest query string in bytes.
pub(crate) const QUERY_SIZE_BYTES_MAX: usize = 8192;

/// Reservations that wait to be looked up; one more is refused as overloaded.
pub(crate) const LOOKUP_COUNT_MAX: usize = 8192;

/// Reservations that are looked up together.
pub(crate) const LOOKUP_BATCH_SIZE: usize = 256;

/// Lookups on their way at a time.
pub(crate) const LOOKUPS_IN_FLIGHT_MAX: usize = 4;

/// The most event streams.
pub(crate) const STREAM_COUNT_MAX: usize = 1024;

/// Pages of the past that are read for streams at a time; the other streams wait for their turn.
pub(crate) const CATCHING_UP_COUNT_MAX: usize = 4;

/// Pages of events that are kept for a stream whose reader is slow; one that is further behind is cut off.
pub(crate) const PAGES_BEHIND_MAX: usize = 256;

/// Events of a page of the feed.
pub(crate) const FEED_PAGE_SIZE: u32 = 256;

/// How often a stream says how far it is behind.
pub(crate) const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// The most kinds that a stream may ask for.
pub(crate) const KIND_COUNT_MAX: usize = 64;

/// Samples that are kept: ten minutes.
pub(crate) const SAMPLE_COUNT_MAX: usize = 600;

/// A server that has less free disk space than this share of it, or fewer than these bytes, is not ready.
pub(crate) const DISK_FREE_SHARE_MIN: f64 = 0.01;
pub(crate) const DISK_FREE_BYTES_MIN: u64 = 256 << 20;

/// A server whose availability is older than this is not ready.
pub(crate) const AVAILABILITY_LAG_SECONDS_MAX: f64 = 5.0;

/// How long a browser or a proxy may keep an availability answer of bands.
pub(crate) const AVAILABILITY_AGE_SECONDS_MAX: u32 = 1;

/// What a caller is told to wait before another try.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many mistakes of a body are listed, each with its place: finding a place reads the body up to there. The detail tells how many there are.
pub(crate) const ERRORS_TOLD_MAX: usize = 100;
