//! The events of a data directory, in their order.

use std::ops::RangeInclusive;
use std::path::Path;

use plimsoll_domain::{Event, PartitionId, Timestamp};
use plimsoll_journal::{
    BackwardReader, DirectoryView, HistoryPlace, HistoryRange, HistoryReader, Lsn, Record, SegmentMarks,
};

use crate::error::{RecordFault, ReplayError};
use crate::forward::Forward;

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
    pub times: RangeInclusive<Timestamp>,
}

impl Selection {
    /// Everything.
    pub const ALL: Selection = Selection {
        partition: None,
        keys: None,
        kinds: 0..=u16::MAX,
        times: Timestamp(i64::MIN)..=Timestamp(i64::MAX),
    };

    /// Everything up to this time.
    pub fn until(time: Timestamp) -> Selection {
        Selection {
            times: Timestamp(i64::MIN)..=time,
            ..Selection::ALL
        }
    }

    pub(crate) fn wants(&self, record: &Record<'_>) -> bool {
        self.kinds.contains(&record.tag.kind)
            && self
                .partition
                .is_none_or(|partition| partition.0 == record.tag.partition)
            && self.times.start().0 <= record.time
    }
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

    pub(crate) fn reader(&self, journal: usize, range: HistoryRange) -> Result<HistoryReader, ReplayError> {
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
    /// When a control page is damaged or cannot be read.
    pub fn events(&self, selection: Selection) -> Result<Forward, ReplayError> {
        Forward::open(self, &self.beginning(), None, selection)
    }

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
