//! Times to texts and back.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use plimsoll_domain::limits::TIME_MAX;

use crate::value_error::ValueError;

/// A time from a file in microseconds since 1970: whole Unix seconds, or RFC 3339 with an offset.
pub fn parse_time(text: &str) -> Result<i64, ValueError> {
    let micros = if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        && !text.get(1..).unwrap_or("").contains('-')
    {
        text.parse::<i64>()
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000_000))
    } else {
        parse_rfc3339(text)
    };
    match micros {
        Some(micros) if (0..=TIME_MAX).contains(&micros) => Ok(micros),
        Some(_) => Err(ValueError::new(format!(
            "expected a time between 1970 and 9999, found {text:?}"
        ))),
        None => Err(ValueError::new(format!(
            "expected Unix seconds or RFC 3339 with an offset such as 2026-12-24T08:00:00+01:00, found {text:?}"
        ))),
    }
}

/// A time up to which something counts. One that is given with milliseconds is the end of that millisecond: times are printed so, cut to milliseconds,
/// and what happened at a time that was printed has happened by then. Whole seconds and microseconds are just that.
pub fn parse_time_end(text: &str) -> Result<i64, ValueError> {
    let time = parse_time(text)?;
    let fraction = text.split_once(['.', ',']).map_or("", |(_, rest)| rest);
    let rest = match fraction.bytes().take_while(u8::is_ascii_digit).count() {
        1..=3 => 999,
        _ => 0,
    };
    Ok((time + rest).min(TIME_MAX))
}

/// Through civil time: the last two days of 9999 are beyond what `jiff::Timestamp` holds.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let civil = pieces.date().to_datetime(pieces.time()?);
    let since = civil
        .duration_since(epoch())
        .checked_sub(SignedDuration::from_secs(offset.seconds().into()))?;
    i64::try_from(since.as_micros()).ok()
}

fn epoch() -> DateTime {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
}

/// RFC 3339, UTC, milliseconds; `None` for what is no time between 1970 and 9999, such as "never".
pub fn format_time(micros: i64) -> Option<String> {
    if !(0..=TIME_MAX).contains(&micros) {
        return None;
    }
    let civil = epoch().checked_add(SignedDuration::from_micros(micros)).ok()?;
    Some(civil.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(parsed: &Result<T, ValueError>, expected: Option<&T>) {
        assert_eq!(parsed.as_ref().ok(), expected, "{parsed:?}");
    }

    #[test]
    fn times() {
        check(&parse_time("0"), Some(&0));
        check(&parse_time("1435759200"), Some(&1_435_759_200_000_000));
        check(&parse_time("2015-07-01T14:00:00Z"), Some(&1_435_759_200_000_000));
        check(&parse_time("2015-07-01T16:00:00.5+02:00"), Some(&1_435_759_200_500_000));
        check(&parse_time("253402300799"), Some(&TIME_MAX));
        check(&parse_time("9999-12-31T23:59:59Z"), Some(&TIME_MAX));
        for wrong in [
            "",
            "-",
            "-1",
            "253402300800",
            "2015-07-01",
            "2015-07-01T14:00:00",
            "2015-02-30T00:00:00Z",
            "1e9",
            "1.5",
            "99999999999999999999",
            "9999-12-31T23:59:59-01:00",
            "1969-12-31T23:59:59Z",
        ] {
            check(&parse_time(wrong), None);
        }
    }

    #[test]
    fn a_millisecond_has_an_end() {
        let check_end = |text, expected: i64| check(&parse_time_end(text), Some(&expected));
        check_end("1435759200", 1_435_759_200_000_000);
        check_end("2015-07-01T14:00:00Z", 1_435_759_200_000_000);
        check_end("2015-07-01T14:00:00.000Z", 1_435_759_200_000_999);
        check_end("2015-07-01T16:00:00.5+02:00", 1_435_759_200_500_999);
        check_end("2015-07-01T14:00:00.500001Z", 1_435_759_200_500_001);
        check_end("9999-12-31T23:59:59.000Z", TIME_MAX);
        check(&parse_time_end("1.5"), None);
    }

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(
            format_time(1_435_759_200_500_999).as_deref(),
            Some("2015-07-01T14:00:00.500Z")
        );
        assert_eq!(format_time(TIME_MAX).as_deref(), Some("9999-12-31T23:59:59.000Z"));
        assert_eq!(format_time(i64::MAX), None);
        assert_eq!(format_time(-1), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in any::<String>()) {
            let _ = (parse_time(&text), parse_time_end(&text));
        }

        #[test]
        fn a_time_that_was_shown_is_read_back(millis in 0..=TIME_MAX / 1000) {
            let shown = format_time(millis * 1000).unwrap();
            prop_assert_eq!(parse_time(&shown), Ok(millis * 1000));
            // Whatever happened in it has happened by then.
            prop_assert_eq!(parse_time_end(&shown), Ok((millis * 1000 + 999).min(TIME_MAX)));
        }
    }
}
