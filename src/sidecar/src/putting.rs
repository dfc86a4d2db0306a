//! Putting definitions: one after another until the engine has taken them.

use std::time::Instant;

use plimsoll_client::{Client, PoolDefinition, PutResult, Status};

use crate::limits::RETRY_AFTER;
use crate::problem::Problem;

/// Puts definitions, those again that the engine was too busy for, for as long as a request may take: the rest has taken effect already.
pub(crate) async fn put_all(client: &Client, definitions: &[PoolDefinition]) -> Result<Vec<PutResult>, Problem> {
    let until = Instant::now() + client.options().request_timeout;
    let mut results = put(client, definitions).await?;
    loop {
        let left: Vec<usize> = (0..results.len())
            .filter(|index| results[*index].status.known().is_some_and(Status::retryable))
            .collect();
        if left.is_empty() || Instant::now() >= until {
            return Ok(results);
        }
        tokio::time::sleep(RETRY_AFTER / 10).await;
        let definitions: Vec<_> = left.iter().map(|index| definitions[*index].clone()).collect();
        let again = put(client, &definitions).await?;
        for (index, result) in left.into_iter().zip(again) {
            results[index] = result;
        }
    }
}

async fn put(client: &Client, definitions: &[PoolDefinition]) -> Result<Vec<PutResult>, Problem> {
    client
        .put_pools(definitions, false)
        .await
        .map_err(|error| Problem::of_change(&error))
}

/// What would become of definitions.
pub(crate) async fn check_all(client: &Client, definitions: &[PoolDefinition]) -> Result<Vec<PutResult>, Problem> {
    client
        .put_pools(definitions, true)
        .await
        .map_err(|error| Problem::of_read(&error))
}
