//! What a journal needs of the world.

use std::ops::Range;

use crate::control::{CONTROL_HEADER_SIZE, ControlField};
use crate::error::StorageError;
use crate::header::HEADER_SIZE;
use crate::identifier::{JournalId, SegmentNumber};

/// One segment's bytes. What is stored into them reaches the disk page by page, in any order, and for certain only by a sync.
pub trait Segment {
    /// The segment's number.
    fn number(&self) -> SegmentNumber;

    /// All bytes, [`Storage::segment_size`] of them.
    fn bytes(&self) -> &[u8];

    /// Bytes to store into. The pages of 4 KiB that the range touches count as changed. The journal stores into a prepared segment from its beginning on, and into each
    /// byte once.
    ///
    /// # Panics
    /// When the range is not within the segment.
    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8];
}

/// What is found where a segment is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No file.
    Missing,
    /// A file whose size is not that of a segment.
    WrongSize,
    /// The first bytes of a file of the right size.
    Header([u8; HEADER_SIZE]),
}

/// Keeps the segments and the control page of one journal. One journal at a time owns it.
///
/// While the journal runs it calls [`Storage::take_prepared`], [`Storage::retire`], [`Storage::prepared_count`],
/// [`Storage::is_full`], [`Storage::is_exhausted`] and the control page, none of which may wait for a disk, and whoever syncs it
/// [`Storage::write_out`]. Everything else that returns a [`StorageError`] is for recovery, and may wait.
pub trait Storage {
    /// A segment.
    type Segment: Segment;

    /// Which journal this is.
    fn journal_id(&self) -> JournalId;

    /// The size of each segment in bytes, within [`crate::limits::is_segment_size`].
    fn segment_size(&self) -> usize;

    /// The prepared segment with this number. Its bytes may be anything that is no valid header for the number; its file, name included, is
    /// durable. The journal asks for the numbers in order, beginning behind the one that recovery had prepared.
    fn take_prepared(&mut self, number: SegmentNumber) -> Option<Self::Segment>;

    /// Brings what was stored into the segment to where a sync finds it; if `is_durable`, it is durable when this returns. Waits for the disk then.
    ///
    /// # Errors
    /// When writing fails, now or in [`Storage::retire`]: as bad as a sync that fails.
    fn write_out(&mut self, _segment: &mut Self::Segment, _is_durable: bool) -> Result<(), StorageError> {
        Ok(())
    }

    /// Takes back a segment that is full. Its last bytes may not be synced yet, and may not be where a sync finds them.
    fn retire(&mut self, segment: Self::Segment) {
        drop(segment);
    }

    /// How many segments [`Storage::take_prepared`] has.
    fn prepared_count(&self) -> usize;

    /// Whether the last attempt to prepare a segment failed because the disk or the quota is full.
    fn is_full(&self) -> bool;

    /// Whether the last attempt to prepare a segment failed because the disk or the quota is full, or because there are
    /// as many files as may be.
    fn is_exhausted(&self) -> bool {
        self.is_full()
    }

    /// The part of the control page that never changes; nothing if there is no control page of the right size.
    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]>;

    /// Loads a field of the control page.
    fn control_load(&self, field: ControlField) -> u64;

    /// Stores a field of the control page in one piece; its page counts as changed.
    fn control_store(&mut self, field: ControlField, value: u64);

    /// The numbers of all segments, in any order, prepared ones included.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError>;

    /// What lies where this segment belongs.
    ///
    /// # Errors
    /// When it cannot be read.
    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError>;

    /// Opens a segment that is there with the right size.
    ///
    /// # Errors
    /// When it cannot be read.
    fn open(&mut self, number: SegmentNumber) -> Result<Self::Segment, StorageError>;

    /// Removes a segment. Durable only after [`Storage::sync_removals`].
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError>;

    /// A file behind the end of the journal that has the size of a segment and no valid header for its number: it was prepared and never used. It may
    /// stay and be prepared again, under its number or a later one, as long as its header is not valid for that. Removing it is always right.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn keep_unused(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.remove(number)
    }

    /// Makes durable which segments there are.
    ///
    /// # Errors
    /// When the sync fails.
    fn sync_removals(&mut self) -> Result<(), StorageError>;

    /// Prepares the segment and waits for it. Later numbers are prepared from then on.
    ///
    /// # Errors
    /// When it cannot be made; [`StorageError::is_out_of_space`] tells whether for want of room.
    fn prepare(&mut self, number: SegmentNumber) -> Result<Self::Segment, StorageError>;

    /// Makes durable what was stored into the segment.
    ///
    /// # Errors
    /// When the sync fails.
    fn sync_segment(&mut self, segment: &Self::Segment) -> Result<(), StorageError>;

    /// Makes durable what was stored into the control page.
    ///
    /// # Errors
    /// When the sync fails.
    fn sync_control(&mut self) -> Result<(), StorageError>;
}

/// The part of a storage that reading a journal back needs. It is apart so that what a repair would leave can be read before anything is
/// changed.
pub(crate) trait Stored {
    type Segment: Segment;

    fn journal_id(&self) -> JournalId;
    fn segment_size(&self) -> usize;
    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]>;
    fn control_load(&self, field: ControlField) -> u64;
    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError>;
    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError>;
    fn open(&mut self, number: SegmentNumber) -> Result<Self::Segment, StorageError>;
}

impl<S: Storage> Stored for S {
    type Segment = <S as Storage>::Segment;

    fn journal_id(&self) -> JournalId {
        Storage::journal_id(self)
    }

    fn segment_size(&self) -> usize {
        Storage::segment_size(self)
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        Storage::control_header(self)
    }

    fn control_load(&self, field: ControlField) -> u64 {
        Storage::control_load(self, field)
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        Storage::segments(self)
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        Storage::look(self, number)
    }

    fn open(&mut self, number: SegmentNumber) -> Result<Self::Segment, StorageError> {
        Storage::open(self, number)
    }
}
