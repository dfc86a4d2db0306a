//! The pools of the demo: slots of eight zones over two weeks, in three kinds.

use std::collections::HashMap;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use plimsoll_client::{PoolDefinition, PoolId};

pub(super) const MICROS_PER_DAY: i64 = 24 * 3_600 * 1_000_000;

/// What the demo's pools limit.
pub(super) const DIMENSIONS: [&str; 2] = ["orders", "items"];

/// Units by dimension.
pub(super) type Units = [u32; DIMENSIONS.len()];

/// Zones and the beginnings of the postal codes that they serve.
const ZONES: [(&str, &[&str]); 8] = [
    ("centre", &["101", "103"]),
    ("north", &["130", "133", "134"]),
    ("east", &["120", "122", "126"]),
    ("south", &["140", "141"]),
    ("west", &["150", "151"]),
    ("harbour", &["110", "111", "112"]),
    ("hills", &["17"]),
    ("lakes", &["824", "825"]),
];

/// A sort of slot: the hours at which its windows begin, their length in hours, and the limits of one.
struct Kind {
    name: &'static str,
    hours: &'static [i8],
    length: i8,
    limits: Units,
    /// Nothing of it is sold for Sundays.
    rests: bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "delivery",
        hours: &[8, 10, 12, 14, 16, 18],
        length: 2,
        limits: [120, 1_500],
        rests: true,
    },
    Kind {
        name: "pickup",
        hours: &[9, 13, 17],
        length: 4,
        limits: [150, 2_000],
        rests: true,
    },
    Kind {
        name: "collect",
        hours: &[10],
        length: 10,
        limits: [300, 3_000],
        rests: false,
    },
];

/// The late delivery of each day is closed until it goes on sale.
const SALE_HOUR: i8 = 20;
const SALE_LENGTH: i8 = 2;
const SALE_LIMITS: Units = [80, 1_400];

/// Here every order is recorded, and those past the limit are only marked.
const SHADOW: (&str, &str) = ("lakes", "collect");
/// Here a few more are taken than there is room for, since some do not come.
const OVERBOOKED: (&str, &str) = ("harbour", "pickup");
const OVERBOOK: Units = [15, 200];

/// From tomorrow on.
pub(super) const DAYS: i64 = 14;

/// All pools, and how shoppers find them.
pub(super) struct Catalogue {
    pub(super) definitions: Vec<PoolDefinition>,
    /// In the order of the definitions.
    pub(super) ids: Vec<PoolId>,
    indices: HashMap<PoolId, usize>,
    /// For each zone and kind, the open ones in the order of time.
    shelves: Vec<Shelf>,
    /// Those that go on sale.
    pub(super) sales: Vec<usize>,
}

/// What one shopper chooses from.
pub(super) struct Shelf {
    pub(super) kind: &'static str,
    /// The beginnings of its postal codes.
    pub(super) coverage: &'static [&'static str],
    /// In the order of time.
    pub(super) pools: Vec<usize>,
}

impl Catalogue {
    /// `ids` in the order of [`definitions`].
    pub(super) fn new(definitions: Vec<PoolDefinition>, ids: Vec<PoolId>) -> Catalogue {
        let indices = ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
        let is_sale = |index: &usize| definitions[*index].name.ends_with(&format!("T{SALE_HOUR}"));
        let kinds = KINDS.iter().map(|kind| kind.name);
        let shelves = ZONES
            .iter()
            .flat_map(|zone| kinds.clone().map(move |kind| (zone, kind)))
            .map(|((zone, coverage), kind)| Shelf {
                kind,
                coverage,
                pools: (0..definitions.len())
                    .filter(|index| definitions[*index].zone == *zone && definitions[*index].kind == kind)
                    .filter(|index| !is_sale(index))
                    .collect(),
            })
            .collect();
        let sales = (0..definitions.len()).filter(is_sale).collect();
        Catalogue {
            definitions,
            ids,
            indices,
            shelves,
            sales,
        }
    }

    /// The shelf of a zone and a kind, each given by a share from 0 to 1; the first ones are the most popular.
    pub(super) fn shelf(&self, zone: f64, kind: f64) -> &Shelf {
        let zone = at_share(ZONES.len(), zone);
        let kind = at_share(KINDS.len(), kind);
        &self.shelves[zone * KINDS.len() + kind]
    }

    pub(super) fn index(&self, id: PoolId) -> Option<usize> {
        self.indices.get(&id).copied()
    }

    /// Whole days from the first slots to those of this pool.
    pub(super) fn day(&self, index: usize) -> i64 {
        (self.definitions[index].starts_at - self.definitions[0].starts_at) / MICROS_PER_DAY
    }

    /// Orders that all pools together take.
    pub(super) fn order_count_max(&self) -> u64 {
        self.definitions
            .iter()
            .filter(|definition| !definition.closed)
            .map(|definition| u64::from(definition.limits[0]))
            .sum()
    }
}

/// The index at a share of a list: 0 is the first, just below 1 the last.
pub(super) fn at_share(count: usize, share: f64) -> usize {
    ((share * count as f64) as usize).min(count.saturating_sub(1))
}

/// Slots from tomorrow on, with windows of the local day.
pub(super) fn definitions() -> Vec<PoolDefinition> {
    definitions_from(Timestamp::now(), &TimeZone::system())
}

fn definitions_from(now: Timestamp, zone: &TimeZone) -> Vec<PoolDefinition> {
    let today = zone.to_datetime(now).date();
    let dates: Vec<Date> = (1..=DAYS)
        .filter_map(|day| today.checked_add(day.days()).ok())
        .collect();
    let mut definitions = Vec::new();
    for place in &ZONES {
        for date in &dates {
            for kind in &KINDS {
                for hour in kind.hours {
                    definitions.push(slot(place, kind, *date, *hour, zone));
                }
            }
            let sale = Kind {
                hours: &[],
                length: SALE_LENGTH,
                limits: SALE_LIMITS,
                ..KINDS[0]
            };
            definitions.push(PoolDefinition {
                closed: true,
                ..slot(place, &sale, *date, SALE_HOUR, zone)
            });
        }
    }
    definitions
}

fn slot(place: &(&str, &[&str]), kind: &Kind, date: Date, hour: i8, zone: &TimeZone) -> PoolDefinition {
    let micros = |hour: i8| {
        let local = date.at(hour, 0, 0, 0);
        // An hour that the local clock skips is taken as the next one, as people do.
        zone.to_timestamp(local).map_or(0, Timestamp::as_microsecond)
    };
    let place_and_kind = (place.0, kind.name);
    let starts_at = micros(hour);
    PoolDefinition {
        zone: place.0.to_owned(),
        kind: kind.name.to_owned(),
        starts_at,
        ends_at: micros(hour + kind.length),
        closes_at: starts_at,
        coverage: place.1.iter().map(|prefix| (*prefix).to_owned()).collect(),
        closed: kind.rests && date.weekday() == Weekday::Sunday,
        shadow: place_and_kind == SHADOW,
        overbook: if place_and_kind == OVERBOOKED {
            OVERBOOK.to_vec()
        } else {
            Vec::new()
        },
        ..PoolDefinition::new(
            format!("{}:{}:{date}T{hour:02}", place.0, kind.name),
            kind.limits.to_vec(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use plimsoll_form::broken_name_rule;

    fn examples() -> Vec<PoolDefinition> {
        // A Tuesday.
        definitions_from("2026-11-24T09:30:00Z".parse().unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn two_weeks_of_slots() {
        let definitions = examples();
        assert_eq!(definitions.len(), 8 * 14 * (6 + 3 + 1 + 1));
        let names: HashSet<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
        assert_eq!(names.len(), definitions.len());
        assert!(names.contains("harbour:delivery:2026-12-08T08"));
        for definition in &definitions {
            assert_eq!(broken_name_rule(&definition.name), None, "{}", definition.name);
            assert_eq!(definition.limits.len(), DIMENSIONS.len());
            assert!(definition.starts_at < definition.ends_at);
        }
        let count = |is: fn(&PoolDefinition) -> bool| definitions.iter().filter(|definition| is(definition)).count();
        assert_eq!(count(|definition| definition.shadow), 14);
        assert_eq!(count(|definition| !definition.overbook.is_empty()), 14 * 3);
        // Two Sundays, and what goes on sale.
        assert_eq!(count(|definition| definition.closed), 8 * (2 * 9 + 14));
    }

    #[test]
    fn a_shelf_has_what_is_sold_without_a_sale() {
        let definitions = examples();
        let ids = (1..=definitions.len() as u64).map(PoolId).collect();
        let catalogue = Catalogue::new(definitions, ids);
        assert_eq!(catalogue.sales.len(), 8 * 14);
        let shelf = catalogue.shelf(0.0, 0.0);
        assert_eq!(
            (shelf.coverage[0], shelf.kind, shelf.pools.len()),
            ("101", "delivery", 14 * 6)
        );
        let shelf = catalogue.shelf(0.999, 0.999);
        assert_eq!((shelf.coverage[0], shelf.kind), ("824", "collect"));
        assert!(catalogue.sales.iter().all(|sale| !shelf.pools.contains(sale)));
    }
}
