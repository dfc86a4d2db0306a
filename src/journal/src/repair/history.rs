//! What recovery does not read: archives, and the segments before its start.

use crate::archive::{archive_path, read_archive};
use crate::damage::{FileDamage, FileFault};
use crate::identifier::{Lsn, SegmentNumber};
use crate::recovery::read::Kept;
use crate::repair::trial::{Content, Identity, Trial};
use crate::repair::{Finding, Plan, Remedy, RepairError, damage_of};

/// What is known of a journal.
pub(super) struct History<'reading> {
    /// The segments that recovery keeps; they are whole.
    pub(super) kept: &'reading [Kept],
    /// The last segment that stays.
    pub(super) last: SegmentNumber,
    /// The last LSN in it, if nothing else tells.
    pub(super) end: Option<Lsn>,
}

/// What the segment behind one says about it.
#[derive(Clone, Copy)]
struct Behind {
    first_lsn: Lsn,
    previous_incarnation: Option<u64>,
}

impl Behind {
    fn follows(behind: Option<Behind>, identity: &Identity) -> bool {
        behind.is_none_or(|behind| {
            identity.last_lsn.0 + 1 == behind.first_lsn.0
                && behind
                    .previous_incarnation
                    .is_none_or(|incarnation| incarnation == identity.incarnation)
        })
    }
}

/// Goes from the last segment to the first: where one begins, the one before it ends. One of segment and archive is enough to make the other again.
pub(super) fn look_at_history(
    trial: &mut Trial<'_>,
    history: &History<'_>,
    findings: &mut Vec<Finding>,
    plan: &mut Plan,
) -> Result<(), RepairError> {
    let mut behind = history.end.map(|end| Behind {
        first_lsn: Lsn(end.0 + 1),
        previous_incarnation: None,
    });
    for number in (SegmentNumber::FIRST.0..=history.last.0).rev().map(SegmentNumber) {
        let archive = archive(trial, number)?;
        let segment = segment(trial, history, number, behind)?;
        let whole = match (segment, archive) {
            (Ok(segment), Some(archive)) => {
                let differs = archive.and_then(|archive| {
                    if archive == segment {
                        Ok(())
                    } else {
                        Err(other(trial, number))
                    }
                });
                if let Err(damage) = differs {
                    findings.push(Finding::of(damage, Remedy::ArchivedAgain));
                    plan.archives_aside.push(number);
                }
                Some(segment)
            }
            (Ok(segment), None) => Some(segment),
            (Err(damage), Some(Ok(archive))) if Behind::follows(behind, &archive) => {
                // That it is missing is as it should be: its archive is enough.
                if damage.fault != FileFault::Missing {
                    findings.push(Finding::of(damage, Remedy::FromArchive));
                    trial.put(number, Some(Content::Archive));
                }
                Some(archive)
            }
            (Err(damage), archive) => {
                if let Some(archive) = archive {
                    let damage = archive.err().unwrap_or_else(|| other(trial, number));
                    findings.push(Finding::of(damage, Remedy::Backup));
                }
                findings.push(Finding::of(damage, Remedy::Backup));
                None
            }
        };
        behind = whole.map(|whole| Behind {
            first_lsn: whole.first_lsn,
            previous_incarnation: Some(whole.previous_incarnation),
        });
    }
    Ok(())
}

fn other(trial: &Trial<'_>, number: SegmentNumber) -> FileDamage {
    FileDamage {
        path: archive_path(trial.source.directory, number),
        offset: 0,
        fault: FileFault::DoesNotContinue,
    }
}

/// What the archive is of, or what is wrong with it; nothing if there is none.
pub(super) fn archive(
    trial: &Trial<'_>,
    number: SegmentNumber,
) -> Result<Option<Result<Identity, FileDamage>>, RepairError> {
    let path = archive_path(trial.source.directory, number);
    if !path.exists() {
        return Ok(None);
    }
    match read_archive(&path) {
        Ok((summary, _)) if summary.journal != trial.source.journal => {
            let fault = FileFault::OtherJournal(summary.journal);
            Ok(Some(Err(FileDamage { path, offset: 0, fault })))
        }
        Ok((summary, _)) => Ok(Some(Ok(summary.into()))),
        Err(error) => damage_of(error).map(|damage| Some(Err(damage))),
    }
}

/// What the segment is of, or what is wrong with it.
fn segment(
    trial: &mut Trial<'_>,
    history: &History<'_>,
    number: SegmentNumber,
    behind: Option<Behind>,
) -> Result<Result<Identity, FileDamage>, RepairError> {
    let is_kept = history.kept.iter().any(|kept| kept.number == number);
    let walked = trial.walk(number)?;
    Ok(walked.and_then(|(identity, offset)| {
        if is_kept || (identity.last_lsn >= identity.first_lsn && Behind::follows(behind, &identity)) {
            return Ok(identity);
        }
        Err(FileDamage {
            path: trial.segment_path(number),
            offset,
            fault: FileFault::Record,
        })
    }))
}
