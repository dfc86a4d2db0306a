//! What is wrong with a record, told apart.

use std::sync::Arc;

use plimsoll_domain::{Event, PoolDefined, PoolDefinition, PoolId, Restored, Timestamp, Units, partition_of};
use plimsoll_record::{DecodeError, Field, RecordTag, decode, encode};

use crate::assert_comes_back;
use crate::layout::{small_released, small_reserved, small_resized, small_restored};
use crate::strategies::AT;

fn check(event: &Event, spoil: impl FnOnce(&mut RecordTag, &mut Vec<u8>), expected: &DecodeError) {
    let mut body = Vec::new();
    let mut tag = encode(event, 2, &mut body);
    spoil(&mut tag, &mut body);
    assert_eq!(decode(tag, AT, &body, 2).as_ref(), Err(expected));
}

#[test]
fn errors_say_what_is_wrong() {
    let reserved = Event::Reserved(small_reserved(Some("order")));
    let released = Event::Released(small_released());
    check(
        &reserved,
        |tag, _| tag.kind = 33,
        &DecodeError::UnknownKind { kind: 33 },
    );
    check(
        &reserved,
        |tag, _| tag.detail |= 1 << 31 | 1 << 25,
        &DecodeError::UnknownDetail {
            kind: 16,
            bits: 1 << 31 | 1 << 25,
        },
    );
    check(
        &released,
        |tag, _| tag.detail |= 2,
        &DecodeError::UnknownDetail { kind: 18, bits: 2 },
    );
    check(
        &released,
        |_, body| body.truncate(47),
        &DecodeError::BodySize {
            kind: 18,
            expected: 48,
            found: 47,
        },
    );
    check(
        &reserved,
        |tag, _| tag.detail ^= 1 << 17,
        &DecodeError::BodySize {
            kind: 16,
            expected: 68,
            found: 69,
        },
    );
    check(
        &reserved,
        |tag, _| tag.detail |= 1 << 23,
        &DecodeError::ReferenceSize { found: 69 },
    );
    check(
        &reserved,
        |tag, _| tag.detail |= 86_401,
        &DecodeError::HoldOutOfRange { found: 600 | 86_401 },
    );
    check(
        &reserved,
        |_, body| body[63] = 0x80,
        &DecodeError::UnitsOutOfRange {
            field: Field::Units,
            dimension: 1,
            found: 0x8000_0000 | 300,
        },
    );
    check(
        &released,
        |tag, _| tag.partition = 6,
        &DecodeError::PartitionMismatch {
            field: Field::Pool,
            expected: 6,
            found: 5,
        },
    );
    check(
        &released,
        |_, body| body[14] ^= 1,
        &DecodeError::PartitionMismatch {
            field: Field::Reservation,
            expected: 5,
            found: 4,
        },
    );
    check(
        &reserved,
        |tag, _| tag.partition = 1024,
        &DecodeError::PartitionOutOfRange { found: 1024 },
    );
    check(
        &released,
        |_, body| body[13] = 1,
        &DecodeError::SlotOutOfRange { found: 1 << 32 | 9 },
    );
    let resized = Event::Resized(small_resized());
    check(
        &resized,
        |tag, _| tag.detail |= 2,
        &DecodeError::UnknownDetail { kind: 20, bits: 3 },
    );
    check(
        &resized,
        |_, body| body[63] = 0x80,
        &DecodeError::UnitsOutOfRange {
            field: Field::Units,
            dimension: 1,
            found: 0x8000_0000 | 300,
        },
    );
    let mut body = Vec::new();
    let tag = encode(&reserved, 2, &mut body);
    body[66] = 0xFF;
    let error = decode(tag, AT, &body, 2).unwrap_err();
    assert!(
        matches!(&error, DecodeError::ReferenceNotUtf8 { source } if source.valid_up_to() == 2),
        "{error:?}"
    );
}

fn small_definition() -> PoolDefinition {
    PoolDefinition {
        name: "slot-1".into(),
        zone: "north".into(),
        kind: "delivery".into(),
        starts_at: Timestamp(1),
        ends_at: Timestamp(2),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: vec!["10".into(), "11".into()],
        closed: false,
        shadow: true,
        limits: Units::from_slice(&[10, 20]),
        overbook: Units::from_slice(&[1, 0]),
    }
}

fn small_pool() -> Event {
    Event::PoolCreated(PoolDefined {
        sequence: 1,
        at: AT,
        pool: PoolId(192 << 48 | 1),
        version: 1,
        definition: Arc::new(small_definition()),
    })
}

#[test]
fn errors_of_tables_say_what_is_wrong() {
    let mut body = Vec::new();
    let tag = encode(&small_pool(), 2, &mut body);
    assert_eq!((tag.kind, tag.partition, tag.detail), (1, 192, 0));
    let count_error = DecodeError::DimensionCount {
        field: Field::Limits,
        expected: 3,
        found: 2,
    };
    assert_eq!(decode(tag, AT, &body, 3), Err(count_error));
    assert!(matches!(
        decode(tag, AT, &body[..20], 2),
        Err(DecodeError::Table { kind: 1, .. })
    ));
    let moved = RecordTag { partition: 7, ..tag };
    let partition_error = DecodeError::PartitionMismatch {
        field: Field::Pool,
        expected: 7,
        found: 192,
    };
    assert_eq!(decode(moved, AT, &body, 2), Err(partition_error));
    let place = body
        .windows(6)
        .position(|bytes| bytes == b"slot-1")
        .expect("the name is in the body");
    body[place + 5] = b'2';
    let found = partition_of("slot-2").0;
    let name_error = DecodeError::PartitionMismatch {
        field: Field::Name,
        expected: 192,
        found,
    };
    assert_eq!(decode(tag, AT, &body, 2), Err(name_error));
}

/// The place of a byte in which the bodies of two events differ.
fn place_of(one: &Restored, other: &Restored) -> usize {
    let mut bodies = [Vec::new(), Vec::new()];
    for (event, body) in [one, other].into_iter().zip(&mut bodies) {
        encode(&Event::Restored(Box::new(event.clone())), 2, body);
    }
    let mut pairs = bodies[0].iter().zip(&bodies[1]);
    pairs.position(|(one, other)| one != other).expect("they differ")
}

#[test]
fn a_restored_reservation_is_one_that_can_be() {
    let restored = small_restored();
    let check_byte = |other: Restored, offset: usize, value: u8, expected: DecodeError| {
        let place = place_of(&restored, &other) + offset;
        check(
            &Event::Restored(Box::new(restored.clone())),
            |_, body| body[place] = value,
            &expected,
        );
    };
    let ended = Restored {
        previous_state: None,
        ..restored.clone()
    };
    check_byte(ended, 0, 3, DecodeError::StateOutOfRange { found: 3 });
    let longer = Restored {
        hold_seconds: restored.hold_seconds + 1,
        ..restored.clone()
    };
    check_byte(longer, 2, 2, DecodeError::HoldOutOfRange { found: 600 | 2 << 16 });
    let mut more = restored.clone();
    more.previous_units.0[1] += 1;
    let found = 0x8000_0002;
    let field = Field::Units;
    check_byte(
        more,
        3,
        0x80,
        DecodeError::UnitsOutOfRange {
            field,
            dimension: 1,
            found,
        },
    );
    let elsewhere = Restored {
        slot: 10,
        ..restored.clone()
    };
    let mut body = Vec::new();
    let tag = encode(&Event::Restored(Box::new(restored.clone())), 2, &mut body);
    let place = place_of(&restored, &elsewhere);
    body[place..place + 4].fill(0xFF);
    let found = u64::from(u32::MAX);
    assert_eq!(decode(tag, AT, &body, 2), Err(DecodeError::SlotOutOfRange { found }));
}

/// The largest definition passes the bound on what a table may unfold to.
#[test]
fn the_largest_definition_comes_back() {
    let mut definition = small_definition();
    definition.coverage = vec!["1".repeat(32).into(); 1024];
    let event = Event::PoolChanged(PoolDefined {
        sequence: u64::MAX,
        at: AT,
        pool: PoolId(192 << 48 | 1),
        version: 7,
        definition: Arc::new(definition),
    });
    assert_comes_back(&event, 2);
}

/// A small body whose list of coverage names one long text a thousand times would fill the memory.
#[test]
fn a_table_that_unfolds_to_much_more_than_its_size_is_an_error() {
    let mut definition = small_definition();
    definition.coverage = vec!["1".repeat(4_000).into(); 2];
    definition.coverage.extend(vec!["2".into(); 1_000]);
    let event = Event::PoolCreated(PoolDefined {
        sequence: 1,
        at: AT,
        pool: PoolId(192 << 48 | 1),
        version: 1,
        definition: Arc::new(definition),
    });
    let mut body = Vec::new();
    let tag = encode(&event, 2, &mut body);
    // The list is found by its length, and each of its offsets made to lead to the first text.
    let list = (0..body.len())
        .step_by(4)
        .find(|at| body[*at..*at + 4] == 1_002_u32.to_le_bytes())
        .expect("the list is in the body");
    let first = list + 4;
    let offset = u32::from_le_bytes(body[first..first + 4].try_into().expect("four bytes"));
    for index in 1..1_002 {
        let to_first = offset - 4 * index;
        let place = first + 4 * index as usize;
        body[place..place + 4].copy_from_slice(&to_first.to_le_bytes());
    }
    let error = decode(tag, AT, &body, 2).unwrap_err();
    assert!(
        matches!(&error, DecodeError::Table { source, .. } if *source == flatbuffers::InvalidFlatbuffer::ApparentSizeTooLarge),
        "{error:?}"
    );
}
