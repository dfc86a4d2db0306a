//! Values by dimension.

use serde::{Serialize, Serializer};

/// Values by the names of the dimensions, in their order: an object with a field for each.
#[derive(Clone, Debug)]
pub struct ByDimension<'a, T> {
    /// The names.
    pub dimensions: &'a [String],
    /// A value for each.
    pub values: Vec<T>,
}

impl<T: Serialize> Serialize for ByDimension<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.dimensions.iter().zip(&self.values))
    }
}

/// `rooms=1,guests=2`
#[must_use]
pub fn by_name<T: ToString>(values: &ByDimension<'_, T>) -> String {
    let pairs = values.dimensions.iter().zip(&values.values);
    pairs
        .map(|(name, value)| format!("{name}={}", value.to_string()))
        .collect::<Vec<_>>()
        .join(",")
}
