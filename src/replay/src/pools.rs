//! The pools of a directory as of a moment, without their reservations.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use plimsoll_domain::{Counters, Event, PoolDefinition, PoolId, PoolImage, SnapshotPiece, Timestamp, Units};
use plimsoll_journal::{Lsn, SnapshotReader};

use crate::budget::{Budget, Step};
use crate::effect::{After, Effect};
use crate::error::{ReplayError, SnapshotFault};
use crate::forward::Forward;
use crate::history::{History, Selection};
use crate::positions::Positions;

/// Of so many retired pools the definitions are kept; past that all are forgotten.
const RETIRED_COUNT_MAX: usize = 1 << 16;

/// A pool and its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedPool {
    /// What holds.
    pub definition: Arc<PoolDefinition>,
    /// Counts the definitions.
    pub version: u64,
    /// Limits, what is held, what is confirmed.
    pub after: After,
}

/// Follows the definitions and counters of all pools along the events, forwards only. Events carry the units that they are about, so no reservation needs
/// to be known: memory is in proportion to the pools that live.
#[derive(Clone, Debug)]
pub struct FollowedPools {
    positions: Positions,
    pools: HashMap<PoolId, FollowedPool>,
    names: BTreeMap<Arc<str>, PoolId>,
    /// Those whose retirement was seen.
    retired: HashMap<PoolId, Arc<PoolDefinition>>,
}

impl FollowedPools {
    /// Begins with the newest snapshots that are not later than `latest`, or with nothing where there are none.
    pub fn near(history: &History, latest: Timestamp) -> FollowedPools {
        FollowedPools::of_snapshots(history, latest).unwrap_or_else(|| FollowedPools::empty(history.beginning()))
    }

    fn empty(positions: Positions) -> FollowedPools {
        FollowedPools {
            positions,
            pools: HashMap::new(),
            names: BTreeMap::new(),
            retired: HashMap::new(),
        }
    }

    /// Nothing if a core has none, or one that is damaged or gone: reading from the beginning is as good.
    fn of_snapshots(history: &History, latest: Timestamp) -> Option<FollowedPools> {
        let view = history.view();
        let mut followed = FollowedPools::empty(history.beginning());
        for (index, journal) in view.journals().iter().enumerate() {
            let position = match journal.core {
                // All of it is in the snapshots of those with a core.
                None => Positions::ALL_READ,
                Some(_) => {
                    let is_before = |path: &Path| {
                        let header = SnapshotReader::open(path).map(|reader| reader.header());
                        header.is_ok_and(|header| header.time <= latest.0)
                    };
                    let mut snapshots = view.snapshots(index).iter();
                    let snapshot = snapshots.find(|snapshot| is_before(&snapshot.path))?;
                    let lsn = followed.take_snapshot(&snapshot.path, history.dimension_count()).ok()?;
                    Lsn(lsn.0 + 1)
                }
            };
            followed.positions.set(index, position);
        }
        Some(followed)
    }

    fn take_snapshot(&mut self, path: &Path, dimension_count: usize) -> Result<Lsn, SnapshotFault> {
        let mut reader = SnapshotReader::open(path)?;
        let header = reader.header();
        while let Some(chunk) = reader.next_chunk()? {
            plimsoll_record::decode_pieces(chunk, dimension_count, |piece| {
                self.take_piece(piece);
                Ok::<(), SnapshotFault>(())
            })?;
        }
        Ok(header.lsn)
    }

    fn take_piece(&mut self, piece: SnapshotPiece) {
        let SnapshotPiece::Pools(partition, page) = piece else {
            return;
        };
        for (slot, image) in (page.first_slot..).zip(page.images) {
            if let PoolImage::Used {
                generation,
                version,
                definition,
                held,
                confirmed,
                ..
            } = image
            {
                let after = After {
                    limits: definition.limits,
                    held,
                    confirmed,
                };
                self.put(PoolId::new(partition, slot, generation), version, definition, after);
            }
        }
    }

    fn put(&mut self, pool: PoolId, version: u64, definition: Arc<PoolDefinition>, after: After) {
        self.names.insert(Arc::from(&*definition.name), pool);
        self.pools.insert(
            pool,
            FollowedPool {
                definition,
                version,
                after,
            },
        );
    }

    /// Takes what is durable now and not later than `until`, where `upto` is given no further than to there. True when that was all.
    ///
    /// # Errors
    /// As for [`Forward::next_within`]; then what was before the fault is taken.
    pub fn advance(
        &mut self,
        history: &History,
        upto: Option<&Positions>,
        until: Timestamp,
        budget: &mut Budget,
    ) -> Result<bool, ReplayError> {
        let mut events = Forward::open(history, &self.positions, upto, Selection::until(until))?;
        let result = loop {
            match events.next_within(history, budget) {
                Ok(Step::Next(recorded)) => self.take(&recorded.event),
                Ok(Step::Paused) => break Ok(false),
                Ok(Step::End) => break Ok(true),
                Err(error) => break Err(error),
            }
        };
        self.positions = events.positions();
        result
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::PoolCreated(defined) | Event::PoolChanged(defined) => {
                let (definition, limits) = (Arc::clone(&defined.definition), defined.definition.limits);
                let before = self.pools.get(&defined.pool);
                let after = After {
                    limits,
                    ..before.map_or(nothing(limits), |pool| pool.after)
                };
                self.put(defined.pool, defined.version, definition, after);
            }
            Event::PoolRetired(retired) => {
                if let Some(pool) = self.pools.remove(&retired.pool) {
                    if self.names.get(&*pool.definition.name) == Some(&retired.pool) {
                        self.names.remove(&*pool.definition.name);
                    }
                    if self.retired.len() >= RETIRED_COUNT_MAX {
                        self.retired.clear();
                    }
                    self.retired.insert(retired.pool, pool.definition);
                }
            }
            _ => {
                if let Some(pool) = event.pool().and_then(|pool| self.pools.get_mut(&pool)) {
                    pool.after.apply(&Effect::of(event));
                }
            }
        }
    }

    /// Up to where the events are taken.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The pool of this id, if it lives.
    pub fn get(&self, pool: PoolId) -> Option<&FollowedPool> {
        self.pools.get(&pool)
    }

    /// The id of the living pool of this name.
    pub fn id_of(&self, name: &str) -> Option<PoolId> {
        self.names.get(name).copied()
    }

    /// The definition of a pool that lives, or that was seen to retire.
    pub fn definition(&self, pool: PoolId) -> Option<&Arc<PoolDefinition>> {
        let living = self.pools.get(&pool).map(|pool| &pool.definition);
        living.or_else(|| self.retired.get(&pool))
    }

    /// The pools after this name, in the byte order of their names.
    pub fn after(&self, name: &str) -> impl Iterator<Item = (PoolId, &FollowedPool)> {
        let bounds = (Bound::Excluded(name), Bound::Unbounded);
        let names = self.names.range::<str, _>(bounds);
        names.filter_map(|(_, pool)| Some((*pool, self.pools.get(pool)?)))
    }
}

/// The counters of a pool of which nothing is reserved.
fn nothing(limits: Units) -> After {
    After {
        limits,
        held: Counters::default(),
        confirmed: Counters::default(),
    }
}
