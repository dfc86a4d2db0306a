//! Checking what callers ask for, before anything is sent.

use std::time::Duration;

use plimsoll_protocol::limits::{
    DIMENSIONS_COUNT_MAX, HOLD_SECONDS_MAX, POOL_NAME_SIZE_BYTES_MAX, REFERENCE_SIZE_BYTES_MAX, UNITS_MAX,
};

use plimsoll_protocol::UNITS_UNCHANGED;

use crate::commands::{Resize, Units};
use crate::error::Invalid;

/// A value for each dimension, in their order; 0 behind the last.
pub(crate) type UnitsArray = [u32; DIMENSIONS_COUNT_MAX];

/// Checks that a name is one that a pool may have.
pub(crate) fn pool_name(name: &str) -> Result<(), Invalid> {
    let bytes = name.as_bytes();
    let valid = bytes.len() <= POOL_NAME_SIZE_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(byte))
        && name != "import";
    if valid {
        Ok(())
    } else {
        Err(Invalid::PoolName {
            name: name.chars().take(POOL_NAME_SIZE_BYTES_MAX).collect(),
        })
    }
}

/// Units by dimension as the wire has them.
pub(crate) fn units(dimensions: &[String], units: Units<'_>) -> Result<UnitsArray, Invalid> {
    let mut array = [0; DIMENSIONS_COUNT_MAX];
    match units {
        Units::InOrder(values) => {
            if values.len() != dimensions.len() {
                return Err(Invalid::UnitsCount {
                    expected: dimensions.len(),
                    found: values.len(),
                });
            }
            for (place, &value) in array.iter_mut().zip(values) {
                *place = value;
            }
        }
        Units::Named(values) => {
            let mut named = [false; DIMENSIONS_COUNT_MAX];
            for &(name, value) in values {
                let index = dimensions
                    .iter()
                    .take(DIMENSIONS_COUNT_MAX)
                    .position(|dimension| dimension == name);
                let index = index.ok_or_else(|| Invalid::Dimension { name: name.to_owned() })?;
                if std::mem::replace(&mut named[index], true) {
                    return Err(Invalid::DimensionTwice { name: name.to_owned() });
                }
                array[index] = value;
            }
        }
    }
    if let Some(&found) = array.iter().find(|&&value| value > UNITS_MAX) {
        return Err(Invalid::UnitsRange { found });
    }
    if array.iter().all(|&value| value == 0) {
        return Err(Invalid::UnitsZero);
    }
    Ok(array)
}

/// Units of a resize as the wire has them: what is not named is [`UNITS_UNCHANGED`]. Also checks that it changes
/// something.
pub(crate) fn resize_units(dimensions: &[String], resize: &Resize<'_>) -> Result<UnitsArray, Invalid> {
    let mut array = UnitsArray::default();
    let units = &mut array[..dimensions.len().min(DIMENSIONS_COUNT_MAX)];
    units.fill(UNITS_UNCHANGED);
    for &(name, found) in resize.units {
        let index = dimensions
            .iter()
            .take(units.len())
            .position(|dimension| dimension == name);
        let index = index.ok_or_else(|| Invalid::Dimension { name: name.to_owned() })?;
        if found > UNITS_MAX {
            return Err(Invalid::UnitsRange { found });
        }
        if std::mem::replace(&mut units[index], found) != UNITS_UNCHANGED {
            return Err(Invalid::DimensionTwice { name: name.to_owned() });
        }
    }
    if units.iter().all(|&value| value == 0) {
        return Err(Invalid::UnitsZero);
    }
    if resize.units.is_empty() && resize.hold.is_none() {
        return Err(Invalid::ResizeOfNothing);
    }
    Ok(array)
}

/// Seconds of a hold; 0 confirms at once.
pub(crate) fn hold_seconds(hold: Option<Duration>) -> Result<u32, Invalid> {
    let Some(found) = hold else { return Ok(0) };
    match u32::try_from(found.as_secs()) {
        Ok(seconds @ 1..=HOLD_SECONDS_MAX) if found.subsec_nanos() == 0 => Ok(seconds),
        _ => Err(Invalid::Hold { found }),
    }
}

/// Checks that a reference is short enough.
pub(crate) fn reference(reference: Option<&str>) -> Result<(), Invalid> {
    match reference {
        Some(text) if text.len() > REFERENCE_SIZE_BYTES_MAX => Err(Invalid::Reference { found: text.len() }),
        _ => Ok(()),
    }
}

/// The version that must stand for a reset, as the wire has it: 0 when any may.
pub(crate) fn expected_version(version: Option<u64>) -> Result<u64, Invalid> {
    match version {
        Some(0) => Err(Invalid::VersionZero),
        version => Ok(version.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_names() {
        for name in [
            "a",
            "0",
            "resort:A:2015-07-01",
            "zone.7:2026-12-24T08:00",
            "A_b",
            &"x".repeat(128),
        ] {
            assert_eq!(pool_name(name), Ok(()), "{name}");
        }
        for name in ["", "import", ".a", "-a", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(pool_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_version_of_0_is_not_any_version() {
        assert_eq!(expected_version(Some(0)), Err(Invalid::VersionZero));
        assert_eq!(expected_version(Some(7)), Ok(7));
        assert_eq!(expected_version(None), Ok(0));
    }

    #[test]
    fn units_by_name_and_in_order() {
        let dimensions = ["orders".to_owned(), "kg".to_owned()];
        let check = |asked: Units<'_>, expected: Result<[u32; 2], Invalid>| {
            assert_eq!(units(&dimensions, asked).map(|array| [array[0], array[1]]), expected);
        };
        check(Units::Named(&[("kg", 3)]), Ok([0, 3]));
        check(Units::InOrder(&[1, 0]), Ok([1, 0]));
        check(Units::Named(&[]), Err(Invalid::UnitsZero));
        check(Units::InOrder(&[0, 0]), Err(Invalid::UnitsZero));
        check(Units::InOrder(&[1]), Err(Invalid::UnitsCount { expected: 2, found: 1 }));
        check(
            Units::InOrder(&[1; 9]),
            Err(Invalid::UnitsCount { expected: 2, found: 9 }),
        );
        check(
            Units::Named(&[("m3", 3)]),
            Err(Invalid::Dimension { name: "m3".into() }),
        );
        check(
            Units::Named(&[("kg", 3), ("kg", 4)]),
            Err(Invalid::DimensionTwice { name: "kg".into() }),
        );
        check(
            Units::InOrder(&[1 << 31, 0]),
            Err(Invalid::UnitsRange { found: 1 << 31 }),
        );
    }

    #[test]
    fn units_of_a_resize() {
        let dimensions = ["orders".to_owned(), "kg".to_owned()];
        let check = |units: &[(&str, u32)], hold: Option<u64>, expected: Result<[u32; 3], Invalid>| {
            let resize = Resize {
                units,
                hold: hold.map(Duration::from_secs),
                ..Resize::new(plimsoll_protocol::ReservationId(1))
            };
            let found = resize_units(&dimensions, &resize).map(|array| [array[0], array[1], array[2]]);
            assert_eq!(found, expected, "{units:?}");
        };
        const STAYS: u32 = UNITS_UNCHANGED;
        check(&[("kg", 3)], None, Ok([STAYS, 3, 0]));
        check(&[("kg", 0)], None, Ok([STAYS, 0, 0]));
        check(&[("kg", 0), ("orders", 1)], None, Ok([1, 0, 0]));
        check(&[], Some(60), Ok([STAYS, STAYS, 0]));
        check(&[], None, Err(Invalid::ResizeOfNothing));
        check(&[("kg", 0), ("orders", 0)], None, Err(Invalid::UnitsZero));
        check(&[("m3", 1)], None, Err(Invalid::Dimension { name: "m3".into() }));
        check(
            &[("kg", 1), ("kg", 1)],
            None,
            Err(Invalid::DimensionTwice { name: "kg".into() }),
        );
        check(&[("kg", STAYS)], None, Err(Invalid::UnitsRange { found: STAYS }));
    }

    #[test]
    fn holds() {
        assert_eq!(hold_seconds(None), Ok(0));
        assert_eq!(hold_seconds(Some(Duration::from_secs(86_400))), Ok(86_400));
        for found in [
            Duration::ZERO,
            Duration::from_millis(1500),
            Duration::from_secs(86_401),
            Duration::MAX,
        ] {
            assert_eq!(hold_seconds(Some(found)), Err(Invalid::Hold { found }));
        }
    }
}
