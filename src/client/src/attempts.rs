//! Sending something again until its outcome is known or its deadline has passed.
//!
//! - `lost` is set when an attempt was sent and not answered. From then on nothing may be reported as *not applied*
//!   unless the server itself has said so with a status that is not [`retried`].

use std::time::{Duration, Instant};

use plimsoll_protocol::{Status, StatusNumber};

use crate::error::UnknownCause;
use crate::options::{Backoff, Options};
use crate::outcome::{Refusal, Unknown};

/// Whether an answer means: the same again, after a pause. The others, also `storage_full`, are for the caller to
/// judge.
pub(crate) fn retried(status: StatusNumber) -> bool {
    matches!(
        status.known(),
        Some(Status::Overloaded | Status::Unavailable | Status::ChecksumMismatch)
    )
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    pub(crate) deadline: Instant,
    retry: bool,
    /// Whether an attempt that was sent and not answered may be sent again.
    pub(crate) retry_lost: bool,
    backoff: Backoff,
    sent: u32,
    /// How many of them were not answered, also those of which the server has said later what became of them.
    lost_count: u32,
    failures: u32,
    lost: Option<UnknownCause>,
}

impl Attempts {
    pub(crate) fn new(options: &Options) -> Self {
        Self::until(options, deadline_after(options.request_timeout))
    }

    pub(crate) fn until(options: &Options, deadline: Instant) -> Self {
        let &Options { retry, backoff, .. } = options;
        Self {
            deadline,
            retry,
            retry_lost: retry,
            backoff,
            sent: 0,
            lost_count: 0,
            failures: 0,
            lost: None,
        }
    }

    /// An attempt was answered.
    pub(crate) fn answered(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// An attempt was sent and not answered.
    pub(crate) fn lose(&mut self, cause: UnknownCause) {
        self.sent = self.sent.saturating_add(1);
        self.lost_count = self.lost_count.saturating_add(1);
        tracing::debug!(%cause, attempts = self.sent, "an attempt has no outcome");
        self.lost = Some(cause);
    }

    /// The server has said what became of all attempts.
    pub(crate) fn resolve(&mut self) {
        self.lost = None;
    }

    /// What to tell the caller when an attempt was sent and not answered.
    pub(crate) fn unknown(&self) -> Option<Unknown> {
        let cause = self.lost.clone()?;
        Some(Unknown {
            cause,
            attempts: self.sent,
        })
    }

    /// How many attempts were sent and not answered.
    pub(crate) fn lost_count(&self) -> u32 {
        self.lost_count
    }

    /// What to tell the caller when the answer to the last attempt says nothing of the lost ones.
    pub(crate) fn unknown_after(&self, refusal: &Refusal) -> Unknown {
        Unknown {
            cause: UnknownCause::Status(refusal.status),
            attempts: self.sent,
        }
    }

    /// Waits before the next attempt; false when it would come too late, or is not wanted.
    pub(crate) async fn pause(&mut self) -> bool {
        if !self.retry || (self.lost.is_some() && !self.retry_lost) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.pause(self.failures);
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        tracing::debug!(?pause, failures = self.failures, "trying again after a pause");
        tokio::time::sleep(pause).await;
        true
    }

    /// Whether there is time, and leave, for another attempt at once.
    pub(crate) fn again(&self) -> bool {
        self.retry && self.retry_lost && Instant::now() < self.deadline
    }
}

/// A point in time that can be computed with, also for absurdly long timeouts.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + timeout.min(TIMEOUT_MAX)
}
