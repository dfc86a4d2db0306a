//! The events of a directory from any position on, in pieces.

use plimsoll_journal::Lsn;

use crate::budget::{Budget, Step};
use crate::cursor::JournalCursor;
use crate::error::ReplayError;
use crate::history::{History, RecordedEvent, Selection};
use crate::positions::Positions;

/// Reads the events of all journals in the order of their times, up to what was durable when it was opened; those of a partition come in the order of
/// their sequence.
#[derive(Debug)]
pub struct Forward {
    selection: Selection,
    heads: Vec<JournalCursor>,
    /// Of journals that are not read.
    positions: Positions,
}

impl Forward {
    /// Prepares to read from these positions on, and, where `upto` is given, no further than to there.
    ///
    /// # Errors
    /// When a control page is damaged or cannot be read.
    pub fn open(
        history: &History,
        positions: &Positions,
        upto: Option<&Positions>,
        selection: Selection,
    ) -> Result<Forward, ReplayError> {
        let mut heads = Vec::new();
        for journal in 0..history.view().journals().len() {
            let position = positions.of(journal);
            if position != Positions::ALL_READ {
                let last = upto.map_or(Lsn(u64::MAX), |upto| Lsn(upto.of(journal).0.saturating_sub(1)));
                heads.push(JournalCursor::open(history, journal, position, last)?);
            }
        }
        Ok(Forward {
            selection,
            heads,
            positions: positions.clone(),
        })
    }

    /// The next event.
    ///
    /// # Errors
    /// Damage and records that this program does not know, with file, offset and LSN.
    pub fn next_within(&mut self, history: &History, budget: &mut Budget) -> Result<Step<RecordedEvent>, ReplayError> {
        for head in &mut self.heads {
            head.fill(history, &self.selection, budget)?;
            if head.peek().is_none() && !head.is_at_end() {
                return Ok(Step::Paused);
            }
        }
        // Of equal times the earlier journal's first: what has no core any more came before.
        let first = self.heads.iter_mut().filter(|head| head.peek().is_some());
        let first = first.min_by_key(|head| (head.peek().map(|event| event.time), head.journal()));
        Ok(first.and_then(JournalCursor::take).map_or(Step::End, Step::Next))
    }

    /// The next event, however long it takes to get there; nothing behind the last one.
    ///
    /// # Errors
    /// As for [`Forward::next_within`].
    pub fn next(&mut self, history: &History) -> Result<Option<RecordedEvent>, ReplayError> {
        match self.next_within(history, &mut Budget::unlimited())? {
            Step::Next(event) => Ok(Some(event)),
            Step::Paused | Step::End => Ok(None),
        }
    }

    /// Where to go on behind the last event that was given.
    pub fn positions(&self) -> Positions {
        let mut positions = self.positions.clone();
        for head in &self.heads {
            positions.set(head.journal(), head.position());
        }
        positions
    }

    /// How many bytes of files were passed so far, for progress.
    pub fn bytes(&self) -> u64 {
        self.heads.iter().map(JournalCursor::bytes).sum()
    }
}
