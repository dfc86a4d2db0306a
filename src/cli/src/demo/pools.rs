//! The pools of the demo: delivery slots of some zones over two weeks.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};
use plimsoll_client::PoolDefinition;

/// What the demo's pools limit.
pub(super) const DIMENSIONS: [&str; 2] = ["orders", "items"];

const ZONES: [(&str, &[&str]); 8] = [
    ("north", &["10", "13"]),
    ("east", &["120", "122", "126"]),
    ("south", &["80", "81"]),
    ("west", &["50", "51"]),
    ("harbour", &["20", "21", "22"]),
    ("hills", &["70"]),
    ("lakes", &["824", "825"]),
    ("centre", &["60", "603"]),
];

/// A kind, the hours at which its slots begin, their length in hours, and the limits of one slot.
const KINDS: [(&str, &[i64], i64, [u32; 2]); 2] = [
    ("logistics", &[8, 10, 12, 14, 16, 18], 2, [120, 1_800]),
    ("warehouse", &[6, 14], 8, [400, 5_200]),
];

const DAYS: i64 = 14;
const HOUR: i64 = 3_600;

/// Slots from tomorrow on, UTC.
pub(super) fn definitions() -> Vec<PoolDefinition> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let tomorrow = (now / (24 * HOUR) + 1) * 24 * HOUR;
    let mut definitions = Vec::new();
    for (zone, coverage) in ZONES {
        for (kind, hours, length, limits) in KINDS {
            for (day, hour) in (0..DAYS).flat_map(|day| hours.iter().map(move |hour| (day, hour))) {
                let starts_at = tomorrow + day * 24 * HOUR + hour * HOUR;
                definitions.push(PoolDefinition {
                    zone: zone.to_owned(),
                    kind: kind.to_owned(),
                    starts_at: starts_at * 1_000_000,
                    ends_at: (starts_at + length * HOUR) * 1_000_000,
                    closes_at: starts_at * 1_000_000,
                    coverage: coverage.iter().map(|prefix| (*prefix).to_owned()).collect(),
                    ..PoolDefinition::new(format!("{zone}:{kind}:{}", label(starts_at)), limits.to_vec())
                });
            }
        }
    }
    definitions
}

/// `2026-12-24T08`
fn label(seconds: i64) -> String {
    let time = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_secs(seconds));
    time.map_or_else(|_| seconds.to_string(), |time| time.strftime("%Y-%m-%dT%H").to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::pool_file::broken_name_rule;

    #[test]
    fn two_weeks_of_slots() {
        let definitions = definitions();
        assert_eq!(definitions.len(), 8 * 14 * 8);
        let names: HashSet<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
        assert_eq!(names.len(), definitions.len());
        for definition in &definitions {
            assert_eq!(broken_name_rule(&definition.name), None, "{}", definition.name);
            assert_eq!(definition.limits.len(), DIMENSIONS.len());
        }
    }
}
