//! Every event and every piece of a snapshot comes back as it went in, and no bytes make decoding panic.

mod counting;
mod errors;
mod layout;
mod pieces;
mod snapshots;
mod strategies;

use plimsoll_domain::Event;
use plimsoll_record::{
    DecodeError, Field, KIND_CONFIRMED, KIND_EXPIRED, KIND_POOL_CHANGED, KIND_POOL_CREATED, KIND_POOL_RESET,
    KIND_POOL_RETIRED, KIND_RELEASED, KIND_RESERVED, KIND_RESIZED, KIND_RESTORED, KIND_SWEPT, KIND_TURNED_AWAY, Place,
    RecordTag, decode, encode, place,
};
use proptest::collection::vec;
use proptest::prelude::*;
use strategies::{AT, event, event_of_struct, restored, time};

/// Checks the bytes at an address that is off a multiple of 8 by this much.
fn with_offset(bytes: &[u8], offset: usize, check: impl FnOnce(&[u8])) {
    let mut room = vec![0; bytes.len() + 8];
    let begin = (0..8)
        .find(|begin| room[*begin..].as_ptr().addr() % 8 == offset)
        .expect("one of eight addresses in a row");
    room[begin..begin + bytes.len()].copy_from_slice(bytes);
    check(&room[begin..begin + bytes.len()]);
}

/// By kind, the bits of the detail that have a meaning.
const KNOWN_BITS: [(u16, u32); 12] = [
    (KIND_POOL_CREATED, 0),
    (KIND_POOL_CHANGED, 0),
    (KIND_POOL_RETIRED, 0),
    (KIND_RESERVED, (1 << 25) - 1),
    (KIND_CONFIRMED, 0),
    (KIND_RELEASED, 1 << 8 | 1),
    (KIND_EXPIRED, 0),
    (KIND_RESIZED, (1 << 25) - 1),
    (KIND_TURNED_AWAY, 0),
    (KIND_SWEPT, 0),
    (KIND_POOL_RESET, 0),
    (KIND_RESTORED, 0),
];

/// All kinds.
const KINDS: [u16; 12] = [1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 32, 34];

fn place_of(event: &Event) -> Option<Place> {
    let (reservation, pool) = match event {
        Event::Reserved(event) => (event.reservation, event.pool),
        Event::Confirmed(event) | Event::Expired(event) => (event.reservation, event.pool),
        Event::Released(event) => (event.reservation, event.pool),
        Event::Resized(event) => (event.reservation, event.pool),
        _ => return None,
    };
    Some(Place { reservation, pool })
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
            assert_eq!(place(tag, body), place_of(&event));
        });
        // A body that is cut has a place or none.
        for size in 0..body.len() {
            place(tag, &body[..size]);
        }
    }

    #[test]
    fn a_cut_or_longer_body_of_a_struct_is_an_error(
        (dimension_count, event) in (1..=8_usize).prop_flat_map(|count| (Just(count), event_of_struct(count))),
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

    /// A group of events is measured before their numbers are known.
    #[test]
    fn the_numbers_of_a_restored_one_do_not_change_its_size(
        (dimension_count, mut one, mut other) in (1..=8_usize)
            .prop_flat_map(|count| (Just(count), restored(count), restored(count))),
    ) {
        (one.reference, one.expires_at) = (other.reference.clone(), other.expires_at);
        (other.slot, other.generation, other.sequence) = (0, 0, 0);
        let mut bodies = [Vec::new(), Vec::new()];
        for (event, body) in [one, other].into_iter().zip(&mut bodies) {
            encode(&Event::Restored(Box::new(event)), dimension_count, body);
        }
        prop_assert_eq!(bodies[0].len(), bodies[1].len());
    }

    #[test]
    fn unknown_bits_of_the_detail_are_an_error((dimension_count, event) in event(), bit in 0..32_u32) {
        let mut body = Vec::new();
        let mut tag = encode(&event, dimension_count, &mut body);
        let known = KNOWN_BITS.iter().find(|(kind, _)| *kind == tag.kind).expect("every kind has a row").1;
        prop_assert_eq!(tag.detail & !known, 0);
        tag.detail ^= 1 << bit;
        if known >> bit & 1 == 0 {
            let error = DecodeError::UnknownDetail { kind: tag.kind, bits: 1 << bit };
            prop_assert_eq!(decode(tag, AT, &body, dimension_count), Err(error));
        }
    }

    /// What the body says of the partition is compared with the header; a sweep's body says nothing of it.
    #[test]
    fn another_partition_in_the_header_is_an_error((dimension_count, event) in event(), other in 0..1025_u16) {
        let mut body = Vec::new();
        let tag = encode(&event, dimension_count, &mut body);
        prop_assume!(other != tag.partition && tag.kind != KIND_SWEPT);
        let moved = RecordTag { partition: other, ..tag };
        let error = if other < 1024 {
            DecodeError::PartitionMismatch { field: Field::Pool, expected: other, found: tag.partition }
        } else {
            DecodeError::PartitionOutOfRange { found: other }
        };
        prop_assert_eq!(decode(moved, AT, &body, dimension_count), Err(error));
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
            prop::sample::select(&KINDS[..]), any::<u16>()
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
pub(crate) fn assert_comes_back(event: &Event, dimension_count: usize) {
    let mut body = Vec::new();
    let tag = encode(event, dimension_count, &mut body);
    assert_eq!(decode(tag, time(event), &body, dimension_count).as_ref(), Ok(event));
}

#[test]
fn the_lists_hold_every_kind() {
    for kind in 0..=u16::MAX {
        let tag = RecordTag {
            kind,
            partition: 0,
            detail: 0,
        };
        let is_unknown = matches!(decode(tag, AT, &[], 2), Err(DecodeError::UnknownKind { .. }));
        assert_eq!(plimsoll_record::KINDS.contains(&kind), !is_unknown, "kind {kind}");
        let mut piece = vec![12, 0, 0, 0];
        piece.extend_from_slice(&kind.to_le_bytes());
        piece.extend_from_slice(&[0; 10]);
        let decoded = plimsoll_record::decode_pieces(&piece, 2, |_| Ok::<(), plimsoll_record::SnapshotError>(()));
        let is_unknown = matches!(decoded, Err(plimsoll_record::SnapshotError::UnknownKind { .. }));
        assert_eq!(
            plimsoll_record::PIECE_KINDS.contains(&kind),
            !is_unknown,
            "piece {kind}"
        );
    }
}
