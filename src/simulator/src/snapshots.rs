//! A core's snapshots: begun between two turns, copied bit by bit, kept as bytes.
//!
//! Invariants:
//! - A snapshot counts once it is complete and the journal is durable up to its LSN; until then a crash loses it.
//! - At most two are kept.

use std::collections::VecDeque;

use plimsoll_domain::{PoolImage, Replaying, RestoreError, Restoring, SnapshotPiece, State, StateOptions, Timestamp};
use plimsoll_engine::{Engine, RecoveryBase, SnapshotMoment};
use plimsoll_journal::{Framing, RecoveryStart};
use plimsoll_record::SnapshotError;

use crate::checkers::{Promise, Violation, hold, violation};
use crate::dice::Dice;
use crate::plants::Plant;
use crate::storage::SimStorage;
use crate::trace::note;

/// Snapshots that are kept.
const FILE_COUNT_MAX: usize = 2;

pub(crate) struct SnapshotFile {
    pub(crate) moment: SnapshotMoment,
    /// Of the state at that moment.
    digest: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Snapshots {
    taking: Option<SnapshotFile>,
    /// Planted: begun although nothing is copied yet.
    is_late: bool,
    /// Complete, and not durable yet.
    ready: Option<SnapshotFile>,
    /// Newest first.
    pub(crate) files: VecDeque<SnapshotFile>,
}

enum Unusable {
    Piece(SnapshotError),
    Restore(RestoreError),
}

impl From<SnapshotError> for Unusable {
    fn from(error: SnapshotError) -> Unusable {
        Unusable::Piece(error)
    }
}

impl SnapshotFile {
    /// The state of the snapshot's moment.
    pub(crate) fn restore(&self, options: StateOptions) -> Result<State, Violation> {
        let state = self.replaying(options)?.finish();
        let digest = state.digest(Timestamp::ABSENT);
        hold(digest == self.digest, Promise::Snapshot, || {
            format!("a snapshot differs from the state at its moment {:?}", self.moment)
        })?;
        state.assert_counters();
        Ok(state)
    }

    /// The same for the events behind it.
    fn replaying(&self, options: StateOptions) -> Result<Replaying, Violation> {
        let mut restoring = Restoring::new(options);
        let result = plimsoll_record::decode_pieces(&self.bytes, options.dimension_count, |piece| {
            restoring.take(&piece).map_err(Unusable::Restore)
        });
        result
            .and_then(|()| restoring.before_replay().map_err(Unusable::Restore))
            .or_else(|error| {
                violation(Promise::Snapshot, || {
                    let error: &dyn std::error::Error = match &error {
                        Unusable::Piece(error) => error,
                        Unusable::Restore(error) => error,
                    };
                    format!("the snapshot of {:?} cannot be used: {error}", self.moment)
                })
            })
    }

    pub(crate) fn start(&self) -> RecoveryStart {
        RecoveryStart {
            lsn: self.moment.lsn,
            segment: self.moment.segment,
            time: self.moment.time,
        }
    }

    /// What a recovery begins with.
    pub(crate) fn base(&self, options: StateOptions) -> Result<RecoveryBase, Violation> {
        self.restore(options)?;
        Ok(RecoveryBase {
            state: self.replaying(options)?,
            start: self.start(),
        })
    }
}

impl Snapshots {
    /// The next part: it begins, or some more is copied.
    pub(crate) fn step<F: Framing>(
        &mut self,
        engine: &mut Engine<SimStorage, F>,
        dimension_count: usize,
        plant: Option<Plant>,
        dice: &mut Dice,
    ) {
        let budget = dice.pick(&[1, 64, 500, 4_000, 1_000_000]);
        let Some(taking) = &mut self.taking else {
            self.begin(engine, plant);
            return;
        };
        if std::mem::take(&mut self.is_late) && engine.begin_snapshot().is_none() {
            self.taking = None;
            return;
        }
        let mut pieces = Vec::new();
        let is_complete = engine.copy_snapshot(budget, &mut pieces);
        if plant == Some(Plant::SnapshotLosesMoved) {
            pieces.retain(|piece| !matches!(piece, SnapshotPiece::Moved(..)));
        }
        for piece in &mut pieces {
            if let Some(plant) = plant {
                spoil(piece, plant);
            }
            plimsoll_record::encode_piece(piece, dimension_count, &mut taking.bytes);
        }
        if is_complete {
            note(
                "snapshot complete",
                [taking.moment.lsn.0, taking.bytes.len() as u64, 0, 0],
            );
            self.ready = self.taking.take();
        }
    }

    fn begin<F: Framing>(&mut self, engine: &mut Engine<SimStorage, F>, plant: Option<Plant>) {
        if self.ready.is_some() {
            return;
        }
        let journal = engine.journal();
        self.is_late = plant == Some(Plant::SnapshotWithoutCopies);
        let moment = if self.is_late {
            Some(SnapshotMoment {
                lsn: journal.last_lsn(),
                segment: plimsoll_journal::Segment::number(journal.segment()),
                time: journal.last_time(),
            })
        } else {
            engine.begin_snapshot()
        };
        let digest = engine.state().digest(Timestamp::ABSENT);
        self.taking = moment.map(|moment| SnapshotFile {
            moment,
            digest,
            bytes: Vec::new(),
        });
    }

    /// The journal is durable up to this LSN: what is complete may count.
    pub(crate) fn durable(&mut self, upto: u64, plant: Option<Plant>, options: StateOptions) -> Result<(), Violation> {
        let is_early = plant == Some(Plant::SnapshotBeforeDurable);
        if let Some(file) = self.ready.take_if(|file| file.moment.lsn.0 <= upto || is_early) {
            file.restore(options)?;
            note("snapshot counts", [file.moment.lsn.0, 0, 0, 0]);
            self.files.push_front(file);
            self.files.truncate(FILE_COUNT_MAX);
        }
        Ok(())
    }

    /// The process is gone.
    pub(crate) fn stop(&mut self) {
        (self.taking, self.ready, self.is_late) = (None, None, false);
    }
}

/// What a planted bug makes of a piece.
fn spoil(piece: &mut SnapshotPiece, plant: Plant) {
    match (piece, plant) {
        (SnapshotPiece::Reservations(_, page), Plant::SnapshotLosesKey) => {
            if let Some(entry) = page.entries.first_mut() {
                entry.key.0 ^= 1;
            }
        }
        (SnapshotPiece::Reservations(_, page), Plant::SnapshotLosesRequest) => page.first_requests.clear(),
        (SnapshotPiece::Reservations(_, page), Plant::SnapshotLosesDeadline) => {
            // A deadline that is in no wheel never comes.
            for entry in page
                .entries
                .iter_mut()
                .filter(|entry| entry.moment.0 > entry.created_at.0)
            {
                entry.moment = Timestamp::NEVER;
            }
        }
        (SnapshotPiece::Pools(_, page), Plant::SnapshotLosesCounter) => {
            for image in &mut page.images {
                if let PoolImage::Used { held, .. } = image {
                    held.0 = [0; 8];
                }
            }
        }
        (SnapshotPiece::Pools(_, page), Plant::SnapshotLosesLastEvent) => {
            for image in &mut page.images {
                if let PoolImage::Used { last_event, .. } = image {
                    *last_event = Timestamp(0);
                }
            }
        }
        _ => {}
    }
}
