//! What a run must reach to pass.

use std::fmt;
use std::time::Duration;

use crate::report::Report;

/// What a run must reach to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Requirement {
    /// A latency, by its name in the report, is at most this.
    Latency(Quantile, Duration),
    /// At least so many commands a second.
    Rate(f64),
    /// The median is at most so many times the floors added up; of `hot`, the rate is at least so many times the other one.
    Ratio(f64),
    /// At least this share of the peak took effect under overload.
    Share(f64),
}

/// A point of the distribution of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// Reads `p99=1ms`, `rate=100k`, `ratio=1.3`.
pub(crate) fn parse_requirement(text: &str) -> Result<Requirement, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let quantile = match name {
        "p50" => Quantile::P50,
        "p90" => Quantile::P90,
        "p99" => Quantile::P99,
        "p999" | "p99.9" => Quantile::P999,
        "max" => Quantile::Max,
        "rate" => return parse_rate(value).map(Requirement::Rate),
        "ratio" => return number(value, &[("", 1.0)]).map(Requirement::Ratio),
        "share" => return number(value, &[("", 1.0)]).map(Requirement::Share),
        _ => return Err("expected one of p50, p90, p99, p999, max, rate, ratio, share".to_owned()),
    };
    parse_time(value).map(|time| Requirement::Latency(quantile, time))
}

/// Reads `100k`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    number(text, &[("", 1.0), ("k", 1e3), ("M", 1e6)])
}

/// Reads `300us`, `2.5ms`, `5s`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let seconds = number(text, &[("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)])?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A number above 0 with one of these units.
fn number(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let unit = &text[digits.len()..];
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| factor)
        .ok_or_else(|| {
            let names: Vec<&str> = units
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !name.is_empty())
                .collect();
            if names.is_empty() {
                format!("{unit:?} is no unit here")
            } else {
                format!("expected a number and one of {names:?}")
            }
        })?;
    let value: f64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    if value.is_finite() && value > 0.0 {
        Ok(value * factor)
    } else {
        Err("must be above 0".to_owned())
    }
}

impl Requirement {
    /// What is wrong, if it is not met.
    pub(crate) fn violation(self, report: &Report) -> Option<String> {
        let met = match self {
            Self::Latency(quantile, most) => report.latency_us(quantile) <= most.as_secs_f64() * 1e6,
            Self::Rate(least) => report.rate >= least,
            Self::Ratio(bound) => match (report.extra.ratio, &report.floors) {
                (Some(ratio), _) => ratio >= bound,
                (None, floors) => floors.as_ref().is_some_and(|floors| floors.ratio <= bound),
            },
            Self::Share(least) => report.extra.share.is_some_and(|share| share >= least),
        };
        (!met).then(|| format!("required: {self}"))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(quantile, most) => write!(f, "{quantile:?} at most {most:?}"),
            Self::Rate(least) => write!(f, "at least {least:.0} commands a second"),
            Self::Ratio(bound) => write!(f, "ratio {bound}"),
            Self::Share(least) => write!(f, "at least {least} of the peak"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Requirement>) {
        assert_eq!(parse_requirement(text).ok(), expected, "{text}");
    }

    #[test]
    fn texts() {
        check(
            "p99=1ms",
            Some(Requirement::Latency(Quantile::P99, Duration::from_millis(1))),
        );
        check(
            "p999=2.5ms",
            Some(Requirement::Latency(Quantile::P999, Duration::from_micros(2500))),
        );
        check(
            "max=300us",
            Some(Requirement::Latency(Quantile::Max, Duration::from_micros(300))),
        );
        check("rate=100k", Some(Requirement::Rate(100_000.0)));
        check("rate=1.5M", Some(Requirement::Rate(1_500_000.0)));
        check("rate=7", Some(Requirement::Rate(7.0)));
        check("ratio=1.3", Some(Requirement::Ratio(1.3)));
        check("share=0.9", Some(Requirement::Share(0.9)));
        for text in [
            "p99",
            "p99=",
            "p99=1",
            "p99=1k",
            "p98=1ms",
            "rate=1ms",
            "rate=-1",
            "rate=nan",
            "ratio=0",
            "share=1k",
            "max=1e300s",
        ] {
            check(text, None);
        }
    }
}
