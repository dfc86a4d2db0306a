//! Replacing the journals of a data directory by others, for another number of cores.
//!
//! A new journal has a control page and a snapshot with LSN 0 before the manifest names it, and no segment. So until the manifest is replaced the
//! old journals count and the new ones are leftovers; from then on it is the other way round, and nothing in between can be seen.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::directory::manifest::{Manifest, ManifestJournal, ManifestSnapshot, check_journal_count};
use crate::directory::{
    Directory, DirectoryError, DirectoryJournal, JournalEnd, OnStep, Step, create_journal, draw, index_u16,
    named_snapshots, replace_manifest,
};
use crate::identifier::{JournalId, Lsn};
use crate::limits::PARTITION_COUNT;
use crate::mmap::sync_directory;
use crate::snapshot::FinishedSnapshot;

/// What the directory is to consist of.
#[derive(Debug)]
pub struct Switch {
    /// The new journals, from [`Directory::create_journals`].
    pub journals: Vec<SwitchedJournal>,
    /// Which of them each partition belongs to, as an index of `journals`.
    pub owners: [u16; PARTITION_COUNT],
    /// Where each journal ends that has had a core until now: its last LSN after recovery, and the segment that it lies in.
    pub ends: Vec<(JournalId, JournalEnd)>,
}

/// A journal that takes over.
#[derive(Debug)]
pub struct SwitchedJournal {
    /// Which journal.
    pub id: JournalId,
    /// The state that it begins with, at LSN 0 and segment 1; nothing if that is the empty state.
    pub snapshot: Option<FinishedSnapshot>,
}

impl Directory {
    /// Makes journals that nothing names yet, one for each core from 0 on. Without a [`Directory::switch`] the next start removes them.
    ///
    /// # Errors
    /// When there would be more journals than a directory can have, or they cannot be made.
    pub fn create_journals(&self, count: usize) -> Result<Vec<DirectoryJournal>, DirectoryError> {
        self.create_journals_in_steps(count, &mut |_| Ok(()))
    }

    pub(super) fn create_journals_in_steps(
        &self,
        count: usize,
        on_step: OnStep<'_>,
    ) -> Result<Vec<DirectoryJournal>, DirectoryError> {
        check_journal_count(count).map_err(DirectoryError::New)?;
        check_journal_count(self.journals.len() + count).map_err(DirectoryError::New)?;
        let mut journals = Vec::with_capacity(count);
        for core in 0..count {
            let id = JournalId(draw(&self.path)?);
            let directory = self.path.join(id.directory_name());
            create_journal(&directory, id, self.segment_size(), on_step)?;
            journals.push(DirectoryJournal {
                id,
                core: Some(index_u16(core)),
                directory,
                end: None,
            });
        }
        on_step(Step::SyncJournals)?;
        sync_directory(&self.path)?;
        Ok(journals)
    }

    /// Replaces all journals that have a core by new ones, in one replacement of the manifest: a crash leaves either the old ones or the new ones. The
    /// old ones stay as history, their snapshots and prepared segments go. No journal of the directory may be open.
    ///
    /// When it returns, the change is durable.
    ///
    /// # Errors
    /// [`DirectoryError::New`] when the result would be no valid manifest, say when an end is missing; [`DirectoryError::WriterTaken`] while something else may change the
    /// manifest. Whichever journals then count, the next [`Directory::open`] tells.
    pub fn switch(self, switch: &Switch) -> Result<Directory, DirectoryError> {
        self.switch_in_steps(switch, &mut |_| Ok(()))
    }

    pub(super) fn switch_in_steps(self, switch: &Switch, on_step: OnStep<'_>) -> Result<Directory, DirectoryError> {
        if self.is_writer_taken {
            return Err(DirectoryError::WriterTaken {
                path: self.path.clone(),
            });
        }
        let manifest = switched(&self.manifest, switch)?;
        replace_manifest(&self.path, &manifest, on_step)?;
        on_step(Step::RemoveSnapshot)?;
        for snapshot in
            (0..self.journals.len()).flat_map(|journal| named_snapshots(&self.path, &self.manifest, journal))
        {
            remove_quietly(&snapshot.path);
        }
        Directory::from_manifest(&self.path, manifest, Arc::clone(&self.lock))
    }
}

fn remove_quietly(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        // It is out of the manifest; opening the directory tries again.
        tracing::warn!(path = %path.display(), %error, "cannot remove a snapshot of a journal that is only history now");
    }
}

/// The manifest after the switch.
fn switched(old: &Manifest, switch: &Switch) -> Result<Manifest, DirectoryError> {
    let mut manifest = old.clone();
    manifest.generation += 1;
    manifest.snapshots.clear();
    for (index, journal) in manifest.journals.iter_mut().enumerate() {
        if journal.core.take().is_some() {
            let end = switch.ends.iter().find(|(id, _)| *id == journal.id);
            let (_, end) = end.ok_or(DirectoryError::New(crate::ManifestError::End { index }))?;
            journal.end = Some(*end);
        }
    }
    let first = manifest.journals.len();
    for (core, journal) in switch.journals.iter().enumerate() {
        let index = manifest.journals.len();
        manifest.journals.push(ManifestJournal {
            id: journal.id,
            core: Some(index_u16(core)),
            end: None,
        });
        if let Some(snapshot) = &journal.snapshot {
            if snapshot.header.journal != journal.id || snapshot.header.lsn != Lsn(0) {
                let index = manifest.snapshots.len();
                return Err(DirectoryError::New(crate::ManifestError::Snapshot { index }));
            }
            manifest.snapshots.push(ManifestSnapshot {
                journal: index_u16(index),
                lsn: snapshot.header.lsn,
                segment: snapshot.header.segment,
                size: snapshot.size,
            });
        }
    }
    for (partition, owner) in switch.owners.iter().enumerate() {
        let index = first + usize::from(*owner);
        manifest.owners[partition] =
            u16::try_from(index).map_err(|_| DirectoryError::New(crate::ManifestError::Owner { partition }))?;
    }
    manifest.check().map_err(DirectoryError::New)?;
    Ok(manifest)
}
