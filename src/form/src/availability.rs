//! What can be sold: JSON.

use plimsoll_client::{Availability, AvailablePool};
use serde::Serialize;
use utoipa::ToSchema;

use crate::by_dimension::ByDimension;
use crate::time::format_time;

/// Which pools sell.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Availability)]
pub struct AvailabilityForm<'a> {
    /// Everything that was acknowledged before it is counted.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Option<String>,
    /// The pools, by `starts_at`, then name.
    pub pools: Vec<AvailablePoolForm<'a>>,
    /// There are more than the limit let through.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub truncated: bool,
}

/// A pool that sells.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AvailablePool)]
pub struct AvailablePoolForm<'a> {
    /// Its name.
    pub pool: &'a str,
    /// Where it applies.
    pub zone: &'a str,
    /// What sort of capacity it is.
    pub kind: &'a str,
    /// From when it is used.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Option<String>,
    /// Until when it is used.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Option<String>,
    /// How much is left: `none`, `low`, `some` or `plenty`.
    #[schema(example = "some")]
    pub band: String,
    /// Whether the units that were asked for fit.
    pub fits: bool,
    /// What remains in each dimension, where exact numbers were asked for; may be negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, i64>, required = false)]
    pub remaining: Option<ByDimension<'a, i64>>,
}

impl<'a> AvailabilityForm<'a> {
    /// How an answer looks.
    #[must_use]
    pub fn new(found: &'a Availability, dimensions: &'a [String]) -> AvailabilityForm<'a> {
        let pool = |pool: &'a AvailablePool| AvailablePoolForm {
            pool: &pool.name,
            zone: &pool.zone,
            kind: &pool.kind,
            starts_at: format_time(pool.starts_at),
            ends_at: format_time(pool.ends_at),
            band: pool.band.to_string(),
            fits: pool.fits,
            remaining: pool.remaining.clone().map(|values| ByDimension { dimensions, values }),
        };
        AvailabilityForm {
            as_of: format_time(found.as_of),
            pools: found.pools.iter().map(pool).collect(),
            truncated: found.truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{Band, PoolId};

    use super::*;

    fn found(remaining: Option<Vec<i64>>) -> Availability {
        let pool = AvailablePool {
            id: PoolId(1),
            name: "A:1".into(),
            zone: "z".into(),
            kind: "k".into(),
            starts_at: 1_435_759_200_000_000,
            ends_at: 1_435_838_400_000_000,
            version: 1,
            band: Band::Low,
            fits: true,
            remaining,
        };
        Availability {
            as_of: 1_435_759_200_500_000,
            pools: vec![pool],
            truncated: false,
        }
    }

    fn dimensions() -> Vec<String> {
        vec!["rooms".into(), "guests".into()]
    }

    #[test]
    fn json_is_the_http_form() {
        let json = |remaining| serde_json::to_string(&AvailabilityForm::new(&found(remaining), &dimensions())).unwrap();
        let begin = r#"{"as_of":"2015-07-01T14:00:00.500Z","pools":[{"pool":"A:1","zone":"z","kind":"k","#.to_owned()
            + r#""starts_at":"2015-07-01T14:00:00.000Z","ends_at":"2015-07-02T12:00:00.000Z","band":"low","fits":true"#;
        assert_eq!(json(None), format!("{begin}}}]}}"));
        let exact = r#","remaining":{"rooms":2,"guests":-1}}]}"#;
        assert_eq!(json(Some(vec![2, -1])), format!("{begin}{exact}"));
    }
}
