//! Pieces of snapshots to bytes and back.

use plimsoll_domain::{
    MovedPage, MovedReservation, PartitionId, PoolImage, PoolPage, SnapshotPiece, StoredReservation,
};
use plimsoll_record::{SnapshotError, decode_pieces, encode_piece};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::counting::peak_of;
use crate::pieces::piece;

fn encoded(pieces: &[SnapshotPiece], dimension_count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        encode_piece(piece, dimension_count, &mut bytes);
    }
    bytes
}

fn decoded(bytes: &[u8], dimension_count: usize) -> Result<Vec<SnapshotPiece>, SnapshotError> {
    let mut pieces = Vec::new();
    decode_pieces(bytes, dimension_count, |piece| {
        pieces.push(piece);
        Ok::<_, SnapshotError>(())
    })?;
    Ok(pieces)
}

fn pieces() -> impl Strategy<Value = (usize, Vec<SnapshotPiece>)> {
    prop::sample::select(&[1_usize, 2, 3, 8][..]).prop_flat_map(|count| (Just(count), vec(piece(count), 0..4)))
}

/// Decodes without keeping anything, and holds the memory for it against the size: a page is at most 16 pools or 64 reservations, some KiB.
fn check_memory(bytes: &[u8], dimension_count: usize) {
    let (_, peak) = peak_of(|| decode_pieces(bytes, dimension_count, |_| Ok::<_, SnapshotError>(())));
    let most = 4 * bytes.len() + 8 * 1024;
    assert!(peak <= most, "{peak} bytes for {} bytes", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_piece_comes_back_as_it_went_in((dimension_count, pieces) in pieces()) {
        let bytes = encoded(&pieces, dimension_count);
        check_memory(&bytes, dimension_count);
        prop_assert_eq!(decoded(&bytes, dimension_count), Ok(pieces));
    }

    /// All pieces before the cut come back; the one that is cut is an error, unless the cut is between two.
    #[test]
    fn cut_pieces_are_an_error((dimension_count, pieces) in pieces(), cut: prop::sample::Index) {
        let mut ends = vec![0];
        let mut bytes = Vec::new();
        for piece in &pieces {
            encode_piece(piece, dimension_count, &mut bytes);
            ends.push(bytes.len());
        }
        let size = cut.index(bytes.len() + 1);
        let whole_count = ends.iter().filter(|end| **end <= size).count() - 1;
        let mut found = Vec::new();
        let result = decode_pieces(&bytes[..size], dimension_count, |piece| {
            found.push(piece);
            Ok::<_, SnapshotError>(())
        });
        prop_assert_eq!(&found[..], &pieces[..whole_count]);
        let offset = ends[whole_count];
        let expected = if offset == size { Ok(()) } else { Err(SnapshotError::Size { offset }) };
        prop_assert_eq!(result, expected);
        check_memory(&bytes[..size], dimension_count);
    }

    #[test]
    fn altered_pieces_never_panic(
        (dimension_count, pieces) in pieces(),
        flips in vec((any::<prop::sample::Index>(), 0..8_u32), 1..8),
        other_dimension_count in 1..=8_usize,
    ) {
        let mut bytes = encoded(&pieces, dimension_count);
        prop_assume!(!bytes.is_empty());
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        for count in [dimension_count, other_dimension_count] {
            check_memory(&bytes, count);
            if let Ok(pieces) = decoded(&bytes, count) {
                prop_assert_eq!(decoded(&encoded(&pieces, count), count), Ok(pieces));
            }
        }
    }

    #[test]
    fn random_pieces_never_panic(
        kind in 0..6_u16,
        // Small values make plausible counts.
        content in prop_oneof![vec(any::<u8>(), 0..400), vec(0..4_u8, 0..400)],
        dimension_count in 1..=8_usize,
    ) {
        let mut bytes = (content.len() as u32 + 2).to_le_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&content);
        check_memory(&bytes, dimension_count);
        if let Ok(pieces) = decoded(&bytes, dimension_count) {
            prop_assert_eq!(decoded(&encoded(&pieces, dimension_count), dimension_count), Ok(pieces));
        }
    }
}

fn check(bytes: &[u8], expected: SnapshotError) {
    assert_eq!(decoded(bytes, 2), Err(expected));
}

/// A page of one reservation in two dimensions: 4 bytes of size, 12 of head, 64 of reservation, two counts.
fn one_reservation(change: impl FnOnce(&mut StoredReservation)) -> Vec<u8> {
    let mut entry = StoredReservation {
        key: plimsoll_domain::Key(1),
        created_at: plimsoll_domain::Timestamp(2),
        moment: plimsoll_domain::Timestamp(3),
        random: 4,
        first_units: [5, 6],
        pool_slot: 7,
        bits: 600 | 1 << 17,
        link: 8,
        generation: 9,
        version: 10,
    };
    change(&mut entry);
    let page = plimsoll_domain::ReservationPage {
        first_slot: 64,
        entries: vec![entry],
        more_units: Vec::new(),
        references: Vec::new(),
        first_requests: Vec::new(),
    };
    encoded(&[SnapshotPiece::Reservations(PartitionId(5), page)], 2)
}

/// The bytes themselves: a change of this test is a change of the format.
#[test]
fn pieces_have_these_bytes() {
    let mut expected = vec![84, 0, 0, 0, 3, 0, 5, 0, 1, 0, 0, 0, 64, 0, 0, 0];
    expected.extend(
        [0_u64, 1, 2, 3, 4, 5 | 6 << 32, 7 | (600 | 1 << 17) << 32]
            .iter()
            .flat_map(|word| word.to_le_bytes()),
    );
    expected.extend([8, 0, 0, 0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(one_reservation(|_| ()), expected);

    let images = vec![
        PoolImage::Free {
            generation: 3,
            next: u32::MAX,
        },
        PoolImage::Retired {
            generation: 4,
            sequence: 5,
        },
    ];
    let page = PoolPage { first_slot: 16, images };
    let expected = [
        40, 0, 0, 0, 2, 0, 5, 0, 2, 0, 0, 0, 16, 0, 0, 0, // size, kind, partition, count, first slot
        0, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255, // free
        1, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, // retired
    ];
    assert_eq!(encoded(&[SnapshotPiece::Pools(PartitionId(5), page)], 2), expected);

    let expected = [
        24, 0, 0, 0, 4, 0, 5, 0, 1, 0, 0, 0, 64, 0, 0, 0, // size, kind, partition, count, first slot
        70, 0, 0, 0, 3, 1, 0, 0, 2, 1, 0, 0, // slot, slot and generation of the id
    ];
    assert_eq!(encoded(&[one_moved()], 2), expected);
    let mut wrong = expected;
    wrong[26] = 1;
    let what = "the generation of a reservation";
    check(&wrong, SnapshotError::OutOfRange { offset: 0, what });
}

fn one_moved() -> SnapshotPiece {
    let moved = MovedReservation {
        slot: 70,
        id_slot: 259,
        id_generation: 258,
    };
    let page = MovedPage {
        first_slot: 64,
        moved: vec![moved],
    };
    SnapshotPiece::Moved(PartitionId(5), page)
}

#[test]
fn values_that_no_snapshot_has_are_errors() {
    let out_of_range = |what| SnapshotError::OutOfRange { offset: 0, what };
    let units = "the units of a reservation";
    let others = "the id, the hold or the state of a reservation";
    check(
        &one_reservation(|entry| entry.first_units[0] = 1 << 31),
        out_of_range(units),
    );
    check(&one_reservation(|entry| entry.random = 1 << 56), out_of_range(others));
    check(
        &one_reservation(|entry| entry.bits = 86_401 | 1 << 17),
        out_of_range(others),
    );
    check(&one_reservation(|entry| entry.bits = 600), out_of_range(others));
    check(
        &one_reservation(|entry| entry.bits = 600 | 5 << 17),
        out_of_range(others),
    );
    check(&one_reservation(|entry| entry.bits |= 1 << 24), out_of_range(others));
    // With one dimension there are no units of a second one.
    assert_eq!(decoded(&one_reservation(|_| ()), 1), Err(out_of_range(units)));

    let bytes = one_reservation(|_| ());
    let with = |offset: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[offset] = value;
        bytes
    };
    check(&with(4, 5), SnapshotError::UnknownKind { offset: 0, kind: 5 });
    check(&with(7, 4), out_of_range("the partition"));
    check(&with(8, 65), out_of_range("the size of a page"));
    check(&with(80, 2), out_of_range("the number of references"));
    check(&with(84, 2), out_of_range("the number of first requests"));
    check(&with(0, 85), SnapshotError::Size { offset: 0 });
    check(&with(0, 83), SnapshotError::Size { offset: 0 });
}
