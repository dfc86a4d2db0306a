//! How a client behaves.

use std::time::Duration;

use crate::limits::{NAMES_MAX_DEFAULT, QUEUE_COMMANDS_MAX_DEFAULT};

/// How a client behaves. The defaults suit a service that shares one client among its tasks.
///
/// ```
/// use plimsoll_client::Options;
/// use std::time::Duration;
///
/// let options = Options { request_timeout: Duration::from_secs(2), connections: 4, ..Options::default() };
/// assert!(options.retry);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest time for a TCP connection and the exchange of `hello`. Default 5 s.
    pub connect_timeout: Duration,
    /// The deadline of a call, with everything that is tried again in it. Default 10 s.
    pub request_timeout: Duration,
    /// Pauses before connecting again, and before sending again what was refused as overloaded.
    pub backoff: Backoff,
    /// Connections, at least 1. Calls take turns between them. Default 1.
    pub connections: usize,
    /// Whether commands are sent again within their deadline: after a lost connection reserves by their key,
    /// confirmations and releases by state, resizes by their absolute values; and anything that was refused as
    /// overloaded or unavailable. Default true.
    pub retry: bool,
    /// Limits of a frame that is gathered from several calls.
    pub gather: Gather,
    /// Commands that may wait on one connection; one more is refused with
    /// [`Error::QueueFull`](crate::Error::QueueFull).
    pub queue_commands_max: usize,
    /// Pools whose ids are remembered by name; and as many whose names, zones and kinds are remembered by id.
    pub names_max: usize,
    /// Who calls, for the server's log: program and version.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            backoff: Backoff::default(),
            connections: 1,
            retry: true,
            gather: Gather::default(),
            queue_commands_max: QUEUE_COMMANDS_MAX_DEFAULT,
            names_max: NAMES_MAX_DEFAULT,
            name: concat!("plimsoll-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A pause that doubles from `min` to `max`. Each time a random part of it, at least half, is waited, so that many
/// callers do not come back at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause. Default 20 ms.
    pub min: Duration,
    /// The longest pause, at most an hour. Default 1 s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(20),
            max: Duration::from_secs(1),
        }
    }
}

/// No pause is longer, so that a point in time can be computed with it.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

impl Backoff {
    /// The pause after `failures` failures in a row, from 1.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doubled = self.min.saturating_mul(
            1_u32
                .checked_shl(failures.saturating_sub(1).min(31))
                .unwrap_or(u32::MAX),
        );
        let whole = doubled.min(self.max.max(self.min)).min(PAUSE_MAX);
        // Without a random source the pause is still within its range.
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Limits of a gathered frame; the server's own are kept as well.
///
/// Nothing waits for company: a frame takes what has queued while the one before it was being written. With
/// `commands_max: 1` each command travels in a frame of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Most commands, at least 1. Default 1,024.
    pub commands_max: usize,
    /// Most bytes. Default 256 KiB.
    pub size_bytes_max: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            commands_max: 1024,
            size_bytes_max: 256 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_range() {
        let backoff = Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_millis(100),
        };
        for (failures, whole_ms) in [
            (0, 10),
            (1, 10),
            (2, 20),
            (3, 40),
            (4, 80),
            (5, 100),
            (40, 100),
            (u32::MAX, 100),
        ] {
            let pause = backoff.pause(failures);
            let whole = Duration::from_millis(whole_ms);
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
        let endless = Backoff {
            min: Duration::MAX,
            max: Duration::MAX,
        };
        assert!(endless.pause(3) <= PAUSE_MAX);
    }
}
