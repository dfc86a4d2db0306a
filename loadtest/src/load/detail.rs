//! What is known of a load beyond its sums: by operation, by status, and how well the generator kept its schedule.
//!
//! - Counts and latencies are of what was sent or answered within the window.

use std::collections::BTreeMap;

use anyhow::Result;
use hdrhistogram::Histogram;
use plimsoll_client::StatusNumber;

use super::account::Record;
use super::mix::Operation;
use crate::ledger::{Fate, latencies};

/// What became of the commands of one operation.
#[derive(Clone, Debug)]
pub(crate) struct OperationDetail {
    /// Of those that took effect, nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
}

/// What is known of a load beyond its sums.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    /// By the index of the operation.
    pub(crate) operations: Vec<OperationDetail>,
    /// Of refusals, whatever the operation.
    pub(crate) refused: Histogram<u64>,
    /// From when a command was due until it was written.
    pub(crate) lag: Histogram<u64>,
    /// Commands that were due.
    pub(crate) due: u64,
    /// Commands that were sent.
    pub(crate) sent: u64,
    /// Commands that were sent too late to be called in time.
    pub(crate) late: u64,
    /// Commands that were due and never sent.
    pub(crate) unsent: u64,
    /// Answers other than ok, by the index of the operation.
    pub(crate) statuses: BTreeMap<(usize, StatusNumber), u64>,
    /// Connections that were lost and made anew.
    pub(crate) reconnects: u64,
    /// Lines of a file that ask for nothing: an order twice, the release of an order that has no reservation.
    pub(crate) skipped: u64,
    /// What was acknowledged, when the run accounts for it.
    pub(crate) records: Vec<Record>,
}

impl Detail {
    pub(crate) fn new() -> Result<Self> {
        let operation = OperationDetail {
            latencies: latencies()?,
            refused: 0,
            errors: 0,
            unknown: 0,
        };
        Ok(Self {
            operations: vec![operation; Operation::ALL.len()],
            refused: latencies()?,
            lag: latencies()?,
            due: 0,
            sent: 0,
            late: 0,
            unsent: 0,
            statuses: BTreeMap::new(),
            reconnects: 0,
            skipped: 0,
            records: Vec::new(),
        })
    }

    /// A command was answered within the window.
    #[inline]
    pub(super) fn answered(&mut self, operation: Operation, fate: Fate, nanos: u64) {
        let detail = &mut self.operations[operation.index()];
        match fate {
            Fate::Applied => detail.latencies.saturating_record(nanos),
            Fate::Refused => {
                detail.refused += 1;
                self.refused.saturating_record(nanos);
            }
            Fate::Error => detail.errors += 1,
            Fate::Unknown => detail.unknown += 1,
        }
    }

    #[cold]
    pub(super) fn status(&mut self, operation: Operation, status: StatusNumber) {
        *self.statuses.entry((operation.index(), status)).or_default() += 1;
    }

    /// Takes in what another thread has seen.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        for (own, others) in self.operations.iter_mut().zip(&other.operations) {
            own.latencies.add(&others.latencies)?;
            own.refused += others.refused;
            own.errors += others.errors;
            own.unknown += others.unknown;
        }
        self.refused.add(&other.refused)?;
        self.lag.add(&other.lag)?;
        self.due += other.due;
        self.sent += other.sent;
        self.late += other.late;
        self.unsent += other.unsent;
        for (kind, count) in &other.statuses {
            *self.statuses.entry(*kind).or_default() += count;
        }
        self.reconnects += other.reconnects;
        self.skipped += other.skipped;
        self.records.extend_from_slice(&other.records);
        Ok(())
    }
}
