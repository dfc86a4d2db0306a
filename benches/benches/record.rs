//! What it costs to write an event into a record and to read it back, without the journal.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::hash::Hasher;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use plimsoll_benches::{SEED, sized};
use plimsoll_domain::{
    Event, Key, PartitionId, PoolId, ReleaseCause, Released, ReservationId, ReservationParts, Reserved, Timestamp,
    Units,
};
use plimsoll_record::{RecordTag, decode, encode};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

const DIMENSION_COUNT: usize = 2;
const AT: Timestamp = Timestamp(1_700_000_000_000_000);

fn ids(random: &mut Pcg64) -> (PoolId, ReservationId) {
    let partition = PartitionId(random.random_range(0..1024));
    let parts = ReservationParts {
        partition,
        slot: random.random_range(0..1 << 20),
        generation: random.random(),
        random: random.random_range(0..1 << 56),
    };
    let pool = PoolId(u64::from(partition.0) << 48 | 1);
    (pool, ReservationId::new(parts))
}

fn reserved(random: &mut Pcg64, reference: Option<&str>) -> Event {
    let (pool, reservation) = ids(random);
    Event::Reserved(Reserved {
        sequence: random.random(),
        at: AT,
        key: Key(random.random()),
        reservation,
        pool,
        units: Units::from_slice(&[1, random.random_range(0..100)]),
        hold_seconds: 600,
        occurred_at: Timestamp::ABSENT,
        would_refuse: false,
        reference: reference.map(Into::into),
    })
}

fn released(random: &mut Pcg64) -> Event {
    let (pool, reservation) = ids(random);
    Event::Released(Released {
        sequence: random.random(),
        at: AT,
        reservation,
        pool,
        units: Units::from_slice(&[1, random.random_range(0..100)]),
        was_confirmed: random.random(),
        cause: ReleaseCause::Asked,
        occurred_at: Timestamp::ABSENT,
    })
}

/// One kind of event, so many of it that no branch is learnt by heart, and so few that they stay in the second-level cache:
/// 1,024, about 150 KB of events or 100 KB of records.
fn inputs() -> [(&'static str, Vec<Event>); 3] {
    let random = &mut Pcg64::seed_from_u64(SEED);
    let count = sized(1_024, 4);
    [
        ("reserved", (0..count).map(|_| reserved(random, None)).collect()),
        (
            "reserved_with_reference",
            (0..count).map(|_| reserved(random, Some("order-4711-2026"))).collect(),
        ),
        ("released", (0..count).map(|_| released(random)).collect()),
    ]
}

fn records(events: &[Event]) -> Vec<(RecordTag, Vec<u8>)> {
    let records = events.iter().map(|event| {
        let mut body = Vec::new();
        (encode(event, DIMENSION_COUNT, &mut body), body)
    });
    records.collect()
}

fn print_digest(name: &str, records: &[(RecordTag, Vec<u8>)]) {
    // Made with fixed keys: the same for every run.
    #[expect(deprecated, reason = "the hash builder of std draws its keys")]
    let mut hasher = std::hash::SipHasher::new();
    for (tag, body) in records {
        hasher.write_u32(tag.detail);
        hasher.write(body);
    }
    println!("{name}: digest {:#018x}", hasher.finish());
}

/// How long does it take to write one event's body, in two dimensions, into a vector that has room? Input as above.
fn encode_one(criterion: &mut Criterion) {
    for (kind, events) in inputs() {
        let name = format!("encode/{kind}");
        print_digest(&name, &records(&events));
        let mut body = Vec::with_capacity(256);
        let mut cycle = events.iter().cycle();
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let event = cycle.next().expect("there is always a next one");
                let tag = encode(black_box(event), DIMENSION_COUNT, &mut body);
                black_box(&body);
                tag
            });
        });
    }
}

/// How long does it take to read one event from its body, in two dimensions? With a reference this allocates. Input as above.
fn decode_one(criterion: &mut Criterion) {
    for (kind, events) in inputs() {
        let name = format!("decode/{kind}");
        let records = records(&events);
        print_digest(&name, &records);
        let mut cycle = records.iter().cycle();
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let (tag, body) = cycle.next().expect("there is always a next one");
                decode(*tag, AT, black_box(body), DIMENSION_COUNT).expect("it was encoded")
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = encode_one, decode_one
}
criterion_main!(benches);
