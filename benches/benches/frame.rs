//! What a frame costs both of its ends, without sockets.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints its digest; macros make functions"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_benches::{SEED, sized};
use plimsoll_protocol::frame::{self, Decoded, Frame};
use plimsoll_protocol::{
    Applies, Commands, CommandsView, CorrelationId, Encoder, Key, Outcomes, OutcomesView, PoolId, ReservationId,
    Reserve, Status, wire,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

const DIMENSION_COUNT: usize = 2;

/// One command in a frame, as an interactive caller sends it, and a full one of a caller that gathers: 4,096 commands, 200
/// KB of request and as much of answer, which the second-level cache holds.
fn command_counts() -> [(&'static str, usize); 2] {
    [("1_command", 1), ("4096_commands", sized(4_096, 16))]
}

fn reserves(count: usize) -> (Vec<wire::Command>, Vec<u32>) {
    let mut random = Pcg64::seed_from_u64(SEED);
    let mut units = Vec::new();
    let commands = (0..count).map(|_| {
        units.extend([1, random.random_range(0..100)]);
        wire::Command::reserve(Reserve {
            pool: PoolId(random.random()),
            key: Key(random.random()),
            hold_seconds: 600,
            occurred_at: None,
        })
    });
    let commands = commands.collect();
    (commands, units)
}

fn outcomes(count: usize) -> Vec<wire::Outcome> {
    let mut random = Pcg64::seed_from_u64(SEED);
    let one = |_| {
        let applies = Applies {
            reservation: ReservationId(random.random()),
            state: wire::State::held,
            version: 0,
            created_at: 1_700_000_000_000_000,
            expires_at: 1_700_000_600_000_000,
            repeated: false,
            would_refuse: false,
        };
        wire::Outcome::about(Status::Ok, &applies)
    };
    (0..count).map(one).collect()
}

/// The whole frame at the beginning of the bytes, header and payload checked.
fn read(bytes: &[u8]) -> Frame<'_> {
    match frame::decode(bytes) {
        Ok(Decoded::Frame(frame)) => {
            frame.check_payload().expect("it is as it was written");
            frame
        }
        other => panic!("a whole frame was read as {other:?}"),
    }
}

fn sum_of_commands(bytes: &[u8]) -> u64 {
    let frame = read(bytes);
    let view = CommandsView::new(frame.payload, frame.header.count, DIMENSION_COUNT).expect("it was encoded");
    let one = |found: plimsoll_protocol::Command<'_>| {
        let units: u32 = found.units.iter().sum();
        found.command.key().0 as u64 ^ found.command.pool_id().0 ^ u64::from(units)
    };
    view.iter().map(one).fold(0, u64::wrapping_add)
}

fn sum_of_outcomes(bytes: &[u8]) -> u64 {
    let frame = read(bytes);
    let view = OutcomesView::new(frame.payload, frame.header.count, DIMENSION_COUNT).expect("it was encoded");
    let one = |found: plimsoll_protocol::Outcome<'_>| found.outcome.reservation_id().0 as u64;
    view.iter().map(one).fold(0, u64::wrapping_add)
}

/// How long do a caller and a server take for the commands of a frame: the one to write them, the other to check and read
/// them? A time is that of a frame, header and checksums included. Inputs above.
fn commands(criterion: &mut Criterion) {
    for (name, count) in command_counts() {
        let (commands, units) = reserves(count);
        let batch = Commands {
            commands: &commands,
            units: &units,
            traceparent: None,
        };
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        let mut encode = |bytes: &mut Vec<u8>| {
            bytes.clear();
            let encoded = encoder.commands(bytes, CorrelationId(1), black_box(batch), std::iter::empty());
            encoded.expect("it fits into a frame");
        };
        encode(&mut bytes);
        println!("frame/commands/{name}: digest {:#018x}", sum_of_commands(&bytes));
        let mut group = criterion.benchmark_group("frame");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("encode_commands/{name}"), |bencher| {
            bencher.iter(|| encode(&mut bytes));
        });
        group.bench_function(format!("read_commands/{name}"), |bencher| {
            bencher.iter(|| sum_of_commands(black_box(&bytes)));
        });
        group.finish();
    }
}

/// How long do a server and a caller take for the outcomes of a frame: the one to write them, the other to check and read
/// them? A time is that of a frame, header and checksums included. Inputs above.
fn answers(criterion: &mut Criterion) {
    for (name, count) in command_counts() {
        let outcomes = outcomes(count);
        let batch = Outcomes {
            outcomes: &outcomes,
            remaining: &[],
        };
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        let mut encode = |bytes: &mut Vec<u8>| {
            bytes.clear();
            let encoded = encoder.outcomes(bytes, CorrelationId(1), black_box(batch));
            encoded.expect("it fits into a frame");
        };
        encode(&mut bytes);
        println!("frame/outcomes/{name}: digest {:#018x}", sum_of_outcomes(&bytes));
        let mut group = criterion.benchmark_group("frame");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("encode_outcomes/{name}"), |bencher| {
            bencher.iter(|| encode(&mut bytes));
        });
        group.bench_function(format!("read_outcomes/{name}"), |bencher| {
            bencher.iter(|| sum_of_outcomes(black_box(&bytes)));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = commands, answers
}
criterion_main!(benches);
