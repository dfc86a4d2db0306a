//! Pieces of a snapshot: bytes that make pieces, pieces that make a state, and commands on that state.
//!
//! The first byte tells the number of dimensions, the rest are pieces.

use std::collections::BTreeMap;

use plimsoll_domain::limits::TIME_MAX;
use plimsoll_domain::{Restoring, SnapshotPiece, StateOptions, Timestamp};
use plimsoll_record::{SnapshotError, decode_pieces};

use crate::commands::{DIMENSION_COUNTS, Machine, START, bytes_from, encoded, restored, sample, snapshot};
use crate::counting::within;
use crate::input::Input;

/// # Panics
/// When decoding takes more than a few times the memory of the bytes, or a state that was accepted does not hold what a state promises.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = StateOptions {
        key_retention_micros: 1_000_000,
        retire_after_micros: 1_000_000,
        ..StateOptions::new(input.pick(&DIMENSION_COUNTS))
    };
    let pieces = input.rest();
    let count = options.dimension_count;
    let decoded = within(4 * pieces.len() + 8192, || {
        decode_pieces(pieces, count, |_| Ok::<_, SnapshotError>(()))
    });
    if decoded.is_err() {
        return;
    }
    let mut kept = Vec::new();
    let decoded = decode_pieces(pieces, count, |piece| {
        kept.push(piece);
        Ok::<_, SnapshotError>(())
    });
    decoded.expect("it was decoded right before");
    let again = encoded(&kept, count);
    let mut index = 0;
    let decoded = decode_pieces(&again, count, |piece| {
        assert_eq!(piece, kept[index], "a piece comes back as it was");
        index += 1;
        Ok::<_, SnapshotError>(())
    });
    decoded.expect("what was encoded can be decoded");
    assert_eq!(index, kept.len());
    state(&kept, pieces, options);
}

fn state(kept: &[SnapshotPiece], pieces: &[u8], options: StateOptions) {
    let mut restoring = Restoring::new(options);
    if !has_room(kept, pieces.len()) || kept.iter().any(|piece| restoring.take(piece).is_err()) {
        return;
    }
    let Ok(mut state) = restoring.finish() else { return };
    state.assert_counters();
    let again = restored(&snapshot(&mut state), options).expect("a snapshot of a state makes a state");
    assert_eq!(again.digest(START), state.digest(START));
    let now = last_time(kept);
    if now.0 <= TIME_MAX {
        let commands = bytes_from(u64::from(crc32c::crc32c(pieces)), 96);
        Machine::adopt(state, options, now).run(&mut Input::new(&commands));
    }
}

/// When the last reservation was made or ended: the clock of a core that goes on from there is not behind it.
fn last_time(kept: &[SnapshotPiece]) -> Timestamp {
    let mut last = START;
    for piece in kept {
        if let SnapshotPiece::Reservations(_, page) = piece {
            for entry in page.entries.iter().filter(|entry| !entry.is_free()) {
                let is_ended = entry.bits >> 17 & 7 > 2;
                last = last.max(entry.created_at);
                last = if is_ended { last.max(entry.moment) } else { last };
            }
        }
    }
    last
}

/// Whether the slots that the images speak of can all be in the pieces: a state with more would only be refused when its pages are
/// found missing, after memory was taken for them.
fn has_room(kept: &[SnapshotPiece], size: usize) -> bool {
    let mut needed = BTreeMap::new();
    for piece in kept {
        if let SnapshotPiece::Partition(image) = piece {
            let slots = 12 * u64::from(image.pool_slot_count) + 64 * u64::from(image.reservation_slot_count);
            needed.insert(image.partition, slots);
        }
    }
    needed.values().sum::<u64>() <= size as u64
}

/// Snapshots of states with few events and many.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for dimension in 0..DIMENSION_COUNTS.len() {
        for size in [30, 120, 500, 1200] {
            let (mut state, _) = sample(dimension, size as u64 + dimension as u64, size);
            let mut bytes = vec![dimension as u8];
            bytes.extend(snapshot(&mut state));
            seeds.push((format!("state-{dimension}-{size}"), bytes));
        }
    }
    seeds
}
