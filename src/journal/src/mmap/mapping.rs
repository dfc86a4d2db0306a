//! The mappings themselves: all `unsafe` of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::bytes::array_at;
use crate::control::{CONTROL_HEADER_SIZE, ControlField};
use crate::error::{Action, StorageError};
use crate::identifier::SegmentNumber;
use crate::limits::PAGE_SIZE;
use crate::mmap::appended::AppendedSegment;
use crate::mmap::read_through;
use crate::storage::Segment;

/// A segment's file in memory.
#[derive(Debug)]
pub struct MmapSegment {
    number: SegmentNumber,
    map: MmapMut,
}

impl MmapSegment {
    /// Maps a file that has at least `size` bytes, all of them written, and brings them into memory: a page that the disk cannot read is an error here,
    /// and would later be a signal that kills the process.
    pub(super) fn map(
        file: &mut File,
        number: SegmentNumber,
        size: usize,
        path: &Path,
    ) -> Result<MmapSegment, StorageError> {
        // SAFETY: the mapping is only unsound if the file changes or shrinks below it. It belongs to this process, which holds the lock of the
        // data directory, stores into the file through this mapping alone, and never truncates it; a removed file keeps its pages while it
        // is mapped. All its bytes were written before, so no page of it lacks room on the disk.
        let map = unsafe { MmapOptions::new().len(size).map_mut(&*file) };
        let map = map.map_err(StorageError::io(Action::Map, path))?;
        // Kernels before 5.14 do not know this, and others do not say why: reading the file does both.
        if map.advise(Advice::PopulateRead).is_err() {
            read_through(file, path, &|| false)?;
        }
        Ok(MmapSegment { number, map })
    }
}

/// A segment's file: read back through a mapping, or appended to.
#[derive(Debug)]
pub enum SegmentFile {
    /// One that recovery reads, and may store into once more.
    Mapped(MmapSegment),
    /// One that records are appended to.
    Appended(AppendedSegment),
}

impl SegmentFile {
    /// Writes what waits in memory, and makes that durable if `is_durable`.
    pub(super) fn write_out(&mut self, is_durable: bool) -> io::Result<()> {
        match self {
            SegmentFile::Mapped(_) => Ok(()),
            SegmentFile::Appended(segment) => segment.write_out(is_durable),
        }
    }
}

impl Segment for SegmentFile {
    fn number(&self) -> SegmentNumber {
        match self {
            SegmentFile::Mapped(segment) => segment.number,
            SegmentFile::Appended(segment) => segment.number(),
        }
    }

    /// # Panics
    /// Of one that is appended to, which nobody reads back here.
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            SegmentFile::Mapped(segment) => &segment.map,
            SegmentFile::Appended(_) => panic!("what is appended is read back from the file"),
        }
    }

    #[inline]
    fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        match self {
            SegmentFile::Appended(segment) => segment.slice_mut(range),
            SegmentFile::Mapped(segment) => &mut segment.map[range],
        }
    }
}

/// The control page in memory. Other processes may map it to read.
#[derive(Debug)]
pub(super) struct MmapControl {
    map: MmapMut,
}

impl MmapControl {
    /// Maps a file of [`PAGE_SIZE`] bytes.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the mapping keeps the file open; nobody else is to have it"
    )]
    pub(super) fn map(file: File, path: &Path) -> Result<MmapControl, StorageError> {
        // SAFETY: as for segments: this process owns the file and alone stores into it, nobody truncates it, and it was written in full.
        let map = unsafe { MmapOptions::new().len(PAGE_SIZE).populate().map_mut(&file) };
        Ok(MmapControl {
            map: map.map_err(StorageError::io(Action::Map, path))?,
        })
    }

    pub(super) fn header(&self) -> [u8; CONTROL_HEADER_SIZE] {
        array_at(&self.map, 0)
    }

    pub(super) fn load(&self, field: ControlField) -> u64 {
        u64::from_le(self.field(field).load(Ordering::Acquire))
    }

    /// One store, and a release: a follower that sees the value sees the records that it covers.
    /// The journal stores its fields and the thread that prepares segments the oldest segment, each alone.
    pub(super) fn store(&self, field: ControlField, value: u64) {
        self.field(field).store(value.to_le(), Ordering::Release);
    }

    fn field(&self, field: ControlField) -> &AtomicU64 {
        let offset = field.offset();
        assert!(offset + 8 <= self.map.len() && offset.is_multiple_of(8));
        // SAFETY: the eight bytes lie within the mapping, which lives as long as `self` and is writable, and are aligned, since a mapping
        // begins at a page. This process accesses them atomically only: `header` reads other bytes of the page.
        unsafe { AtomicU64::from_ptr(self.map.as_ptr().add(offset).cast_mut().cast()) }
    }
}
