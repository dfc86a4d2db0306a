//! The names of pools, which events know by their ids.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_domain::{Event, PoolDefinition, PoolId, Timestamp};

use crate::error::ReplayError;
use crate::history::{History, Selection};
use crate::keys::keys_of_name;

/// The definitions of the pools that live at a moment, by id.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    definitions: HashMap<PoolId, Arc<PoolDefinition>>,
}

impl Catalog {
    /// Those of the pools that were there just before this time, retired ones included: the index leads to the definitions.
    ///
    /// # Errors
    /// As for [`crate::Forward::next`].
    pub fn before(history: &History, time: Timestamp) -> Result<Catalog, ReplayError> {
        let mut catalog = Catalog::default();
        let mut events = history.events(Selection {
            keys: Some(keys_of_name(None)),
            ..Selection::until(Timestamp(time.0.saturating_sub(1)))
        })?;
        while let Some(recorded) = events.next(history)? {
            if let Event::PoolCreated(defined) | Event::PoolChanged(defined) = &recorded.event {
                catalog
                    .definitions
                    .insert(defined.pool, Arc::clone(&defined.definition));
            }
        }
        Ok(catalog)
    }

    /// Takes what the event says of a definition; called with each event, this follows them. A retired pool is still known for its own event, and
    /// forgotten with the next call of [`Catalog::forget_retired`].
    pub fn take(&mut self, event: &Event) {
        if let Event::PoolCreated(defined) | Event::PoolChanged(defined) = event {
            self.definitions.insert(defined.pool, Arc::clone(&defined.definition));
        }
    }

    /// Forgets the pool that the event retires.
    pub fn forget_retired(&mut self, event: &Event) {
        if let Event::PoolRetired(retired) = event {
            self.definitions.remove(&retired.pool);
        }
    }

    /// The definition of a pool.
    pub fn get(&self, pool: PoolId) -> Option<&Arc<PoolDefinition>> {
        self.definitions.get(&pool)
    }

    /// How many pools are known.
    pub fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }
}

impl History {
    /// The pools that ever had this name, in the order of their lives: a retired one can be followed by another of the same name.
    ///
    /// # Errors
    /// As for [`crate::Forward::next`].
    pub fn pools_named(&self, name: &str) -> Result<Vec<PoolId>, ReplayError> {
        let mut pools = Vec::new();
        let mut events = self.events(Selection {
            partition: Some(plimsoll_domain::partition_of(name)),
            keys: Some(keys_of_name(Some(name))),
            ..Selection::ALL
        })?;
        while let Some(recorded) = events.next(self)? {
            if let Event::PoolCreated(defined) = &recorded.event
                && *defined.definition.name == *name
            {
                pools.push(defined.pool);
            }
        }
        Ok(pools)
    }
}
