//! The bytes themselves: a change of these tests is a change of the format.

use plimsoll_domain::{
    Event, Key, Moved, PartitionId, PoolId, PoolReset, PoolRetired, ReleaseCause, Released, ReservationId,
    ReservationParts, ReservationState, Reserved, ResizeCause, Resized, Restored, Swept, Timestamp, TurnedAway, Units,
};
use plimsoll_record::{RecordTag, encode};

use crate::strategies::AT;

pub(crate) fn small_reserved(reference: Option<&str>) -> Reserved {
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

pub(crate) fn small_released() -> Released {
    let reserved = small_reserved(None);
    Released {
        sequence: 1,
        at: AT,
        reservation: reserved.reservation,
        pool: reserved.pool,
        units: reserved.units,
        was_confirmed: true,
        cause: ReleaseCause::Asked,
        occurred_at: Timestamp(-2),
    }
}

pub(crate) fn small_moved() -> Moved {
    let released = small_released();
    Moved {
        sequence: 1,
        at: AT,
        reservation: released.reservation,
        pool: released.pool,
        units: released.units,
        occurred_at: Timestamp(-2),
    }
}

pub(crate) fn small_resized() -> Resized {
    let released = small_released();
    Resized {
        sequence: 1,
        at: AT,
        reservation: released.reservation,
        pool: released.pool,
        units: Units::from_slice(&[8, 301]),
        previous_units: released.units,
        expires_at: Some(Timestamp(9)),
        version: 0x0203,
        cause: ResizeCause::Downtime,
        would_refuse: true,
        occurred_at: Timestamp(-2),
    }
}

pub(crate) fn small_restored() -> Restored {
    let reserved = small_reserved(Some("order"));
    Restored {
        sequence: 1,
        at: AT,
        reservation: reserved.reservation,
        pool: reserved.pool,
        key: reserved.key,
        slot: 11,
        generation: 3,
        created_at: Timestamp(4),
        units: reserved.units,
        requested_units: Units::from_slice(&[8, 301]),
        hold_seconds: 600,
        expires_at: Some(Timestamp(9)),
        version: 5,
        would_refuse: true,
        has_key: true,
        previous_state: Some(ReservationState::Confirmed),
        previous_units: Units::from_slice(&[1, 2]),
        reference: reserved.reference,
    }
}

/// The size of the whole record: 32 bytes of header, and zeros up to a multiple of 8.
fn record_size(event: &Event, dimension_count: usize) -> usize {
    let mut body = Vec::new();
    encode(event, dimension_count, &mut body);
    (32 + body.len()).next_multiple_of(8)
}

/// `ARCHITECTURE.md` promises 96 bytes for a reserve and 80 for a release, a confirmation or an expiry, in one or two dimensions.
#[test]
fn records_have_the_promised_sizes() {
    for dimension_count in [1, 2] {
        let only = |mut units: Units| {
            units.0[dimension_count..].fill(0);
            units
        };
        let reserved = small_reserved(None);
        let reserved = Reserved {
            units: only(reserved.units),
            ..reserved
        };
        assert_eq!(record_size(&Event::Reserved(reserved), dimension_count), 96);
        let released = small_released();
        let released = Released {
            units: only(released.units),
            ..released
        };
        assert_eq!(record_size(&Event::Released(released), dimension_count), 80);
        let moved = small_moved();
        let moved = Moved {
            units: only(moved.units),
            ..moved
        };
        assert_eq!(record_size(&Event::Confirmed(moved), dimension_count), 80);
        assert_eq!(record_size(&Event::Expired(moved), dimension_count), 80);
    }
}

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

fn check(event: &Event, kind: u16, detail: u32, words: &[u64]) {
    let mut body = Vec::new();
    let tag = encode(event, 2, &mut body);
    let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(body, expected, "the body of kind {kind}");
    let partition = 5;
    assert_eq!(
        tag,
        RecordTag {
            kind,
            partition,
            detail
        }
    );
}

#[test]
fn the_other_structs_have_these_bytes() {
    let moved_words = [
        1_u64,
        0x0005_0000_0000_0900,
        0x0200_0000_00AB_CDEF,
        0x0005_0000_0300_0001,
        -2_i64 as u64,
        7 | 300 << 32,
    ];
    check(&Event::Confirmed(small_moved()), 17, 0, &moved_words);
    check(&Event::Expired(small_moved()), 19, 0, &moved_words);
    let mut resized_words = moved_words[..5].to_vec();
    resized_words.extend([9, 8 | 301 << 32, 7 | 300 << 32]);
    let detail = 1 | 0x0203 << 8 | 1 << 24;
    check(&Event::Resized(small_resized()), 20, detail, &resized_words);
    resized_words[5] = 0;
    let confirmed = Resized {
        expires_at: None,
        cause: ResizeCause::Asked,
        would_refuse: false,
        version: 1,
        ..small_resized()
    };
    check(&Event::Resized(confirmed), 20, 1 << 8, &resized_words);

    let pool = small_moved().pool;
    check(
        &Event::PoolRetired(PoolRetired { sequence: 3, pool }),
        4,
        0,
        &[3, pool.0],
    );
    let swept = Swept {
        partition: PartitionId(5),
        sequence: 4,
        ended_before: Timestamp(-7),
        from: 1024,
        count: 6,
    };
    check(&Event::Swept(swept), 34, 0, &[4, -7_i64 as u64, 1024 | 6 << 32]);
    let turned_away = TurnedAway {
        sequence: 5,
        pool,
        since: Timestamp(6),
        at: AT,
        refusals: 7,
        units: [u64::MAX, 8, 0, 0, 0, 0, 0, 0],
    };
    check(&Event::TurnedAway(turned_away), 32, 0, &[5, pool.0, 6, 7, u64::MAX, 8]);
}

/// What a cause adds to a release, and which kinds and sizes the tables of a reset have.
#[test]
fn a_reset_has_these_records() {
    let mut body = Vec::new();
    let released = Released {
        cause: ReleaseCause::Reset,
        ..small_released()
    };
    assert_eq!(encode(&Event::Released(released), 2, &mut body).detail, 1 << 8 | 1);
    let reset = PoolReset {
        sequence: 1,
        at: AT,
        pool: released.pool,
        to: Timestamp(2),
        change_count: 3,
        released_count: 1,
        restored_count: 2,
    };
    let partition = 5;
    for (event, kind, size) in [
        (Event::PoolReset(reset), 3, 96),
        (Event::Restored(Box::new(small_restored())), 21, 232),
    ] {
        let tag = RecordTag {
            kind,
            partition,
            detail: 0,
        };
        assert_eq!(encode(&event, 2, &mut body), tag);
        assert_eq!(record_size(&event, 2), size, "kind {kind}");
    }
}
