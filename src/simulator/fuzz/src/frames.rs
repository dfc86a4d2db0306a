//! Frames and payloads: what a server makes of whatever a peer sends, and a client of whatever a server answers.
//!
//! The first byte tells how the rest is meant: as a stream, or as a payload to which a header with right checksums is made, so that
//! the payload's checks are reached. Whatever passes them is read to its last field.

use std::fmt::{self, Write};

use plimsoll_protocol::frame::{self, Decoded, Head};
use plimsoll_protocol::{
    Applies, Commands, CommandsView, CorrelationId, Encoder, Header, Key, Operation, Outcomes, OutcomesView,
    PayloadError, PoolId, ReservationId, Reserve, Status, StatusNumber, payload, wire,
};

use crate::counting::within;
use crate::input::Input;

/// Looks at everything that is printed to it, and keeps nothing.
struct Sink(u64);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = text
            .bytes()
            .fold(self.0, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        Ok(())
    }
}

/// Reads every field of a table.
fn read(table: &dyn fmt::Debug) {
    let mut sink = Sink(0);
    write!(sink, "{table:?}").expect("a sink takes everything");
    std::hint::black_box(sink.0);
}

/// # Panics
/// When a promise of the protocol does not hold.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.u8();
    let dimensions = 1 + input.below(8);
    if mode & 1 == 0 {
        stream(input.rest(), dimensions);
        return;
    }
    let (operation, count) = (input.u16(), input.u16());
    let is_answer = mode & 2 != 0;
    let payload = input.rest();
    let mut payload = payload[..payload.len().min(1 << 16)].to_vec();
    payload.resize(payload.len().next_multiple_of(8), 0);
    let header = Header {
        size: 32 + payload.len() as u32,
        correlation: CorrelationId(1),
        operation,
        flags: u16::from(is_answer),
        status: StatusNumber(if mode & 4 == 0 { 0 } else { 50 }),
        count,
        payload_crc: crc32c::crc32c(&payload),
    };
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    assert_eq!(header.check_payload(&payload), Ok(()));
    contents(&header, &payload, dimensions);
}

fn stream(bytes: &[u8], dimensions: usize) {
    let mut rest = bytes;
    loop {
        let whole = match frame::decode(rest) {
            Ok(Decoded::Frame(whole)) => whole,
            Ok(Decoded::NeedMore { size_min }) => {
                assert!(
                    size_min > rest.len(),
                    "{size_min} bytes are needed, {} are there",
                    rest.len()
                );
                return;
            }
            Err(error) => {
                assert_eq!(error.status(), Status::FrameInvalid, "{error}");
                return;
            }
        };
        let size = whole.header.size as usize;
        assert_eq!(whole.payload.len(), size - 32);
        assert_eq!(whole.header.encode(), rest[..32], "a header comes back as it was");
        if whole.check_payload().is_ok() {
            contents(&whole.header, whole.payload, dimensions);
        }
        rest = &rest[size..];
    }
}

/// Checking a payload takes no memory but for the error.
fn checked<T>(check: impl FnOnce() -> Result<T, PayloadError>) -> Option<T> {
    let result = within(4096, check);
    if let Err(error) = &result {
        assert_eq!(error.status(), Status::Malformed);
        read(error);
    }
    result.ok()
}

macro_rules! tables {
    ($payload:expr, $($table:ident),+) => {
        $(if let Some(table) = checked(|| payload::table::<wire::$table<'_>>(stringify!($table), $payload)) {
            read(&table);
        })+
    };
}

fn contents(header: &Header, payload: &[u8], dimensions: usize) {
    let request = header.request();
    assert!(request.is_err() || !header.is_answer());
    if !header.status.is_ok() {
        tables!(payload, Failure);
    }
    match (header.operation(), header.is_answer()) {
        (Some(Operation::Hello), false) => tables!(payload, Hello),
        (Some(Operation::Hello), true) => tables!(payload, Welcome),
        (Some(Operation::Commands), false) => commands(header.count, payload, dimensions),
        (Some(Operation::Commands), true) => outcomes(header.count, payload, dimensions),
        (Some(Operation::ResolvePools), false) => tables!(payload, ResolvePools),
        (Some(Operation::ResolvePools), true) => tables!(payload, ResolvedPools),
        (Some(Operation::PutPools), false) => tables!(payload, PutPools),
        (Some(Operation::PutPools), true) => tables!(payload, PutPoolsResult),
        (Some(Operation::GetPools), false) => tables!(payload, GetPools),
        (Some(Operation::ListPools), false) => tables!(payload, ListPools),
        (Some(Operation::GetPools | Operation::ListPools), true) => tables!(payload, Pools),
        (Some(Operation::GetReservations), false) => tables!(payload, GetReservations),
        (Some(Operation::GetReservations), true) => tables!(payload, Reservations),
        (Some(Operation::Availability), false) => tables!(payload, AvailabilityQuery),
        (Some(Operation::Availability), true) => tables!(payload, Availability),
        _ => {}
    }
}

/// A view keeps what it promises, and what it shows can be encoded again and shows the same.
fn commands(count: u16, payload: &[u8], dimensions: usize) {
    let Some(view) = checked(|| CommandsView::new(payload, count, dimensions)) else {
        return;
    };
    assert_eq!(
        (view.len(), view.iter().count()),
        (usize::from(count), usize::from(count))
    );
    let (mut structs, mut units, mut references) = (Vec::new(), Vec::new(), Vec::new());
    let mut with_units = 0;
    for (index, command) in view.iter().enumerate() {
        assert_eq!(command.index, index);
        if !command.units.is_empty() {
            assert_eq!(command.units.len(), dimensions);
            with_units += 1;
        }
        read(command.command);
        structs.push(*command.command);
        units.extend(command.units.iter());
        references.extend(command.reference.map(|text| (index as u32, text)));
    }
    assert_eq!(with_units, view.reserve_count());
    let mut bytes = Vec::new();
    let batch = Commands {
        commands: &structs,
        units: &units,
        traceparent: view.traceparent(),
    };
    // What offsets share in the payload takes its own room in the new one, which may be too large for a frame.
    if Encoder::new()
        .commands(&mut bytes, CorrelationId(1), batch, references.iter().copied())
        .is_err()
    {
        return;
    }
    let Ok(Decoded::Frame(again)) = frame::decode(&bytes) else {
        panic!("an encoder writes whole frames")
    };
    again.check_payload().expect("an encoder writes right checksums");
    let again =
        CommandsView::new(again.payload, again.header.count, dimensions).expect("an encoder writes whole tables");
    assert!(again.iter().eq(view.iter()), "the commands come back");
    assert_eq!(again.traceparent(), view.traceparent());
}

fn outcomes(count: u16, payload: &[u8], dimensions: usize) {
    let Some(view) = checked(|| OutcomesView::new(payload, count, dimensions)) else {
        return;
    };
    assert_eq!(view.iter().count(), usize::from(count));
    for outcome in view.iter() {
        assert_eq!(
            outcome.remaining.len(),
            if outcome.outcome.has_remaining() { dimensions } else { 0 }
        );
        read(outcome.outcome);
        std::hint::black_box(
            outcome
                .remaining
                .iter()
                .fold(0, |sum: i64, value| sum.wrapping_add(value)),
        );
    }
}

fn definition<'a>(
    builder: &mut plimsoll_protocol::flatbuffers::FlatBufferBuilder<'a>,
    name: &str,
) -> plimsoll_protocol::flatbuffers::WIPOffset<wire::PoolDefinition<'a>> {
    let prefix = builder.create_string("10");
    let args = wire::PoolDefinitionArgs {
        name: Some(builder.create_string(name)),
        zone: Some(builder.create_string("north")),
        kind: Some(builder.create_string("delivery")),
        coverage: Some(builder.create_vector(&[prefix])),
        limits: Some(builder.create_vector(&[10_u32, 20])),
        overbook: Some(builder.create_vector(&[1_u32, 0])),
        ..Default::default()
    };
    wire::PoolDefinition::create(builder, &args)
}

/// A frame of most operations, each as a stream and as a payload.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut encoder = Encoder::new();
    let mut frames: Vec<(&str, Vec<u8>)> = Vec::new();
    let request = |operation| Head::request(operation, CorrelationId(1));
    let answer = |operation| Head::answer(operation, CorrelationId(1));
    let reserve = Reserve {
        pool: PoolId(192 << 48 | 1),
        key: Key(7),
        hold_seconds: 600,
        occurred_at: None,
    };
    let release = wire::Command::release(ReservationId(9), None);
    let batch = Commands {
        commands: &[wire::Command::reserve(reserve), release],
        units: &[1, 2],
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };
    let mut bytes = Vec::new();
    let references = [(0, "order-1")].into_iter();
    encoder
        .commands(&mut bytes, CorrelationId(1), batch, references)
        .expect("it fits");
    frames.push(("commands", bytes));

    let applies = Applies {
        reservation: ReservationId(9),
        state: wire::State::held,
        version: 1,
        created_at: 5,
        expires_at: 6,
        repeated: true,
        would_refuse: false,
    };
    let outcomes = [
        wire::Outcome::about(Status::Ok, &applies),
        wire::Outcome::insufficient(1),
    ];
    let mut bytes = Vec::new();
    let batch = Outcomes {
        outcomes: &outcomes,
        remaining: &[-1, 4],
    };
    encoder.outcomes(&mut bytes, CorrelationId(1), batch).expect("it fits");
    frames.push(("outcomes", bytes));

    let mut bytes = Vec::new();
    encoder.failure(
        &mut bytes,
        answer(Operation::Commands),
        Status::Malformed,
        "what was wrong",
    );
    frames.push(("failure", bytes));

    let mut table =
        |name, head, build: &dyn Fn(&mut plimsoll_protocol::flatbuffers::FlatBufferBuilder<'static>) -> u32| {
            let mut bytes = Vec::new();
            let offset = |builder: &mut _| plimsoll_protocol::flatbuffers::WIPOffset::<u8>::new(build(builder));
            encoder.table(&mut bytes, head, offset).expect("it fits");
            frames.push((name, bytes));
        };
    table("hello", request(Operation::Hello), &|builder| {
        let client = Some(builder.create_string("example 1.0"));
        let args = wire::HelloArgs {
            version_min: 1,
            version_max: 1,
            client,
            credentials: None,
        };
        wire::Hello::create(builder, &args).value()
    });
    table("welcome", answer(Operation::Hello), &|builder| {
        let orders = builder.create_string("orders");
        let dimensions = Some(builder.create_vector(&[orders]));
        let args = wire::WelcomeArgs {
            version: 1,
            dimensions,
            ..Default::default()
        };
        wire::Welcome::create(builder, &args).value()
    });
    table("resolve-pools", request(Operation::ResolvePools), &|builder| {
        let names = ["slot-1", "a"].map(|name| builder.create_string(name));
        let names = Some(builder.create_vector(&names));
        wire::ResolvePools::create(builder, &wire::ResolvePoolsArgs { names }).value()
    });
    table("put-pools", request(Operation::PutPools), &|builder| {
        let definitions = ["slot-1", "a"].map(|name| definition(builder, name));
        let definitions = Some(builder.create_vector(&definitions));
        wire::PutPools::create(
            builder,
            &wire::PutPoolsArgs {
                definitions,
                dry_run: true,
            },
        )
        .value()
    });
    table("pools", answer(Operation::ListPools), &|builder| {
        let args = wire::PoolArgs {
            pool: 1,
            definition: Some(definition(builder, "slot-1")),
            held: Some(builder.create_vector(&[1_i64, 2])),
            confirmed: Some(builder.create_vector(&[3_i64, 4])),
        };
        let pool = wire::Pool::create(builder, &args);
        let pools = Some(builder.create_vector(&[pool]));
        wire::Pools::create(builder, &wire::PoolsArgs { pools, more: true }).value()
    });
    table("list-pools", request(Operation::ListPools), &|builder| {
        let after = Some(builder.create_string("a"));
        wire::ListPools::create(builder, &wire::ListPoolsArgs { after, limit: 5 }).value()
    });
    table("get-reservations", request(Operation::GetReservations), &|builder| {
        let reservations = Some(builder.create_vector(&[wire::ReservationId::new(1, 2)]));
        wire::GetReservations::create(builder, &wire::GetReservationsArgs { reservations }).value()
    });
    table("availability", request(Operation::Availability), &|builder| {
        let args = wire::AvailabilityQueryArgs {
            zone: Some(builder.create_string("north")),
            location: Some(builder.create_string("1017")),
            units: Some(builder.create_vector(&[1_u32, 2])),
            exact: true,
            ..Default::default()
        };
        wire::AvailabilityQuery::create(builder, &args).value()
    });
    table("available", answer(Operation::Availability), &|builder| {
        let pool = wire::AvailablePool::new(1, 2, 3, 4, wire::Band::low, 1, 0);
        let name = builder.create_string("slot-1");
        let args = wire::AvailabilityArgs {
            pools: Some(builder.create_vector(&[pool])),
            remaining: Some(builder.create_vector(&[1_i64, 2])),
            names: Some(builder.create_vector(&[name])),
            ..Default::default()
        };
        wire::Availability::create(builder, &args).value()
    });

    let mut seeds = Vec::new();
    for (name, bytes) in frames {
        let header = Header::decode(bytes.first_chunk().expect("a header")).expect("a valid header");
        let flags = u8::from(header.is_answer()) << 1 | u8::from(!header.status.is_ok()) << 2;
        let mut inner = vec![1 | flags, 1];
        inner.extend_from_slice(&header.operation.to_le_bytes());
        inner.extend_from_slice(&header.count.to_le_bytes());
        inner.extend_from_slice(&bytes[32..]);
        seeds.push((format!("{name}-payload"), inner));
        let mut stream = vec![0, 1];
        stream.extend_from_slice(&bytes);
        seeds.push((format!("{name}-stream"), stream));
    }
    seeds
}
