//! Snapshots as starting points, and as something to be compared.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_domain::{PartitionId, Restoring, SnapshotPiece, State, StateOptions, Timestamp};
use plimsoll_journal::{DirectorySnapshot, SnapshotHeader, SnapshotReader};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::SnapshotFault;
use crate::history::History;
use crate::replayer::{Moment, Reached};

/// So much of a state is copied at once, in bytes.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Makes a state of one snapshot.
///
/// # Errors
/// When the file is damaged, or is no state.
pub fn restore_snapshot(path: &Path, dimension_count: usize) -> Result<(SnapshotHeader, State), SnapshotFault> {
    let mut restoring = Restoring::new(StateOptions::new(dimension_count));
    let header = feed(SnapshotReader::open(path)?, dimension_count, &mut restoring)?;
    Ok((header, restoring.finish()?))
}

/// The same of one that is open.
pub(crate) fn restore_open(
    reader: SnapshotReader,
    dimension_count: usize,
) -> Result<(SnapshotHeader, State), SnapshotFault> {
    let mut restoring = Restoring::new(StateOptions::new(dimension_count));
    let header = feed(reader, dimension_count, &mut restoring)?;
    Ok((header, restoring.finish()?))
}

fn feed(
    mut reader: SnapshotReader,
    dimension_count: usize,
    restoring: &mut Restoring,
) -> Result<SnapshotHeader, SnapshotFault> {
    let header = reader.header();
    while let Some(chunk) = reader.next_chunk()? {
        plimsoll_record::decode_pieces(chunk, dimension_count, |piece| {
            restoring.take(&piece).map_err(SnapshotFault::from)
        })?;
    }
    Ok(header)
}

/// The state of all cores, each at its own snapshot.
pub(crate) struct Base {
    pub(crate) state: State,
    /// By journal, how far it is in the state; nothing of a journal all of which is.
    pub(crate) reached: Vec<Option<Reached>>,
}

/// The newest snapshots that lie before the moment. Nothing if a core has none, or one that is damaged: reading from the beginning is as good.
pub(crate) fn newest_common_base(history: &History, latest: Timestamp, moment: Moment) -> Option<Base> {
    let view = history.view();
    let mut restoring = Restoring::new(StateOptions::new(history.dimension_count()));
    let mut reached = Vec::new();
    for (index, journal) in view.journals().iter().enumerate() {
        let Some(core) = journal.core else {
            reached.push(None);
            continue;
        };
        let is_before = |snapshot: &&DirectorySnapshot| {
            let header = SnapshotReader::open(&snapshot.path).map(|reader| reader.header());
            header.is_ok_and(|header| header.time <= latest.0)
                && match moment {
                    Moment::Lsn { core: of, lsn } if of == core => snapshot.lsn <= lsn,
                    _ => true,
                }
        };
        let snapshot = view.snapshots(index).iter().find(is_before)?;
        let reader = SnapshotReader::open(&snapshot.path).ok()?;
        let header = feed(reader, history.dimension_count(), &mut restoring).ok()?;
        reached.push(Some(Reached {
            lsn: header.lsn,
            time: Timestamp(header.time),
        }));
    }
    let state = restoring.finish().ok()?;
    Some(Base { state, reached })
}

/// A digest of each partition that has anything: equal where everything that a snapshot holds is equal.
pub(crate) fn partition_digests(state: &mut State) -> BTreeMap<PartitionId, u64> {
    let dimension_count = state.dimension_count();
    let mut digests = BTreeMap::new();
    let mut pieces = Vec::new();
    let mut bytes = Vec::new();
    state.begin_snapshot();
    loop {
        let is_all = state.copy_snapshot(COPIED_AT_ONCE, &mut pieces);
        for mut piece in pieces.drain(..) {
            forget_timer_nodes(&mut piece);
            bytes.clear();
            plimsoll_record::encode_piece(&piece, dimension_count, &mut bytes);
            // The pieces of a partition may come in any order.
            let digest: &mut u64 = digests.entry(piece.partition()).or_default();
            *digest = digest.wrapping_add(xxh3_64(&bytes));
        }
        if is_all {
            return digests;
        }
    }
}

/// What a live reservation keeps in its link means nothing outside of one run.
fn forget_timer_nodes(piece: &mut SnapshotPiece) {
    if let SnapshotPiece::Reservations(_, page) = piece {
        for entry in &mut page.entries {
            if !entry.is_free() && !entry.state().is_ended() {
                entry.link = u32::MAX;
            }
        }
    }
}
