//! Whatever the bytes: an error or the value that was encoded, never a panic.

use plimsoll_protocol::frame::{self, Decoded, Frame, Head};
use plimsoll_protocol::{
    Applies, Commands, CommandsView, CorrelationId, EncodeError, Encoder, FrameError, Key, Operation, Outcomes,
    OutcomesView, PayloadError, PoolId, ReservationId, Reserve, Status, limits, payload, wire,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A command as a test writes it.
#[derive(Clone, Debug)]
enum Order {
    Reserve {
        pool: u64,
        key: u128,
        hold: u32,
        units: [u32; 8],
        reference: Option<String>,
        at: Option<i64>,
    },
    Release {
        id: u128,
        at: Option<i64>,
    },
}

fn order() -> impl Strategy<Value = Order> {
    let at = || proptest::option::of(0..i64::MAX);
    prop_oneof![
        (
            any::<u64>(),
            any::<u128>(),
            any::<u32>(),
            any::<[u32; 8]>(),
            proptest::option::of(".{0,16}"),
            at()
        )
            .prop_map(|(pool, key, hold, units, reference, at)| Order::Reserve {
                pool,
                key,
                hold,
                units,
                reference,
                at
            }),
        (any::<u128>(), at()).prop_map(|(id, at)| Order::Release { id, at }),
    ]
}

fn encode(orders: &[Order], dimensions: usize) -> Vec<u8> {
    let mut commands = Vec::new();
    let mut all_units = Vec::new();
    let mut references = Vec::new();
    for (index, order) in orders.iter().enumerate() {
        match order {
            Order::Reserve {
                pool,
                key,
                hold,
                units,
                reference,
                at,
            } => {
                commands.push(wire::Command::reserve(Reserve {
                    pool: PoolId(*pool),
                    key: Key(*key),
                    hold_seconds: *hold,
                    occurred_at: *at,
                }));
                all_units.extend_from_slice(&units[..dimensions]);
                if let Some(reference) = reference {
                    references.push((index as u32, reference.as_str()));
                }
            }
            Order::Release { id, at } => {
                commands.push(wire::Command::release(ReservationId(*id), *at));
            }
        }
    }
    let mut bytes = Vec::new();
    let batch = Commands {
        commands: &commands,
        units: &all_units,
        traceparent: Some("00-0af7-b7ad-01"),
    };
    Encoder::new()
        .commands(&mut bytes, CorrelationId(9), batch, references.into_iter())
        .expect("it fits");
    bytes
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame::decode(bytes) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("expected a frame, found {other:?}"),
    }
}

/// Reads everything that a payload can be read as.
fn read_all(payload: &[u8], count: u16, dimensions: usize) {
    if let Ok(view) = CommandsView::new(payload, count, dimensions) {
        assert_eq!(view.iter().len(), usize::from(count));
        for command in &view {
            assert_eq!(
                command.units.len(),
                if command.command.takes_units() { dimensions } else { 0 }
            );
            assert!(
                command.units.iter().count() <= dimensions && command.reference.is_none_or(|text| text.len() < 1 << 20)
            );
        }
    }
    if let Ok(view) = OutcomesView::new(payload, count, dimensions) {
        assert_eq!(view.iter().count(), usize::from(count));
        assert!(
            view.iter()
                .all(|outcome| outcome.remaining.iter().count() <= dimensions)
        );
    }
    // The debug texts of the generated code read every field.
    let texts = [
        payload::table::<wire::Hello>("Hello", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::Welcome>("Welcome", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::Failure>("Failure", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::ResolvePools>("ResolvePools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::ResolvedPools>("ResolvedPools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::PutPools>("PutPools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::PutPoolsResult>("PutPoolsResult", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::GetPools>("GetPools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::ListPools>("ListPools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::Pools>("Pools", payload).map(|table| format!("{table:?}")),
        payload::table::<wire::Reservations>("Reservations", payload).map(|table| format!("{table:?}")),
    ];
    assert!(texts.iter().flatten().all(|text| !text.is_empty()));
}

fn pools_payload() -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = Head::answer(Operation::ListPools, CorrelationId(3));
    let encoded = Encoder::new().table(&mut bytes, head, |builder| {
        let name = Some(builder.create_string("slot-1"));
        let zone = Some(builder.create_string("north"));
        let coverage = [builder.create_string("10"), builder.create_string("11")];
        let coverage = Some(builder.create_vector(&coverage));
        let limits = Some(builder.create_vector(&[5_u32, 6]));
        let args = wire::PoolDefinitionArgs {
            name,
            zone,
            kind: zone,
            starts_at: 1,
            ends_at: 2,
            coverage,
            limits,
            closed: true,
            ..Default::default()
        };
        let definition = Some(wire::PoolDefinition::create(builder, &args));
        let held = Some(builder.create_vector(&[1_i64, 2]));
        let pool = wire::Pool::create(
            builder,
            &wire::PoolArgs {
                pool: 7,
                definition,
                held,
                confirmed: held,
            },
        );
        let pools = Some(builder.create_vector(&[pool]));
        wire::Pools::create(builder, &wire::PoolsArgs { pools, more: true })
    });
    encoded.expect("it fits");
    bytes
}

proptest! {
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..512), count: u16, dimensions in 1..=8_usize) {
        let whole = matches!(frame::decode(&bytes), Ok(Decoded::Frame(_)));
        prop_assert!(!whole);
        read_all(&bytes, count, dimensions);
    }

    #[test]
    fn random_bytes_behind_a_valid_root(bytes in vec(0..32_u8, 8..256), count in 0..8_u16, dimensions in 1..=8_usize) {
        // Small numbers make for offsets that lead somewhere.
        read_all(&bytes, count, dimensions);
    }

    #[test]
    fn random_headers_do_not_pass(header: [u8; 28]) {
        let mut bytes = [0; 32];
        bytes[..28].copy_from_slice(&header);
        bytes[..4].copy_from_slice(b"PLM1");
        let crc = crc32c_of(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        match frame::header(&bytes) {
            Ok(Some(header)) => prop_assert_eq!(header.encode(), bytes),
            Ok(None) => prop_assert!(false, "32 bytes are a header"),
            Err(error) => {
                let size = matches!(error, FrameError::Size { .. });
                prop_assert!(size, "{}", error);
            }
        }
    }

    #[test]
    fn commands_come_back(orders in vec(order(), 1..40), dimensions in 1..=8_usize) {
        let bytes = encode(&orders, dimensions);
        prop_assert_eq!(bytes.len() % 8, 0);
        let frame = whole(&bytes);
        prop_assert_eq!(frame.header.size as usize, bytes.len());
        prop_assert_eq!(frame.header.request(), Ok(Operation::Commands));
        frame.check_payload().expect("nothing was changed");
        let view = CommandsView::new(frame.payload, frame.header.count, dimensions).expect("it is valid");
        prop_assert_eq!(view.len(), orders.len());
        prop_assert_eq!(view.traceparent(), Some("00-0af7-b7ad-01"));
        for (found, order) in view.iter().zip(&orders) {
            match order {
                Order::Reserve { pool, key, hold, units, reference, at } => {
                    prop_assert_eq!(found.command.action(), wire::Action::reserve);
                    prop_assert_eq!(found.command.pool_id(), PoolId(*pool));
                    prop_assert_eq!(found.command.key(), Key(*key));
                    prop_assert_eq!(found.command.hold_seconds(), *hold);
                    prop_assert_eq!(found.command.business_time(), *at);
                    prop_assert_eq!(found.units.iter().collect::<Vec<_>>(), &units[..dimensions]);
                    let mut copy = [0; 8];
                    prop_assert_eq!(found.units.copy_to(&mut copy), &units[..dimensions]);
                    prop_assert_eq!(found.reference, reference.as_deref());
                }
                Order::Release { id, at } => {
                    prop_assert_eq!(found.command.action(), wire::Action::release);
                    prop_assert_eq!(found.command.reservation_id(), ReservationId(*id));
                    prop_assert_eq!(found.command.business_time(), *at);
                    prop_assert!(found.units.is_empty() && found.reference.is_none());
                }
            }
        }
    }

    #[test]
    fn any_address_will_do(orders in vec(order(), 1..8), shift in 0..16_usize) {
        let bytes = encode(&orders, 3);
        let mut shifted = vec![0xEE; shift];
        shifted.extend_from_slice(&bytes);
        let frame = whole(&shifted[shift..]);
        prop_assert!(CommandsView::new(frame.payload, frame.header.count, 3).is_ok());
    }

    #[test]
    fn a_flipped_bit_never_passes(orders in vec(order(), 1..6), bit: prop::sample::Index) {
        let mut bytes = encode(&orders, 2);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        match frame::decode(&bytes) {
            Err(_) => prop_assert!(bit / 8 < 32),
            Ok(Decoded::Frame(frame)) => {
                prop_assert!(bit / 8 >= 32);
                prop_assert_eq!(frame.check_payload().map_err(|error| error.status()), Err(Status::ChecksumMismatch));
                // A server that read it all the same would not panic either.
                read_all(frame.payload, frame.header.count, 2);
            }
            Ok(Decoded::NeedMore { .. }) => prop_assert!(false, "the header is covered by its checksum"),
        }
    }

    #[test]
    fn many_flipped_bits_of_a_payload(bits in vec(any::<prop::sample::Index>(), 1..6), rare: bool) {
        let orders = [
            Order::Reserve { pool: 1, key: 2, hold: 3, units: [4; 8], reference: Some("r".into()), at: None },
            Order::Release { id: 5, at: Some(6) },
        ];
        let mut bytes = if rare { pools_payload() } else { encode(&orders, 2) };
        for bit in bits {
            let bit = 32 * 8 + bit.index((bytes.len() - 32) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        read_all(&bytes[32..], 2, 2);
    }

    #[test]
    fn outcomes_come_back(
        statuses in vec(prop::sample::select(Status::all().collect::<Vec<_>>()), 0..40),
        dimensions in 1..=8_usize,
        amount: i64,
    ) {
        let applies = Applies {
            reservation: ReservationId(11), state: wire::State::held, version: 3, created_at: 5, expires_at: 7,
            repeated: true, would_refuse: false,
        };
        let mut remaining = Vec::new();
        let outcomes: Vec<wire::Outcome> = statuses.iter().map(|&status| match status {
            Status::Ok => wire::Outcome::about(status, &applies),
            Status::InsufficientCapacity => {
                remaining.extend((0..dimensions).map(|d| amount.wrapping_add(d as i64)));
                wire::Outcome::insufficient(0b11)
            }
            _ => wire::Outcome::refused(status),
        }).collect();
        let mut bytes = Vec::new();
        Encoder::new()
            .outcomes(&mut bytes, CorrelationId(1), Outcomes { outcomes: &outcomes, remaining: &remaining })
            .expect("it fits");
        let frame = whole(&bytes);
        prop_assert!(frame.header.is_answer());
        let view = OutcomesView::new(frame.payload, frame.header.count, dimensions).expect("it is valid");
        for (found, status) in view.iter().zip(&statuses) {
            prop_assert_eq!(found.outcome.status_number(), (*status).into());
            let expected = if *status == Status::InsufficientCapacity { dimensions } else { 0 };
            prop_assert_eq!(found.remaining.len(), expected);
            prop_assert!(found.remaining.iter().enumerate().all(|(d, v)| v == amount.wrapping_add(d as i64)));
            if *status == Status::Ok {
                prop_assert_eq!(found.outcome.reservation_id(), ReservationId(11));
                prop_assert!(found.outcome.is_repeated() && !found.outcome.would_refuse());
            }
        }
    }

    #[test]
    fn reservation_ids_come_back(bits: u128) {
        let id = ReservationId(bits);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 26);
        prop_assert_eq!(text.parse(), Ok(id));
        prop_assert_eq!(text.to_lowercase().parse(), Ok(id));
        prop_assert_eq!(ReservationId::from_halves(id.halves()), id);
    }

    #[test]
    fn any_text_is_an_id_or_an_error(text in "\\PC{0,30}") {
        if let Ok(id) = text.parse::<ReservationId>() {
            prop_assert_eq!(id.to_string(), text.to_uppercase());
        }
    }
}

/// The CRC that headers use, by way of a header.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn a_frame_cut_at_each_length_needs_more() {
    let orders = [Order::Release { id: 5, at: None }, Order::Release { id: 6, at: None }];
    let bytes = encode(&orders, 2);
    for length in 0..bytes.len() {
        match frame::decode(&bytes[..length]) {
            Ok(Decoded::NeedMore { size_min }) => {
                assert_eq!(size_min, if length < 32 { 32 } else { bytes.len() });
            }
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn a_payload_cut_at_each_length_is_an_error() {
    let orders = [Order::Reserve {
        pool: 1,
        key: 2,
        hold: 3,
        units: [4; 8],
        reference: Some("r".into()),
        at: None,
    }];
    let bytes = encode(&orders, 2);
    let mut passed = 0;
    for length in 32..bytes.len() {
        passed += usize::from(CommandsView::new(&bytes[32..length], 1, 2).is_ok());
        read_all(&bytes[32..length], 1, 2);
    }
    // Only the padding may be missing.
    assert!(passed < 8, "{passed} cut payloads passed");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let reserve = wire::Command::reserve(Reserve {
        pool: PoolId(1),
        key: Key(2),
        hold_seconds: 0,
        occurred_at: None,
    });
    let release = wire::Command::release(ReservationId(3), None);
    let check = |commands: &[wire::Command], units: &[u32], references: &[(u32, &str)], count: u16, expected: &str| {
        let mut bytes = Vec::new();
        let batch = Commands {
            commands,
            units,
            traceparent: None,
        };
        Encoder::new()
            .commands(&mut bytes, CorrelationId(1), batch, references.iter().copied())
            .expect("it fits");
        match CommandsView::new(&bytes[32..], count, 2) {
            Ok(_) => panic!("expected: {expected}"),
            Err(error) => {
                assert_eq!(error.to_string(), expected);
                assert_eq!(error.status(), Status::Malformed);
            }
        }
    };
    check(
        &[reserve],
        &[1, 2],
        &[],
        0,
        "expected at least 1 command, found 0 in the frame's header at offset 22",
    );
    check(
        &[reserve],
        &[1, 2],
        &[],
        2,
        "expected 2 commands, as the frame's header says at offset 22, found 1",
    );
    check(
        &[reserve, release],
        &[1, 2, 3, 4],
        &[],
        2,
        "expected 2 units, one for each of 2 dimensions for each of 1, found 4",
    );
    check(
        &[reserve],
        &[],
        &[],
        1,
        "expected 2 units, one for each of 2 dimensions for each of 1, found 0",
    );
    check(
        &[reserve],
        &[1, 2],
        &[(1, "a")],
        1,
        "expected reference 0 to name a command below 1, found 1",
    );
    check(
        &[reserve],
        &[1, 2],
        &[(0, "a"), (0, "b")],
        1,
        "expected reference 1 to name a command above 0, found 0",
    );
    check(
        &[reserve, release],
        &[1, 2],
        &[(1, "a")],
        2,
        "expected reference 0 to name a reserve, found command 1 with another action",
    );
}

#[test]
fn a_payload_that_pretends_to_be_larger_is_refused() {
    // One name, to which every offset of a vector points.
    let mut bytes = Vec::new();
    let head = Head::request(Operation::ResolvePools, CorrelationId(3));
    let encoded = Encoder::new().table(&mut bytes, head, |builder| {
        let name = builder.create_string(&"x".repeat(100_000));
        let names = Some(builder.create_vector(&vec![name; 100_000]));
        wire::ResolvePools::create(builder, &wire::ResolvePoolsArgs { names })
    });
    encoded.expect("it fits");
    let error = payload::table::<wire::ResolvePools>("ResolvePools", &bytes[32..]).unwrap_err();
    assert!(matches!(error, PayloadError::Table { ref source, .. }
        if **source == plimsoll_protocol::flatbuffers::InvalidFlatbuffer::ApparentSizeTooLarge));
}

#[test]
fn what_does_not_fit_is_not_appended() {
    let mut encoder = Encoder::new();
    let mut bytes = b"before".to_vec();
    let reserve = wire::Command::reserve(Reserve {
        pool: PoolId(1),
        key: Key(2),
        hold_seconds: 0,
        occurred_at: None,
    });
    let mut check = |commands: &[wire::Command], reference_size: usize| {
        let text = "x".repeat(reference_size);
        let batch = Commands {
            commands,
            units: &[1],
            traceparent: None,
        };
        encoder
            .commands(&mut bytes, CorrelationId(1), batch, [(0, text.as_str())].into_iter())
            .unwrap_err()
    };
    assert_eq!(check(&vec![reserve; 65_536], 0), EncodeError::Count { count: 65_536 });
    assert_eq!(
        check(&vec![reserve; 30_000], 0),
        EncodeError::Size {
            size: 1_200_036,
            size_max: 1 << 20
        }
    );
    assert!(matches!(check(&[reserve], 1 << 20), EncodeError::Size { .. }));
    assert!(matches!(check(&[reserve], (1 << 20) - 32), EncodeError::Size { .. }));
    assert_eq!(bytes, b"before");
}

#[test]
fn failures_and_empty_frames() {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new();
    encoder.failure(&mut bytes, Head::farewell(), Status::FrameInvalid, &"é".repeat(2000));
    let first_size = bytes.len();
    encoder.empty(&mut bytes, Head::request(Operation::Ping, CorrelationId(8)));
    let first = whole(&bytes);
    assert_eq!(
        (first.header.status, first.header.is_answer()),
        (Status::FrameInvalid.into(), true)
    );
    let failure = payload::table::<wire::Failure>("Failure", first.payload).expect("it is valid");
    assert_eq!(failure.status(), 51);
    assert_eq!(
        failure.detail().map(str::len),
        Some(limits::FAILURE_DETAIL_SIZE_BYTES_MAX)
    );
    let second = whole(&bytes[first_size..]);
    assert_eq!(second.check_payload(), Ok(()));
    assert_eq!((second.header.size, second.header.request()), (32, Ok(Operation::Ping)));
}
