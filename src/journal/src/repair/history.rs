//! What recovery does not read: archives, and the segments before its start.

use std::ops::ControlFlow;

use crate::archive::{archive_path, verify_archive};
use crate::damage::{FileDamage, FileFault, SourceFile};
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
            // What lies behind it is damaged too, so nothing but its archive tells that the segment must go on.
            (Ok(read), Some(Ok(archive))) if read.stops_before(&archive) => {
                let damage = FileDamage {
                    path: trial.segment_path(number),
                    offset: read.end,
                    fault: FileFault::Record,
                };
                findings.push(Finding::of(damage, Remedy::FromArchive));
                trial.put(number, Some(Content::Archive));
                Some(archive)
            }
            (Ok(Read { identity: segment, .. }), Some(archive)) => {
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
            (Ok(read), None) => {
                if !read.is_end_known {
                    let damage = FileDamage {
                        path: trial.segment_path(number),
                        offset: read.end,
                        fault: FileFault::EndUnknown,
                    };
                    findings.push(Finding::of(damage, Remedy::Backup));
                }
                Some(read.identity)
            }
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
    if SourceFile::open_if_there(&path)?.is_none() {
        return Ok(None);
    }
    match verify_archive(&path, |_| ControlFlow::Continue(())) {
        Ok(summary) => {
            let summary = summary.expect("nobody stops it");
            let fault = FileFault::OtherJournal(summary.journal);
            Ok(Some(match summary.journal == trial.source.journal {
                true => Ok(summary.into()),
                false => Err(FileDamage { path, offset: 0, fault }),
            }))
        }
        Err(error) => damage_of(error).map(|damage| Some(Err(damage))),
    }
}

/// A segment whose records are whole, as far as anything tells.
struct Read {
    identity: Identity,
    /// Where its last whole batch ends.
    end: u64,
    /// Whether recovery, or what lies behind it, says that it ends there.
    is_end_known: bool,
}

impl Read {
    /// Whether the archive, which is whole, holds more of the same segment.
    fn stops_before(&self, archive: &Identity) -> bool {
        let Identity {
            incarnation,
            first_lsn,
            last_lsn,
            ..
        } = self.identity;
        !self.is_end_known
            && (incarnation, first_lsn) == (archive.incarnation, archive.first_lsn)
            && last_lsn < archive.last_lsn
    }
}

/// What the segment is of, or what is wrong with it.
fn segment(
    trial: &mut Trial<'_>,
    history: &History<'_>,
    number: SegmentNumber,
    behind: Option<Behind>,
) -> Result<Result<Read, FileDamage>, RepairError> {
    let is_kept = history.kept.iter().any(|kept| kept.number == number);
    let walked = trial.walk(number)?;
    Ok(walked.and_then(|(identity, offset)| {
        if is_kept || (identity.last_lsn >= identity.first_lsn && Behind::follows(behind, &identity)) {
            return Ok(Read {
                identity,
                end: offset,
                is_end_known: is_kept || behind.is_some(),
            });
        }
        Err(FileDamage {
            path: trial.segment_path(number),
            offset,
            fault: FileFault::Record,
        })
    }))
}
