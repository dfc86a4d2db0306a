//! What the availability table costs its readers, and what it costs a core to publish.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plimsoll_availability::{Query, Reader, Table, Writer};
use plimsoll_benches::{SEED, sized};
use plimsoll_domain::{Counters, PoolDefinition, PoolId, Timestamp, Units};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Two cores publish.
const PART_COUNT: usize = 2;
const DIMENSION_COUNT: usize = 2;
const HOUR: i64 = 3_600_000_000;
/// In which hour the queries are asked. Windows before it are over.
const NOW: i64 = 20_000 * HOUR;
/// A zone has this many windows of an hour: half are over, and a query for the next hours finds 20 of the rest.
const POOLS_PER_ZONE: usize = 50;
const MATCH_COUNT: i64 = 20;

/// Zones of 50 pools each, with 3 coverage prefixes that no other zone has.
struct World {
    table: Table,
    writers: Vec<Writer>,
    zone_count: usize,
}

/// A pool's id: any that the two parts share out evenly.
fn id(number: usize) -> PoolId {
    PoolId((number as u64 % 1_024) << 48 | (number as u64 / 1_024) << 24 | 1)
}

fn definition(number: usize) -> PoolDefinition {
    // The pools of a zone lie apart, as they do when a planner adds day after day.
    let zone_count = sized(1_000_000, 100).max(1) / POOLS_PER_ZONE;
    definition_in(number, zone_count)
}

fn definition_in(number: usize, zone_count: usize) -> PoolDefinition {
    let (zone, window) = (number % zone_count, number / zone_count);
    let starts_at = NOW + (window as i64 - POOLS_PER_ZONE as i64 / 2) * HOUR;
    PoolDefinition {
        name: format!("zone-{zone}:{window}").into(),
        zone: format!("zone-{zone}").into(),
        kind: "delivery".into(),
        starts_at: Timestamp(starts_at),
        ends_at: Timestamp(starts_at + HOUR),
        opens_at: Timestamp(0),
        closes_at: Timestamp(starts_at),
        coverage: (0..3).map(|last| format!("{zone:05}{last}").into()).collect(),
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[100, 1_000]),
        overbook: Units::default(),
    }
}

impl World {
    fn new(pool_count: usize) -> World {
        let zone_count = pool_count / POOLS_PER_ZONE;
        let (table, mut writers) = Table::new(PART_COUNT, DIMENSION_COUNT);
        let mut random = Pcg64::seed_from_u64(SEED);
        for number in 0..pool_count {
            let writer = &mut writers[number % PART_COUNT];
            writer.put(id(number), 1, &definition_in(number, zone_count));
            writer.set_reserved(id(number), &reserved(&mut random));
        }
        for writer in &mut writers {
            writer.publish(Timestamp(NOW));
        }
        World {
            table,
            writers,
            zone_count,
        }
    }
}

fn reserved(random: &mut Pcg64) -> Counters {
    let mut reserved = Counters::default();
    reserved.0[0] = random.random_range(0..=100);
    reserved.0[1] = random.random_range(0..=1_000);
    reserved
}

/// By what a query looks for pools.
#[derive(Clone, Copy)]
enum By {
    Zone,
    Location,
}

/// Asks for the next 20 hours, and adds up what remains, which is what an answer is made from.
fn ask(reader: &mut Reader, text: &str, by: By) -> (i64, i64) {
    let query = Query {
        zone: matches!(by, By::Zone).then_some(text),
        location: matches!(by, By::Location).then_some(text),
        kind: None,
        from: Timestamp(NOW),
        to: Timestamp(NOW + MATCH_COUNT * HOUR),
        units: Units::from_slice(&[1, 10]),
        limit: 200,
    };
    let (mut count, mut sum) = (0, 0);
    reader.query(&query, Timestamp(NOW - 1), |found| {
        count += 1;
        sum += found.remaining.0[0] + i64::from(found.fits) + found.band as i64 + found.name.len() as i64;
    });
    (count, sum)
}

fn lookup(criterion: &mut Criterion, name: &str, world: &World, by: By, texts: &[String]) {
    let mut reader = world.table.reader();
    let digest: i64 = texts.iter().map(|text| ask(&mut reader, text, by).1).sum();
    println!("availability/{name}: digest {digest:#018x}");
    let mut next = texts.iter().cycle();
    criterion.bench_function(&format!("availability/{name}"), |bencher| {
        bencher.iter(|| {
            let text = next.next().expect("a cycle has no end");
            let (count, sum) = ask(&mut reader, black_box(text), by);
            assert_eq!(count, MATCH_COUNT);
            sum
        });
    });
}

/// Zones, or locations in them, at random.
fn texts(world: &World, by: By, count: usize) -> Vec<String> {
    let mut random = Pcg64::seed_from_u64(SEED);
    let mut text = || {
        let zone = random.random_range(0..world.zone_count);
        match by {
            By::Zone => format!("zone-{zone}"),
            By::Location => format!("{zone:05}1-and-more"),
        }
    };
    (0..count).map(|_| text()).collect()
}

/// How long does a query take that finds 20 pools, with their numbers, in two parts? Of 500 pools, which the second-level
/// cache holds, asking for their 10 zones in turn; and of 1,000,000 (about 500 MB), once for 16 zones in turn, as the
/// busy zones of an hour, and once for zones at random, of which no cache holds what is read.
fn reads(criterion: &mut Criterion) {
    let small = World::new(sized(500, 100));
    lookup(
        criterion,
        "zone_of_500_pools",
        &small,
        By::Zone,
        &texts(&small, By::Zone, 64),
    );
    let located = texts(&small, By::Location, 64);
    lookup(criterion, "location_of_500_pools", &small, By::Location, &located);
    drop(small);
    let large = World::new(sized(1_000_000, 100));
    for (name, count) in [("16_zones", 16), ("any_zone", sized(16_384, 16))] {
        let asked = texts(&large, By::Zone, count);
        lookup(criterion, &format!("{name}_of_1000000_pools"), &large, By::Zone, &asked);
    }
    let located = texts(&large, By::Location, sized(16_384, 16));
    lookup(
        criterion,
        "any_location_of_1000000_pools",
        &large,
        By::Location,
        &located,
    );
    writes(criterion, large);
}

/// What does the owner pay: for the numbers of one pool and the time of publication; for one changed definition, published;
/// for 5,000, published once? All among 1,000,000 pools, picked at random; no cache holds them.
fn writes(criterion: &mut Criterion, world: World) {
    let World { table, mut writers, .. } = world;
    let pool_count = sized(1_000_000, 100);
    let mut random = Pcg64::seed_from_u64(SEED);
    let mut version = 1;
    // A reader that lags behind, as one on another core does.
    let mut reader = table.reader();
    let writer = &mut writers[0];
    let mine = |random: &mut Pcg64| random.random_range(0..pool_count / PART_COUNT) * PART_COUNT;
    criterion.bench_function("availability/numbers_of_1_pool", |bencher| {
        let numbers: Vec<_> = (0..1_024)
            .map(|_| (id(mine(&mut random)), reserved(&mut random)))
            .collect();
        let mut next = numbers.iter().cycle();
        bencher.iter(|| {
            let (pool, reserved) = next.next().expect("a cycle has no end");
            writer.set_reserved(*pool, reserved);
            writer.publish(Timestamp(NOW));
        });
    });
    for (name, count) in [("1_definition", 1), ("import_of_5000", sized(5_000, 10))] {
        criterion.bench_function(&format!("availability/{name}"), |bencher| {
            bencher.iter_custom(|iteration_count| {
                let mut time = Duration::ZERO;
                for _ in 0..iteration_count {
                    version += 1;
                    let changed: Vec<_> = (0..count)
                        .map(|_| {
                            let number = mine(&mut random);
                            let mut definition = definition(number);
                            definition.limits.0[0] = 100 + version % 7;
                            (id(number), definition)
                        })
                        .collect();
                    let begin = Instant::now();
                    for (pool, definition) in &changed {
                        writer.put(*pool, u64::from(version), definition);
                    }
                    writer.publish(Timestamp(NOW));
                    time += begin.elapsed();
                    black_box(ask(&mut reader, "zone-1", By::Zone));
                }
                time
            });
        });
    }
    criterion.bench_function("availability/first_import_of_5000", |bencher| {
        let definitions: Vec<_> = (0..sized(5_000, 50))
            .map(|number| definition_in(number, sized(100, 1)))
            .collect();
        bencher.iter_batched_ref(
            || Table::new(1, DIMENSION_COUNT),
            |(_, writers)| {
                for (number, definition) in definitions.iter().enumerate() {
                    writers[0].put(id(number), 1, definition);
                }
                writers[0].publish(Timestamp(NOW));
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = reads
}
criterion_main!(benches);
