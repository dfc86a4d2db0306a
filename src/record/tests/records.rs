//! Every event comes back as it went in, and no bytes make `decode` panic.

use plimsoll_domain::limits::{HOLD_SECONDS_MAX, RESERVATIONS_PER_PARTITION_MAX, UNITS_MAX};
use plimsoll_domain::{
    Event, Key, PartitionId, PoolDefined, PoolDefinition, PoolId, Released, ReservationId, ReservationParts, Reserved,
    Timestamp, Units, partition_of,
};
use plimsoll_record::{
    DecodeError, Field, KIND_POOL_CHANGED, KIND_POOL_CREATED, KIND_RELEASED, KIND_RESERVED, RecordTag, decode, encode,
};
use proptest::collection::vec;
use proptest::prelude::*;

const AT: Timestamp = Timestamp(1_700_000_000_123_456);

fn units(dimension_count: usize) -> impl Strategy<Value = Units> {
    let unit = prop_oneof![0..100_u32, Just(UNITS_MAX), 0..=UNITS_MAX];
    vec(unit, dimension_count).prop_map(|values| Units::from_slice(&values))
}

/// A pool id and a reservation id of one partition.
fn ids(partition: PartitionId) -> impl Strategy<Value = (PoolId, ReservationId)> {
    let slots = 0..RESERVATIONS_PER_PARTITION_MAX as u64;
    (0..1_u64 << 48, slots, any::<u16>(), 0..1_u64 << 56).prop_map(move |(pool, slot, generation, random)| {
        let parts = ReservationParts {
            partition,
            slot,
            generation,
            random,
        };
        let pool = PoolId(u64::from(partition.0) << 48 | pool);
        (pool, ReservationId::new(parts))
    })
}

fn any_ids() -> impl Strategy<Value = (PoolId, ReservationId)> {
    (0..1024_u16).prop_flat_map(|partition| ids(PartitionId(partition)))
}

prop_compose! {
    fn reserved(dimension_count: usize)(
        sequence: u64,
        at: i64,
        key: u128,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        hold_seconds in prop_oneof![Just(0), 0..=HOLD_SECONDS_MAX],
        occurred_at: i64,
        would_refuse: bool,
        // At most 16 characters of at most 4 bytes.
        reference in proptest::option::of("\\PC{1,16}"),
    ) -> Event {
        Event::Reserved(Reserved {
            sequence,
            at: Timestamp(at),
            key: Key(key),
            reservation,
            pool,
            units,
            hold_seconds,
            occurred_at: Timestamp(occurred_at),
            would_refuse,
            reference: reference.map(String::into_boxed_str),
        })
    }
}

prop_compose! {
    fn released(dimension_count: usize)(
        sequence: u64,
        at: i64,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        was_confirmed: bool,
        occurred_at: i64,
    ) -> Event {
        Event::Released(Released {
            sequence,
            at: Timestamp(at),
            reservation,
            pool,
            units,
            was_confirmed,
            occurred_at: Timestamp(occurred_at),
        })
    }
}

prop_compose! {
    fn definition(dimension_count: usize)(
        name in "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}",
        zone in "\\PC{1,16}",
        kind in "\\PC{1,16}",
        times: [i64; 4],
        coverage in vec("[!-~]{1,32}", 0..40),
        closed: bool,
        shadow: bool,
        limits in units(dimension_count),
        overbook in units(dimension_count),
    ) -> PoolDefinition {
        PoolDefinition {
            name: name.into(),
            zone: zone.into(),
            kind: kind.into(),
            starts_at: Timestamp(times[0]),
            ends_at: Timestamp(times[1]),
            opens_at: Timestamp(times[2]),
            closes_at: Timestamp(times[3]),
            coverage: coverage.into_iter().map(String::into_boxed_str).collect(),
            closed,
            shadow,
            limits,
            overbook,
        }
    }
}

prop_compose! {
    fn pool_defined(dimension_count: usize)(
        definition in definition(dimension_count),
        sequence: u64,
        version: u64,
        pool in 0..1_u64 << 48,
        created: bool,
    ) -> Event {
        let event = PoolDefined {
            sequence,
            pool: PoolId(u64::from(partition_of(&definition.name).0) << 48 | pool),
            version,
            definition: Box::new(definition),
        };
        if created { Event::PoolCreated(event) } else { Event::PoolChanged(event) }
    }
}

fn event() -> impl Strategy<Value = (usize, Event)> {
    (1..=8_usize).prop_flat_map(|dimension_count| {
        let event = prop_oneof![
            reserved(dimension_count),
            released(dimension_count),
            pool_defined(dimension_count)
        ];
        (Just(dimension_count), event)
    })
}

/// The time stands in the header of a record; a pool's definition keeps none.
fn time(event: &Event) -> Timestamp {
    match event {
        Event::Reserved(event) => event.at,
        Event::Released(event) => event.at,
        Event::PoolCreated(_) | Event::PoolChanged(_) => AT,
    }
}

/// Checks the bytes at an address that is off a multiple of 8 by this much.
fn with_offset(bytes: &[u8], offset: usize, check: impl FnOnce(&[u8])) {
    let mut room = vec![0; bytes.len() + 8];
    let begin = (0..8)
        .find(|begin| room[*begin..].as_ptr().addr() % 8 == offset)
        .expect("one of eight addresses in a row");
    room[begin..begin + bytes.len()].copy_from_slice(bytes);
    check(&room[begin..begin + bytes.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_event_comes_back_as_it_went_in((dimension_count, event) in event(), offset in 0..8_usize) {
        let mut body = b"left over".to_vec();
        let tag = encode(&event, dimension_count, &mut body);
        prop_assert_eq!(tag.partition, event.partition().0);
        with_offset(&body, offset, |body| {
            assert_eq!(decode(tag, time(&event), body, dimension_count), Ok(event.clone()));
        });
    }

    #[test]
    fn a_cut_or_longer_body_is_an_error_in_the_hot_kinds(
        (dimension_count, event) in (1..=8_usize).prop_flat_map(|count| {
            (Just(count), prop_oneof![reserved(count), released(count)])
        }),
        cut: prop::sample::Index,
        more in 1..20_usize,
    ) {
        let mut body = Vec::new();
        let tag = encode(&event, dimension_count, &mut body);
        let expected = body.len();
        let size = cut.index(expected);
        for found in [size, expected + more] {
            body.resize(found, 0);
            let error = DecodeError::BodySize { kind: tag.kind, expected, found };
            prop_assert_eq!(decode(tag, AT, &body, dimension_count), Err(error));
        }
    }

    #[test]
    fn damaged_bodies_never_panic(
        (dimension_count, event) in event(),
        flips in vec((any::<prop::sample::Index>(), 0..8_u32), 0..6),
        size: prop::sample::Index,
        detail_flips in prop_oneof![Just(0_u32), any::<u32>()],
        other_dimension_count in 1..=8_usize,
    ) {
        let mut body = Vec::new();
        let mut tag = encode(&event, dimension_count, &mut body);
        for (index, bit) in flips {
            let index = index.index(body.len());
            body[index] ^= 1 << bit;
        }
        tag.detail ^= detail_flips;
        for body in [&body[..], &body[..size.index(body.len())]] {
            for count in [dimension_count, other_dimension_count] {
                if let Ok(event) = decode(tag, AT, body, count) {
                    prop_assert_eq!(event.partition().0, tag.partition);
                    assert_comes_back(&event, count);
                }
            }
        }
    }

    #[test]
    fn random_bodies_never_panic(
        kind in prop_oneof![
            Just(KIND_POOL_CREATED), Just(KIND_POOL_CHANGED), Just(KIND_RESERVED), Just(KIND_RELEASED), any::<u16>()
        ],
        partition in prop_oneof![0..4_u16, any::<u16>()],
        detail in prop_oneof![Just(0), any::<u32>()],
        // Small values make plausible offsets.
        body in prop_oneof![vec(any::<u8>(), 0..200), vec(0..40_u8, 0..200)],
        dimension_count in 1..=8_usize,
    ) {
        if let Ok(event) = decode(RecordTag { kind, partition, detail }, AT, &body, dimension_count) {
            assert_comes_back(&event, dimension_count);
        }
    }
}

/// What `decode` takes, `encode` takes too.
fn assert_comes_back(event: &Event, dimension_count: usize) {
    let mut body = Vec::new();
    let tag = encode(event, dimension_count, &mut body);
    assert_eq!(decode(tag, time(event), &body, dimension_count).as_ref(), Ok(event));
}

fn small_reserved(reference: Option<&str>) -> Reserved {
    let partition = PartitionId(5);
    Reserved {
        sequence: 0x0102_0304_0506_0708,
        at: AT,
        key: Key(0x1111_2222_3333_4444_5555_6666_7777_8888),
        reservation: ReservationId::new(ReservationParts {
            partition,
            slot: 9,
            generation: 2,
            random: 0xAB_CDEF,
        }),
        pool: PoolId(5 << 48 | 3 << 24 | 1),
        units: Units::from_slice(&[7, 300]),
        hold_seconds: 600,
        occurred_at: Timestamp::ABSENT,
        would_refuse: true,
        reference: reference.map(Into::into),
    }
}

fn small_released() -> Released {
    let reserved = small_reserved(None);
    Released {
        sequence: 1,
        at: AT,
        reservation: reserved.reservation,
        pool: reserved.pool,
        units: reserved.units,
        was_confirmed: true,
        occurred_at: Timestamp(-2),
    }
}

/// `ARCHITECTURE.md` promises records of 96 and 80 bytes in one or two dimensions, of which 32 are the header.
#[test]
fn hot_bodies_are_small() {
    for (dimension_count, reserved_size, released_size) in [(1, 60, 44), (2, 64, 48), (8, 88, 72)] {
        let mut reserved = small_reserved(None);
        reserved.units.0[dimension_count..].fill(0);
        let mut released = small_released();
        released.units.0[dimension_count..].fill(0);
        let mut body = Vec::new();
        encode(&Event::Reserved(reserved), dimension_count, &mut body);
        assert_eq!(body.len(), reserved_size, "{dimension_count} dimensions");
        encode(&Event::Released(released), dimension_count, &mut body);
        assert_eq!(body.len(), released_size, "{dimension_count} dimensions");
    }
}

/// The bytes themselves: a change of this test is a change of the format.
#[test]
fn hot_bodies_have_these_bytes() {
    let mut body = Vec::new();
    let tag = encode(&Event::Reserved(small_reserved(Some("é1"))), 2, &mut body);
    let expected: Vec<u8> = [
        0x0102_0304_0506_0708_u64,
        0x1111_2222_3333_4444,
        0x5555_6666_7777_8888,
        0x0005_0000_0000_0900,
        0x0200_0000_00AB_CDEF,
        0x0005_0000_0300_0001,
        i64::MIN as u64,
        7 | 300 << 32,
    ]
    .iter()
    .flat_map(|word| word.to_le_bytes())
    .chain(*b"\xC3\xA91")
    .collect();
    assert_eq!(body, expected);
    let detail = 600 | 3 << 17 | 1 << 24;
    assert_eq!(
        tag,
        RecordTag {
            kind: 16,
            partition: 5,
            detail
        }
    );

    let tag = encode(&Event::Released(small_released()), 2, &mut body);
    let expected: Vec<u8> = [
        1_u64,
        0x0005_0000_0000_0900,
        0x0200_0000_00AB_CDEF,
        0x0005_0000_0300_0001,
        -2_i64 as u64,
        7 | 300 << 32,
    ]
    .iter()
    .flat_map(|word| word.to_le_bytes())
    .collect();
    assert_eq!(body, expected);
    assert_eq!(
        tag,
        RecordTag {
            kind: 18,
            partition: 5,
            detail: 1 << 8
        }
    );
}

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
        |tag, _| tag.kind = 17,
        &DecodeError::UnknownKind { kind: 17 },
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
        |tag, _| tag.detail |= 1,
        &DecodeError::UnknownDetail { kind: 18, bits: 1 },
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
        pool: PoolId(192 << 48 | 1),
        version: 1,
        definition: Box::new(small_definition()),
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

/// The largest definition passes the bound on what a table may unfold to.
#[test]
fn the_largest_definition_comes_back() {
    let mut definition = small_definition();
    definition.coverage = vec!["1".repeat(32).into(); 1024];
    let event = Event::PoolChanged(PoolDefined {
        sequence: u64::MAX,
        pool: PoolId(192 << 48 | 1),
        version: 7,
        definition: Box::new(definition),
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
        pool: PoolId(192 << 48 | 1),
        version: 1,
        definition: Box::new(definition),
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
