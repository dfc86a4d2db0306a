//! Changing the manifest while the server runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::ControlValues;
use crate::directory::manifest::{Manifest, ManifestSnapshot};
use crate::directory::{
    DirectoryError, DirectorySnapshot, OnStep, SnapshotRefusal, Step, index_u16, named_snapshots, replace_manifest,
};
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::mmap::CONTROL_FILE_NAME;
use crate::snapshot::{FinishedSnapshot, SNAPSHOTS_DIRECTORY};

/// Changes the manifest of a data directory; there is one for each [`crate::Directory`]. It waits for the disk, so it belongs on a thread that may.
#[derive(Debug)]
pub struct ManifestWriter {
    path: PathBuf,
    /// As the last replacement left it.
    manifest: Manifest,
    /// Snapshots that the manifest names and that are of no use, by journal and LSN.
    passed_over: Vec<(JournalId, Lsn)>,
    _lock: Arc<File>,
}

impl ManifestWriter {
    pub(super) fn new(path: &Path, manifest: Manifest, lock: Arc<File>) -> ManifestWriter {
        ManifestWriter {
            path: path.to_owned(),
            manifest,
            passed_over: Vec::new(),
            _lock: lock,
        }
    }

    /// How often the manifest was replaced.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }

    /// Snapshots of the journal that recovery found damaged, by their LSNs: from now on they count for nothing, and the
    /// next one that is added takes their place before that of a good one. Nothing is written now. After a start it is
    /// said again.
    pub fn passed_over(&mut self, journal: JournalId, lsns: &[Lsn]) {
        self.passed_over.extend(lsns.iter().map(|lsn| (journal, *lsn)));
    }

    /// A journal's snapshots, the newest first, without those that were passed over; nothing for a journal that the
    /// manifest does not name.
    pub fn snapshots(&self, journal: JournalId) -> Vec<DirectorySnapshot> {
        let Some(index) = self.index(journal) else {
            return Vec::new();
        };
        let mut snapshots = named_snapshots(&self.path, &self.manifest, index);
        snapshots.retain(|snapshot| !self.is_passed_over(index, snapshot.lsn));
        snapshots
    }

    /// The oldest segment that recovery of the journal needs from one of its snapshots: what lies below may be given up once it is archived.
    /// Nothing without a snapshot: then all are needed. With a single snapshot there is nothing to fall back on; whoever wants that waits
    /// for the second.
    pub fn needed_from(&self, journal: JournalId) -> Option<SegmentNumber> {
        self.snapshots(journal).iter().map(|snapshot| snapshot.segment).min()
    }

    fn is_passed_over(&self, index: usize, lsn: Lsn) -> bool {
        self.passed_over.contains(&(self.manifest.journals[index].id, lsn))
    }

    /// Makes this the newest snapshot of its journal. Of those before it the newest that was not passed over is kept;
    /// other files are removed, and stay readable for whoever has them open.
    ///
    /// When it returns, the manifest that names it is durable.
    ///
    /// # Errors
    /// [`DirectoryError::Snapshot`] when it cannot be used: the journal is not durable up to its LSN yet, or has a snapshot as new. Other errors leave
    /// the snapshots as they were, and another one may be tried.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is added once, and gone when it is refused"
    )]
    pub fn add_snapshot(&mut self, snapshot: FinishedSnapshot) -> Result<(), DirectoryError> {
        self.add_snapshot_in_steps(&snapshot, &mut |_| Ok(()))
    }

    pub(super) fn add_snapshot_in_steps(
        &mut self,
        snapshot: &FinishedSnapshot,
        on_step: OnStep<'_>,
    ) -> Result<(), DirectoryError> {
        let mut manifest = self.manifest.clone();
        let dropped = self.check(snapshot).map(|journal| {
            manifest.generation += 1;
            let is_passed_over = |old: &mut ManifestSnapshot| {
                old.journal == journal && self.is_passed_over(usize::from(journal), old.lsn)
            };
            let mut dropped: Vec<_> = manifest.snapshots.extract_if(.., is_passed_over).collect();
            // The new one has the file of a damaged one with the same LSN.
            dropped.retain(|old| old.lsn != snapshot.header.lsn);
            dropped.extend(manifest.add_snapshot(ManifestSnapshot {
                journal,
                lsn: snapshot.header.lsn,
                segment: snapshot.header.segment,
                size: snapshot.size,
            }));
            dropped
        });
        let mut is_renamed = false;
        let result = dropped.and_then(|dropped| {
            replace_manifest(&self.path, &manifest, &mut |step| {
                is_renamed |= step == Step::SyncDirectory;
                on_step(step)
            })?;
            Ok(dropped)
        });
        let dropped = match result {
            Ok(dropped) => dropped,
            Err(error) => {
                let is_named = self.index(snapshot.header.journal).is_some_and(|index| {
                    self.manifest
                        .snapshots_of(index)
                        .any(|named| named.lsn == snapshot.header.lsn)
                });
                if !is_renamed && !is_named {
                    // No manifest names it; the next start would remove it.
                    let _ = fs::remove_file(&snapshot.path);
                }
                return Err(error);
            }
        };
        for old in dropped {
            on_step(Step::RemoveSnapshot)?;
            let path = self
                .path
                .join(SNAPSHOTS_DIRECTORY)
                .join(manifest.snapshot_file_name(&old));
            if let Err(error) = fs::remove_file(&path) {
                // It is out of the manifest; the next start removes it.
                tracing::warn!(path = %path.display(), %error, "cannot remove a snapshot that a newer one replaces");
            }
        }
        self.manifest = manifest;
        self.passed_over
            .retain(|(journal, _)| *journal != snapshot.header.journal);
        Ok(())
    }

    fn check(&self, snapshot: &FinishedSnapshot) -> Result<u16, DirectoryError> {
        let header = snapshot.header;
        let refused = |reason| {
            Err(DirectoryError::Snapshot {
                path: snapshot.path.clone(),
                reason,
            })
        };
        let Some(index) = self
            .index(header.journal)
            .filter(|index| self.manifest.journals[*index].core.is_some())
        else {
            return refused(SnapshotRefusal::UnknownJournal);
        };
        if let Some(newest) = self.snapshots(header.journal).first()
            && (header.lsn <= newest.lsn || header.segment < newest.segment)
        {
            return refused(SnapshotRefusal::NotNewer { newest: newest.lsn });
        }
        let control = self.path.join(header.journal.directory_name()).join(CONTROL_FILE_NAME);
        let durable = ControlValues::read(&control, header.journal, self.manifest.segment_size)?.durable_lsn;
        if header.lsn > durable {
            return refused(SnapshotRefusal::NotDurable { durable });
        }
        Ok(index_u16(index))
    }

    fn index(&self, journal: JournalId) -> Option<usize> {
        self.manifest.journals.iter().position(|other| other.id == journal)
    }
}
