//! Amounts by dimension.

use crate::limits::DIMENSION_COUNT_MAX;

/// What a reservation takes, or a limit grants, in each dimension. Dimensions that the directory does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Units(pub [u32; DIMENSION_COUNT_MAX]);

impl Units {
    /// From the values of the first dimensions; values past the eighth are ignored.
    pub fn from_slice(values: &[u32]) -> Units {
        let mut units = Units::default();
        for (unit, value) in units.0.iter_mut().zip(values) {
            *unit = *value;
        }
        units
    }

    /// What is more than in these, by dimension.
    #[inline]
    pub(crate) fn grown_from(&self, before: &Units) -> Units {
        let mut grown = *self;
        for (unit, before) in grown.0.iter_mut().zip(before.0) {
            *unit = unit.saturating_sub(before);
        }
        grown
    }

    /// Whether nothing is asked for in any dimension.
    #[inline]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|unit| *unit == 0)
    }
}

/// Sums by dimension. Signed, since what remains of a pool may be below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters(pub [i64; DIMENSION_COUNT_MAX]);

impl Counters {
    /// Adds units.
    #[inline]
    pub fn add(&mut self, units: &Units) {
        for (counter, unit) in self.0.iter_mut().zip(units.0) {
            *counter += i64::from(unit);
        }
    }

    /// Takes units away.
    #[inline]
    pub fn subtract(&mut self, units: &Units) {
        for (counter, unit) in self.0.iter_mut().zip(units.0) {
            *counter -= i64::from(unit);
        }
    }
}
