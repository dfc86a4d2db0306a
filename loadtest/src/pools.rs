//! The pools of a run: made before it, added up after it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use plimsoll_client::{Client, Pool, PoolDefinition, PoolId};

use crate::ledger::Ledger;

/// The most units that one limit grants: more than a run can reserve.
pub(crate) const LIMIT: u32 = i32::MAX as u32;

/// Pools of one zone: what one query of availability finds.
pub(crate) const POOLS_PER_ZONE: usize = 20;

/// When the windows begin, microseconds since 1970: so late that no run meets their end.
const WINDOWS_BEGIN_MICROS: i64 = 4_000_000_000_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;

/// From when to when all windows of a zone lie, microseconds since 1970.
pub(crate) const ALL_WINDOWS: (i64, i64) = (
    WINDOWS_BEGIN_MICROS,
    WINDOWS_BEGIN_MICROS + POOLS_PER_ZONE as i64 * HOUR_MICROS,
);

/// The name of the zone with this index; its pools are the 20 from 20 times the index on, one an hour.
pub(crate) fn zone_name(index: usize) -> String {
    format!("loadtest-{index:04}")
}

/// From when to when the pool with this index can be used, microseconds since 1970.
pub(crate) fn window(index: usize) -> (i64, i64) {
    let starts_at = WINDOWS_BEGIN_MICROS + (index % POOLS_PER_ZONE) as i64 * HOUR_MICROS;
    (starts_at, starts_at + HOUR_MICROS)
}

fn pool_name(index: usize, limit: Option<u32>) -> String {
    match limit {
        None => format!("loadtest-{index:05}"),
        Some(limit) => format!("loadtest-{index:05}-of-{limit}"),
    }
}

fn definition(index: usize, name: &str, dimensions: usize, limit: u32) -> PoolDefinition {
    let (starts_at, ends_at) = window(index);
    PoolDefinition {
        zone: zone_name(index / POOLS_PER_ZONE),
        kind: "loadtest".to_owned(),
        starts_at,
        ends_at,
        ..PoolDefinition::new(name, vec![limit; dimensions])
    }
}

/// The pools of a run.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) ids: Vec<PoolId>,
    names: Vec<String>,
    /// What was reserved of each when the run began: 0 on a fresh server.
    used_before: Vec<i64>,
}

impl Pools {
    /// Makes the pools, or takes those that are there.
    ///
    /// With a limit they are other pools than without, so that a running server keeps each as it is.
    pub(crate) async fn prepare(client: &Client, count: usize, limit: Option<u32>) -> Result<Self> {
        let dimensions = client.dimensions().len();
        let names: Vec<String> = (0..count).map(|index| pool_name(index, limit)).collect();
        let definitions: Vec<PoolDefinition> = names
            .iter()
            .enumerate()
            .map(|(index, name)| definition(index, name, dimensions, limit.unwrap_or(LIMIT)))
            .collect();
        Self::put(client, names, &definitions).await
    }

    /// Makes the pools that a file of orders names.
    pub(crate) async fn prepare_named(client: &Client, names: &[String], limit: Option<u32>) -> Result<Self> {
        let dimensions = client.dimensions().len();
        let definitions: Vec<PoolDefinition> = names
            .iter()
            .enumerate()
            .map(|(index, name)| definition(index, name, dimensions, limit.unwrap_or(LIMIT)))
            .collect();
        Self::put(client, names.to_vec(), &definitions).await
    }

    /// Finds pools that exist.
    pub(crate) async fn find(client: &Client, names: &[String]) -> Result<Self> {
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = client.resolve(&texts).await.context("cannot find the pools")?;
        let ids = found.iter().zip(names).map(|(id, name)| {
            id.with_context(|| format!("there is no pool {name}; `plimsoll pool import` makes pools"))
        });
        Ok(Self {
            ids: ids.collect::<Result<_>>()?,
            names: names.to_vec(),
            used_before: used(client, names).await?,
        })
    }

    async fn put(client: &Client, names: Vec<String>, definitions: &[PoolDefinition]) -> Result<Self> {
        let results = client
            .put_pools(definitions, false)
            .await
            .context("cannot make the pools")?;
        let mut ids = Vec::with_capacity(names.len());
        for (name, result) in names.iter().zip(&results) {
            match result.pool {
                Some(id) if result.status.is_ok() => ids.push(id),
                _ => bail!("pool {name} was refused: {}", result.status),
            }
        }
        let used_before = used(client, &names).await?;
        Ok(Self {
            ids,
            names,
            used_before,
        })
    }

    /// What is reserved of each pool by this run, as the server says.
    pub(crate) async fn used(&self, client: &Client) -> Result<Vec<i64>> {
        let now = used(client, &self.names).await?;
        Ok(now
            .iter()
            .zip(&self.used_before)
            .map(|(now, before)| now - before)
            .collect())
    }
}

/// Units of the first dimension that are held or confirmed, in the order of the names.
async fn used(client: &Client, names: &[String]) -> Result<Vec<i64>> {
    let all: Vec<Pool> = client.all_pools().collect().await.context("cannot read the pools")?;
    let by_name: HashMap<&str, i64> = all
        .iter()
        .map(|pool| {
            let first = |units: &[i64]| units.first().copied().unwrap_or(0);
            (
                pool.definition.name.as_str(),
                first(&pool.held) + first(&pool.confirmed),
            )
        })
        .collect();
    names
        .iter()
        .map(|name| {
            by_name
                .get(name.as_str())
                .copied()
                .with_context(|| format!("pool {name} is gone"))
        })
        .collect()
}

/// Compares the pools with what the generator was told. The error says what is wrong.
///
/// Without unknown outcomes each pool must agree; with some, the total must lie within what they allow.
pub(crate) fn compare(server: &[i64], ledger: &Ledger) -> Result<String, String> {
    let known: i64 = ledger.used.iter().sum();
    let total: i64 = server.iter().sum();
    let low = known - ledger.unknown_releases as i64;
    let high = known + ledger.unknown_reserves as i64;
    if low == high {
        let differing = server
            .iter()
            .zip(&ledger.used)
            .filter(|(server, known)| server != known)
            .count();
        return if differing == 0 {
            Ok(format!(
                "{total} units reserved, the same in each pool and in the answers"
            ))
        } else {
            Err(format!(
                "the pools hold {total} units, the answers say {known}; {differing} pools differ"
            ))
        };
    }
    if (low..=high).contains(&total) {
        Ok(format!(
            "{total} units reserved; with unknown outcomes, {low} to {high} would be right"
        ))
    } else {
        Err(format!(
            "the pools hold {total} units, the answers allow {low} to {high}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::Fate;

    fn ledger(fates: &[(u16, Fate)]) -> Ledger {
        let mut ledger = Ledger::new(2, Arc::default()).expect("the bounds are sound");
        for &(pool, fate) in fates {
            ledger.reserve(pool, fate);
        }
        ledger
    }

    #[test]
    fn sums() {
        let certain = ledger(&[(0, Fate::Applied), (1, Fate::Applied), (1, Fate::Refused)]);
        assert!(compare(&[1, 1], &certain).is_ok());
        assert!(
            compare(&[2, 0], &certain).is_err(),
            "the total is right, the pools are not"
        );
        assert!(compare(&[1, 2], &certain).is_err());
        let uncertain = ledger(&[(0, Fate::Applied), (1, Fate::Unknown)]);
        assert!(compare(&[1, 0], &uncertain).is_ok());
        assert!(compare(&[1, 1], &uncertain).is_ok());
        assert!(compare(&[0, 0], &uncertain).is_err());
        assert!(compare(&[1, 2], &uncertain).is_err());
    }
}
