//! Reading an archive.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

use crc32c::{crc32c, crc32c_append};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::compress_bound;

use crate::archive::{
    ARCHIVE_HEADER_SIZE, ArchiveSummary, Batches, FRAME_BYTES_MAX, FRAME_ENTRY_SIZE, FRAME_HEADER_SIZE, KEY_ENTRY_SIZE,
    KEY_SCHEME, REFERENCE_SIZE, SegmentSource, TRAILER_SIZE, Trailer, archive_path,
};
use crate::bytes::{u32_at, u64_at};
use crate::damage::{FileError, FileFault, SourceFile};
use crate::error::{Action, StorageError};
use crate::framing::{CrcFraming, Framing};
use crate::header::HEADER_PAGE_SIZE;
use crate::identifier::{Lsn, Record, SegmentNumber};
use crate::record::{COMMIT_KIND, OWN_KIND_MIN, padded, read, read_checked};

/// Reads the records of an archive in their order, one frame in memory at a time, and its index.
pub struct ArchiveReader {
    source: SourceFile,
    summary: ArchiveSummary,
    trailer: Trailer,
    index: Vec<u8>,
    /// What the checksums of the segment's records start from.
    record_seed: u32,
    decompressor: Decompressor<'static>,
    /// The frames that are still to be read, the next one last.
    ahead: Vec<u32>,
    /// The records of the frame that is being read, where the next one begins, and its LSN.
    records: Vec<u8>,
    at: usize,
    next: Lsn,
    /// Where the record that was given out last begins.
    last_at: usize,
    /// The frame that is being read, and where it begins.
    frame: u32,
    frame_offset: u64,
}

/// What a frame says about itself.
struct FrameHeader {
    compressed_size: usize,
    size: usize,
    record_count: u32,
    first_lsn: Lsn,
    segment_offset: u64,
}

impl ArchiveReader {
    /// Opens the file, checks its header, index and end, and that its name is the header's. Reading begins with the first record.
    ///
    /// # Errors
    /// Damage names the offset; other errors may be retried.
    pub fn open(path: &Path) -> Result<ArchiveReader, FileError> {
        ArchiveReader::of(SourceFile::open(path)?)
    }

    fn of(source: SourceFile) -> Result<ArchiveReader, FileError> {
        let path = source.path().to_owned();
        let mut header = [0; ARCHIVE_HEADER_SIZE];
        source.read_at(&mut header, 0)?;
        let summary = ArchiveSummary::decode(&header).map_err(|fault| source.damaged(0, fault))?;
        if !path.ends_with(archive_path(Path::new(""), summary.number)) {
            return Err(source.damaged(0, FileFault::OtherFile));
        }
        let trailer_offset = source.size().saturating_sub(TRAILER_SIZE as u64);
        let mut bytes = [0; TRAILER_SIZE];
        source.read_at(&mut bytes, trailer_offset)?;
        let trailer = Trailer::decode(&bytes).ok_or_else(|| source.damaged(trailer_offset, FileFault::Truncated))?;
        let index_size = trailer.index_size().filter(|size| {
            trailer.file_size == source.size()
                && trailer.index_offset >= ARCHIVE_HEADER_SIZE as u64
                && trailer.index_offset.checked_add(*size) == Some(trailer_offset)
        });
        let Some(index_size) = index_size else {
            return Err(source.damaged(trailer_offset, FileFault::Counts));
        };
        let mut index = vec![0; index_size as usize];
        source.read_at(&mut index, trailer.index_offset)?;
        if crc32c(&index) != trailer.index_crc {
            return Err(source.damaged(trailer.index_offset, FileFault::Checksum));
        }
        let decompressor = Decompressor::new().map_err(StorageError::io(Action::Read, &path))?;
        let mut reader = ArchiveReader {
            record_seed: CrcFraming::seed(summary.journal, summary.incarnation, summary.number),
            source,
            summary,
            trailer,
            index,
            decompressor,
            ahead: Vec::new(),
            records: Vec::new(),
            at: 0,
            next: summary.first_lsn,
            last_at: 0,
            frame: 0,
            frame_offset: 0,
        };
        reader.check_index()?;
        reader.read_frames(0..reader.frame_count());
        Ok(reader)
    }

    /// What it is of.
    pub fn summary(&self) -> ArchiveSummary {
        self.summary
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// Begins again, with the record that has this LSN, or the next one that is no commit record.
    ///
    /// # Errors
    /// As for [`ArchiveReader::next_record`].
    pub fn seek(&mut self, lsn: Lsn) -> Result<(), FileError> {
        let after = (0..self.frame_count()).find(|frame| self.frame_entry(*frame).1 > lsn);
        let first = after.unwrap_or(self.frame_count()).saturating_sub(1);
        self.read_frames(first..self.frame_count());
        if lsn > self.summary.first_lsn {
            self.open_frame()?;
            while self.next < lsn && self.at < self.records.len() {
                self.next_in_frame()?;
            }
        }
        Ok(())
    }

    /// Begins again, with nothing but the frames that hold a record with one of these keys. They hold others too: the caller looks at each.
    pub fn only(&mut self, keys: RangeInclusive<u64>) {
        let frames = self.frames_with(&keys);
        self.read_frames(frames.into_iter());
    }

    /// The frames that hold a record with one of these keys, rising.
    fn frames_with(&self, keys: &RangeInclusive<u64>) -> Vec<u32> {
        if self.trailer.key_scheme != KEY_SCHEME {
            return (0..self.frame_count()).collect();
        }
        let first = self.entries_below(*keys.start());
        let end = keys
            .end()
            .checked_add(1)
            .map_or(self.trailer.key_count as usize, |end| self.entries_below(end));
        let mut frames: Vec<u32> = (first..end).flat_map(|entry| self.frames_of(entry)).collect();
        frames.sort_unstable();
        frames.dedup();
        frames
    }

    /// The frames that may hold a record with one of these keys (any, without keys) and an LSN below `before`, rising.
    pub(crate) fn frames_before(&self, before: Lsn, keys: Option<&RangeInclusive<u64>>) -> Vec<u32> {
        let mut frames = match keys {
            Some(keys) => self.frames_with(keys),
            None => (0..self.frame_count()).collect(),
        };
        frames.truncate(frames.partition_point(|frame| self.frame_entry(*frame).1 < before));
        frames
    }

    /// Begins again, with nothing but this frame, which there is; returns the LSN of its first record.
    pub(crate) fn only_frame(&mut self, frame: u32) -> Lsn {
        self.read_frames(std::iter::once(frame));
        self.frame_entry(frame).1
    }

    /// Whether the index leads from the key to the frame of the record that was given last.
    pub(crate) fn is_indexed(&self, key: u64) -> bool {
        self.frames_with(&(key..=key)).binary_search(&self.frame).is_ok()
    }

    /// How many keys are below this one.
    fn entries_below(&self, key: u64) -> usize {
        let keys = self.keys();
        let (mut low, mut high) = (0, keys.len() / KEY_ENTRY_SIZE);
        while low < high {
            let middle = low + (high - low) / 2;
            if u64_at(keys, middle * KEY_ENTRY_SIZE) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The next record, without commit records; nothing behind the last one.
    ///
    /// # Errors
    /// Damage names the offset of the frame; so does a record of the journal's own that this program does not know. Other errors may be retried by
    /// opening the file again.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, FileError> {
        loop {
            if self.at == self.records.len() && !self.open_frame()? {
                return Ok(None);
            }
            self.last_at = self.at;
            match self.next_in_frame()?.tag.kind {
                ..OWN_KIND_MIN => return Ok(Some(self.last_record())),
                COMMIT_KIND => {}
                kind => return Err(self.source.damaged(self.frame_offset, FileFault::UnknownKind(kind))),
            }
        }
    }

    /// The record that [`ArchiveReader::next_record`] gave last; its checksum was right.
    pub(crate) fn last_record(&self) -> Record<'_> {
        read_checked(&self.records, self.last_at).0
    }

    /// Where the frame of that record begins in the file.
    pub(crate) fn frame_offset(&self) -> u64 {
        self.frame_offset
    }

    fn frame_count(&self) -> u32 {
        self.trailer.frame_count as u32
    }

    fn read_frames(&mut self, frames: impl DoubleEndedIterator<Item = u32>) {
        self.ahead = frames.rev().collect();
        self.records.clear();
        self.at = 0;
    }

    /// Offset and first LSN.
    fn frame_entry(&self, frame: u32) -> (u64, Lsn) {
        let at = frame as usize * FRAME_ENTRY_SIZE;
        (u64_at(&self.index, at), Lsn(u64_at(&self.index, at + 8)))
    }

    fn keys(&self) -> &[u8] {
        let from = self.trailer.frame_count as usize * FRAME_ENTRY_SIZE;
        &self.index[from..from + self.trailer.key_count as usize * KEY_ENTRY_SIZE]
    }

    fn references(&self) -> &[u8] {
        &self.index[self.index.len() - self.trailer.reference_count as usize * REFERENCE_SIZE..]
    }

    /// The frames of the key at this place.
    fn frames_of(&self, entry: usize) -> impl Iterator<Item = u32> {
        let at = entry * KEY_ENTRY_SIZE;
        let first = u32_at(self.keys(), at + 8) as usize;
        let count = u32_at(self.keys(), at + 12) as usize;
        self.references()[first * REFERENCE_SIZE..(first + count) * REFERENCE_SIZE]
            .chunks_exact(REFERENCE_SIZE)
            .map(|bytes| u32_at(bytes, 0))
    }

    /// The checksum says that the index is as it was written; this says that following it stays within the file.
    fn check_index(&self) -> Result<(), FileError> {
        let keys = self.keys();
        let mut end = 0;
        let mut last = None;
        let are_keys_right = (0..keys.len() / KEY_ENTRY_SIZE).all(|entry| {
            let at = entry * KEY_ENTRY_SIZE;
            let (key, first, count) = (u64_at(keys, at), u32_at(keys, at + 8), u32_at(keys, at + 12));
            let is_right = last.replace(key).is_none_or(|last| last < key) && u64::from(first) == end;
            end += u64::from(count);
            is_right
        });
        let frame_count = self.trailer.frame_count;
        let are_references_right = self
            .references()
            .chunks_exact(REFERENCE_SIZE)
            .all(|frame| u64::from(u32_at(frame, 0)) < frame_count);
        let are_right =
            are_keys_right && are_references_right && end == self.trailer.reference_count && frame_count > 0;
        if !are_right || u32::try_from(frame_count).is_err() {
            return Err(self.source.damaged(self.trailer.index_offset, FileFault::Index));
        }
        Ok(())
    }

    /// Brings the next frame into memory. False behind the last one.
    fn open_frame(&mut self) -> Result<bool, FileError> {
        let Some(frame) = self.ahead.pop() else {
            return Ok(false);
        };
        let (offset, first_lsn) = self.frame_entry(frame);
        (self.frame, self.frame_offset) = (frame, offset);
        let header = self.read_frame(frame, offset)?;
        if header.first_lsn != first_lsn {
            return Err(self.source.damaged(offset, FileFault::Index));
        }
        self.at = 0;
        self.next = first_lsn;
        Ok(true)
    }

    fn read_frame(&mut self, frame: u32, offset: u64) -> Result<FrameHeader, FileError> {
        let mut bytes = vec![0; FRAME_HEADER_SIZE];
        self.source.read_at(&mut bytes, offset)?;
        let header = FrameHeader {
            compressed_size: u32_at(&bytes, 4) as usize,
            size: u32_at(&bytes, 8) as usize,
            record_count: u32_at(&bytes, 12),
            first_lsn: Lsn(u64_at(&bytes, 16)),
            segment_offset: u64_at(&bytes, 24),
        };
        if header.size > FRAME_BYTES_MAX || header.compressed_size > compress_bound(FRAME_BYTES_MAX) {
            return Err(self.source.damaged(offset, FileFault::Size));
        }
        bytes.resize(padded(FRAME_HEADER_SIZE + header.compressed_size), 0);
        self.source
            .read_at(&mut bytes[FRAME_HEADER_SIZE..], offset + FRAME_HEADER_SIZE as u64)?;
        let compressed = &bytes[FRAME_HEADER_SIZE..FRAME_HEADER_SIZE + header.compressed_size];
        self.records = self
            .decompressor
            .decompress(compressed, header.size)
            .map_err(|_| self.source.damaged(offset, FileFault::Compression))?;
        let seed = self.summary.frame_seed(u64::from(frame));
        let crc = crc32c_append(crc32c_append(seed, &bytes[4..]), &self.records);
        if self.records.len() != header.size || crc != u32_at(&bytes, 0) {
            return Err(self.source.damaged(offset, FileFault::Checksum));
        }
        Ok(header)
    }

    /// The next record of the frame, which has one.
    fn next_in_frame(&mut self) -> Result<Record<'_>, FileError> {
        match read::<CrcFraming>(&self.records, self.record_seed, self.at, self.next) {
            Some((record, end)) => {
                self.at = end;
                self.next = Lsn(self.next.0 + 1);
                Ok(record)
            }
            None => Err(self.source.damaged(self.frame_offset, FileFault::Record)),
        }
    }
}

impl std::fmt::Debug for ArchiveReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ArchiveReader")
            .field("path", &self.source.path())
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// Opens the archive of a segment; nothing if there is none. One of another journal is damage.
pub(crate) fn open_archive(
    journal: &SegmentSource<'_>,
    number: SegmentNumber,
) -> Result<Option<ArchiveReader>, FileError> {
    let Some(source) = SourceFile::open_if_there(&archive_path(journal.directory, number))? else {
        return Ok(None);
    };
    let reader = ArchiveReader::of(source)?;
    match reader.summary.journal {
        of if of == journal.journal => Ok(Some(reader)),
        other => Err(reader.source.damaged(0, FileFault::OtherJournal(other))),
    }
}

/// Reads an archive to its end: every frame, every record, that the batches are whole, and that the index speaks of what is there. `pause` is called after
/// each frame with the bytes read since; when it breaks, the result is nothing.
///
/// # Errors
/// As for [`ArchiveReader`].
pub fn verify_archive(
    path: &Path,
    mut pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    let mut reader = ArchiveReader::open(path)?;
    let summary = reader.summary;
    let mut batches = Batches::new(summary.first_lsn);
    let mut offset = ARCHIVE_HEADER_SIZE as u64;
    let mut segment_offset = HEADER_PAGE_SIZE as u64;
    let mut next = summary.first_lsn;
    let mut times = None;
    for frame in 0..reader.frame_count() {
        let (start, first_lsn) = reader.frame_entry(frame);
        if (start, first_lsn) != (offset, next) {
            return Err(reader.source.damaged(reader.trailer.index_offset, FileFault::Index));
        }
        let header = reader.read_frame(frame, offset)?;
        if (header.first_lsn, header.segment_offset) != (next, segment_offset) {
            return Err(reader.source.damaged(offset, FileFault::Counts));
        }
        (reader.at, reader.next, reader.frame_offset) = (0, next, offset);
        let mut record_count = 0;
        while reader.at < reader.records.len() {
            let record = reader.next_in_frame()?;
            let time = record.time;
            if !batches.take(&record) {
                return Err(reader.source.damaged(offset, FileFault::Record));
            }
            record_count += 1;
            times = Some((times.map_or(time, |(first, _)| first), time));
        }
        if record_count != header.record_count || record_count == 0 {
            return Err(reader.source.damaged(offset, FileFault::Counts));
        }
        next = reader.next;
        segment_offset += header.size as u64;
        let size = padded(FRAME_HEADER_SIZE + header.compressed_size) as u64;
        offset += size;
        if pause(size).is_break() {
            return Ok(None);
        }
    }
    let is_whole = offset == reader.trailer.index_offset
        && next.0 == summary.last_lsn.0 + 1
        && batches.open_from() == next
        && times == Some((summary.first_time, summary.last_time));
    if !is_whole {
        return Err(reader.source.damaged(offset, FileFault::Counts));
    }
    Ok(Some(summary))
}

/// Reads an archive that is whole: what it is of, and the records of the segment, commit records included, as they lie behind its header.
///
/// # Errors
/// As for [`verify_archive`].
pub(crate) fn read_archive(path: &Path) -> Result<(ArchiveSummary, Vec<u8>), FileError> {
    verify_archive(path, |_| ControlFlow::Continue(()))?;
    let mut reader = ArchiveReader::open(path)?;
    let mut records = Vec::new();
    for frame in 0..reader.frame_count() {
        let (offset, _) = reader.frame_entry(frame);
        reader.read_frame(frame, offset)?;
        records.extend_from_slice(&reader.records);
    }
    Ok((reader.summary, records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::Tag;
    use crate::mmap::Ring;
    use crate::recovery::RecoveryStart;
    use crate::tests::files::{Files, directory, fill_up_to};

    #[test]
    fn a_record_of_an_unknown_kind_of_the_journals_own_is_refused() {
        let parent = tempfile::tempdir().expect("a directory for the test");
        let data = directory(parent.path());
        let files = Files::of(&data);
        let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
        fill_up_to(&mut journal, 2);
        files.archive(1);
        let archive = open_archive(&files.source(), SegmentNumber(1)).expect("whole");
        let mut reader = archive.expect("it is there");
        for (kind, expected) in [(COMMIT_KIND, None), (0xFF01, Some(FileFault::UnknownKind(0xFF01)))] {
            let tag = Tag {
                kind,
                partition: 0,
                detail: 0,
            };
            let (lsn, time, body) = (Lsn(1), 0, &[][..]);
            reader.records = vec![0; crate::RECORD_HEADER_SIZE];
            let record = Record { lsn, time, tag, body };
            crate::record::write::<CrcFraming>(&mut reader.records, reader.record_seed, &record);
            (reader.at, reader.next, reader.ahead) = (0, lsn, Vec::new());
            let fault = match reader.next_record() {
                Ok(None) => None,
                Err(FileError::Damaged(damage)) => Some(damage.fault),
                other => panic!("{other:?}"),
            };
            assert_eq!(fault, expected);
        }
    }
}
