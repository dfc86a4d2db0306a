//! What is wrong with a file that is written once and read as a whole: a snapshot, an archive, a sealed segment.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Action, StorageError};
use crate::identifier::JournalId;

/// Why such a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file is not what was written. Reading it again does not help.
    #[error(transparent)]
    Damaged(#[from] FileDamage),
    /// The segment may still change. Later it will not.
    #[error("{} is not sealed and durable yet", path.display())]
    NotSealed {
        /// The segment.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Damage, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDamage {
    /// The file.
    pub path: PathBuf,
    /// Bytes from the beginning of the file to the piece that is not valid.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: FileFault,
}

impl fmt::Display for FileDamage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileDamage { path, offset, fault } = self;
        write!(formatter, "{} is damaged at offset {offset}: {fault}", path.display())
    }
}

impl std::error::Error for FileDamage {}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// There is no such file, and no other that holds the same.
    #[error("the file is missing")]
    Missing,
    /// The file ends too early.
    #[error("the file ends too early")]
    Truncated,
    /// There is more than the end of the file speaks of.
    #[error("bytes follow the end")]
    Excess,
    /// No header, or a damaged one.
    #[error("the header is not valid")]
    Header,
    /// A version that this program does not know.
    #[error("format version {0} is unknown to this program")]
    UnknownVersion(u32),
    /// The file belongs to another journal.
    #[error("it belongs to journal {0}")]
    OtherJournal(JournalId),
    /// The file says that it is another one than its name says.
    #[error("it is another file than its name says")]
    OtherFile,
    /// A size that is out of range.
    #[error("a size is out of range")]
    Size,
    /// A checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// Compressed bytes that are not what compressing wrote.
    #[error("the compressed bytes are not valid")]
    Compression,
    /// The counts at the end do not fit what was read.
    #[error("the counts at the end are not those of the file")]
    Counts,
    /// The index does not fit the file.
    #[error("the index is not valid")]
    Index,
    /// No whole batch where one must be.
    #[error("a record or the end of its batch is not valid")]
    Record,
    /// A record of one of the journal's own kinds that this program does not know.
    #[error("a record has kind {0:#x}, which this program does not know")]
    UnknownKind(u16),
    /// The file does not begin where the one before it ends.
    #[error("it does not continue the file before it")]
    DoesNotContinue,
    /// An archive of something else than the segment with its number.
    #[error("it is not of the segment with this number")]
    OtherSegment,
    /// An archive of a segment that the journal does not have.
    #[error("the journal ends before it")]
    BehindEnd,
    /// The file behind is damaged, so nothing tells where the records of this one end.
    #[error("nothing tells whether its records end here: what follows it is damaged")]
    EndUnknown,
    /// A control page that says less than the journal's records.
    #[error("the journal goes on behind what it says")]
    SaysLess,
    /// A control page that says something else of the end than the manifest.
    #[error("it does not end the journal where the manifest does")]
    OtherEnd,
}

/// A file that is read at offsets; what is wrong with it names the file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    file: File,
    path: PathBuf,
    size: u64,
}

impl SourceFile {
    pub(crate) fn open(path: &Path) -> Result<SourceFile, StorageError> {
        let file = File::open(path).map_err(StorageError::io(Action::Open, path))?;
        SourceFile::new(file, path)
    }

    /// Opens the file; nothing if there is none. What keeps it from being looked for is an error: it may well be there.
    pub(crate) fn open_if_there(path: &Path) -> Result<Option<SourceFile>, StorageError> {
        match File::open(path) {
            Ok(file) => SourceFile::new(file, path).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io(Action::Open, path)(error)),
        }
    }

    pub(crate) fn new(file: File, path: &Path) -> Result<SourceFile, StorageError> {
        let size = file.metadata().map_err(StorageError::io(Action::Read, path))?.len();
        Ok(SourceFile {
            file,
            path: path.to_owned(),
            size,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<(), FileError> {
        self.file.read_exact_at(into, offset).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                self.damaged(offset, FileFault::Truncated)
            } else {
                StorageError::io(Action::Read, &self.path)(error).into()
            }
        })
    }

    pub(crate) fn damaged(&self, offset: u64, fault: FileFault) -> FileError {
        FileError::Damaged(FileDamage {
            path: self.path.clone(),
            offset,
            fault,
        })
    }
}
