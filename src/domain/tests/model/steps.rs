//! Random steps.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use plimsoll_domain::limits::UNITS_MAX;
use plimsoll_domain::{PoolDefinition, Timestamp, Units, partition_of};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::naive::{Bounds, RETENTION_MICROS, RETIRE_AFTER_MICROS, START};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Any,
    MustNotExist,
    Current,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ReservationChoice {
    /// One that was made at some time.
    Made(Index),
    /// One of the last few.
    Late(usize),
    /// One that was made at some time, with a bit of its id turned.
    Forged(Index, u32),
    Unknown(u128),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Advance {
    Micros(i64),
    /// To the earliest deadline of a hold that lies ahead, and this much further.
    ToDeadline(i64),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put {
        definition: PoolDefinition,
        version: Version,
    },
    Reserve {
        name: usize,
        /// Turned bits of the pool's id; 0 mostly.
        turned: u64,
        key: u8,
        units: Units,
        hold_seconds: u32,
        reference: Option<String>,
        random: u64,
    },
    /// The same command again, as a client does that saw no answer.
    ReserveAgain(Index),
    Confirm(ReservationChoice),
    Resize {
        choice: ReservationChoice,
        version: Version,
        /// `None`: unchanged.
        units: Vec<Option<u32>>,
        hold_seconds: u32,
    },
    Release(ReservationChoice),
    Advance(Advance),
    /// Ends at most this many holds.
    Expire(usize),
    /// Moves the deadlines of all holds that are due to so much later.
    Extend(i64),
    /// Retires at most this many pools.
    Retire(usize),
    /// Sweeps so many slots.
    Sweep(u32),
    TurnedAway(usize),
    Reset {
        name: usize,
        moment: Index,
        has_definition: bool,
        version: Version,
    },
}

/// A run of the model.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) bounds: Bounds,
    /// Each with how many bytes of a snapshot are copied after it.
    pub(crate) steps: Vec<(Step, usize)>,
    /// After how many steps a snapshot begins.
    pub(crate) snapshot_after: Index,
    /// Shuffles the snapshot's pieces.
    pub(crate) seed: u64,
}

/// Three pools of one partition, two of another, and one of its own: keys are shared within a partition only.
pub(crate) fn names() -> Vec<String> {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(find_names).clone()
}

fn find_names() -> Vec<String> {
    let mut by_partition = BTreeMap::<u16, Vec<String>>::new();
    for number in 0..4_000 {
        let name = format!("pool-{number}");
        by_partition.entry(partition_of(&name).0).or_default().push(name);
    }
    let mut names = Vec::new();
    for (members, count) in by_partition.into_values().zip([3, 2, 1]) {
        names.extend(members.into_iter().take(count));
    }
    assert_eq!(names.len(), 6, "4,000 names fill three partitions");
    names
}

fn limits(dimension_count: usize) -> impl Strategy<Value = Units> {
    let limit = prop_oneof![8 => 0..12_u32, 1 => Just(UNITS_MAX)];
    vec(limit, dimension_count).prop_map(|values| Units::from_slice(&values))
}

/// At least one above 0.
fn asked(dimension_count: usize) -> impl Strategy<Value = Units> {
    let unit = prop_oneof![6 => 0..4_u32, 1 => Just(UNITS_MAX)];
    (vec(unit, dimension_count), 0..dimension_count).prop_map(|(mut values, at_least)| {
        values[at_least] = values[at_least].max(1);
        Units::from_slice(&values)
    })
}

prop_compose! {
    fn definition(dimension_count: usize, names: Vec<String>)(
        name in prop::sample::select(names),
        ends_at in prop_oneof![3 => Just(START + 1), 1 => START..START + 10_000_000],
        opens_at in prop_oneof![3 => Just(0), 1 => START..START + 300],
        closes_at in prop_oneof![3 => Just(Timestamp::NEVER), 1 => (START..START + 600).prop_map(Timestamp)],
        closed in prop::bool::weighted(0.15),
        shadow in prop::bool::weighted(0.25),
        limits in limits(dimension_count),
        overbook in prop_oneof![2 => Just(Units::default()), 1 => limits(dimension_count)],
    ) -> PoolDefinition {
        PoolDefinition {
            name: name.into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(START),
            ends_at: Timestamp(ends_at),
            opens_at: Timestamp(opens_at),
            closes_at,
            coverage: vec!["10".into()],
            closed,
            shadow,
            limits,
            overbook,
        }
    }
}

fn choice() -> impl Strategy<Value = ReservationChoice> {
    prop_oneof![
        4 => any::<Index>().prop_map(ReservationChoice::Made),
        8 => (0..5_usize).prop_map(ReservationChoice::Late),
        1 => (any::<Index>(), 0..128_u32).prop_map(|(index, bit)| ReservationChoice::Forged(index, bit)),
        1 => any::<u128>().prop_map(ReservationChoice::Unknown),
    ]
}

fn resize(dimension_count: usize) -> impl Strategy<Value = Step> {
    let unit = prop_oneof![
        3 => Just(None),
        4 => (0..5_u32).prop_map(Some),
        1 => Just(Some(UNITS_MAX)),
    ];
    let version = prop_oneof![4 => Just(Version::Any), 2 => Just(Version::Current), 1 => Just(Version::Other)];
    let hold_seconds = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(600), 1 => Just(86_400)];
    (choice(), version, vec(unit, dimension_count), hold_seconds).prop_map(|(choice, version, units, hold_seconds)| {
        Step::Resize {
            choice,
            version,
            units,
            hold_seconds,
        }
    })
}

fn advance() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40_i64).prop_map(Advance::Micros),
        3 => Just(Advance::Micros(RETENTION_MICROS)),
        3 => Just(Advance::Micros(RETENTION_MICROS + 1)),
        1 => (0..1_000_000_i64).prop_map(Advance::Micros),
        1 => Just(Advance::Micros(RETIRE_AFTER_MICROS)),
        2 => Just(Advance::Micros(RETIRE_AFTER_MICROS + 1)),
        4 => (-1..=1_i64).prop_map(Advance::ToDeadline),
        2 => Just(Advance::ToDeadline(1 << 18)),
    ]
    .prop_map(Step::Advance)
}

fn step(dimension_count: usize, names: Vec<String>) -> impl Strategy<Value = Step> {
    let put = (
        definition(dimension_count, names),
        prop_oneof![
            4 => Just(Version::Any),
            1 => Just(Version::MustNotExist),
            1 => Just(Version::Current),
            1 => Just(Version::Other),
        ],
    )
        .prop_map(|(definition, version)| Step::Put { definition, version });
    let turned = prop_oneof![20 => Just(0), 1 => (0..64_u32).prop_map(|bit| 1_u64 << bit)];
    let hold_seconds = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(600)];
    let reference = prop_oneof![2 => Just(None), 1 => "[ab]".prop_map(Some)];
    let reserve = (
        0..6_usize,
        turned,
        0..8_u8,
        asked(dimension_count),
        hold_seconds,
        reference,
        0..1_u64 << 56,
    )
        .prop_map(
            |(name, turned, key, units, hold_seconds, reference, random)| Step::Reserve {
                name,
                turned,
                key,
                units,
                hold_seconds,
                reference,
                random,
            },
        );
    let reset_version = prop_oneof![4 => Just(Version::Any), 2 => Just(Version::Current), 1 => Just(Version::Other)];
    let reset = (0..6_usize, any::<Index>(), prop::bool::weighted(0.3), reset_version).prop_map(
        |(name, moment, has_definition, version)| Step::Reset {
            name,
            moment,
            has_definition,
            version,
        },
    );
    prop_oneof![
        2 => put,
        9 => reserve,
        2 => any::<Index>().prop_map(Step::ReserveAgain),
        3 => choice().prop_map(Step::Confirm),
        5 => resize(dimension_count),
        4 => choice().prop_map(Step::Release),
        4 => advance(),
        2 => prop_oneof![Just(1_usize), Just(100)].prop_map(Step::Expire),
        1 => prop_oneof![Just(1_i64), Just(1_000_000)].prop_map(Step::Extend),
        2 => prop_oneof![Just(1_usize), Just(100)].prop_map(Step::Retire),
        3 => prop_oneof![1..4_u32, Just(1_024)].prop_map(Step::Sweep),
        1 => (0..6_usize).prop_map(Step::TurnedAway),
        4 => reset,
    ]
}

/// The pools exist in most runs, so that most commands meet one.
pub(crate) fn cases(dimension_count: usize) -> impl Strategy<Value = Case> {
    let names = names();
    let copied = prop_oneof![4 => Just(0), 2 => 1..6_000_usize, 1 => 0..60_000_usize];
    let bounds = prop_oneof![
        3 => Just((usize::MAX, usize::MAX)),
        1 => (1..8_usize, 1..6_usize),
    ];
    (
        bounds,
        vec(definition(dimension_count, names.clone()), 0..8),
        vec((step(dimension_count, names), copied), 1..160),
        any::<Index>(),
        any::<u64>(),
    )
        .prop_map(|(bounds, definitions, steps, snapshot_after, seed)| {
            let puts = definitions.into_iter().map(|definition| Step::Put {
                definition,
                version: Version::Any,
            });
            Case {
                bounds: Bounds {
                    reservation_count_max: bounds.0,
                    pool_count_max: bounds.1,
                },
                steps: puts.map(|put| (put, 0)).chain(steps).collect(),
                snapshot_after,
                seed,
            }
        })
}
