//! Texts to values and back: durations, sizes, units, processors.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use plimsoll_client::protocol::limits::HOLD_SECONDS_MAX;
use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
pub(crate) use plimsoll_form::{ValueError, format_time, parse_amount, parse_time, parse_time_end};
use plimsoll_server::Cores;

/// The longest duration an option takes: ten years of 366 days.
const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// `500ms`, `10s`, `1h 30m`, `35d`; a day has 24 hours.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let rule = || ValueError::new("expected a duration such as 500ms, 10s, 24h or 35d");
    let span: Span = text.trim().parse().map_err(|_| rule())?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| rule())?;
    match Duration::try_from(duration) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        Ok(_) => Err(ValueError::new("expected a duration of at most ten years")),
        Err(_) => Err(ValueError::new("expected a duration that is not negative")),
    }
}

/// How long a hold lasts: whole seconds, up to a day.
pub(crate) fn parse_hold(text: &str) -> Result<Duration, ValueError> {
    let hold = parse_duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_secs(HOLD_SECONDS_MAX.into());
    if range.contains(&hold) && hold.subsec_nanos() == 0 {
        Ok(hold)
    } else {
        Err(ValueError::new("expected whole seconds from 1s to 24h"))
    }
}

/// `16MiB`, `1GiB`, `65536`: bytes, with a binary unit.
pub(crate) fn parse_size(text: &str) -> Result<u64, ValueError> {
    let rule = || ValueError::new("expected a size such as 64MiB, 1GiB or a number of bytes");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(rule()),
    };
    let number: u64 = digits.trim_end().parse().map_err(|_| rule())?;
    number.checked_mul(1 << shift).ok_or_else(rule)
}

/// `auto`, a count such as `4`, or a list such as `0,2` or `4-7`.
pub(crate) fn parse_cores(text: &str) -> Result<Cores, ValueError> {
    /// More processors than any machine has today; bounds what a range may ask for.
    const PROCESSOR_COUNT_MAX: usize = 4096;
    let rule = || ValueError::new("expected auto, a count such as 4, or processors such as 0,2 or 4-7");
    if text == "auto" {
        return Ok(Cores::Auto);
    }
    if let Ok(count) = text.parse::<usize>() {
        return if count == 0 {
            Err(ValueError::new("expected at least 1 core"))
        } else {
            Ok(Cores::Count(count))
        };
    }
    let mut list = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| rule())?;
        let last: usize = last.parse().map_err(|_| rule())?;
        if first > last || last >= PROCESSOR_COUNT_MAX {
            return Err(rule());
        }
        list.extend(first..=last);
    }
    let mut sorted = list.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ValueError::new("names a processor twice"));
    }
    Ok(Cores::List(list))
}

/// Names of dimensions, separated by commas. What a name may look like is the server's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DimensionNames(pub(crate) Vec<String>);

pub(crate) fn parse_dimensions(text: &str) -> Result<DimensionNames, ValueError> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(ValueError::new(
            "expected names separated by commas, such as orders,items",
        ));
    }
    if names.len() > DIMENSION_COUNT_MAX {
        return Err(ValueError::new(format!(
            "expected at most {DIMENSION_COUNT_MAX} dimensions, found {}",
            names.len()
        )));
    }
    if let Some(twice) = names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(name))
    {
        return Err(ValueError::new(format!("names the dimension {} twice", twice.1)));
    }
    Ok(DimensionNames(names))
}

impl DimensionNames {
    /// Where the names stand among the engine's dimensions, in the order of these: it does not matter in which order they were named.
    pub(crate) fn places(&self, dimensions: &[String]) -> Result<Vec<usize>, ValueError> {
        if let Some(unknown) = self.0.iter().find(|name| !dimensions.contains(name)) {
            let known = dimensions.join(", ");
            return Err(ValueError::new(format!(
                "the engine has no dimension {unknown:?}, only {known}"
            )));
        }
        Ok((0..dimensions.len())
            .filter(|place| self.0.contains(&dimensions[*place]))
            .collect())
    }
}

/// Units by the names of dimensions: `rooms=1,guests=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitsByName(pub(crate) Vec<(String, u32)>);

/// Units of which at least one is above 0.
pub(crate) fn parse_units(text: &str) -> Result<UnitsByName, ValueError> {
    let units = parse_amounts(text)?;
    if units.0.iter().all(|(_, amount)| *amount == 0) {
        return Err(ValueError::new("expected at least one amount above 0"));
    }
    Ok(units)
}

/// Units of which each may be 0.
pub(crate) fn parse_amounts(text: &str) -> Result<UnitsByName, ValueError> {
    let mut units: Vec<(String, u32)> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (name, amount) = part
            .split_once('=')
            .ok_or_else(|| ValueError::new(format!("expected NAME=AMOUNT such as rooms=1, found {part:?}")))?;
        if units.iter().any(|(known, _)| known == name) {
            return Err(ValueError::new(format!("names {name} twice")));
        }
        units.push((name.to_owned(), parse_amount(amount)?));
    }
    Ok(UnitsByName(units))
}

impl UnitsByName {
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// A value for each dimension of the engine, in its order; what is not named is 0.
    pub(crate) fn in_order_of(&self, dimensions: &[String]) -> Result<Vec<u32>, ValueError> {
        let mut values = vec![0; dimensions.len()];
        for (name, amount) in &self.0 {
            let Some(index) = dimensions.iter().position(|dimension| dimension == name) else {
                return Err(ValueError::new(format!(
                    "the engine has no dimension {name:?}, only {}",
                    dimensions.join(", ")
                )));
            };
            values[index] = *amount;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(parsed: &Result<T, ValueError>, expected: Option<&T>) {
        assert_eq!(parsed.as_ref().ok(), expected, "{parsed:?}");
    }

    #[test]
    fn durations() {
        let check_seconds = |text, seconds| check(&parse_duration(text), Some(&Duration::from_secs(seconds)));
        check_seconds("10s", 10);
        check_seconds("24h", 86_400);
        check_seconds("35d", 35 * 86_400);
        check_seconds("1h 30m", 5_400);
        check(&parse_duration("500ms"), Some(&Duration::from_millis(500)));
        for wrong in ["", "10", "-1s", "1mo", "soon", "99999d"] {
            check(&parse_duration(wrong), None);
        }
    }

    #[test]
    fn holds() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("24h", 86_400), ("1d", 86_400)] {
            check(&parse_hold(text), Some(&Duration::from_secs(seconds)));
        }
        for wrong in ["0s", "1500ms", "86401s", "2d", "10"] {
            check(&parse_hold(wrong), None);
        }
    }

    #[test]
    fn sizes() {
        check(&parse_size("65536"), Some(&65_536));
        check(&parse_size("16MiB"), Some(&(16 << 20)));
        check(&parse_size("1GiB"), Some(&(1 << 30)));
        for wrong in ["", "MiB", "1MB", "-1", "99999999999999GiB", "1 2KiB"] {
            check(&parse_size(wrong), None);
        }
    }

    #[test]
    fn cores() {
        check(&parse_cores("auto"), Some(&Cores::Auto));
        check(&parse_cores("2"), Some(&Cores::Count(2)));
        check(&parse_cores("0,2"), Some(&Cores::List(vec![0, 2])));
        check(&parse_cores("4-6,0"), Some(&Cores::List(vec![4, 5, 6, 0])));
        for wrong in ["", "0", "a", "1-", "3-1", "1,1", "0-999999999", "1,,2"] {
            check(&parse_cores(wrong), None);
        }
    }

    #[test]
    fn units() {
        let units = parse_units("rooms=1,guests=2").unwrap();
        let dimensions = ["guests", "kg", "rooms"].map(str::to_owned);
        assert_eq!(units.in_order_of(&dimensions), Ok(vec![2, 0, 1]));
        assert!(units.in_order_of(&dimensions[..1]).is_err());
        for wrong in [
            "",
            "rooms",
            "rooms=",
            "rooms=x",
            "rooms=+1",
            "rooms=0",
            "rooms=1,rooms=2",
            "rooms=2147483648",
            "rooms=-1",
        ] {
            check(&parse_units(wrong), None);
            assert_eq!(parse_amounts(wrong).is_ok(), wrong == "rooms=0", "{wrong}");
        }
    }

    #[test]
    fn dimensions() {
        check(
            &parse_dimensions("a, b"),
            Some(&DimensionNames(vec!["a".into(), "b".into()])),
        );
        for wrong in ["", "a,,b", "a,a", "a,b,c,d,e,f,g,h,i"] {
            check(&parse_dimensions(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in any::<String>()) {
            let _ = (parse_duration(&text), parse_size(&text), parse_cores(&text), parse_units(&text));
            let _ = (parse_dimensions(&text), parse_time(&text), parse_hold(&text), parse_amounts(&text));
        }

    }
}
