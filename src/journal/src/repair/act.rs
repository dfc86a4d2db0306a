//! Carrying a plan out.
//!
//! The order is what makes a crash harmless. A control page that is not valid is made first, with all that the segments prove, so that a second look finds the
//! same. Archives and segments that are whole come next: each is whole on its own. Of a cut everything else comes before the control page, which until then
//! proves that something is missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::{ARCHIVE_DIRECTORY, SegmentSource, archive_path};
use crate::control::ControlValues;
use crate::directory::{Directory, DirectoryError};
use crate::error::{Action, StorageError};
use crate::identifier::{JournalId, SegmentNumber};
use crate::mmap::{CONTROL_FILE_NAME, segment_path, sync_directory};
use crate::new_file::NewFile;
use crate::repair::trial::{archived, control_page, unreadable};
use crate::repair::{JournalRepair, PlannedCut, RepairError, RepairPlan};
use crate::snapshot::SNAPSHOTS_DIRECTORY;

const ASIDE_PREFIX: &str = "damaged-";

/// A step of a repair; before each a crash is tried in the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    MakeAside,
    PutAside,
    CopyAside,
    WriteSegment,
    WriteControl,
    ReplaceManifest,
}

pub(crate) type OnStep<'call> = &'call mut dyn FnMut(Step) -> Result<(), DirectoryError>;

/// Carries a plan out that [`find_damage`](crate::find_damage) made for this directory, and returns the directory that the files of each journal were put into. When it returns, everything is durable.
///
/// The lost LSNs of a journal that is cut are given again to what happens from now on.
///
/// # Errors
/// What was done so far stays, and is harmless: what is left is found again.
///
/// # Panics
/// When the plan is of another directory.
pub fn repair(directory: &mut Directory, plan: &RepairPlan) -> Result<Vec<(JournalId, PathBuf)>, RepairError> {
    repair_in_steps(directory, plan, &mut |_| Ok(()))
}

pub(crate) fn repair_in_steps(
    directory: &mut Directory,
    plan: &RepairPlan,
    on_step: OnStep<'_>,
) -> Result<Vec<(JournalId, PathBuf)>, RepairError> {
    let mut aside = Vec::new();
    for journal in &plan.journals {
        let entry = &directory.journals()[journal.index];
        assert_eq!(entry.id, journal.journal, "the plan is of another directory");
        if journal.plan.is_empty() {
            continue;
        }
        aside.push((journal.journal, mend(directory, journal, on_step)?));
    }
    Ok(aside)
}

/// A journal that is being mended.
struct Mending<'call> {
    source: SegmentSource<'call>,
    /// Where everything goes that leaves its place.
    aside: PathBuf,
    on_step: OnStep<'call>,
}

fn mend(directory: &mut Directory, journal: &JournalRepair, on_step: OnStep<'_>) -> Result<PathBuf, RepairError> {
    let plan = &journal.plan;
    let path = journal.directory.clone();
    let source = SegmentSource {
        directory: &path,
        ..directory.source(journal.index)
    };
    let snapshots = directory.path().join(SNAPSHOTS_DIRECTORY);
    on_step(Step::MakeAside)?;
    let mut mending = Mending {
        source,
        aside: make_aside(&path)?,
        on_step,
    };
    if let Some(control) = plan.control {
        mending.control(control)?;
    }
    let archives = path.join(ARCHIVE_DIRECTORY);
    for number in &plan.archives_aside {
        mending.put_aside(&archive_path(&path, *number), &archives)?;
    }
    for number in &plan.restored {
        let bytes = archived(&mending.source, *number).map_err(unreadable)?;
        mending.put_aside(&segment_path(&path, *number), &path)?;
        mending.segment(*number, &bytes)?;
    }
    if let Some(cut) = &plan.cut {
        mending.cut(cut)?;
    }
    for snapshot in &plan.snapshots {
        mending.put_aside(&snapshot.path, &snapshots)?;
    }
    let Mending { aside, on_step, .. } = mending;
    if !plan.snapshots.is_empty() || plan.cut.is_some() {
        let lsns: Vec<_> = plan.snapshots.iter().map(|snapshot| snapshot.lsn).collect();
        directory.forget_snapshots(journal.index, &lsns, plan.cut.is_some(), &mut |_| {
            on_step(Step::ReplaceManifest)
        })?;
    }
    if let Some(cut) = &plan.cut {
        let mut mending = Mending {
            source: SegmentSource {
                directory: &path,
                ..directory.source(journal.index)
            },
            aside: aside.clone(),
            on_step,
        };
        mending.control(cut.control)?;
    }
    Ok(aside)
}

impl Mending<'_> {
    /// Moves a file, if it is there.
    fn put_aside(&mut self, path: &Path, directory: &Path) -> Result<(), RepairError> {
        if !path.try_exists().map_err(StorageError::io(Action::Open, path))? {
            return Ok(());
        }
        (self.on_step)(Step::PutAside)?;
        let to = self.name_aside(path);
        fs::rename(path, &to).map_err(StorageError::io(Action::Rename, path))?;
        sync_directory(&self.aside)?;
        Ok(sync_directory(directory)?)
    }

    /// Keeps what a file holds that is about to be replaced. A copy, since the old name must not go before the new file has it.
    fn copy_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        (self.on_step)(Step::CopyAside)?;
        let bytes = fs::read(path).map_err(StorageError::io(Action::Read, path))?;
        let mut copy = NewFile::create(&self.name_aside(path))?;
        copy.write(&bytes)?;
        Ok(copy.finish()?)
    }

    /// A name that no file has. Only the control page may have been put aside before.
    fn name_aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().expect("a file has a name");
        let mut to = self.aside.join(name);
        while to.exists() {
            to.as_mut_os_string().push(".later");
        }
        to
    }

    fn segment(&mut self, number: SegmentNumber, bytes: &[u8]) -> Result<(), RepairError> {
        (self.on_step)(Step::WriteSegment)?;
        let mut file = NewFile::create(&segment_path(self.source.directory, number))?;
        file.write(bytes)?;
        file.extend(self.source.segment_size as u64)?;
        Ok(file.finish()?)
    }

    fn control(&mut self, values: ControlValues) -> Result<(), RepairError> {
        let path = self.source.directory.join(CONTROL_FILE_NAME);
        if path.exists() {
            self.copy_aside(&path)?;
        }
        (self.on_step)(Step::WriteControl)?;
        let mut file = NewFile::create(&path)?;
        file.write(&control_page(&self.source, values))?;
        Ok(file.finish()?)
    }

    fn cut(&mut self, cut: &PlannedCut) -> Result<(), RepairError> {
        let directory = self.source.directory.to_owned();
        let archives = directory.join(ARCHIVE_DIRECTORY);
        for number in cut.away.archives.iter().rev() {
            self.put_aside(&archive_path(&directory, *number), &archives)?;
        }
        for number in cut.away.segments.iter().rev() {
            self.put_aside(&segment_path(&directory, *number), &directory)?;
        }
        if let Some(number) = cut.away.shortened {
            let path = segment_path(&directory, number);
            self.copy_aside(&path)?;
            let mut bytes = fs::read(&path).map_err(StorageError::io(Action::Read, &path))?;
            bytes.truncate(cut.end);
            self.segment(number, &bytes)?;
        }
        Ok(())
    }
}

/// The first `damaged-<n>` that nobody has.
fn make_aside(journal: &Path) -> Result<PathBuf, StorageError> {
    let mut number = 1;
    loop {
        let path = journal.join(format!("{ASIDE_PREFIX}{number}"));
        match fs::create_dir(&path) {
            Ok(()) => {
                sync_directory(journal)?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(StorageError::io(Action::Create, &path)(error)),
        }
    }
}
