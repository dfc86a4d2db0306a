//! The events of one journal, from any LSN on.

use plimsoll_domain::Timestamp;
use plimsoll_engine::event_of;
use plimsoll_journal::{HistoryPlace, HistoryRange, HistoryReader, Lsn, RECORD_HEADER_SIZE, Record};

use crate::budget::Budget;
use crate::error::{RecordFault, ReplayError};
use crate::history::{History, RecordedEvent, Selection};

/// With keys, so many records are asked for at once: files without any of them are passed over without a word, so this is between two looks at the budget.
const KEYED_WINDOW: u64 = 1 << 20;

/// Reads the wanted events of a journal in the order of their LSNs, one ahead of what was taken.
#[derive(Debug)]
pub(crate) struct JournalCursor {
    journal: usize,
    /// The LSN to go on with.
    position: Lsn,
    /// The last LSN that is read.
    last: Lsn,
    reader: Option<HistoryReader>,
    next: Option<RecordedEvent>,
    /// Nothing more, for now or because the next record is too late.
    is_at_end: bool,
    /// Bytes of files that were passed by readers before this one.
    bytes: u64,
}

/// What a record comes to.
struct Read {
    lsn: Lsn,
    place: HistoryPlace,
    is_late: bool,
    event: Result<Option<RecordedEvent>, RecordFault>,
}

impl JournalCursor {
    /// Prepares to read from this LSN on to what is durable now, and no further than to `upto`.
    ///
    /// # Errors
    /// When the control page is damaged or cannot be read.
    pub(crate) fn open(
        history: &History,
        journal: usize,
        position: Lsn,
        upto: Lsn,
    ) -> Result<JournalCursor, ReplayError> {
        Ok(JournalCursor {
            journal,
            position,
            last: history.view().durable(journal)?.0.min(upto),
            reader: None,
            next: None,
            is_at_end: false,
            bytes: 0,
        })
    }

    /// Reads until there is an event, the end, or a spent budget.
    ///
    /// # Errors
    /// Damage and records that this program does not know, with file, offset and LSN.
    pub(crate) fn fill(
        &mut self,
        history: &History,
        selection: &Selection,
        budget: &mut Budget,
    ) -> Result<(), ReplayError> {
        while self.next.is_none() && !self.is_at_end && !budget.is_spent() {
            self.step(history, selection, budget)?;
        }
        Ok(())
    }

    fn step(&mut self, history: &History, selection: &Selection, budget: &mut Budget) -> Result<(), ReplayError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None if self.position > self.last => {
                self.is_at_end = true;
                return Ok(());
            }
            None => self.open_reader(history, selection)?,
        };
        let (journal, dimension_count) = (self.journal, history.dimension_count());
        let take = |record: &Record<'_>, place| {
            budget.spend_record((RECORD_HEADER_SIZE + record.body.len()) as u64);
            // Times never go back within a journal.
            let is_late = record.time > selection.times.end().0;
            let event = match !is_late && selection.wants(record) {
                false => Ok(None),
                true => event_of(record, dimension_count)
                    .map(|event| {
                        Some(RecordedEvent {
                            journal,
                            lsn: record.lsn,
                            time: Timestamp(record.time),
                            place,
                            event,
                        })
                    })
                    .map_err(RecordFault::from),
            };
            Read {
                lsn: record.lsn,
                place,
                is_late,
                event,
            }
        };
        let Some(read) = reader.next(take)? else {
            self.position = Lsn(reader.upto().0 + 1);
            self.bytes += reader.bytes();
            budget.spend(0);
            return Ok(());
        };
        self.reader = Some(reader);
        if read.is_late {
            self.is_at_end = true;
            return Ok(());
        }
        match read.event {
            Ok(None) => self.position = Lsn(read.lsn.0 + 1),
            // The position stays before an event until that is taken.
            Ok(event) => (self.position, self.next) = (read.lsn, event),
            Err(fault) => return Err(history.fault(journal, read.lsn, read.place, fault)),
        }
        Ok(())
    }

    fn open_reader(&self, history: &History, selection: &Selection) -> Result<HistoryReader, ReplayError> {
        let upto = match &selection.keys {
            Some(_) => self.last.min(Lsn(self.position.0.saturating_add(KEYED_WINDOW))),
            None => self.last,
        };
        let range = HistoryRange {
            from: self.position,
            upto,
            not_before: selection.times.start().0,
            keys: selection.keys.clone(),
        };
        history.reader(self.journal, range)
    }

    /// The event that was read ahead.
    pub(crate) fn peek(&self) -> Option<&RecordedEvent> {
        self.next.as_ref()
    }

    /// Takes the event that was read ahead.
    pub(crate) fn take(&mut self) -> Option<RecordedEvent> {
        let event = self.next.take()?;
        self.position = Lsn(event.lsn.0 + 1);
        Some(event)
    }

    /// The next event, however long it takes to get there.
    ///
    /// # Errors
    /// As for [`JournalCursor::fill`].
    pub(crate) fn next(
        &mut self,
        history: &History,
        selection: &Selection,
    ) -> Result<Option<RecordedEvent>, ReplayError> {
        self.fill(history, selection, &mut Budget::unlimited())?;
        Ok(self.take())
    }

    /// Which journal, an index of the manifest's list.
    pub(crate) fn journal(&self) -> usize {
        self.journal
    }

    /// The LSN to go on with behind what was taken.
    pub(crate) fn position(&self) -> Lsn {
        self.position
    }

    /// Whether nothing more comes.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The last LSN that is read.
    pub(crate) fn last(&self) -> Lsn {
        self.last
    }

    /// Whether the event that was read last is found by this key.
    pub(crate) fn is_indexed(&self, key: u64) -> bool {
        self.reader.as_ref().is_none_or(|reader| reader.is_indexed(key))
    }

    /// How many bytes of files were passed so far, for progress.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.reader.as_ref().map_or(0, HistoryReader::bytes)
    }
}
