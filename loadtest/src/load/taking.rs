//! Takes the answers of one round.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use plimsoll_client::protocol::OutcomesView;
use plimsoll_client::protocol::frame::Frame;
use plimsoll_client::{ReservationId, Status, StatusNumber};

use super::detail::Detail;
use super::mix::Operation;
use super::source::{Entry, Source};
use crate::ledger::{Fate, Ledger, Window, nanos};
use crate::worker::queries;

/// The time of one round, in both forms.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    /// Nanoseconds since the load began.
    pub(super) nanos: u64,
    /// Whether it lies in the window.
    pub(super) counting: bool,
}

impl Now {
    pub(super) fn of(begun: Instant, window: Window) -> Self {
        let instant = Instant::now();
        Self {
            instant,
            nanos: nanos(instant - begun),
            counting: window.start <= instant && instant < window.end,
        }
    }
}

/// What answers are counted in.
pub(super) struct Taking<'round> {
    pub(super) source: &'round mut Source,
    pub(super) now: Now,
    pub(super) detail: &'round mut Detail,
    pub(super) ledger: &'round mut Ledger,
    pub(super) accepted_only: bool,
}

impl Taking<'_> {
    /// Takes the answer to a frame of these commands.
    pub(super) fn frame(&mut self, frame: Frame<'_>, entries: &[Entry], dimensions: usize) -> Result<()> {
        let status = frame.header.status;
        if !status.is_ok() {
            for entry in entries {
                self.answer(entry, status, false, ReservationId(0));
            }
            return Ok(());
        }
        if entries[0].operation == Operation::Availability {
            queries::read_answer(frame)?;
            self.answer(&entries[0], status, false, ReservationId(0));
            return Ok(());
        }
        frame.check_payload()?;
        let view = OutcomesView::new(frame.payload, frame.header.count, dimensions)?;
        if view.len() != entries.len() {
            bail!("{} outcomes answer {} commands", view.len(), entries.len());
        }
        for (found, entry) in view.iter().zip(entries) {
            let outcome = found.outcome;
            self.answer(
                entry,
                outcome.status_number(),
                outcome.is_repeated(),
                outcome.reservation_id(),
            );
        }
        Ok(())
    }

    #[inline]
    fn answer(&mut self, entry: &Entry, status: StatusNumber, repeated: bool, id: ReservationId) {
        let fate = fate_of(status, repeated);
        let latency = self.now.nanos - entry.due;
        if fate == Fate::Applied || !self.accepted_only {
            self.ledger.latency(Duration::from_nanos(latency), 1);
        }
        if self.now.counting {
            self.detail.answered(entry.operation, fate, latency);
            if !status.is_ok() {
                self.detail.status(entry.operation, status);
            }
        }
        if fate == Fate::Error {
            let operation = entry.operation.name();
            self.ledger
                .note(|| format!("{operation} was answered with {status}, repeated: {repeated}"));
        }
        count_fate(self.ledger, entry, fate);
        self.source.answered(entry, fate, id);
    }
}

/// Pools may be closed in a load that somebody else's server gets.
#[inline]
fn fate_of(status: StatusNumber, repeated: bool) -> Fate {
    match Fate::of(status, repeated) {
        Fate::Error
            if [Status::PoolClosed, Status::PoolNotOpenYet, Status::PoolPastClosing]
                .into_iter()
                .any(|refusal| status == refusal.into()) =>
        {
            Fate::Refused
        }
        fate => fate,
    }
}

pub(super) fn count_fate(ledger: &mut Ledger, entry: &Entry, fate: Fate) {
    let units = entry.units;
    match entry.operation {
        Operation::Reserve | Operation::Hold => ledger.reserve_units(entry.pool, units, fate),
        Operation::Confirm => ledger.confirm(fate),
        Operation::Release => ledger.release_units(entry.pool, units, fate),
        Operation::Availability if fate == Fate::Applied => ledger.query(),
        Operation::Availability => ledger.failed_answer(fate),
    }
}
