//! What a start costs a core: the replay of its journal, and the state from a snapshot. Without a disk.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_benches::{Change, FullSegments, Inventory, InventorySize, SimCore, SimJournal, sized};
use plimsoll_domain::ReservationId;

/// Reserves, or releases, of one round.
const ROUND_COUNT: usize = 512;

/// What a journal has.
struct Work {
    /// Live ones of which a snapshot is taken; none without one.
    in_snapshot_count: usize,
    /// Events behind the snapshot: reserves, and as many releases of the oldest reservations once so many are live.
    event_count: usize,
    live_count: usize,
}

impl Work {
    fn journal(&self) -> SimJournal {
        let size = InventorySize {
            pool_count: sized(500, 5),
            live_count: 0,
        };
        let mut core = SimCore::new(size, FullSegments::Stay);
        let mut rounds = VecDeque::new();
        let mut left = self.in_snapshot_count;
        while left > 0 {
            left -= reserve(&mut core, left, &mut rounds);
        }
        if self.in_snapshot_count > 0 {
            core.take_snapshot();
        }
        let mut left = self.event_count;
        while left > 0 {
            left -= reserve(&mut core, left, &mut rounds);
            if rounds.len() * ROUND_COUNT > self.live_count
                && left > 0
                && let Some(mut oldest) = rounds.pop_front()
            {
                let mut releases = core.changes(&mut oldest, Change::Release);
                core.run(&mut releases);
                left = left.saturating_sub(oldest.len());
                core.forget_ended();
            }
        }
        core.into_journal()
    }

    fn measure(&self, criterion: &mut Criterion, name: &str) {
        let journal = self.journal();
        assert!(journal.is_faithful(), "a replay leads to the state that was");
        let event_count = journal.replay(journal.base());
        println!(
            "recovery/{name}: {event_count} events, digest {:#018x}",
            journal.digest()
        );
        let mut group = criterion.benchmark_group("recovery");
        group.throughput(Throughput::Elements(event_count));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || journal.base(),
                |base| black_box(journal.replay(base)),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

/// A round of at most so many.
fn reserve(core: &mut SimCore, count_max: usize, rounds: &mut VecDeque<Vec<ReservationId>>) -> usize {
    let count = count_max.min(ROUND_COUNT);
    let mut reserves = core.reserves(count, 0);
    core.run(&mut reserves);
    rounds.push_back(core.made(&reserves));
    count
}

/// How many events a second does one core replay? 1 million of them, half releases, with 100,000 reservations live: 88 MB of
/// journal and 10 MB of state, which no cache holds. Reading, checksums, decoding, applying, and at the end the key tables;
/// each time is that of all of the journal.
fn replay(criterion: &mut Criterion) {
    let work = Work {
        in_snapshot_count: 0,
        event_count: sized(1_000_000, 4_096),
        live_count: sized(100_000, 1_024),
    };
    work.measure(criterion, "replay");
}

/// And behind a snapshot, with a million live? 2 million events, half releases: 176 MB of journal and 64 MB of state, which is
/// there before the time begins. The key tables are not: they are made at the end, which counts.
fn tail(criterion: &mut Criterion) {
    let work = Work {
        in_snapshot_count: sized(1_000_000, 2_048),
        event_count: sized(2_000_000, 4_096),
        live_count: sized(1_000_000, 2_048),
    };
    work.measure(criterion, "tail");
}

/// How long does it take to make a state of a snapshot? 1 million held reservations in 500 pools, about 64 MB of pieces:
/// decoding, every check, and what follows from the pieces (key tables, deadlines, queues). What it takes of memory is a
/// figure of the bench `memory`.
fn restore(criterion: &mut Criterion) {
    let count = sized(1_000_000, 1_000);
    let mut inventory = Inventory::new(InventorySize {
        pool_count: sized(500, 5),
        live_count: count,
    });
    let (snapshot, digest) = (inventory.snapshot(), inventory.digest());
    drop(inventory);
    assert_eq!(snapshot.restore().digest(), digest, "the state is what it was");
    println!(
        "recovery/restore: {} bytes of snapshot, digest {digest:#018x}",
        snapshot.size_bytes()
    );
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("restore", |bencher| {
        bencher.iter_with_large_drop(|| black_box(&snapshot).restore());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    targets = replay, tail, restore
}
criterion_main!(benches);
