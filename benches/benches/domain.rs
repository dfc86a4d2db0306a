//! What the domain costs for each command, without journal and network.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use plimsoll_benches::{Inventory, InventorySize, sized};

/// The inventory and how many commands are timed in one go.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    inventory: InventorySize,
    round_count: usize,
}

/// 500 pools in about 400 partitions and 2,048 reservations that come and go: about 1 MB with the key tables, which the
/// second-level cache of a server core holds.
fn in_cache() -> Case {
    Case {
        name: "in_cache",
        inventory: InventorySize {
            pool_count: sized(500, 5),
            live_count: 0,
        },
        round_count: sized(2_048, 16),
    }
}

/// The same with 1 million reservations that stay and 131,072 that come and go: about 90 MB, of which each command meets
/// other parts: no cache holds them.
fn one_million_live() -> Case {
    Case {
        name: "one_million_live",
        inventory: InventorySize {
            pool_count: sized(500, 5),
            live_count: sized(1_000_000, 100),
        },
        round_count: sized(131_072, 16),
    }
}

/// Which of the two commands of a round is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timed {
    Reserve,
    Release,
}

/// Reserves so many and releases them in another order; then they are forgotten, so that the next round takes their slots
/// again. In this steady state nothing is allocated. Returns how long the timed half took.
fn round(inventory: &mut Inventory, count: usize, timed: Timed) -> Duration {
    let requests = inventory.requests(count);
    let mut made = Vec::with_capacity(count);
    let begin = Instant::now();
    for request in &requests {
        made.push(inventory.reserve(request));
    }
    let reserve_time = begin.elapsed();
    inventory.shuffle(&mut made);
    let begin = Instant::now();
    for reservation in &made {
        inventory.release(black_box(*reservation));
    }
    let release_time = begin.elapsed();
    inventory.forget_ended();
    match timed {
        Timed::Reserve => reserve_time,
        Timed::Release => release_time,
    }
}

fn bench(criterion: &mut Criterion, command: &str, timed: Timed, case: Case) {
    let mut inventory = Inventory::new(case.inventory);
    round(&mut inventory, case.round_count, timed);
    let name = format!("{command}/{}", case.name);
    println!("{name}: digest {:#018x}", inventory.digest());
    criterion.bench_function(&name, |bencher| {
        bencher.iter_custom(|iteration_count| {
            let mut time = Duration::ZERO;
            let mut left = iteration_count;
            while left > 0 {
                // Rounds of one size keep the state's size as it is; the last one counts in part.
                let counted = left.min(case.round_count as u64);
                let round_time = round(&mut inventory, case.round_count, timed);
                time += round_time.mul_f64(counted as f64 / case.round_count as f64);
                left -= counted;
            }
            time
        });
    });
    black_box(inventory.digest());
}

/// How long does it take to decide and apply a reserve with a new key, held for 10 minutes, in two dimensions, that takes
/// the slot of a forgotten reservation? Pools are picked at random; sizes above.
fn reserve(criterion: &mut Criterion) {
    bench(criterion, "reserve", Timed::Reserve, in_cache());
    bench(criterion, "reserve", Timed::Reserve, one_million_live());
}

/// How long does it take to decide and apply the release of a held reservation? In random order; sizes above.
fn release(criterion: &mut Criterion) {
    bench(criterion, "release", Timed::Release, in_cache());
    bench(criterion, "release", Timed::Release, one_million_live());
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = reserve, release
}
criterion_main!(benches);
