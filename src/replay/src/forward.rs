//! The events of a directory from any position on, in pieces.

use std::ops::RangeInclusive;

use plimsoll_domain::{PartitionId, Timestamp};
use plimsoll_engine::event_of;
use plimsoll_journal::{HistoryPlace, HistoryRange, HistoryReader, Lsn, RECORD_HEADER_SIZE, Record};

use crate::budget::{Budget, Step};
use crate::error::{RecordFault, ReplayError};
use crate::history::{History, RecordedEvent};
use crate::positions::Positions;

/// With keys, so many records are asked for at once: files without any of them are passed over without a word, so this is between two looks at the budget.
const KEYED_WINDOW: u64 = 1 << 20;

/// Which events are wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Only those of this partition.
    pub partition: Option<PartitionId>,
    /// Where an archive has an index, only what holds records with one of these keys; records of others come along.
    pub keys: Option<RangeInclusive<u64>>,
    /// Only records of these kinds.
    pub kinds: RangeInclusive<u16>,
    /// The time of the first, and of the last.
    pub times: RangeInclusive<i64>,
}

impl Selection {
    /// Everything.
    pub const ALL: Selection = Selection {
        partition: None,
        keys: None,
        kinds: 0..=u16::MAX,
        times: i64::MIN..=i64::MAX,
    };

    pub(crate) fn wants(&self, record: &Record<'_>) -> bool {
        self.kinds.contains(&record.tag.kind)
            && self
                .partition
                .is_none_or(|partition| partition.0 == record.tag.partition)
            && *self.times.start() <= record.time
    }
}

/// Reads the events of all journals in the order of their times, up to what was durable when it was opened; those of a partition come in the order of
/// their sequence.
#[derive(Debug)]
pub struct Forward {
    selection: Selection,
    heads: Vec<Head>,
    /// Of journals that are not read.
    positions: Positions,
}

/// How far a journal is read.
#[derive(Debug)]
struct Head {
    journal: usize,
    /// The LSN to go on with.
    position: Lsn,
    /// The last LSN that was durable.
    durable: Lsn,
    reader: Option<HistoryReader>,
    next: Option<RecordedEvent>,
    /// Nothing more, for now or because the next record is too late.
    is_at_end: bool,
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
                heads.push(Head {
                    journal,
                    position,
                    durable: history.view().durable(journal)?.0.min(last),
                    reader: None,
                    next: None,
                    is_at_end: false,
                });
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
    pub fn next(&mut self, history: &History, budget: &mut Budget) -> Result<Step<RecordedEvent>, ReplayError> {
        for head in &mut self.heads {
            while head.next.is_none() && !head.is_at_end {
                if budget.is_spent() {
                    return Ok(Step::Paused);
                }
                head.fill(history, &self.selection, budget)?;
            }
        }
        // Of equal times the earlier journal's first: what has no core any more came before.
        let first = self.heads.iter_mut().filter(|head| head.next.is_some());
        let first = first.min_by_key(|head| (head.next.as_ref().map(|event| event.time), head.journal));
        let Some(head) = first else {
            return Ok(Step::End);
        };
        let event = head.next.take();
        if let Some(event) = &event {
            head.position = Lsn(event.lsn.0 + 1);
        }
        Ok(event.map_or(Step::End, Step::Next))
    }

    /// Where to go on behind the last event that was given.
    pub fn positions(&self) -> Positions {
        let mut positions = self.positions.clone();
        for head in &self.heads {
            positions.set(head.journal, head.position);
        }
        positions
    }
}

/// What a record comes to.
enum Read {
    Unwanted(Lsn),
    Late,
    Event(Box<RecordedEvent>),
    Fault(Lsn, HistoryPlace, RecordFault),
}

impl Head {
    /// Reads until there is an event, or the budget is spent.
    fn fill(&mut self, history: &History, selection: &Selection, budget: &mut Budget) -> Result<(), ReplayError> {
        if self.position > self.durable {
            self.is_at_end = true;
            return Ok(());
        }
        let upto = match &selection.keys {
            Some(_) => self.durable.min(Lsn(self.position.0.saturating_add(KEYED_WINDOW))),
            None => self.durable,
        };
        if self.reader.is_none() {
            let range = HistoryRange {
                from: self.position,
                upto,
                not_before: *selection.times.start(),
                keys: selection.keys.clone(),
            };
            self.reader = Some(history.raw_reader(self.journal, range)?);
        }
        let dimension_count = history.dimension_count();
        let journal = self.journal;
        let take = |record: &Record<'_>, place: HistoryPlace| {
            budget.spend_record((RECORD_HEADER_SIZE + record.body.len()) as u64);
            if record.time > *selection.times.end() {
                return Read::Late;
            }
            if !selection.wants(record) {
                return Read::Unwanted(record.lsn);
            }
            match event_of(record, dimension_count) {
                Ok(event) => Read::Event(Box::new(RecordedEvent {
                    journal,
                    lsn: record.lsn,
                    time: Timestamp(record.time),
                    place,
                    event,
                })),
                Err(error) => Read::Fault(record.lsn, place, error.into()),
            }
        };
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let upto = reader.upto();
        match reader.next(take)? {
            Some(Read::Unwanted(lsn)) => self.position = Lsn(lsn.0 + 1),
            Some(Read::Late) => self.is_at_end = true,
            // The position stays before an event until that is given.
            Some(Read::Event(event)) => {
                self.position = event.lsn;
                self.next = Some(*event);
            }
            Some(Read::Fault(lsn, place, fault)) => return Err(history.fault(journal, lsn, place, fault)),
            None => {
                self.position = Lsn(upto.0 + 1);
                self.reader = None;
                budget.spend(0);
            }
        }
        Ok(())
    }
}
