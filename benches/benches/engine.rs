//! What a core costs for each command: decide, apply, append, publish and answer, without sockets and without a disk.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::hint::black_box;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_benches::{Change, FullSegments, HOLD_SECONDS, InventorySize, SimCore, sized};

/// What is there and how many reservations come and go in one round.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    size: InventorySize,
    round_count: usize,
}

/// 500 pools and 2,048 reservations that come and go: about 1 MB of state, which the second-level cache holds. The
/// journal's bytes stream through two segments of 64 MiB.
fn in_cache() -> Case {
    Case {
        name: "in_cache",
        size: InventorySize {
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
        size: InventorySize {
            pool_count: sized(500, 5),
            live_count: sized(1_000_000, 100),
        },
        round_count: sized(131_072, 16),
    }
}

/// Which commands of a round are timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timed {
    Reserve,
    HoldAndConfirm,
    Resize,
    Release,
}

impl Timed {
    fn name(self) -> &'static str {
        match self {
            Timed::Reserve => "reserve",
            Timed::HoldAndConfirm => "hold_and_confirm",
            Timed::Resize => "resize",
            Timed::Release => "release",
        }
    }

    fn command_count(self, reservation_count: usize) -> usize {
        reservation_count * if self == Timed::HoldAndConfirm { 2 } else { 1 }
    }
}

/// Reserves so many, changes them in another order, and releases them in yet another; then they are forgotten, so that the
/// next round takes their slots again. Returns how long what is timed took. Commands come in messages of 1,024, each of
/// which is one turn; making the messages is not timed.
fn round(core: &mut SimCore, count: usize, timed: Timed) -> Duration {
    let hold_seconds = if timed == Timed::HoldAndConfirm {
        HOLD_SECONDS
    } else {
        0
    };
    let mut time = Duration::ZERO;
    let mut reserves = core.reserves(count, hold_seconds);
    let begin = Instant::now();
    core.run(&mut reserves);
    if matches!(timed, Timed::Reserve | Timed::HoldAndConfirm) {
        time += begin.elapsed();
    }
    let mut made = core.made(&reserves);
    drop(reserves);
    let change = match timed {
        Timed::HoldAndConfirm => Some(Change::Confirm),
        Timed::Resize => Some(Change::Resize),
        Timed::Reserve | Timed::Release => None,
    };
    if let Some(change) = change {
        let mut changes = core.changes(&mut made, change);
        let begin = Instant::now();
        core.run(&mut changes);
        time += begin.elapsed();
        core.made(&changes);
    }
    let mut releases = core.changes(&mut made, Change::Release);
    let begin = Instant::now();
    core.run(&mut releases);
    if timed == Timed::Release {
        time += begin.elapsed();
    }
    core.made(&releases);
    core.forget_ended();
    time
}

/// How long so many commands take.
fn rounds(core: &mut SimCore, case: Case, timed: Timed, command_count: u64) -> Duration {
    let round_count = timed.command_count(case.round_count) as u64;
    let mut time = Duration::ZERO;
    let mut left = command_count;
    while left > 0 {
        // Rounds of one size keep the state's size as it is; the last one counts in part.
        let counted = left.min(round_count);
        time += round(core, case.round_count, timed).mul_f64(counted as f64 / round_count as f64);
        left -= counted;
    }
    time
}

fn bench(criterion: &mut Criterion, timed: Timed, case: Case) {
    let mut core = SimCore::new(case.size, FullSegments::AreUsedAgain);
    round(&mut core, case.round_count, timed);
    println!("engine/{}/{}: digest {:#018x}", timed.name(), case.name, core.digest());
    let mut group = criterion.benchmark_group(format!("engine/{}", timed.name()));
    group.throughput(Throughput::Elements(1));
    group.bench_function(case.name, |bencher| {
        bencher.iter_custom(|iteration_count| rounds(&mut core, case, timed, iteration_count));
    });
    group.finish();
    black_box(core.digest());
}

fn both(criterion: &mut Criterion, timed: Timed) {
    bench(criterion, timed, in_cache());
    bench(criterion, timed, one_million_live());
}

/// How long does a core take for a reserve with a new key, confirmed at once? Pools at random; sizes above.
fn reserve(criterion: &mut Criterion) {
    both(criterion, Timed::Reserve);
}

/// How long does a core take for a command when each reserve is a hold and each hold is confirmed? A time is that of one
/// command, the mean of both kinds. In random order; sizes above.
fn hold_and_confirm(criterion: &mut Criterion) {
    both(criterion, Timed::HoldAndConfirm);
}

/// How long does a core take to change a reservation from 1 unit to 2? In random order; sizes above.
fn resize(criterion: &mut Criterion) {
    both(criterion, Timed::Resize);
}

/// How long does a core take to release a confirmed reservation? In random order; sizes above.
fn release(criterion: &mut Criterion) {
    both(criterion, Timed::Release);
}

/// What does a second core gain? One and two cores at once, each on a thread with pools of its own; a time is that of one reserve on each of them.
fn cores(criterion: &mut Criterion) {
    for case in [in_cache(), one_million_live()] {
        let mut group = criterion.benchmark_group(format!("engine/cores/{}", case.name));
        for core_count in [1, 2] {
            group.throughput(Throughput::Elements(core_count));
            thread::scope(|scope| {
                let cores: Vec<_> = (0..core_count)
                    .map(|_| {
                        let (ask, asked) = channel();
                        let (answer, answered) = channel();
                        scope.spawn(move || {
                            let mut core = SimCore::new(case.size, FullSegments::AreUsedAgain);
                            while let Ok(command_count) = asked.recv() {
                                let time = rounds(&mut core, case, Timed::Reserve, command_count);
                                answer.send(time).expect("the bench waits for it");
                            }
                            black_box(core.digest());
                        });
                        (ask, answered)
                    })
                    .collect();
                group.bench_function(BenchmarkId::from_parameter(core_count), |bencher| {
                    bencher.iter_custom(|command_count| {
                        for (ask, _) in &cores {
                            ask.send(command_count).expect("its thread runs");
                        }
                        let times = cores
                            .iter()
                            .map(|(_, answered)| answered.recv().expect("its thread runs"));
                        times.max().unwrap_or_default()
                    });
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = reserve, hold_and_confirm, resize, release, cores
}
criterion_main!(benches);
