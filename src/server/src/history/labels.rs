//! The names and zones of pools that events know by their ids.

use std::collections::HashMap;
use std::time::Instant;

use plimsoll_domain::{Event, PoolDefinition, PoolId};
use plimsoll_record::{KIND_POOL_CHANGED, KIND_POOL_CREATED};
use plimsoll_replay::{Budget, Forward, History, Positions, ReplayError, Selection, Step, keys_of_name};

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
    /// What is being read.
    loading: Option<Forward>,
    /// Up to where everything is known.
    known_upto: Positions,
    pub(super) used_at: Option<Instant>,
}

impl Labels {
    /// The label of a pool. `Step::Paused`: not known yet; `Step::End`: there is none.
    pub(super) fn find(
        &mut self,
        history: &History,
        pool: PoolId,
        budget: &mut Budget,
    ) -> Result<Step<Label>, ReplayError> {
        self.used_at = Some(Instant::now());
        if self.loading.is_none() {
            if let Some(label) = self.known.get(&pool) {
                return Ok(Step::Next(label.clone()));
            }
            let selection = Selection {
                keys: Some(keys_of_name(None)),
                kinds: KIND_POOL_CREATED..=KIND_POOL_CHANGED,
                ..Selection::ALL
            };
            self.loading = Some(Forward::open(history, &self.known_upto, None, selection)?);
        }
        let Some(events) = &mut self.loading else {
            return Ok(Step::End);
        };
        let result = loop {
            match events.next_within(history, budget) {
                Ok(Step::Next(recorded)) => {
                    if let Event::PoolCreated(defined) | Event::PoolChanged(defined) = &recorded.event {
                        self.known.insert(defined.pool, label_of(&defined.definition));
                    }
                }
                Ok(Step::Paused) => return Ok(Step::Paused),
                Ok(Step::End) => {
                    let label = self.known.get(&pool).cloned();
                    break Ok(label.map_or(Step::End, Step::Next));
                }
                Err(error) => break Err(error),
            }
        };
        self.known_upto = events.positions();
        self.loading = None;
        result
    }
}

pub(super) fn label_of(definition: &PoolDefinition) -> Label {
    Label {
        name: definition.name.clone(),
        zone: definition.zone.clone(),
    }
}
