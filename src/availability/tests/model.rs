//! Random definitions, numbers and queries against a model that looks at every pool.

use std::collections::BTreeMap;

use plimsoll_availability::limits::LOCATION_SIZE_MAX;
use plimsoll_availability::{Band, Match, Query, QuerySummary, Reader, Table, Writer};
use plimsoll_domain::{Counters, PoolDefinition, PoolId, Timestamp, Units};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const PART_COUNT: usize = 3;
const DIMENSION_COUNT: usize = 2;
/// Places for pools; each is one (partition, slot), used by one pool after the other.
const PLACE_COUNT: usize = 120;
const ZONES: [&str; 3] = ["north", "south", "nörd"];
const KINDS: [&str; 2] = ["delivery", "pickup"];
const PREFIXES: [&str; 6] = ["1", "10", "101", "2", "20", "0123456789abcdef0123456789abcdef"];
const LOCATIONS: [&str; 8] = [
    "10115",
    "1",
    "",
    "2",
    "20\0",
    "3",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdefg",
];

#[derive(Clone, Debug)]
enum Step {
    Put {
        place: usize,
        definition: Box<PoolDefinition>,
    },
    Remove {
        place: usize,
    },
    Set {
        place: usize,
        reserved: [i64; DIMENSION_COUNT],
    },
    Publish {
        part: usize,
    },
    Ask(Asked),
}

#[derive(Clone, Debug)]
struct Asked {
    zone: Option<&'static str>,
    location: Option<&'static str>,
    kind: Option<&'static str>,
    from: i64,
    to: i64,
    now: i64,
    units: [u32; DIMENSION_COUNT],
    limit: usize,
}

/// Times are small, so that they meet; some windows are long, some have no length.
fn definition() -> impl Strategy<Value = Box<PoolDefinition>> {
    let length = prop_oneof![Just(0), 1_i64..4, 4_i64..40, Just(1_000)];
    let closes_at = prop_oneof![3 => Just(i64::MAX), 2 => 0_i64..60];
    let opens_at = prop_oneof![3 => Just(0), 1 => 0_i64..40];
    let place = (
        0_usize..20,
        select(&ZONES[..]),
        select(&KINDS[..]),
        vec(select(&PREFIXES[..]), 0..4),
    );
    let times = (0_i64..60, length, opens_at, closes_at);
    let amounts = (
        vec(0_u32..30, DIMENSION_COUNT),
        vec(0_u32..3, DIMENSION_COUNT),
        prop::bool::weighted(0.1),
    );
    (place, times, amounts).prop_map(|((name, zone, kind, coverage), times, (limits, overbook, closed))| {
        let (starts_at, length, opens_at, closes_at) = times;
        Box::new(PoolDefinition {
            name: format!("pool-{name}").into(),
            zone: zone.into(),
            kind: kind.into(),
            starts_at: Timestamp(starts_at),
            ends_at: Timestamp(starts_at + length),
            opens_at: Timestamp(opens_at),
            closes_at: Timestamp(closes_at),
            coverage: coverage.into_iter().map(Box::from).collect(),
            closed,
            shadow: false,
            limits: Units::from_slice(&limits),
            overbook: Units::from_slice(&overbook),
        })
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let wanted = (
        option::of(select(&ZONES[..])),
        option::of(select(&LOCATIONS[..])),
        option::of(select(&KINDS[..])),
    );
    let units = [0_u32..12, 0_u32..3];
    let limit = prop_oneof![0_usize..4, Just(1_000)];
    let to = prop_oneof![2 => -2_i64..60, 1 => Just(i64::MAX)];
    (wanted, -2_i64..70, to, 0_i64..60, units, limit).prop_map(
        |((zone, location, kind), from, to, now, units, limit)| Asked {
            zone,
            location,
            kind,
            from,
            to,
            now,
            units,
            limit,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..PLACE_COUNT;
    prop_oneof![
        8 => (place.clone(), definition()).prop_map(|(place, definition)| Step::Put { place, definition }),
        2 => place.clone().prop_map(|place| Step::Remove { place }),
        3 => (place, [0_i64..40, 0_i64..40]).prop_map(|(place, reserved)| Step::Set { place, reserved }),
        1 => (0..PART_COUNT).prop_map(|part| Step::Publish { part }),
        1 => asked().prop_map(Step::Ask),
    ]
}

#[derive(Clone)]
struct ModelPool {
    version: u64,
    definition: PoolDefinition,
    reserved: [i64; DIMENSION_COUNT],
}

/// What one answer says of one pool.
#[derive(Debug, PartialEq)]
struct Found {
    pool: PoolId,
    version: u64,
    texts: [String; 3],
    window: (i64, i64),
    remaining: Vec<i64>,
    band: Band,
    fits: bool,
}

impl From<Match<'_>> for Found {
    fn from(found: Match<'_>) -> Found {
        assert_eq!(found.remaining.0[DIMENSION_COUNT..], [0; 8 - DIMENSION_COUNT]);
        Found {
            pool: found.pool,
            version: found.version,
            texts: [found.name, found.zone, found.kind].map(str::to_owned),
            window: (found.starts_at.0, found.ends_at.0),
            remaining: found.remaining.0[..DIMENSION_COUNT].to_vec(),
            band: found.band,
            fits: found.fits,
        }
    }
}

/// The parts, and what they were told: `told` by the writers, `seen` what readers must see.
struct World {
    writers: Vec<Writer>,
    reader: Reader,
    /// A reader that is asked at the end only, and has held the first index until then.
    late_reader: Reader,
    told: Vec<BTreeMap<PoolId, ModelPool>>,
    seen: Vec<BTreeMap<PoolId, ModelPool>>,
    as_of: [i64; PART_COUNT],
    generations: [u64; PLACE_COUNT],
    version_last: u64,
}

impl World {
    fn new() -> World {
        let (table, writers) = Table::new(PART_COUNT, DIMENSION_COUNT);
        World {
            writers,
            reader: table.reader(),
            late_reader: table.reader(),
            told: vec![BTreeMap::new(); PART_COUNT],
            seen: vec![BTreeMap::new(); PART_COUNT],
            as_of: [Timestamp::ABSENT.0; PART_COUNT],
            generations: [1; PLACE_COUNT],
            version_last: 0,
        }
    }

    /// The part and the id of the pool that has a place now, or will have it next.
    fn pool_at(&self, place: usize) -> (usize, PoolId) {
        let (partition, slot) = (place % 5, place / 5);
        let id = (partition as u64) << 48 | (slot as u64) << 24 | self.generations[place];
        (partition % PART_COUNT, PoolId(id))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Put { place, definition } => {
                let (part, id) = self.pool_at(place);
                self.version_last += 1;
                self.writers[part].put(id, self.version_last, &definition);
                let reserved = self.told[part]
                    .get(&id)
                    .map_or([0; DIMENSION_COUNT], |pool| pool.reserved);
                let pool = ModelPool {
                    version: self.version_last,
                    definition: *definition,
                    reserved,
                };
                self.told[part].insert(id, pool);
            }
            Step::Remove { place } => {
                let (part, id) = self.pool_at(place);
                if self.told[part].remove(&id).is_some() {
                    self.writers[part].remove(id);
                    self.generations[place] += 1;
                    // Its slot belongs to nobody at once.
                    self.seen[part].remove(&id);
                }
            }
            Step::Set { place, reserved } => {
                let (part, id) = self.pool_at(place);
                if let Some(pool) = self.told[part].get_mut(&id) {
                    pool.reserved = reserved;
                    let mut counters = Counters::default();
                    counters.0[..DIMENSION_COUNT].copy_from_slice(&reserved);
                    self.writers[part].set_reserved(id, &counters);
                    if let Some(seen) = self.seen[part].get_mut(&id) {
                        seen.reserved = reserved;
                    }
                }
            }
            Step::Publish { part } => {
                self.as_of[part] = self.as_of[part].max(0) + 1 + part as i64;
                self.writers[part].publish(Timestamp(self.as_of[part]));
                self.seen[part] = self.told[part].clone();
            }
            Step::Ask(asked) => self.check(&asked, false),
        }
    }

    fn check(&mut self, asked: &Asked, late: bool) {
        let reader = if late { &mut self.late_reader } else { &mut self.reader };
        let query = Query {
            zone: asked.zone,
            location: asked.location,
            kind: asked.kind,
            from: Timestamp(asked.from),
            to: Timestamp(asked.to),
            units: Units::from_slice(&asked.units),
            limit: asked.limit,
        };
        let mut found = Vec::new();
        let summary = reader.query(&query, Timestamp(asked.now), |pool| found.push(Found::from(pool)));

        let pools = self.seen.iter().flatten();
        let mut expected: Vec<Found> = pools
            .filter(|(_, pool)| is_wanted(&pool.definition, asked))
            .map(|(id, pool)| expected(*id, pool, asked))
            .collect();
        expected.sort_by(|left, right| {
            let key = |found: &Found| (found.window.0, found.texts[0].clone(), found.pool);
            key(left).cmp(&key(right))
        });
        let truncated = expected.len() > asked.limit;
        expected.truncate(asked.limit);
        assert_eq!(found, expected, "{asked:?}");
        let as_of = Timestamp(*self.as_of.iter().min().expect("there are parts"));
        assert_eq!(summary, QuerySummary { as_of, truncated }, "{asked:?}");
    }
}

fn is_wanted(pool: &PoolDefinition, asked: &Asked) -> bool {
    let sells = !pool.closed && pool.opens_at.0 <= asked.now && asked.now < pool.closes_at.0;
    let overlaps = if pool.starts_at == pool.ends_at {
        asked.from <= pool.starts_at.0 && pool.starts_at.0 < asked.to
    } else {
        asked.from < asked.to && pool.starts_at.0 < asked.to && asked.from < pool.ends_at.0
    };
    let covers = |location: &str| {
        let location = location.split('\0').next().expect("a split has a part");
        let relevant = &location[..location.len().min(LOCATION_SIZE_MAX)];
        pool.coverage.iter().any(|prefix| relevant.starts_with(&**prefix))
    };
    sells
        && overlaps
        && (asked.zone.is_some() || asked.location.is_some())
        && asked.zone.is_none_or(|zone| *pool.zone == *zone)
        && asked.kind.is_none_or(|kind| *pool.kind == *kind)
        && asked.location.is_none_or(covers)
}

fn expected(id: PoolId, pool: &ModelPool, asked: &Asked) -> Found {
    let definition = &pool.definition;
    let ceiling = |dimension: usize| i64::from(definition.limits.0[dimension] + definition.overbook.0[dimension]);
    let remaining: Vec<i64> = (0..DIMENSION_COUNT)
        .map(|dimension| ceiling(dimension) - pool.reserved[dimension])
        .collect();
    let fits = if asked.units == [0; DIMENSION_COUNT] {
        remaining.iter().any(|left| *left > 0)
    } else {
        let mut asked_for = asked.units.iter().zip(&remaining);
        asked_for.all(|(unit, left)| *unit == 0 || i64::from(*unit) <= *left)
    };
    // Fractions of so small numbers are exact enough, but for a tenth, which is told by multiplying.
    let sold = (0..DIMENSION_COUNT).filter(|dimension| ceiling(*dimension) > 0);
    let tightest = sold
        .map(|dimension| (remaining[dimension], ceiling(dimension)))
        .min_by(|left, right| (left.0 * right.1).cmp(&(right.0 * left.1)));
    let band = match tightest {
        Some((left, ceiling)) if fits && left > 0 => match left * 10 {
            tenfold if tenfold <= ceiling => Band::Low,
            tenfold if tenfold <= 5 * ceiling => Band::Some,
            _ => Band::Plenty,
        },
        _ => Band::None,
    };
    Found {
        pool: id,
        version: pool.version,
        texts: [&definition.name, &definition.zone, &definition.kind].map(ToString::to_string),
        window: (definition.starts_at.0, definition.ends_at.0),
        remaining,
        band,
        fits,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_are_those_of_the_model(steps in vec(step(), 0..600), last in vec(asked(), 20)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        for part in 0..PART_COUNT {
            world.apply(Step::Publish { part });
        }
        for asked in &last {
            world.check(asked, false);
            world.check(asked, true);
        }
    }
}
