//! A data directory as somebody sees it who only reads.

use std::path::{Path, PathBuf};

use crate::archive::SegmentSource;
use crate::damage::FileError;
use crate::directory::{DirectoryError, DirectoryJournal, DirectorySnapshot, named_snapshots, read_manifest};
use crate::identifier::{Lsn, SegmentNumber};
use crate::limits::PARTITION_COUNT;

/// What the manifest of a data directory said when it was read. It takes no lock: a server may run on the directory, take snapshots, and replace the
/// manifest meanwhile. Files that are named here may then be gone; reading the manifest again names those that took their place.
#[derive(Clone, Debug)]
pub struct DirectoryView {
    path: PathBuf,
    id: [u8; 16],
    generation: u64,
    dimensions: Vec<String>,
    segment_size: usize,
    owners: [u16; PARTITION_COUNT],
    journals: Vec<DirectoryJournal>,
    snapshots: Vec<Vec<DirectorySnapshot>>,
}

impl DirectoryView {
    /// Reads the manifest.
    ///
    /// # Errors
    /// [`DirectoryError::NotFound`] if there is none; when it is not valid or cannot be read.
    pub fn read(path: &Path) -> Result<DirectoryView, DirectoryError> {
        let manifest = read_manifest(path)?.ok_or_else(|| DirectoryError::NotFound { path: path.to_owned() })?;
        Ok(DirectoryView {
            path: path.to_owned(),
            id: manifest.directory_id,
            generation: manifest.generation,
            journals: manifest.directory_journals(path),
            snapshots: (0..manifest.journals.len())
                .map(|journal| named_snapshots(path, &manifest, journal))
                .collect(),
            segment_size: manifest.segment_size,
            owners: manifest.owners,
            dimensions: manifest.dimensions,
        })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drawn when the directory was made, and again when a repair cut one of its journals.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// How often the manifest was replaced, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The names of the dimensions, in order.
    pub fn dimensions(&self) -> &[String] {
        &self.dimensions
    }

    /// The size of each segment in bytes.
    pub fn segment_size(&self) -> usize {
        self.segment_size
    }

    /// All journals that there ever were: those without a core came before those with one, and hold what happened earlier. So the events of a partition,
    /// read journal by journal in this order, are in the order of its sequence.
    pub fn journals(&self) -> &[DirectoryJournal] {
        &self.journals
    }

    /// Which journal each partition belongs to now.
    pub fn owners(&self) -> &[u16; PARTITION_COUNT] {
        &self.owners
    }

    /// The snapshots of the journal with this index, the newest first.
    pub fn snapshots(&self, journal: usize) -> &[DirectorySnapshot] {
        &self.snapshots[journal]
    }

    /// The files of the journal with this index.
    pub fn source(&self, journal: usize) -> SegmentSource<'_> {
        let journal = &self.journals[journal];
        SegmentSource {
            directory: &journal.directory,
            journal: journal.id,
            segment_size: self.segment_size,
            end: journal.end,
        }
    }

    /// Up to where the journal with this index is durable now, and the newest segment of which something is. Of one without a core the manifest says so.
    ///
    /// # Errors
    /// When its control page is damaged or cannot be read.
    pub fn durable(&self, journal: usize) -> Result<(Lsn, SegmentNumber), FileError> {
        self.source(journal).durable()
    }
}
