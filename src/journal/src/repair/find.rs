//! What a start would find, and how far the journal can be read.

use std::convert::Infallible;

use crate::archive::{JournalFiles, archive_path, archive_summary};
use crate::control::{ControlField, ControlValues};
use crate::directory::{Directory, DirectorySnapshot, JournalEnd};
use crate::framing::CrcFraming;
use crate::identifier::{Lsn, SegmentNumber};
use crate::recovery::read::{Kept, Reader};
use crate::recovery::{Damage, RecoveryError, RecoveryStart};
use crate::repair::history::{History, archive, look_at_history};
use crate::repair::trial::{Content, Trial};
use crate::repair::{
    CutAway, CutSnapshot, Fault, Finding, JournalRepair, Plan, PlannedCut, Remedy, RepairError, RepairPlan, damage_of,
};
use crate::snapshot::{SnapshotHeader, verify_snapshot};
use crate::{FileDamage, FileFault};

/// Looks for everything that keeps a start from succeeding, and for damage to what a start does not read. Reads every segment and every archive; changes
/// nothing.
///
/// Whole records that this program does not know, or that do not fit each other, are not the journal's business and no damage to it.
///
/// # Errors
/// When something is of a newer program, or cannot be read. Nothing is said about the rest then.
pub fn find_damage(directory: &Directory) -> Result<RepairPlan, RepairError> {
    let mut journals = Vec::new();
    for (index, entry) in directory.journals().iter().enumerate() {
        let found = if entry.core.is_some() {
            running(directory, index)?
        } else {
            ended(directory, index)?
        };
        journals.extend(found.filter(|found| !found.findings.is_empty()));
    }
    Ok(RepairPlan { journals })
}

/// A journal that is being looked at.
struct Looking<'directory> {
    trial: Trial<'directory>,
    files: JournalFiles,
    repair: JournalRepair,
}

impl<'directory> Looking<'directory> {
    fn new(directory: &'directory Directory, index: usize) -> Result<Looking<'directory>, RepairError> {
        let entry = &directory.journals()[index];
        let files = JournalFiles::read(&entry.directory)?;
        Ok(Looking {
            trial: Trial::new(directory.source(index), &files)?,
            files,
            repair: JournalRepair {
                journal: entry.id,
                core: entry.core,
                directory: entry.directory.clone(),
                findings: Vec::new(),
                cut: None,
                index,
                plan: Plan::default(),
            },
        })
    }

    /// Puts a control page in the place of one that is not valid.
    fn mend_control(
        &mut self,
        values: impl FnOnce(&mut Trial<'_>, &JournalFiles) -> Result<ControlValues, RepairError>,
    ) -> Result<(), RepairError> {
        let Some(found) = self.trial.control_fault() else {
            return Ok(());
        };
        let values = values(&mut self.trial, &self.files)?;
        self.trial.set_control(values);
        self.repair.plan.control = Some(values);
        self.repair.findings.push(Finding {
            path: self.trial.control_path(),
            offset: 0,
            fault: Fault::Journal(found),
            remedy: Remedy::ControlAnew,
        });
        Ok(())
    }

    /// What recovery does not read: archives, and segments before its start.
    fn look_at_history(&mut self, history: &History<'_>) -> Result<(), RepairError> {
        let JournalRepair { findings, plan, .. } = &mut self.repair;
        look_at_history(&mut self.trial, history, findings, plan)?;
        // What lies behind a cut is put aside all the same.
        let restored = self.trial.restored().filter(|number| *number <= history.last);
        plan.restored = restored.collect();
        Ok(())
    }

    /// Archives behind the last segment: another life of the journal has left them, of which a backup was copied over this one, say. Sooner or later they
    /// would pass for those of the segments that get their numbers.
    fn look_behind(&mut self, last: SegmentNumber) {
        for number in self.files.archives.iter().copied().filter(|number| *number > last) {
            let damage = FileDamage {
                path: archive_path(self.trial.source.directory, number),
                offset: 0,
                fault: FileFault::BehindEnd,
            };
            self.repair.findings.push(Finding::of(damage, Remedy::NotOfJournal));
            self.repair.plan.archives_aside.push(number);
        }
    }

    /// Nothing can be done that would let a start succeed, so nothing is done.
    fn give_up(mut self) -> JournalRepair {
        self.repair.plan = Plan::default();
        for finding in &mut self.repair.findings {
            finding.remedy = Remedy::Backup;
        }
        self.repair
    }
}

/// A journal without a core: nothing recovers it, and the manifest says where it ends.
fn ended(directory: &Directory, index: usize) -> Result<Option<JournalRepair>, RepairError> {
    let mut looking = Looking::new(directory, index)?;
    if let Some(version) = looking.trial.control_version() {
        return Err(RepairError::Newer(FileDamage {
            path: looking.trial.control_path(),
            offset: 0,
            fault: FileFault::UnknownVersion(version),
        }));
    }
    let end = directory.journals()[index].end;
    looking.mend_control(|trial, files| match end {
        Some(end) => Ok(control_at(end)),
        None => proven_control(trial, files, &[]),
    })?;
    let control = looking.trial.control();
    let end = end.unwrap_or(JournalEnd {
        lsn: control.durable_lsn,
        segment: control.newest_durable_segment,
    });
    if (control.durable_lsn, control.newest_durable_segment) != (end.lsn, end.segment) {
        looking.trial.set_control(control_at(end));
        looking.repair.plan.control = Some(control_at(end));
        looking.repair.findings.push(Finding {
            path: looking.trial.control_path(),
            offset: ControlField::DurableLsn.offset() as u64,
            fault: Fault::File(FileFault::OtherEnd),
            remedy: Remedy::ControlAnew,
        });
    }
    if end.lsn.0 > 0 {
        looking.look_at_history(&History {
            kept: &[],
            last: end.segment,
            end: Some(end.lsn),
        })?;
    }
    looking.look_behind(end.segment);
    Ok(Some(looking.repair))
}

/// The control page of a journal that ends there.
fn control_at(end: JournalEnd) -> ControlValues {
    ControlValues {
        durable_lsn: end.lsn,
        oldest_segment: SegmentNumber::FIRST,
        newest_durable_segment: end.segment,
    }
}

fn running(directory: &Directory, index: usize) -> Result<Option<JournalRepair>, RepairError> {
    let mut looking = Looking::new(directory, index)?;
    let snapshots = whole_snapshots(directory, index, &mut looking.repair)?;
    looking.mend_control(|trial, files| proven_control(trial, files, &snapshots))?;
    // As a start does: a journal that took over from another one cannot be read from an empty state on.
    let began_with_snapshot = directory.journals().iter().any(|journal| journal.core.is_none());
    let may_begin_empty = !began_with_snapshot || directory.snapshots(index).is_empty();
    let first = may_begin_empty.then_some(RecoveryStart::FIRST);
    let starts = snapshots.iter().map(|header| RecoveryStart::from(*header)).chain(first);
    let Some((start, reading)) = read_from_one_of(&mut looking, starts)? else {
        // Cutting would leave nothing that a start could begin with.
        return Ok(Some(looking.give_up()));
    };
    let last_segment = reading.kept.last().map_or(SegmentNumber(0), |kept| kept.number);
    if let Some(damage) = &reading.damage {
        cut(&mut looking, start, &reading, damage, directory.snapshots(index))?;
    }
    if looking
        .repair
        .findings
        .iter()
        .any(|finding| finding.remedy == Remedy::Backup)
    {
        return Ok(Some(looking.give_up()));
    }
    looking.look_at_history(&History {
        kept: &reading.kept,
        last: last_segment,
        end: None,
    })?;
    if looking.repair.cut.is_none() {
        looking.look_behind(last_segment);
    }
    Ok(Some(looking.repair))
}

/// The snapshots that a start could begin with, the newest first. Others are put aside.
fn whole_snapshots(
    directory: &Directory,
    index: usize,
    repair: &mut JournalRepair,
) -> Result<Vec<SnapshotHeader>, RepairError> {
    let mut whole = Vec::new();
    for snapshot in directory.snapshots(index) {
        let damage = match verify_snapshot(&snapshot.path, |_| std::ops::ControlFlow::Continue(())) {
            Ok(summary) => {
                let header = summary.expect("nobody stops it").header;
                if (header.journal, header.lsn, header.segment) == (repair.journal, snapshot.lsn, snapshot.segment) {
                    whole.push(header);
                    continue;
                }
                FileDamage {
                    path: snapshot.path.clone(),
                    offset: 0,
                    fault: FileFault::OtherFile,
                }
            }
            Err(error) => damage_of(error)?,
        };
        repair.findings.push(Finding::of(damage, Remedy::WithoutSnapshot));
        repair.plan.snapshots.push(snapshot.clone());
    }
    Ok(whole)
}

/// What segments, archives and snapshots prove to have been durable.
fn proven_control(
    trial: &mut Trial<'_>,
    files: &JournalFiles,
    snapshots: &[SnapshotHeader],
) -> Result<ControlValues, RepairError> {
    let mut durable = trial.proven(SegmentNumber::FIRST, Lsn(0))?;
    let mut newest = SegmentNumber(0);
    for header in snapshots.iter().filter(|header| header.lsn.0 > 0) {
        durable = durable.max(header.lsn);
        newest = newest.max(header.segment);
    }
    for number in &files.archives {
        // Archived is what lies below the newest durable segment.
        newest = newest.max(number.next());
        match archive_summary(&trial.source, *number) {
            Ok(summary) => durable = durable.max(summary.map_or(Lsn(0), |summary| summary.last_lsn)),
            Err(error) => drop(damage_of(error)?),
        }
    }
    for number in trial.numbers_from(newest.next()) {
        if trial.header(number)?.is_some_and(|header| header.first_lsn <= durable) {
            newest = number;
        }
    }
    Ok(ControlValues {
        durable_lsn: durable,
        oldest_segment: SegmentNumber::FIRST,
        newest_durable_segment: newest,
    })
}

/// How far a journal can be read.
struct Reading {
    /// Segments that hold a whole batch.
    kept: Vec<Kept>,
    /// The last whole batch's LSN, 0 if there is none.
    last_lsn: Lsn,
    damage: Option<Damage>,
}

/// Reads as recovery does.
fn read(trial: &mut Trial<'_>, start: RecoveryStart) -> Result<Reading, RepairError> {
    let directory = trial.source.directory;
    let mut damage = None;
    let mut or_damage = |error| match error {
        RecoveryError::Damage(found) => {
            damage = Some(found);
            Ok(())
        }
        RecoveryError::Refused(source) => Err(RepairError::Refused {
            directory: directory.to_owned(),
            source,
        }),
        RecoveryError::Storage(error) => Err(error.into()),
        RecoveryError::Record { source, .. } => {
            let source: Infallible = source;
            match source {}
        }
    };
    let mut kept = Vec::new();
    match Reader::<_, CrcFraming>::new(trial, start) {
        Err(error) => or_damage(error)?,
        Ok(mut reader) => {
            reader.read(|_| Ok(())).or_else(or_damage)?;
            kept = reader.kept;
        }
    }
    kept.retain(|segment| segment.last_lsn >= segment.first_lsn);
    Ok(Reading {
        last_lsn: kept.last().map_or(Lsn(0), |segment| segment.last_lsn),
        kept,
        damage,
    })
}

/// Reads from the first of these starts that the journal reaches. When it is not the first one at all, that is damage too: what the snapshot holds was
/// durable.
fn read_from_one_of(
    looking: &mut Looking<'_>,
    starts: impl Iterator<Item = RecoveryStart>,
) -> Result<Option<(RecoveryStart, Reading)>, RepairError> {
    let mut first_damage = None;
    for start in starts {
        let mut reading = read_and_restore(looking, start)?;
        if reading.last_lsn >= start.lsn {
            reading.damage = reading.damage.or(first_damage);
            return Ok(Some((start, reading)));
        }
        first_damage = first_damage.or(reading.damage);
    }
    if let Some(damage) = first_damage {
        let finding = finding_of(&looking.trial, &damage, Remedy::Backup);
        looking.repair.findings.push(finding);
    }
    Ok(None)
}

/// Reads; if that meets damage, once more with every segment taken from its archive that is not what its archive is of. All at once, since a segment that is
/// mended leads no further while the one beside it is not.
fn read_and_restore(looking: &mut Looking<'_>, start: RecoveryStart) -> Result<Reading, RepairError> {
    let Looking { trial, files, repair } = looking;
    let reading = read(trial, start)?;
    if reading.damage.is_none() {
        return Ok(reading);
    }
    let mut taken = Vec::new();
    for number in files.archives.iter().copied().filter(|number| *number >= start.segment) {
        let Some(Ok(archived)) = archive(trial, number)? else {
            continue;
        };
        let damage = match trial.walk(number)? {
            Ok((identity, _)) if identity == archived => continue,
            Ok((_, end)) => FileDamage {
                path: trial.segment_path(number),
                offset: end,
                fault: FileFault::Record,
            },
            Err(damage) => damage,
        };
        taken.push((number, trial.content(number), damage));
        trial.put(number, Some(Content::Archive));
    }
    let with = read(trial, start)?;
    let leads_further = with.damage.is_none() || with.last_lsn > reading.last_lsn;
    let last = with.kept.last().map(|kept| kept.number).filter(|_| leads_further);
    for (number, before, damage) in taken {
        if last.is_some_and(|last| number <= last) {
            repair.findings.push(Finding::of(damage, Remedy::FromArchive));
        } else {
            trial.put(number, before);
        }
    }
    Ok(if leads_further { with } else { reading })
}

fn finding_of(trial: &Trial<'_>, damage: &Damage, remedy: Remedy) -> Finding {
    Finding {
        path: match damage.position.segment {
            SegmentNumber(0) => trial.control_path(),
            number => trial.segment_path(number),
        },
        offset: damage.position.offset,
        fault: Fault::Journal(damage.found),
        remedy,
    }
}

/// Plans the cut behind what was read, and reads once more as if it were done.
fn cut(
    looking: &mut Looking<'_>,
    start: RecoveryStart,
    reading: &Reading,
    damage: &Damage,
    snapshots: &[DirectorySnapshot],
) -> Result<(), RepairError> {
    let Looking { trial, files, repair } = looking;
    let mut finding = finding_of(trial, damage, Remedy::Cut);
    let last_kept = reading.last_lsn;
    let kept = reading.kept.last();
    let last = kept.map_or(SegmentNumber(0), |kept| kept.number);
    let old = trial.control();

    // Nothing is ever missing before what was durable, so one LSN at least is lost.
    let mut last_lost = damage.evidence.max(Lsn(last_kept.0 + 1)).max(old.durable_lsn);
    last_lost = last_lost.max(trial.proven(last.max(SegmentNumber::FIRST), last_kept)?);
    let mut gone = files.segments.clone();
    gone.retain(|number| *number > last);
    let (mut shortened, mut end) = (None, 0);
    if let Some(kept) = kept
        && trial.content(last) == Some(Content::File)
        && (damage.position.segment == last || !trial.is_clean_behind(last, kept.end, last_kept)?)
    {
        (shortened, end) = (Some(last), kept.end);
        trial.put(last, Some(Content::UpTo(end)));
    }
    let mut archives = files.archives.clone();
    archives.retain(|number| *number > last);
    for number in &archives {
        if let Ok(Some(summary)) = archive_summary(&trial.source, *number) {
            last_lost = last_lost.max(summary.last_lsn);
        }
    }
    let mut dropped = Vec::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.lsn > last_kept) {
        let is_whole = !repair.plan.snapshots.contains(snapshot);
        dropped.push(CutSnapshot {
            lsn: snapshot.lsn,
            is_whole,
        });
        last_lost = last_lost.max(snapshot.lsn);
        if is_whole {
            repair.plan.snapshots.push(snapshot.clone());
        }
    }
    for number in trial.numbers_from(last.next()) {
        trial.put(number, None);
    }
    let control = ControlValues {
        durable_lsn: last_kept,
        oldest_segment: old.oldest_segment.min(last.max(SegmentNumber::FIRST)),
        newest_durable_segment: last,
    };
    trial.set_control(control);
    let after = read(trial, start)?;
    if after.damage.is_some() || after.last_lsn != last_kept {
        finding.remedy = Remedy::Backup;
        repair.findings.push(finding);
        return Ok(());
    }
    repair.findings.push(finding);
    let away = CutAway {
        last_kept,
        last_lost,
        segments: gone,
        shortened,
        archives,
        snapshots: dropped,
    };
    repair.cut = Some(away.clone());
    repair.plan.cut = Some(PlannedCut { away, end, control });
    Ok(())
}
