//! Readers on threads of their own while a writer changes everything under them.
//!
//! The model checker goes through the orders of a few words (`src/slot.rs`); this goes through the whole table, on real
//! threads, for as long as the writer takes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};

use plimsoll_availability::{Query, Reader, Table, Writer};
use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{Counters, PoolDefinition, PoolId, Timestamp, Units};

const ROUND_COUNT: i64 = 20_000;
const POOL_COUNT: u64 = 40;
const READER_COUNT: usize = 3;
/// What a pool of a generation has reserved is this many times the generation, and a round below it.
const STRIDE: i64 = 1_000_000;
const CEILING: u32 = 1_000_000_000;

fn definition(number: u64) -> PoolDefinition {
    PoolDefinition {
        name: format!("pool-{number}").into(),
        zone: "north".into(),
        kind: "delivery".into(),
        starts_at: Timestamp(number as i64),
        ends_at: Timestamp(number as i64 + 10),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: vec!["1".into(), format!("2{number}").into()],
        closed: false,
        shadow: false,
        limits: Units([CEILING; DIMENSION_COUNT_MAX]),
        overbook: Units::default(),
    }
}

fn id(number: u64, generation: u64) -> PoolId {
    PoolId(((number % 4) << 48) | ((number / 4) << 24) | generation)
}

/// Rewrites the numbers of all pools in each round, equal in all dimensions; now and then another pool takes the place, and
/// the slot, of one that is removed.
fn write(writer: &mut Writer, part: u64) {
    let mine = || (0..POOL_COUNT).filter(move |number| number % 2 == part);
    let mut generations: HashMap<u64, u64> = mine().map(|number| (number, 1)).collect();
    for round in 1..=ROUND_COUNT {
        for number in mine() {
            let generation = generations.get_mut(&number).expect("each has one");
            if round > 1 && round % 50 == number as i64 {
                writer.remove(id(number, *generation));
                *generation += 1;
            }
            if round == 1 || round % 50 == number as i64 || round % 61 == number as i64 {
                writer.put(id(number, *generation), round as u64, &definition(number));
            }
            let reserved = *generation as i64 * STRIDE + round;
            writer.set_reserved(id(number, *generation), &Counters([reserved; DIMENSION_COUNT_MAX]));
        }
        writer.publish(Timestamp(round));
    }
}

/// Asks until the writers are done; returns how many numbers it saw.
fn read(reader: &mut Reader, query: &Query<'_>, done: &AtomicBool) -> u64 {
    let mut seen: HashMap<PoolId, i64> = HashMap::new();
    let mut count = 0;
    let mut as_of = Timestamp::ABSENT;
    while !done.load(Ordering::Relaxed) {
        let mut rounds = Vec::new();
        let summary = reader.query(query, Timestamp(1), |found| {
            let reserved = found.remaining.0.map(|left| i64::from(CEILING) - left);
            assert!(reserved.iter().all(|other| *other == reserved[0]), "torn: {reserved:?}");
            let generation = (found.pool.0 & 0xFF_FFFF) as i64;
            assert_eq!(reserved[0] / STRIDE, generation, "numbers of another pool: {found:?}");
            let before = seen.insert(found.pool, reserved[0]).unwrap_or(0);
            assert!(before <= reserved[0], "{before} was seen before: {found:?}");
            rounds.push(reserved[0] % STRIDE);
        });
        assert!(summary.as_of >= as_of, "{:?} after {as_of:?}", summary.as_of);
        as_of = summary.as_of;
        for round in &rounds {
            assert!(*round >= as_of.0, "round {round} in an answer as of {as_of:?}");
        }
        count += rounds.len() as u64;
    }
    count
}

#[test]
fn readers_see_whole_numbers_of_their_pools_that_never_go_back() {
    let (table, writers) = Table::new(2, DIMENSION_COUNT_MAX);
    let done = AtomicBool::new(false);
    let by_location = |index: usize| index % 2 == 1;
    let query = |index: usize| Query {
        zone: (!by_location(index)).then_some("north"),
        location: by_location(index).then_some("10115"),
        kind: None,
        from: Timestamp(0),
        to: Timestamp(1_000),
        units: Units::default(),
        limit: 1_000,
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READER_COUNT)
            .map(|index| {
                let mut reader = table.reader();
                let done = &done;
                scope.spawn(move || read(&mut reader, &query(index), done))
            })
            .collect();
        let writing: Vec<_> = (0..)
            .zip(writers)
            .map(|(part, mut writer)| scope.spawn(move || write(&mut writer, part)))
            .collect();
        // All ends are awaited before any is looked at: readers must stop even when a writer failed.
        let written: Vec<_> = writing.into_iter().map(ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        for writer in written {
            writer.expect("a writer ends");
        }
        for reader in readers {
            assert!(
                reader.join().expect("a reader sees nothing wrong") > 0,
                "a reader saw nothing"
            );
        }
    });
}
