//! The decision table of recovery, as `ARCHITECTURE.md` has it. Recovery looks its verdicts up here and nowhere else.

/// What recovery finds at a place of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Found {
    /// No control page, or a file of another size.
    #[error("the control page is missing")]
    ControlPageMissing,
    /// The control page's checksum or segment size is wrong.
    #[error("the control page is not valid")]
    ControlPageNotValid,
    /// An intact control page of a version that this program does not know.
    #[error("the control page's format version is unknown")]
    ControlPageOfUnknownVersion,
    /// The control page is that of another journal.
    #[error("the control page belongs to another journal")]
    ControlPageOfOtherJournal,
    /// An intact header of a version that this program does not know.
    #[error("the segment's format version is unknown")]
    HeaderOfUnknownVersion,
    /// An intact header of another journal.
    #[error("the segment belongs to another journal")]
    HeaderOfOtherJournal,
    /// No file, although the segment was durable.
    #[error("a durable segment is missing")]
    DurableSegmentMissing,
    /// A file of another size, although the segment was durable.
    #[error("a durable segment has the wrong size")]
    DurableSegmentOfWrongSize,
    /// No valid header, although the segment was durable.
    #[error("the header of a durable segment is not valid")]
    DurableHeaderNotValid,
    /// No file where the next segment would be.
    #[error("a segment is missing")]
    SegmentMissing,
    /// No valid header where the next segment would be.
    #[error("the header of a segment is not valid")]
    HeaderNotValid,
    /// A valid header that continues the segment before it.
    #[error("the segment continues the one before it")]
    HeaderContinues,
    /// A valid header that does not continue the segment before it.
    #[error("the segment does not continue the one before it")]
    HeaderDoesNotContinue,
    /// Valid records, closed by a valid commit record.
    #[error("a batch is whole")]
    BatchWhole,
    /// Anything else, and the next file continues this segment.
    #[error("no whole batch, and the next segment continues this one")]
    BatchNotWholeNextContinues,
    /// Anything else, and no file continues this segment.
    #[error("no whole batch")]
    BatchNotWhole,
}

/// What must be proven to have been durable for a row to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    Any,
    /// `expected` or above.
    Reaches,
    /// Below `expected`.
    Below,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Damage,
    Refused,
    /// The journal ends before the file.
    EndsBefore,
    ReadRecords,
    /// The file counts for nothing; the journal ends before it.
    Abandoned,
    ApplyBatch,
    SegmentEnds,
    /// The journal ends here.
    Torn,
}

pub(crate) struct Row {
    pub(crate) found: &'static [Found],
    pub(crate) evidence: Evidence,
    pub(crate) verdict: Verdict,
}

/// The first row that fits decides.
pub(crate) const TABLE: [Row; 12] = [
    row(
        &[
            Found::ControlPageMissing,
            Found::ControlPageNotValid,
            Found::ControlPageOfOtherJournal,
        ],
        Evidence::Any,
        Verdict::Damage,
    ),
    row(
        &[
            Found::ControlPageOfUnknownVersion,
            Found::HeaderOfUnknownVersion,
            Found::HeaderOfOtherJournal,
        ],
        Evidence::Any,
        Verdict::Refused,
    ),
    row(
        &[
            Found::DurableSegmentMissing,
            Found::DurableSegmentOfWrongSize,
            Found::DurableHeaderNotValid,
        ],
        Evidence::Any,
        Verdict::Damage,
    ),
    row(
        &[Found::SegmentMissing, Found::HeaderNotValid],
        Evidence::Reaches,
        Verdict::Damage,
    ),
    row(
        &[Found::SegmentMissing, Found::HeaderNotValid],
        Evidence::Below,
        Verdict::EndsBefore,
    ),
    row(&[Found::HeaderContinues], Evidence::Any, Verdict::ReadRecords),
    row(&[Found::HeaderDoesNotContinue], Evidence::Reaches, Verdict::Damage),
    row(&[Found::HeaderDoesNotContinue], Evidence::Below, Verdict::Abandoned),
    row(&[Found::BatchWhole], Evidence::Any, Verdict::ApplyBatch),
    row(
        &[Found::BatchNotWholeNextContinues],
        Evidence::Any,
        Verdict::SegmentEnds,
    ),
    row(&[Found::BatchNotWhole], Evidence::Reaches, Verdict::Damage),
    row(&[Found::BatchNotWhole], Evidence::Below, Verdict::Torn),
];

const fn row(found: &'static [Found], evidence: Evidence, verdict: Verdict) -> Row {
    Row {
        found,
        evidence,
        verdict,
    }
}

/// The verdict of the first row that fits. Whether the evidence reaches `expected` is asked only if it matters: finding out may mean to read all that
/// follows.
pub(crate) fn verdict<E>(found: Found, evidence_reaches: impl FnOnce() -> Result<bool, E>) -> Result<Verdict, E> {
    let mut rows = TABLE.iter().filter(|row| row.found.contains(&found)).peekable();
    let first = rows.peek().expect("the table has a row for whatever is found");
    if first.evidence == Evidence::Any {
        return Ok(first.verdict);
    }
    let evidence = if evidence_reaches()? {
        Evidence::Reaches
    } else {
        Evidence::Below
    };
    let row = rows
        .find(|row| row.evidence == evidence)
        .expect("the table has a row for either evidence");
    Ok(row.verdict)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn each_row_is_reached() {
        for (index, row) in TABLE.iter().enumerate() {
            for found in row.found {
                for reaches in [false, true] {
                    if matches!(
                        (row.evidence, reaches),
                        (Evidence::Reaches, false) | (Evidence::Below, true)
                    ) {
                        continue;
                    }
                    let Ok(verdict) = verdict(*found, || Ok::<_, Infallible>(reaches));
                    assert_eq!(
                        verdict, row.verdict,
                        "row {index}, {found:?}, evidence reaches: {reaches}"
                    );
                }
            }
        }
    }
}
