//! What a process that died left in a data directory, and that its manifest does not name.
//!
//! Called with the lock held and the manifest durable. Only what is known to hold no record that counts is removed:
//! - snapshots, whole or not, that the manifest does not name: a snapshot counts only when it does;
//! - archives that are not whole: the segment is there until its archive is;
//! - directories of journals that it does not name and that never had a segment: a new journal gets its first one after the manifest names it;
//! - segments behind the end of a journal that is only history: they were opened or prepared, and nothing was appended to them.

use std::fs;
use std::path::Path;

use crate::archive::ARCHIVE_DIRECTORY;
use crate::bytes::{array_at, u64_at};
use crate::control::{CONTROL_HEADER_SIZE, ControlFault, ControlField, check_header};
use crate::directory::manifest::Manifest;
use crate::directory::{DirectoryError, MANIFEST_NEXT, journal_directories, remove_if_there};
use crate::error::{Action, StorageError};
use crate::limits::PAGE_SIZE;
use crate::mmap::{CONTROL_FILE_NAME, file_names, is_half_prepared, segment_number};
use crate::new_file::UNFINISHED_SUFFIX;
use crate::snapshot::{SNAPSHOTS_DIRECTORY, is_snapshot_name};

pub(super) fn remove(path: &Path, manifest: &Manifest) -> Result<(), DirectoryError> {
    remove_if_there(&path.join(MANIFEST_NEXT))?;
    let named: Vec<_> = manifest
        .snapshots
        .iter()
        .map(|snapshot| manifest.snapshot_file_name(snapshot))
        .collect();
    remove_files(&path.join(SNAPSHOTS_DIRECTORY), |name| {
        is_snapshot_name(name.strip_suffix(UNFINISHED_SUFFIX).unwrap_or(name))
            && !named.iter().any(|other| other == name)
    })?;
    for journal in &manifest.journals {
        let directory = path.join(journal.id.directory_name());
        remove_files(&directory.join(ARCHIVE_DIRECTORY), |name| {
            name.ends_with(UNFINISHED_SUFFIX)
        })?;
        if let Some(end) = journal.end {
            remove_files(&directory, |name| {
                is_half_prepared(name) || segment_number(name).is_some_and(|number| number > end.segment)
            })?;
        }
    }
    for directory in journal_directories(path)? {
        let is_named = manifest
            .journals
            .iter()
            .any(|journal| directory.ends_with(journal.id.directory_name()));
        if is_named {
            continue;
        }
        if never_had_a_segment(&directory, manifest.segment_size)? {
            fs::remove_dir_all(&directory).map_err(DirectoryError::io(Action::Remove, &directory))?;
        } else {
            tracing::warn!(directory = %directory.display(), "the manifest does not name this journal; it is left as it is");
        }
    }
    Ok(())
}

/// Removes the files with these names, if the directory is there.
fn remove_files(directory: &Path, is_leftover: impl Fn(&str) -> bool) -> Result<(), DirectoryError> {
    if !directory.is_dir() {
        return Ok(());
    }
    for name in file_names(directory)? {
        if is_leftover(&name) {
            remove_if_there(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Whether there is nothing but a control page that speaks of no segment, or one that was not written in full.
fn never_had_a_segment(directory: &Path, segment_size: usize) -> Result<bool, DirectoryError> {
    if file_names(directory)?.iter().any(|name| name != CONTROL_FILE_NAME) {
        return Ok(false);
    }
    let path = directory.join(CONTROL_FILE_NAME);
    let page = match fs::read(&path) {
        Ok(page) => page,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(StorageError::io(Action::Read, &path)(error).into()),
    };
    if page.len() != PAGE_SIZE {
        return Ok(true);
    }
    let header: [u8; CONTROL_HEADER_SIZE] = array_at(&page, 0);
    let is_whole = match check_header(&header, crate::JournalId(array_at(&page, 16)), segment_size) {
        Ok(()) => true,
        Err(ControlFault::NotValid | ControlFault::OtherJournal) => false,
        // What a newer program made is its own business.
        Err(ControlFault::UnknownVersion(_)) => return Ok(false),
    };
    let is_unused = [ControlField::DurableLsn, ControlField::NewestDurableSegment]
        .iter()
        .all(|field| u64_at(&page, field.offset()) == 0);
    Ok(!is_whole || is_unused)
}
