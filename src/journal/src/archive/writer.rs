//! Writing an archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;

use crc32c::{crc32c, crc32c_append};
use zstd::bulk::Compressor;

use crate::archive::segment::{SegmentReader, SegmentSource};
use crate::archive::{
    ARCHIVE_DIRECTORY, ARCHIVE_HEADER_SIZE, ArchiveSummary, Batches, FRAME_HEADER_SIZE, KEY_SCHEME, Trailer,
    archive_path, archive_summary, open_archive,
};
use crate::bytes::put;
use crate::damage::{FileDamage, FileError, FileFault};
use crate::directory::JournalEnd;
use crate::error::{Action, StorageError};
use crate::identifier::{Lsn, Record, SegmentNumber};
use crate::limits::ARCHIVE_FRAME_SIZE;
use crate::mmap::sync_directory;
use crate::new_file::NewFile;
use crate::record::padded;

/// Quick: beside a busy server every processor cycle is missed. zstd's default, 3, takes half as long again for a few per cent.
const LEVEL: i32 = 1;

/// Writes the archive of a segment that is durable and sealed: it lies below the newest durable segment. One that is there already is left as it is; as
/// long as the segment is there too, it must be of that.
///
/// `keys` puts the keys under which a record is to be found, pools say, into the list; commit records are not asked for. `pause` is called now and then
/// with the bytes handled since; when it breaks, nothing is left and the result is nothing. The segment is leased meanwhile and read twice, in
/// bounded memory but for the index: 16 bytes for each key and 4 for each frame that holds it.
///
/// When it returns, the archive is durable.
///
/// # Errors
/// [`FileError::NotSealed`] when the segment may still change; damage, when the segment is not whole; others may be retried.
pub fn archive_segment(
    source: &SegmentSource<'_>,
    number: SegmentNumber,
    keys: impl FnMut(&Record<'_>, &mut Vec<u64>),
    pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    refuse_unsealed(source, number)?;
    if let Some(archive) = existing(source, number)? {
        return Ok(Some(archive));
    }
    let last_lsn = last_lsn_of(source, number)?;
    write_archive(source, number, last_lsn, keys, pause)
}

/// Writes the archive of a segment as [`archive_segment`] does, in the place of one that is no use. That goes only when the segment was found whole and
/// the new one is durable; on any error it is as it was.
///
/// # Errors
/// As for [`archive_segment`]; [`FileFault::Missing`] when there is no segment that it could be made of.
pub fn archive_segment_again(
    source: &SegmentSource<'_>,
    number: SegmentNumber,
    keys: impl FnMut(&Record<'_>, &mut Vec<u64>),
    pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    refuse_unsealed(source, number)?;
    let last_lsn = last_lsn_of(source, number)?;
    write_archive(source, number, last_lsn, keys, pause)
}

fn refuse_unsealed(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<(), FileError> {
    if number >= source.durable()?.1 {
        return Err(FileError::NotSealed {
            path: source.segment_path(number),
        });
    }
    Ok(())
}

/// Writes the archive of the segment that a journal without a core ends in, as [`archive_segment`] does of the others.
/// `end` is what the manifest says ([`crate::DirectoryJournal::end`]).
///
/// # Errors
/// [`FileError::NotSealed`] when the journal does not end there, or never had a record; otherwise as for
/// [`archive_segment`].
pub fn archive_last_segment(
    source: &SegmentSource<'_>,
    end: JournalEnd,
    keys: impl FnMut(&Record<'_>, &mut Vec<u64>),
    pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    if let Some(archive) = existing(source, end.segment)? {
        return Ok(Some(archive));
    }
    if source.durable()? != (end.lsn, end.segment) || end.lsn.0 == 0 {
        return Err(FileError::NotSealed {
            path: source.segment_path(end.segment),
        });
    }
    write_archive(source, end.segment, end.lsn, keys, pause)
}

/// The archive that is there. What is left of another life of the journal, after a backup was copied over it say, must not pass for that of its segment:
/// the segment would go.
fn existing(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Option<ArchiveSummary>, FileError> {
    let Some(archive) = open_archive(source, number)? else {
        return Ok(None);
    };
    let summary = archive.summary();
    match SegmentReader::open(source, number) {
        Ok(Some(segment)) if !summary.is_of(segment.header()) => Err(FileError::Damaged(FileDamage {
            path: archive_path(source.directory, number),
            offset: 0,
            fault: FileFault::OtherSegment,
        })),
        // A damaged segment has nothing to say about its archive.
        Ok(_) | Err(FileError::Damaged(_)) => Ok(Some(summary)),
        Err(error) => Err(error),
    }
}

/// Archives the segment up to this LSN.
fn write_archive(
    source: &SegmentSource<'_>,
    number: SegmentNumber,
    last_lsn: Lsn,
    mut keys: impl FnMut(&Record<'_>, &mut Vec<u64>),
    mut pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    let path = archive_path(source.directory, number);
    let Some(summary) = check_sealed(open_sealed(source, number)?, last_lsn, &mut pause)? else {
        return Ok(None);
    };
    let directory = source.directory.join(ARCHIVE_DIRECTORY);
    match fs::create_dir(&directory) {
        Ok(()) => sync_directory(source.directory)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StorageError::io(Action::Create, &directory)(error).into()),
    }
    let mut reader = open_sealed(source, number)?;
    let mut writer = Writer::new(NewFile::create(&path)?, summary)?;
    let mut found = Vec::new();
    while reader.next_lsn() <= summary.last_lsn {
        let (lsn, offset) = (reader.next_lsn(), reader.offset());
        let Some((record, bytes)) = reader.next_with_bytes()? else {
            // It was whole a moment ago.
            return Err(reader.source().damaged(offset, FileFault::Record));
        };
        if writer.is_full(bytes.len()) {
            let size = writer.close_frame()?;
            if pause(size).is_break() {
                return Ok(None);
            }
        }
        found.clear();
        if record.tag.kind < crate::record::OWN_KIND_MIN {
            keys(&record, &mut found);
        }
        writer.put(lsn, offset, bytes, &found);
    }
    writer.finish()?;
    Ok(Some(summary))
}

fn open_sealed(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<SegmentReader, FileError> {
    SegmentReader::open(source, number)?.ok_or_else(|| missing(source, number))
}

fn missing(source: &SegmentSource<'_>, number: SegmentNumber) -> FileError {
    FileError::Damaged(FileDamage {
        path: source.segment_path(number),
        offset: 0,
        fault: FileFault::Missing,
    })
}

/// Reads a sealed segment up to its last LSN. Nothing when `pause` breaks.
pub(super) fn check_sealed(
    mut reader: SegmentReader,
    last_lsn: Lsn,
    pause: &mut impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<ArchiveSummary>, FileError> {
    let header = *reader.header();
    let mut summary = ArchiveSummary {
        journal: header.journal,
        number: header.number,
        incarnation: header.incarnation,
        previous_incarnation: header.previous_incarnation,
        first_lsn: header.first_lsn,
        last_lsn,
        first_time: 0,
        last_time: 0,
    };
    let mut batches = Batches::new(header.first_lsn);
    let mut paused_at = 0;
    while reader.next_lsn() <= last_lsn {
        let offset = reader.offset();
        let record = reader.next_record()?;
        let Some(time) = record.filter(|record| batches.take(record)).map(|record| record.time) else {
            return Err(reader.source().damaged(offset, FileFault::Record));
        };
        if offset as usize == crate::header::HEADER_PAGE_SIZE {
            summary.first_time = time;
        }
        summary.last_time = time;
        if offset - paused_at >= ARCHIVE_FRAME_SIZE as u64 {
            if pause(offset - paused_at).is_break() {
                return Ok(None);
            }
            paused_at = offset;
        }
    }
    // The segment holds a batch, and the next one begins with the batch behind the last.
    if batches.open_from().0 != last_lsn.0 + 1 || last_lsn < header.first_lsn {
        return Err(reader.source().damaged(reader.offset(), FileFault::Record));
    }
    Ok(Some(summary))
}

/// Where a sealed segment ends: before the next one begins, or, for that which a journal without a core ends in, where
/// the journal is durable.
pub(super) fn last_lsn_of(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Lsn, FileError> {
    let (durable, newest) = source.durable()?;
    if number == newest {
        return Ok(durable);
    }
    Ok(Lsn(first_lsn_of(source, number.next())?.0 - 1))
}

/// Where a segment begins, from itself or its archive.
fn first_lsn_of(source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Lsn, FileError> {
    if let Some(reader) = SegmentReader::open(source, number)? {
        return Ok(reader.first_lsn());
    }
    match archive_summary(source, number)? {
        Some(summary) => Ok(summary.first_lsn),
        None => Err(missing(source, number)),
    }
}

/// An archive that is being written.
struct Writer {
    file: NewFile,
    summary: ArchiveSummary,
    compressor: Compressor<'static>,
    /// The frame that is open: its records, how many, the first one's LSN and place in the segment.
    records: Vec<u8>,
    record_count: u32,
    first: (Lsn, u64),
    /// Offset and first LSN of each frame that is closed.
    frames: Vec<(u64, Lsn)>,
    keys: BTreeMap<u64, Vec<u32>>,
}

impl Writer {
    fn new(mut file: NewFile, summary: ArchiveSummary) -> Result<Writer, StorageError> {
        file.write(&summary.encode())?;
        debug_assert_eq!(file.size(), ARCHIVE_HEADER_SIZE as u64);
        let compressor = Compressor::new(LEVEL).map_err(|source| compression_failed(&summary, source))?;
        Ok(Writer {
            file,
            summary,
            compressor,
            records: Vec::new(),
            record_count: 0,
            first: (summary.first_lsn, 0),
            frames: Vec::new(),
            keys: BTreeMap::new(),
        })
    }

    /// Whether the frame has to be closed before a record of this size.
    fn is_full(&self, size: usize) -> bool {
        self.record_count > 0 && self.records.len() + size > ARCHIVE_FRAME_SIZE
    }

    fn put(&mut self, lsn: Lsn, offset: u64, bytes: &[u8], keys: &[u64]) {
        if self.record_count == 0 {
            self.first = (lsn, offset);
        }
        self.records.extend_from_slice(bytes);
        self.record_count += 1;
        let frame = self.frames.len() as u32;
        for key in keys {
            let frames = self.keys.entry(*key).or_default();
            if frames.last() != Some(&frame) {
                frames.push(frame);
            }
        }
    }

    /// Returns the bytes that were in the frame.
    fn close_frame(&mut self) -> Result<u64, StorageError> {
        let compressed = self
            .compressor
            .compress(&self.records)
            .map_err(|source| compression_failed(&self.summary, source))?;
        let mut frame = vec![0; FRAME_HEADER_SIZE];
        let (lsn, offset) = self.first;
        put(&mut frame, 4, &(compressed.len() as u32).to_le_bytes());
        put(&mut frame, 8, &(self.records.len() as u32).to_le_bytes());
        put(&mut frame, 12, &self.record_count.to_le_bytes());
        put(&mut frame, 16, &lsn.0.to_le_bytes());
        put(&mut frame, 24, &offset.to_le_bytes());
        frame.extend_from_slice(&compressed);
        frame.resize(padded(frame.len()), 0);
        let seed = self.summary.frame_seed(self.frames.len() as u64);
        let crc = crc32c_append(crc32c_append(seed, &frame[4..]), &self.records);
        put(&mut frame, 0, &crc.to_le_bytes());
        self.frames.push((self.file.size(), lsn));
        self.file.write(&frame)?;
        let size = self.records.len() as u64;
        self.records.clear();
        self.record_count = 0;
        Ok(size)
    }

    fn finish(mut self) -> Result<(), StorageError> {
        self.close_frame()?;
        let mut index = Vec::new();
        for (offset, lsn) in &self.frames {
            index.extend_from_slice(&offset.to_le_bytes());
            index.extend_from_slice(&lsn.0.to_le_bytes());
        }
        let mut reference_count = 0;
        for (key, frames) in &self.keys {
            index.extend_from_slice(&key.to_le_bytes());
            index.extend_from_slice(&(reference_count as u32).to_le_bytes());
            index.extend_from_slice(&(frames.len() as u32).to_le_bytes());
            reference_count += frames.len() as u64;
        }
        for frame in self.keys.values().flatten() {
            index.extend_from_slice(&frame.to_le_bytes());
        }
        let mut trailer = Trailer {
            index_crc: crc32c(&index),
            frame_count: self.frames.len() as u64,
            key_count: self.keys.len() as u64,
            reference_count,
            index_offset: self.file.size(),
            file_size: 0,
            key_scheme: KEY_SCHEME,
        };
        self.file.write(&index)?;
        trailer.file_size = self.file.size() + crate::archive::TRAILER_SIZE as u64;
        self.file.write(&trailer.encode())?;
        self.file.finish()
    }
}

/// zstd has no memory, or no buffer as large as it says it needs.
fn compression_failed(summary: &ArchiveSummary, source: std::io::Error) -> StorageError {
    StorageError::Io {
        action: Action::Write,
        path: format!("{:010}{}", summary.number.0, crate::archive::ARCHIVE_SUFFIX).into(),
        source,
    }
}
