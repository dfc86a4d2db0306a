//! Taking a pool back to an earlier moment: the thread finds out what it was, its owner makes that the present.
//!
//! What a pool was at a moment that is over never changes, so it is kept for the further pages of a dry run, and for the real run behind it.
//!
//! A long life takes as long to read as it takes, so a reset is not bounded as other requests are; but it ends when its client is gone or the server stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_domain::{PoolId, ResetTarget, Timestamp, partition_of};
use plimsoll_engine::{Answer, Call};
use plimsoll_protocol::Status;
use plimsoll_replay::PoolLedger;

use super::lookup::unexpected;
use super::reader::{Page, Reader, work};
use super::{Refused, ResetQuestion};
use crate::limits::{RESET_TARGET_RESERVATIONS_MAX, RESET_TARGETS_MAX};

/// What becomes durable later than this behind a moment does not belong to it any more.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// Which past of a pool is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    pool: PoolId,
    to: Timestamp,
    /// With its definition.
    attributes: bool,
}

/// What a pool was.
pub(super) struct KeptTarget {
    wanted: Wanted,
    target: Arc<ResetTarget>,
    pub(super) used_at: Instant,
}

impl Reader {
    pub(super) fn reset(&mut self, question: &ResetQuestion, goes_on: &dyn Fn() -> bool) -> Result<Page, Refused> {
        let now = self.now();
        if question.to > now.0 {
            return Err(Refused(Status::Invalid, "to: a time that has not come".into()));
        }
        let owner = usize::from(self.history()?.view().owners()[partition_of(&question.pool).index()]);
        let core = self.core_of(owner)?;
        let is_settled = question.to < now.0 - SETTLED_AFTER.as_micros() as i64;
        if !is_settled {
            // What was decided before that moment may not be durable yet. Whatever the owner answers now comes after it.
            self.look_up(core, Vec::new())?;
        }
        let end = self.history()?.end()?;
        while !self.follow(Some(&end), &mut work())? {
            if !goes_on() {
                return Err(given_up());
            }
        }
        let Some(pool) = self.followed()?.id_of(&question.pool) else {
            return Err(Refused(Status::PoolNotFound, Status::PoolNotFound.meaning().into()));
        };
        let wanted = Wanted {
            pool,
            to: Timestamp(question.to),
            attributes: question.attributes,
        };
        let target = self.target(wanted, is_settled, goes_on)?;
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

    fn target(
        &mut self,
        wanted: Wanted,
        is_settled: bool,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Arc<ResetTarget>, Refused> {
        if let Some(kept) = self.targets.iter_mut().find(|kept| kept.wanted == wanted) {
            kept.used_at = Instant::now();
            return Ok(Arc::clone(&kept.target));
        }
        let budget = || goes_on().then(work);
        let ledger = PoolLedger::at_within(self.history()?, wanted.pool, wanted.to, budget)?.ok_or_else(given_up)?;
        let Some(definition) = ledger.definition else {
            return Err(Refused(Status::Invalid, "to: the pool did not exist then".into()));
        };
        let target = Arc::new(ResetTarget {
            to: wanted.to,
            definition: wanted.attributes.then(|| Arc::unwrap_or_clone(definition)),
            reservations: ledger.reservations.into_values().collect(),
        });
        // What becomes durable yet can still belong to a moment that is hardly over.
        if is_settled {
            self.targets.push(KeptTarget {
                wanted,
                target: Arc::clone(&target),
                used_at: Instant::now(),
            });
            give_up(&mut self.targets, RESET_TARGETS_MAX, RESET_TARGET_RESERVATIONS_MAX);
        }
        Ok(target)
    }
}

fn given_up() -> Refused {
    let detail = "the server is stopping, or nobody waits for the answer any more; nothing was changed";
    Refused(Status::Unavailable, detail.into())
}

/// Gives up those that were used longest ago, until no more are left than there may be; the last one stays.
fn give_up(targets: &mut Vec<KeptTarget>, count_max: usize, reservations_max: usize) {
    let mut total: usize = targets.iter().map(|kept| kept.target.reservations.len()).sum();
    while targets.len() > 1 && (targets.len() > count_max || total > reservations_max) {
        let last = targets.len() - 1;
        let oldest = (0..last).min_by_key(|place| targets[*place].used_at).unwrap_or(0);
        total -= targets.remove(oldest).target.reservations.len();
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::{Key, PartitionId, PastReservation, ReservationId, Units};

    use super::*;

    fn kept(number: u32, reservations: usize) -> KeptTarget {
        let reservation = PastReservation {
            reservation: ReservationId(1),
            key: Key(1),
            created_at: Timestamp(1),
            units: Units::default(),
            requested_units: Units::default(),
            hold_seconds: 0,
            expires_at: None,
            version: 0,
            would_refuse: false,
            reference: None,
        };
        KeptTarget {
            wanted: Wanted {
                pool: PoolId::new(PartitionId(0), number, 1),
                to: Timestamp(1),
                attributes: false,
            },
            target: Arc::new(ResetTarget {
                to: Timestamp(1),
                definition: None,
                reservations: vec![reservation; reservations],
            }),
            used_at: Instant::now() + Duration::from_millis(u64::from(number)),
        }
    }

    #[test]
    fn past_pools_are_kept_within_bounds() {
        let check = |sizes: &[usize], expected: &[usize]| {
            let mut targets = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                targets.push(kept(number as u32, *size));
                give_up(&mut targets, 3, 10);
            }
            let left: Vec<_> = targets.iter().map(|kept| kept.target.reservations.len()).collect();
            assert_eq!(left, expected, "{sizes:?}");
        };
        check(&[1, 2, 3], &[1, 2, 3]);
        check(&[1, 2, 3, 4], &[2, 3, 4]);
        check(&[4, 4, 4], &[4, 4]);
        check(&[1, 2, 50], &[50]);
        check(&[50, 1], &[1]);
    }
}
