//! The names and zones of pools that events know by their ids.

use std::collections::HashMap;

use plimsoll_domain::{Event, PoolId};
use plimsoll_record::{KIND_POOL_CHANGED, KIND_POOL_CREATED};
use plimsoll_replay::{Budget, History, Newest, Positions, ReplayError, Selection, Step, keys_of_name};

/// What a pool is called, and where it applies, by its last definition.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) name: Box<str>,
    pub(super) zone: Box<str>,
}

/// The labels of all pools that there ever were, found through the index of definitions at the first need: of living pools there is a shorter way. About
/// 150 bytes for each pool in all of history.
#[derive(Default)]
pub(super) struct Labels {
    known: HashMap<PoolId, Label>,
    /// What is being read, and up to where that was durable.
    loading: Option<(Newest, Positions)>,
    /// Up to where everything is known.
    known_upto: Option<Positions>,
}

impl Labels {
    /// The label of a pool. `Step::Paused`: not known yet; `Step::End`: there is none.
    pub(super) fn find(
        &mut self,
        history: &History,
        pool: PoolId,
        budget: &mut Budget,
    ) -> Result<Step<Label>, ReplayError> {
        if let Some(label) = self.known.get(&pool) {
            return Ok(Step::Next(label.clone()));
        }
        if self.loading.is_none() {
            let end = history.end()?;
            if self.known_upto.as_ref() == Some(&end) {
                return Ok(Step::End);
            }
            let selection = Selection {
                keys: Some(keys_of_name(None)),
                kinds: KIND_POOL_CREATED..=KIND_POOL_CHANGED,
                ..Selection::ALL
            };
            self.loading = Some((Newest::open(history, &end, selection)?, end));
        }
        let Some((newest, _)) = &mut self.loading else {
            return Ok(Step::End);
        };
        loop {
            match newest.next(history, &|_| true, budget) {
                Ok(Step::Next(recorded)) => {
                    if let Event::PoolCreated(defined) | Event::PoolChanged(defined) = &recorded.event {
                        self.known.entry(defined.pool).or_insert_with(|| Label {
                            name: defined.definition.name.clone(),
                            zone: defined.definition.zone.clone(),
                        });
                    }
                }
                Ok(Step::Paused) => return Ok(Step::Paused),
                Ok(Step::End) => {
                    self.known_upto = self.loading.take().map(|(_, end)| end);
                    let label = self.known.get(&pool).cloned();
                    return Ok(label.map_or(Step::End, Step::Next));
                }
                Err(error) => {
                    self.loading = None;
                    return Err(error);
                }
            }
        }
    }

    /// Gives files up that are only read from now and then.
    pub(super) fn rest(&mut self) {
        self.loading = None;
    }
}
