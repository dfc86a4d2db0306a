//! Taking a pool back to an earlier moment: the thread finds out what it was, its owner makes that the present.
//!
//! What a pool was at a moment that is over never changes, so it is kept for the further pages of a dry run, and for the real run behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_domain::{PastReservation, PoolId, ResetTarget, Timestamp, partition_of};
use plimsoll_engine::{Answer, Call};
use plimsoll_protocol::Status;
use plimsoll_replay::PoolLedger;

use super::lookup::unexpected;
use super::reader::{Page, Reader};
use super::{Refused, ResetQuestion};

/// What became durable later than this behind a moment does not belong to it any more.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// What a pool was.
pub(super) struct KnownTarget {
    pool: PoolId,
    /// With the definition as of then.
    target: Arc<ResetTarget>,
    pub(super) used_at: Instant,
}

impl Reader {
    pub(super) fn reset(&mut self, question: &ResetQuestion) -> Result<Page, Refused> {
        let now = self.now();
        if question.to > now.0 {
            return Err(Refused(Status::Invalid, "to: a time that has not come".into()));
        }
        let owner = usize::from(self.history()?.view().owners()[partition_of(&question.pool).index()]);
        let pools = self.history()?.pools_named(&question.pool)?;
        let Some(pool) = pools.last().copied() else {
            return Err(Refused(Status::PoolNotFound, Status::PoolNotFound.meaning().into()));
        };
        let target = self.target(pool, Timestamp(question.to), now)?;
        let target = match question.attributes {
            true => target,
            false => Arc::new(ResetTarget {
                definition: None,
                ..(*target).clone()
            }),
        };
        let core = self.core_of(owner)?;
        let call = Call::ResetPool {
            pool: question.pool.clone(),
            target,
            expected_version: question.expected_version,
            dry_run: question.dry_run,
        };
        match self.ask_engine(core, call)? {
            Answer::Reset(report) => {
                if report.is_done {
                    tracing::warn!(
                        pool = %question.pool,
                        to = question.to,
                        changes = report.changes.len(),
                        "a pool was taken back to an earlier moment"
                    );
                }
                Ok(Page::Reset {
                    report,
                    offset: question.offset,
                    limit: question.limit,
                })
            }
            answer => Err(unexpected(&answer)),
        }
    }

    /// The core that runs a journal.
    fn core_of(&self, journal: usize) -> Result<usize, Refused> {
        let core = self.history_read()?.view().journals()[journal].core;
        let unavailable = || Refused(Status::Unavailable, "the pool's journal has no core".into());
        core.map(usize::from).ok_or_else(unavailable)
    }

    fn target(&mut self, pool: PoolId, to: Timestamp, now: Timestamp) -> Result<Arc<ResetTarget>, Refused> {
        if let Some(known) = &mut self.reset_target
            && (known.pool, known.target.to) == (pool, to)
        {
            known.used_at = Instant::now();
            return Ok(Arc::clone(&known.target));
        }
        let ledger = PoolLedger::at(self.history()?, pool, to)?;
        let Some(definition) = &ledger.definition else {
            return Err(Refused(Status::Invalid, "to: the pool did not exist then".into()));
        };
        let reservations = ledger.reservations.iter().map(|(id, past)| PastReservation {
            reservation: *id,
            key: past.key,
            created_at: past.created_at,
            units: past.units,
            requested_units: past.requested_units,
            hold_seconds: past.hold_seconds,
            expires_at: past.expires_at,
            version: past.version,
            would_refuse: past.would_refuse,
            reference: past.reference.clone(),
        });
        let target = Arc::new(ResetTarget {
            to,
            definition: Some((**definition).clone()),
            reservations: reservations.collect(),
        });
        let is_settled = to.0 < now.0 - SETTLED_AFTER.as_micros() as i64;
        self.reset_target = is_settled.then(|| KnownTarget {
            pool,
            target: Arc::clone(&target),
            used_at: Instant::now(),
        });
        Ok(target)
    }
}
