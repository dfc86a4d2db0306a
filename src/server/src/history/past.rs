//! Pools as they were.
//!
//! Putting the state of a moment together is costly: it is done a bounded piece at a time, and the last ones are kept for further pages. They hold pools and
//! their counters, no reservations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_domain::Timestamp;
use plimsoll_engine::PoolReport;
use plimsoll_engine::limits::ANSWER_SIZE_MAX;
use plimsoll_protocol::Status;
use plimsoll_replay::{Budget, FollowedPool, FollowedPools};

use super::reader::{Page, Reader};
use super::{PastQuestion, Refused};
use crate::limits::PAST_STATES_MAX;

/// A state whose pages are still being read is not given up for another one within this time.
const IN_USE_FOR: Duration = Duration::from_secs(10);

/// The pools as of a moment, perhaps not there yet.
pub(super) struct PastState {
    at: i64,
    pools: FollowedPools,
    pub(super) used_at: Instant,
    /// The last page said that there is more.
    has_more: bool,
}

impl Reader {
    pub(super) fn past(&mut self, question: &PastQuestion, budget: &mut Budget) -> Result<Page, Refused> {
        if question.at > self.now().0 {
            return Err(Refused(Status::Invalid, "at: a time that has not come".into()));
        }
        let mut state = self.past_state(question.at)?;
        // Also when it was there before: what lies just behind may have become durable since.
        let is_there = state
            .pools
            .advance(self.history()?, None, Timestamp(question.at), budget);
        let page = is_there
            .as_ref()
            .is_ok_and(|is_there| *is_there)
            .then(|| page(&state.pools, question));
        let page = page.unwrap_or(Page::Past {
            pools: Vec::new(),
            more: true,
        });
        state.has_more = matches!(page, Page::Past { more: true, .. });
        self.past.push(state);
        is_there?;
        Ok(page)
    }

    /// Takes out the kept state of this moment, or begins one; the one that was used longest ago makes room.
    fn past_state(&mut self, at: i64) -> Result<PastState, Refused> {
        let now = Instant::now();
        if let Some(kept) = self.past.iter().position(|state| state.at == at) {
            let mut state = self.past.remove(kept);
            state.used_at = now;
            return Ok(state);
        }
        if self.past.len() >= PAST_STATES_MAX {
            let is_free = |state: &PastState| !state.has_more || now.duration_since(state.used_at) >= IN_USE_FOR;
            let places = self.past.iter().enumerate().filter(|(_, state)| is_free(state));
            let Some((place, _)) = places.min_by_key(|(_, state)| state.used_at) else {
                let detail = format!("pages of {PAST_STATES_MAX} past states are being read already");
                return Err(Refused(Status::Overloaded, detail));
            };
            self.past.remove(place);
        }
        // The newest snapshots before that moment may be younger than what was read of the manifest.
        self.refresh()?;
        Ok(PastState {
            at,
            pools: FollowedPools::near(self.history()?, Timestamp(at)),
            used_at: now,
            has_more: true,
        })
    }
}

fn page(pools: &FollowedPools, question: &PastQuestion) -> Page {
    let wanted = |pool: &FollowedPool| {
        question.zone.as_ref().is_none_or(|zone| *zone == pool.definition.zone)
            && question.kind.as_ref().is_none_or(|kind| *kind == pool.definition.kind)
    };
    let report = |(id, pool): (_, &FollowedPool)| PoolReport {
        id,
        definition: Arc::clone(&pool.definition),
        version: pool.version,
        held: pool.after.held,
        confirmed: pool.after.confirmed,
    };
    if let Some(name) = &question.pool {
        let pool = pools.id_of(name).and_then(|id| Some((id, pools.get(id)?)));
        return Page::Past {
            pools: pool.into_iter().filter(|(_, pool)| wanted(pool)).map(report).collect(),
            more: false,
        };
    }
    let mut page = Vec::new();
    let mut size = 0;
    for (id, pool) in pools.after(&question.after).filter(|(_, pool)| wanted(pool)) {
        let report = report((id, pool));
        size += report.size_in_answer();
        if page.len() == question.limit || (size > ANSWER_SIZE_MAX && !page.is_empty()) {
            return Page::Past {
                pools: page,
                more: true,
            };
        }
        page.push(report);
    }
    Page::Past {
        pools: page,
        more: false,
    }
}
