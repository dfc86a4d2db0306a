//! Moments on the command line.

use plimsoll_domain::Timestamp;
use plimsoll_journal::Lsn;
use plimsoll_replay::{History, Moment};

use crate::failure::Failure;
use crate::values::{ValueError, parse_time, parse_time_end};

/// A moment as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenMoment {
    Time(Timestamp),
    /// A place in the journal of a core; without one, of the only core there is.
    Lsn {
        core: Option<u16>,
        lsn: Lsn,
    },
}

impl GivenMoment {
    /// Up to everything that is durable.
    pub(super) const NOW: GivenMoment = GivenMoment::Time(Timestamp(i64::MAX));

    /// The moment in a directory. Each core counts its own LSNs, so that one without a core says nothing where there are several.
    pub(super) fn of(self, history: &History, option: &str) -> Result<Moment, Failure> {
        match self {
            GivenMoment::Time(time) => Ok(Moment::Time(time)),
            GivenMoment::Lsn { core: Some(core), lsn } => Ok(Moment::Lsn { core, lsn }),
            GivenMoment::Lsn { core: None, lsn } => {
                let mut cores = history.view().journals().iter().filter_map(|journal| journal.core);
                match (cores.next(), cores.count()) {
                    (core, 0) => Ok(Moment::Lsn {
                        core: core.unwrap_or(0),
                        lsn,
                    }),
                    (_, more) => Err(Failure::usage(format!(
                        "{option}: each of the {} cores has an LSN {lsn} of its own",
                        more + 1
                    ))
                    .help(format!(
                        "say which: lsn:CORE:{lsn}; 'plimsoll replay dump' prints the core of each event beside its LSN"
                    ))),
                }
            }
        }
    }
}

/// `TIME`, `lsn:N` or `lsn:CORE:N`.
pub(super) fn parse_moment(text: &str) -> Result<GivenMoment, ValueError> {
    let Some(rest) = text.strip_prefix("lsn:") else {
        return parse_time_end(text).map(|time| GivenMoment::Time(Timestamp(time)));
    };
    let (core, lsn) = match rest.split_once(':') {
        Some((core, lsn)) => (core.parse().map(Some), lsn.parse()),
        None => (Ok(None), rest.parse()),
    };
    match (core, lsn) {
        (Ok(core), Ok(lsn)) if lsn > 0 => Ok(GivenMoment::Lsn { core, lsn: Lsn(lsn) }),
        _ => Err(ValueError::new(format!(
            "expected a time, lsn:N or lsn:CORE:N such as lsn:0:4711, found {text:?}"
        ))),
    }
}

/// A time from which on something counts.
pub(super) fn parse_start(text: &str) -> Result<Timestamp, ValueError> {
    parse_time(text).map(Timestamp)
}

/// A time up to which something counts.
pub(super) fn parse_end(text: &str) -> Result<Timestamp, ValueError> {
    parse_time_end(text).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places_in_a_journal() {
        let check = |text, expected: Option<GivenMoment>| assert_eq!(parse_moment(text).ok(), expected, "{text}");
        let lsn = |core, lsn| Some(GivenMoment::Lsn { core, lsn: Lsn(lsn) });
        check("1782000000", Some(GivenMoment::Time(Timestamp(1_782_000_000_000_000))));
        check("lsn:7", lsn(None, 7));
        check("lsn:3:7", lsn(Some(3), 7));
        check("lsn:0", None);
        check("lsn:x:7", None);
        check("yesterday", None);
    }
}
