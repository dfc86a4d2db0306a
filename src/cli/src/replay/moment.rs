//! Moments on the command line.

use plimsoll_domain::Timestamp;
use plimsoll_journal::Lsn;
use plimsoll_replay::Moment;

use crate::values::{ValueError, parse_time};

/// `TIME`, `lsn:N` or `lsn:CORE:N`.
pub(super) fn parse_moment(text: &str) -> Result<Moment, ValueError> {
    let Some(rest) = text.strip_prefix("lsn:") else {
        return parse_time(text).map(|time| Moment::Time(Timestamp(time)));
    };
    let (core, lsn) = rest.split_once(':').unwrap_or(("0", rest));
    match (core.parse(), lsn.parse()) {
        (Ok(core), Ok(lsn)) if lsn > 0 => Ok(Moment::Lsn { core, lsn: Lsn(lsn) }),
        _ => Err(ValueError::new(format!(
            "expected a time, lsn:N or lsn:CORE:N such as lsn:0:4711, found {text:?}"
        ))),
    }
}

/// A time, for filters.
pub(super) fn parse_timestamp(text: &str) -> Result<Timestamp, ValueError> {
    parse_time(text).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places_in_a_journal() {
        let check = |text, expected: Option<Moment>| assert_eq!(parse_moment(text).ok(), expected, "{text}");
        check("1782000000", Some(Moment::Time(Timestamp(1_782_000_000_000_000))));
        check("lsn:7", Some(Moment::Lsn { core: 0, lsn: Lsn(7) }));
        check("lsn:3:7", Some(Moment::Lsn { core: 3, lsn: Lsn(7) }));
        check("lsn:0", None);
        check("lsn:x:7", None);
        check("yesterday", None);
    }
}
