//! How full a pool is, in words.

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{Counters, Units};

/// How much remains of a pool, from `f = remaining / ceiling` in the tightest dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Band {
    /// `f <= 0`, or the units that were asked for do not fit.
    None = 0,
    /// `f <= 0.1`
    Low = 1,
    /// `f <= 0.5`
    Some = 2,
    /// `f > 0.5`
    Plenty = 3,
}

/// What a pool has for units that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) band: Band,
    pub(crate) fits: bool,
}

/// A dimension with a ceiling of 0 is one that the pool does not sell: it counts only when units of it are asked for, which
/// then do not fit. A pool that sells no dimension has nothing.
#[inline]
pub(crate) fn room(remaining: &Counters, ceilings: &[u32; DIMENSION_COUNT_MAX], units: &Units) -> Room {
    let mut tightest = NOT_SOLD;
    let (mut short, mut some_left) = (false, false);
    // Without branches: what remains of a pool is not to be predicted.
    for ((left, ceiling), unit) in remaining.0.iter().zip(ceilings).zip(&units.0) {
        tightest = tightest.min(band(*left, *ceiling));
        short |= (*unit > 0) & (*left < i64::from(*unit));
        some_left |= *left > 0;
    }
    let fits = !short & (some_left | !units.is_zero());
    let band = match tightest {
        1 if fits => Band::Low,
        2 if fits => Band::Some,
        3 if fits => Band::Plenty,
        _ => Band::None,
    };
    Room { band, fits }
}

/// More than any band.
const NOT_SOLD: u8 = 4;

/// The number of the band of one dimension. In whole numbers: a ceiling is below 2^32, so a part of it can be multiplied.
#[inline]
fn band(left: i64, ceiling: u32) -> u8 {
    let ceiling = i64::from(ceiling);
    let left = left.clamp(0, ceiling);
    let band = u8::from(left > 0) + u8::from(left * 10 > ceiling) + u8::from(left * 2 > ceiling);
    if ceiling == 0 { NOT_SOLD } else { band }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(remaining: &[i64], ceilings: &[u32], units: &[u32], expected: (Band, bool)) {
        let mut counters = Counters::default();
        counters.0[..remaining.len()].copy_from_slice(remaining);
        let room = room(&counters, &Units::from_slice(ceilings).0, &Units::from_slice(units));
        assert_eq!(
            (room.band, room.fits),
            expected,
            "{remaining:?} of {ceilings:?} for {units:?}"
        );
    }

    #[test]
    fn bands_end_exactly_where_they_are_said_to() {
        for (left, band, fits) in [
            (-1, Band::None, false),
            (0, Band::None, false),
            (1, Band::Low, true),
            (10, Band::Low, true),
            (11, Band::Some, true),
            (50, Band::Some, true),
            (51, Band::Plenty, true),
            (100, Band::Plenty, true),
        ] {
            check(&[left], &[100], &[], (band, fits));
        }
        // A tenth of a ceiling that 10 does not divide, and the largest one.
        check(&[1], &[9], &[], (Band::Some, true));
        check(&[1], &[1], &[], (Band::Plenty, true));
        let largest = 4_294_967_294;
        check(&[429_496_729], &[largest], &[], (Band::Low, true));
        check(&[429_496_730], &[largest], &[], (Band::Some, true));
        check(&[2_147_483_647], &[largest], &[], (Band::Some, true));
        check(&[2_147_483_648], &[largest], &[], (Band::Plenty, true));
        check(&[i64::MIN], &[1], &[], (Band::None, false));
        check(&[i64::MAX], &[1], &[], (Band::Plenty, true));
    }

    #[test]
    fn the_tightest_dimension_decides() {
        check(&[100, 10], &[100, 100], &[], (Band::Low, true));
        check(&[50, 100], &[100, 100], &[], (Band::Some, true));
        // Units of the other dimension fit, but the pool is full all the same.
        check(&[100, 0], &[100, 100], &[1, 0], (Band::None, true));
    }

    #[test]
    fn units_that_do_not_fit_make_it_none() {
        check(&[100, 10], &[100, 100], &[0, 10], (Band::Low, true));
        check(&[100, 10], &[100, 100], &[0, 11], (Band::None, false));
        check(&[100], &[100], &[1, 1], (Band::None, false));
    }

    #[test]
    fn a_dimension_that_is_not_sold_counts_only_when_asked_for() {
        check(&[100, 0], &[100, 0], &[], (Band::Plenty, true));
        check(&[100, 0], &[100, 0], &[1, 0], (Band::Plenty, true));
        check(&[100, 0], &[100, 0], &[1, 1], (Band::None, false));
        // Its ceiling was lowered to 0 after units were taken.
        check(&[100, -5], &[100, 0], &[], (Band::Plenty, true));
        check(&[0, 0], &[0, 0], &[], (Band::None, false));
    }
}
