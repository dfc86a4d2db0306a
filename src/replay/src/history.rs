//! The events of a data directory, in their order.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

use plimsoll_domain::{Event, PartitionId, Timestamp};
use plimsoll_engine::event_of;
use plimsoll_journal::{
    BackwardReader, DirectoryView, HistoryPlace, HistoryRange, HistoryReader, Lsn, Record, SegmentMarks,
};

use crate::error::{RecordFault, ReplayError};

/// A data directory, for whoever only reads.
#[derive(Clone, Debug)]
pub struct History {
    view: DirectoryView,
    marks: SegmentMarks,
}

/// An event, and where it was read.
#[derive(Clone, Debug)]
pub struct RecordedEvent {
    /// Which journal, an index of [`DirectoryView::journals`].
    pub journal: usize,
    /// Its number in the journal.
    pub lsn: Lsn,
    /// When its turn began: the owner's clock.
    pub time: Timestamp,
    /// Where.
    pub place: HistoryPlace,
    /// What happened.
    pub event: Event,
}

/// Which events are read.
#[derive(Clone, Debug)]
pub struct EventRange {
    /// The time of the first.
    pub from: Timestamp,
    /// The time of the last.
    pub until: Timestamp,
    /// Only those of this partition.
    pub partition: Option<PartitionId>,
    /// Where an archive has an index, only what holds records with one of these keys; records of others come along.
    pub keys: Option<RangeInclusive<u64>>,
}

impl EventRange {
    /// Everything.
    pub const ALL: EventRange = EventRange {
        from: Timestamp(i64::MIN),
        until: Timestamp(i64::MAX),
        partition: None,
        keys: None,
    };
}

impl History {
    /// Reads the manifest. What becomes durable later is seen as well, until the number of cores changes.
    ///
    /// # Errors
    /// [`ReplayError::Directory`] when there is no data directory.
    pub fn read(path: &Path) -> Result<History, ReplayError> {
        Ok(History {
            view: DirectoryView::read(path)?,
            marks: SegmentMarks::default(),
        })
    }

    /// Reads the manifest again, which names the snapshots that have been taken since.
    ///
    /// # Errors
    /// As for [`History::read`]; then everything is as before.
    pub fn refresh(&mut self) -> Result<(), ReplayError> {
        self.view = DirectoryView::read(self.view.path())?;
        Ok(())
    }

    /// What the manifest says.
    pub fn view(&self) -> &DirectoryView {
        &self.view
    }

    /// How many dimensions the directory has.
    pub fn dimension_count(&self) -> usize {
        self.view.dimensions().len()
    }

    /// The reader of one journal.
    pub(crate) fn reader(&self, journal: usize, range: HistoryRange) -> Result<JournalEvents, ReplayError> {
        Ok(JournalEvents {
            journal,
            dimension_count: self.dimension_count(),
            reader: self.raw_reader(journal, range)?,
        })
    }

    pub(crate) fn raw_reader(&self, journal: usize, range: HistoryRange) -> Result<HistoryReader, ReplayError> {
        Ok(HistoryReader::open(&self.view.source(journal), range, &self.marks)?)
    }

    pub(crate) fn backward_reader(
        &self,
        journal: usize,
        before: Lsn,
        keys: Option<RangeInclusive<u64>>,
    ) -> Result<BackwardReader, ReplayError> {
        Ok(BackwardReader::open(
            &self.view.source(journal),
            before,
            keys,
            &self.marks,
        )?)
    }

    /// The events in the order of their times; those of one partition in the order of their sequence.
    ///
    /// # Errors
    /// When a control page or the first file of a journal is damaged or cannot be read.
    pub fn events(&self, range: &EventRange) -> Result<Events, ReplayError> {
        let journals = 0..self.view.journals().len();
        let heads = journals
            .map(|journal| {
                let reader = self.reader(
                    journal,
                    HistoryRange {
                        not_before: range.from.0,
                        keys: range.keys.clone(),
                        ..HistoryRange::ALL
                    },
                )?;
                Ok(Head {
                    reader,
                    next: Next::Unread,
                })
            })
            .collect::<Result<_, ReplayError>>()?;
        Ok(Events {
            heads,
            directories: self.directories(),
            range: range.clone(),
        })
    }

    fn directories(&self) -> Vec<std::path::PathBuf> {
        let journals = self.view.journals().iter();
        journals.map(|journal| journal.directory.clone()).collect()
    }

    /// The error of a record that may not stand where it stands.
    pub(crate) fn fault(&self, journal: usize, lsn: Lsn, place: HistoryPlace, fault: RecordFault) -> ReplayError {
        ReplayError::Record {
            path: place.path(&self.view.journals()[journal].directory),
            offset: place.offset,
            lsn,
            fault,
        }
    }
}

/// The events of one journal.
#[derive(Debug)]
pub(crate) struct JournalEvents {
    pub(crate) journal: usize,
    dimension_count: usize,
    pub(crate) reader: HistoryReader,
}

/// A record that was read: its event, if it is one that was wanted and known.
struct Read {
    lsn: Lsn,
    place: HistoryPlace,
    is_end: bool,
    event: Result<Option<RecordedEvent>, RecordFault>,
}

impl JournalEvents {
    /// The next event whose record is wanted, up to the first record at which `wanted` breaks.
    pub(crate) fn next(
        &mut self,
        directory: &Path,
        wanted: impl Fn(&Record<'_>) -> ControlFlow<(), bool>,
    ) -> Result<Option<RecordedEvent>, ReplayError> {
        let (journal, dimension_count) = (self.journal, self.dimension_count);
        let take = |record: &Record<'_>, place| {
            let wanted = wanted(record);
            Read {
                lsn: record.lsn,
                place,
                is_end: wanted.is_break(),
                event: match wanted {
                    ControlFlow::Break(()) | ControlFlow::Continue(false) => Ok(None),
                    ControlFlow::Continue(true) => event_of(record, dimension_count)
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
                },
            }
        };
        loop {
            let Some(read) = self.reader.next(take)? else {
                return Ok(None);
            };
            match read.event {
                Ok(None) if read.is_end => return Ok(None),
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(fault) => {
                    return Err(ReplayError::Record {
                        path: read.place.path(directory),
                        offset: read.place.offset,
                        lsn: read.lsn,
                        fault,
                    });
                }
            }
        }
    }
}

/// The events of all journals, merged.
#[derive(Debug)]
pub struct Events {
    heads: Vec<Head>,
    directories: Vec<std::path::PathBuf>,
    range: EventRange,
}

#[derive(Debug)]
struct Head {
    reader: JournalEvents,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Unread,
    Event(Box<RecordedEvent>),
    End,
}

impl Events {
    /// The next event; nothing behind the last one.
    ///
    /// # Errors
    /// Damage and records that this program does not know, with file, offset and LSN.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would go on after an error, and whoever takes its items would forget to look for one"
    )]
    pub fn next(&mut self) -> Result<Option<RecordedEvent>, ReplayError> {
        let range = &self.range;
        let wanted = |record: &Record<'_>| {
            // Times never go back within a journal.
            if record.time > range.until.0 {
                return ControlFlow::Break(());
            }
            let is_of_partition = range
                .partition
                .is_none_or(|partition| partition.0 == record.tag.partition);
            ControlFlow::Continue(record.time >= range.from.0 && is_of_partition)
        };
        for head in &mut self.heads {
            if matches!(head.next, Next::Unread) {
                let next = head.reader.next(&self.directories[head.reader.journal], wanted)?;
                head.next = next.map_or(Next::End, |event| Next::Event(Box::new(event)));
            }
        }
        // Of equal times the earlier journal's first: what has no core any more came before.
        let first = self
            .heads
            .iter_mut()
            .filter_map(|head| match &head.next {
                Next::Event(event) => Some((event.time, head)),
                Next::Unread | Next::End => None,
            })
            .min_by_key(|(time, head)| (*time, head.reader.journal));
        Ok(
            first.and_then(|(_, head)| match std::mem::replace(&mut head.next, Next::Unread) {
                Next::Event(event) => Some(*event),
                Next::Unread | Next::End => None,
            }),
        )
    }

    /// How many bytes of files were passed so far, for progress.
    pub fn bytes(&self) -> u64 {
        self.heads.iter().map(|head| head.reader.reader.bytes()).sum()
    }
}

impl History {
    /// The bytes of all archives and segments that reading everything passes, about.
    ///
    /// # Errors
    /// When a control page or a directory cannot be read.
    pub fn size(&self) -> Result<u64, ReplayError> {
        let mut size = 0;
        for journal in 0..self.view.journals().len() {
            size += plimsoll_journal::history_size(&self.view.source(journal))?;
        }
        Ok(size)
    }
}
