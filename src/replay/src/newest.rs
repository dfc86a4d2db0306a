//! The events of a directory from any position back, the newest first, in pieces.

use plimsoll_domain::{Event, Timestamp};
use plimsoll_engine::event_of;
use plimsoll_journal::{BackwardReader, HistoryPlace, Lsn, Record};

use crate::budget::{Budget, Step};
use crate::error::{RecordFault, ReplayError};
use crate::history::{History, RecordedEvent, Selection};
use crate::positions::Positions;

/// Reads events in the reversed order of [`crate::Forward`]. What has no core any more comes after everything that has.
#[derive(Debug)]
pub struct Newest {
    selection: Selection,
    heads: Vec<Head>,
    /// Of journals that are not read.
    positions: Positions,
}

#[derive(Debug)]
struct Head {
    journal: usize,
    has_core: bool,
    reader: BackwardReader,
    /// What was read of the last block and not given yet, in its order.
    block: Vec<RecordedEvent>,
    is_done: bool,
}

impl Newest {
    /// Prepares to read back from these positions.
    ///
    /// # Errors
    /// When a control page or a file is damaged or cannot be read.
    pub fn open(history: &History, positions: &Positions, selection: Selection) -> Result<Newest, ReplayError> {
        let view = history.view();
        let owner = selection
            .partition
            .map(|partition| usize::from(view.owners()[partition.index()]));
        let mut heads = Vec::new();
        for (journal, entry) in view.journals().iter().enumerate() {
            let has_core = entry.core.is_some();
            // Of the running journals only the owner's has the partition.
            let may_hold = owner.is_none_or(|owner| owner == journal || !has_core);
            if may_hold && positions.of(journal).0 > 1 {
                heads.push(Head {
                    journal,
                    has_core,
                    reader: history.backward_reader(journal, positions.of(journal), selection.keys.clone())?,
                    block: Vec::new(),
                    is_done: false,
                });
            }
        }
        Ok(Newest {
            selection,
            heads,
            positions: positions.clone(),
        })
    }

    /// The next event that is wanted, which is an earlier one.
    ///
    /// # Errors
    /// Damage and records that this program does not know, with file, offset and LSN.
    pub fn next(
        &mut self,
        history: &History,
        wanted: &dyn Fn(&Event) -> bool,
        budget: &mut Budget,
    ) -> Result<Step<RecordedEvent>, ReplayError> {
        loop {
            let latest = self.heads.iter_mut().filter(|head| !head.is_done);
            let Some(head) = latest.max_by_key(|head| (head.has_core, head.latest(), head.journal)) else {
                return Ok(Step::End);
            };
            if let Some(event) = head.block.pop() {
                self.positions.set(event.journal, event.lsn);
                return Ok(Step::Next(event));
            }
            if budget.is_spent() {
                return Ok(Step::Paused);
            }
            head.read_block(history, &self.selection, wanted, budget)?;
        }
    }

    /// Where to go on behind the last event that was given.
    pub fn positions(&self) -> Positions {
        let mut positions = self.positions.clone();
        for head in &self.heads {
            let before = match head.block.last() {
                Some(event) => Lsn(event.lsn.0 + 1),
                None => head.reader.before(),
            };
            positions.set(head.journal, before);
        }
        positions
    }
}

impl Head {
    /// No event that is still to come is later than this.
    fn latest(&self) -> i64 {
        self.block
            .last()
            .map_or_else(|| self.reader.latest(), |event| event.time.0)
    }

    fn read_block(
        &mut self,
        history: &History,
        selection: &Selection,
        wanted: &dyn Fn(&Event) -> bool,
        budget: &mut Budget,
    ) -> Result<(), ReplayError> {
        let (journal, dimension_count) = (self.journal, history.dimension_count());
        let block = &mut self.block;
        let mut fault = None;
        let take = |record: &Record<'_>, place: HistoryPlace| {
            if !selection.wants(record) || fault.is_some() {
                return;
            }
            match event_of(record, dimension_count) {
                Ok(event) if wanted(&event) => block.push(RecordedEvent {
                    journal,
                    lsn: record.lsn,
                    time: Timestamp(record.time),
                    place,
                    event,
                }),
                Ok(_) => {}
                Err(error) => fault = Some((record.lsn, place, RecordFault::from(error))),
            }
        };
        let read = self.reader.next_block(take)?;
        if let Some((lsn, place, fault)) = fault {
            return Err(history.fault(journal, lsn, place, fault));
        }
        match read {
            Some(bytes) => budget.spend(bytes),
            None => self.is_done = true,
        }
        Ok(())
    }
}
