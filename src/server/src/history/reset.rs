//! Taking a pool back to an earlier moment: the thread finds out what it was, its owner makes that the present.
//!
//! What a pool was at a moment that is over never changes, so it is kept for the further pages of a dry run, and for the real run behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_domain::{PoolId, ResetTarget, Timestamp, partition_of};
use plimsoll_engine::{Answer, Call};
use plimsoll_protocol::Status;
use plimsoll_replay::{Budget, PoolLedger, ledgers_at};

use super::lookup::unexpected;
use super::reader::{Page, Reader};
use super::{Refused, ResetQuestion};

/// What becomes durable later than this behind a moment does not belong to it any more.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// What pools were at a moment.
pub(super) struct Targets {
    to: Timestamp,
    /// With their definitions as of then.
    targets: HashMap<PoolId, Option<Arc<ResetTarget>>>,
    /// All pools are there: a second one was asked for, and reading everything once is less than reading for each.
    has_all: bool,
    pub(super) used_at: Instant,
}

impl Reader {
    pub(super) fn reset(&mut self, question: &ResetQuestion) -> Result<Page, Refused> {
        let now = self.now();
        if question.to > now.0 {
            return Err(Refused(Status::Invalid, "to: a time that has not come".into()));
        }
        let owner = usize::from(self.history()?.view().owners()[partition_of(&question.pool).index()]);
        // A manifest read long ago may not name the newest snapshots.
        self.follow(None, &mut Budget::unlimited())?;
        let Some(pool) = self.followed()?.id_of(&question.pool) else {
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
        let known = self.targets.take().filter(|known| known.to == to);
        let mut known = match known {
            Some(known) if known.has_all || known.targets.contains_key(&pool) => known,
            known => {
                let history = self.history()?;
                let has_all = known.is_some();
                let targets = match has_all {
                    false => [(pool, target_of(&PoolLedger::at(history, pool, to)?, to))].into(),
                    true => ledgers_at(history, to)?
                        .iter()
                        .map(|(pool, ledger)| (*pool, target_of(ledger, to)))
                        .collect(),
                };
                Targets {
                    to,
                    targets,
                    has_all,
                    used_at: Instant::now(),
                }
            }
        };
        known.used_at = Instant::now();
        let target = known.targets.get(&pool).cloned().flatten();
        // What became durable since can still belong to a moment that is hardly over.
        if to.0 < now.0 - SETTLED_AFTER.as_micros() as i64 {
            self.targets = Some(known);
        }
        target.ok_or_else(|| Refused(Status::Invalid, "to: the pool did not exist then".into()))
    }
}

/// What a pool was; nothing if it did not exist.
fn target_of(ledger: &PoolLedger, to: Timestamp) -> Option<Arc<ResetTarget>> {
    let definition = ledger.definition.as_ref()?;
    Some(Arc::new(ResetTarget {
        to,
        definition: Some((**definition).clone()),
        reservations: ledger.reservations.values().cloned().collect(),
    }))
}
