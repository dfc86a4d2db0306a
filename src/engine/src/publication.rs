//! What readers may be told, once it is durable.
//!
//! Invariant: a publication holds the numbers of the moment at which its batch was closed, and is given out only when that batch is durable. So
//! nothing is told that a crash can take back.

use std::collections::VecDeque;
use std::sync::Arc;

use plimsoll_domain::{Counters, PoolDefinition, PoolId, State, Timestamp};
use plimsoll_journal::Lsn;

/// What a batch changed, for those who only read.
#[derive(Debug, Default)]
pub struct Publication {
    /// The time of the batch.
    pub at: Timestamp,
    /// The pools that were created or changed, as they are now.
    pub defined: Vec<DefinedPool>,
    /// The pools that were retired.
    pub retired: Vec<PoolId>,
    /// What is held and confirmed in each pool in which that changed.
    pub reserved: Vec<(PoolId, Counters)>,
    upto: Lsn,
}

/// A pool that was created or changed.
#[derive(Debug)]
pub struct DefinedPool {
    /// Its id.
    pub pool: PoolId,
    /// Counts its definitions.
    pub version: u64,
    /// What the planner says of it.
    pub definition: Arc<PoolDefinition>,
}

#[derive(Default)]
pub(crate) struct Publications {
    waiting: VecDeque<Publication>,
    spare: Vec<Publication>,
    touched: Vec<PoolId>,
    /// Pools of the open batch that were created, changed or retired.
    redefined: Vec<PoolId>,
}

/// Publications whose memory is kept.
const SPARE_COUNT_MAX: usize = 4;

impl Publications {
    /// The open batch creates, changes or retires the pool.
    pub(crate) fn redefine(&mut self, pool: PoolId) {
        self.redefined.push(pool);
    }

    /// The batch is closed: its publication waits until the journal is durable up to `upto`.
    pub(crate) fn gather(&mut self, state: &mut State, upto: Lsn, at: Timestamp) {
        state.take_touched(&mut self.touched);
        if self.touched.is_empty() {
            return;
        }
        let mut publication = self.spare.pop().unwrap_or_default();
        (publication.upto, publication.at) = (upto, at);
        self.redefined.sort_unstable();
        self.redefined.dedup();
        for id in self.redefined.drain(..) {
            publication.define(state, id);
        }
        for id in self.touched.drain(..) {
            publication.reserve(state, id);
        }
        self.waiting.push_back(publication);
    }

    /// All that there is, which is durable already.
    pub(crate) fn publish_all(&mut self, state: &mut State, at: Timestamp) {
        state.take_touched(&mut self.touched);
        self.touched.clear();
        let mut publication = Publication {
            at,
            ..Publication::default()
        };
        let mut ids = Vec::with_capacity(state.pool_count());
        ids.extend(state.pools_after("").map(|(id, _)| id));
        for id in ids {
            publication.define(state, id);
            publication.reserve(state, id);
        }
        self.waiting.push_back(publication);
    }

    pub(crate) fn next(&mut self, durable: Lsn) -> Option<Publication> {
        if self.waiting.front()?.upto > durable {
            return None;
        }
        self.waiting.pop_front()
    }

    pub(crate) fn recycle(&mut self, mut publication: Publication) {
        if self.spare.len() < SPARE_COUNT_MAX {
            publication.defined = Vec::new();
            publication.retired.clear();
            publication.reserved.clear();
            self.spare.push(publication);
        }
    }

    /// The time up to which everything has been given out: before that of the first batch that has not been, or now.
    pub(crate) fn as_of(&self, now: Timestamp) -> Timestamp {
        let before = |publication: &Publication| publication.at.plus_micros(-1);
        self.waiting.front().map_or(now, before)
    }
}

impl Publication {
    fn define(&mut self, state: &State, id: PoolId) {
        match state.pool(id) {
            Some(pool) => self.defined.push(DefinedPool {
                pool: id,
                version: pool.version(),
                definition: Arc::clone(pool.definition()),
            }),
            None => self.retired.push(id),
        }
    }

    fn reserve(&mut self, state: &State, id: PoolId) {
        if let Some(pool) = state.pool(id) {
            let mut reserved = *pool.held();
            for (sum, confirmed) in reserved.0.iter_mut().zip(pool.confirmed().0) {
                *sum += confirmed;
            }
            self.reserved.push((id, reserved));
        }
    }
}
