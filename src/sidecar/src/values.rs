//! Values of requests, each judged where it stands, so that a mistake is named with its field and line.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use plimsoll_client::protocol::limits::{HOLD_SECONDS_MAX, REFERENCE_SIZE_BYTES_MAX, UNITS_MAX};
use plimsoll_form::{broken_name_rule, parse_amount, parse_time};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::pointer;
use crate::problem::FieldError;

/// The name of a pool.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", example = "north:monday-08")]
pub(crate) struct PoolName(pub(crate) String);

impl<'de> Deserialize<'de> for PoolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match broken_name_rule(&name) {
            None => Ok(PoolName(name)),
            Some(rule) => Err(de::Error::custom(rule)),
        }
    }
}

/// An amount of units in one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) u32);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;

        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {UNITS_MAX}")
            }

            fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Amount, E> {
                match u32::try_from(amount) {
                    Ok(amount) if amount <= UNITS_MAX => Ok(Amount(amount)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(amount), &self)),
                }
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
                match whole(number) {
                    Some(number) => self.visit_u64(number),
                    None => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }

        deserializer.deserialize_any(AmountVisitor)
    }
}

/// JSON knows one sort of number: `7.0` is the whole number 7.
fn whole(number: f64) -> Option<u64> {
    let is_whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    is_whole.then_some(number as u64)
}

/// A whole number of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) u32);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Amount::deserialize(deserializer).map(|amount| Whole(amount.0))
    }
}

/// Units by the names of dimensions; no name stands twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitsMap(pub(crate) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for UnitsMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UnitsVisitor;

        impl<'de> Visitor<'de> for UnitsVisitor {
            type Value = UnitsMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of whole numbers by dimension")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UnitsMap, A::Error> {
                let mut units: Vec<(String, u32)> = Vec::new();
                while let Some(name) = entries.next_key::<String>()? {
                    let is_repeated = units.iter().any(|(known, _)| *known == name);
                    // The value is read first, so that the place that is named is that of the field.
                    let Once(Amount(amount)) = entries.next_value_seed(OnceSeed(is_repeated))?;
                    units.push((name, amount));
                }
                Ok(UnitsMap(units))
            }
        }

        deserializer.deserialize_map(UnitsVisitor)
    }
}

/// A value under a name that may have stood there already.
struct Once<T>(T);

struct OnceSeed(bool);

impl<'de> de::DeserializeSeed<'de> for OnceSeed {
    type Value = Once<Amount>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Once<Amount>, D::Error> {
        let amount = Amount::deserialize(deserializer)?;
        if self.0 {
            return Err(de::Error::custom("the dimension is there twice"));
        }
        Ok(Once(amount))
    }
}

/// A value for each dimension, in their order; what is not named is 0. Names that no dimension has are told with their
/// pointers below `place`.
pub(crate) fn in_order(units: &UnitsMap, dimensions: &[String], place: &str) -> Result<Vec<u32>, Vec<FieldError>> {
    let mut values = vec![0; dimensions.len()];
    let mut errors = Vec::new();
    for (name, amount) in &units.0 {
        match dimensions.iter().position(|dimension| dimension == name) {
            Some(index) => values[index] = *amount,
            None => errors.push(FieldError {
                pointer: pointer::to(place, name),
                detail: format!("there is no such dimension, only {}", dimensions.join(", ")),
            }),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// The same of units that are taken: at least one is above 0.
pub(crate) fn some_in_order(units: &UnitsMap, dimensions: &[String], place: &str) -> Result<Vec<u32>, Vec<FieldError>> {
    let values = in_order(units, dimensions, place)?;
    if values.iter().all(|value| *value == 0) {
        return Err(vec![FieldError {
            pointer: place.to_owned(),
            detail: "at least one dimension must be above 0".to_owned(),
        }]);
    }
    Ok(values)
}

/// `rooms=1,guests=2`, as it stands in a query.
pub(crate) fn units_of_text(text: &str) -> Result<UnitsMap, String> {
    let mut units: Vec<(String, u32)> = Vec::new();
    for part in text.split(',') {
        let Some((name, amount)) = part.split_once('=') else {
            return Err(format!(
                "expected NAME=AMOUNT[,NAME=AMOUNT..] such as rooms=1, found {text:?}"
            ));
        };
        if units.iter().any(|(known, _)| known == name) {
            return Err(format!("the dimension {name} is there twice"));
        }
        let amount = parse_amount(amount).map_err(|error| format!("{name}: {error}"))?;
        units.push((name.to_owned(), amount));
    }
    Ok(UnitsMap(units))
}

/// A time: Unix seconds or RFC 3339 with an offset; microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) i64);

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0))
            .maximum(Some(SECONDS_MAX))
            .description(Some("Unix seconds"));
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some(
                "RFC 3339 with an offset, from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59Z",
            ));
        RefOr::T(OneOfBuilder::new().item(seconds).item(text).build().into())
    }
}

impl ToSchema for Time {
    fn name() -> Cow<'static, str> {
        "Time".into()
    }
}

/// The latest time that is taken, in seconds and microseconds since 1970.
const SECONDS_MAX: i64 = 253_402_300_799;
pub(crate) const TIME_MAX: i64 = SECONDS_MAX * 1_000_000;

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Unix seconds, or RFC 3339 with an offset such as \"2026-12-24T08:00:00+01:00\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Time, E> {
                self.visit_str(&seconds.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Time, E> {
                match whole(number) {
                    Some(number) => self.visit_u64(number),
                    None => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Time, E> {
                self.visit_str(&seconds.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                parse_time(text).map(Time).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(TimeVisitor)
    }
}

/// How long a hold lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = u32, minimum = 1, maximum = 86400)]
pub(crate) struct HoldSeconds(u32);

impl HoldSeconds {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for HoldSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HoldVisitor;

        impl Visitor<'_> for HoldVisitor {
            type Value = HoldSeconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "whole seconds from 1 to {HOLD_SECONDS_MAX}")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<HoldSeconds, E> {
                match u32::try_from(seconds) {
                    Ok(seconds @ 1..=HOLD_SECONDS_MAX) => Ok(HoldSeconds(seconds)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(seconds), &self)),
                }
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<HoldSeconds, E> {
                match whole(number) {
                    Some(number) => self.visit_u64(number),
                    None => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }

        deserializer.deserialize_any(HoldVisitor)
    }
}

/// The caller's own name for what is reserved.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, max_length = 64, example = "order-4711")]
pub(crate) struct Reference(pub(crate) String);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.len() {
            0..=REFERENCE_SIZE_BYTES_MAX => Ok(Reference(text)),
            found => Err(de::Error::custom(format!(
                "a reference has at most {REFERENCE_SIZE_BYTES_MAX} bytes, found {found}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_by_name_and_in_order() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        let units = UnitsMap(vec![("guests".into(), 2)]);
        assert_eq!(in_order(&units, &dimensions, "/units"), Ok(vec![0, 2]));
        let errors = in_order(&UnitsMap(vec![("beds".into(), 2)]), &dimensions, "/units").unwrap_err();
        assert_eq!(errors[0].pointer, "/units/beds");
        assert!(some_in_order(&UnitsMap(vec![("rooms".into(), 0)]), &dimensions, "/units").is_err());
    }

    #[test]
    fn units_of_a_query() {
        let expected = UnitsMap(vec![("rooms".into(), 1), ("guests".into(), 2)]);
        assert_eq!(units_of_text("rooms=1,guests=2"), Ok(expected));
        for wrong in [
            "",
            "rooms",
            "rooms=",
            "rooms=-1",
            "rooms=1,rooms=2",
            "rooms=1,",
            "rooms=2147483648",
        ] {
            assert!(units_of_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<i64>| {
            let found = serde_json::from_str::<Time>(text).ok();
            assert_eq!(found.map(|time| time.0), expected, "{text}");
        };
        check("1435759200", Some(1_435_759_200_000_000));
        check("\"2015-07-01T14:00:00Z\"", Some(1_435_759_200_000_000));
        for wrong in [
            "-1",
            "253402300800",
            "1.5",
            "true",
            "\"2015-07-01\"",
            "99999999999999999999",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn holds() {
        for (text, expected) in [
            ("1", true),
            ("86400", true),
            ("0", false),
            ("86401", false),
            ("1.5", false),
            ("-1", false),
        ] {
            assert_eq!(serde_json::from_str::<HoldSeconds>(text).is_ok(), expected, "{text}");
        }
    }
}
