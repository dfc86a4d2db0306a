//! Putting definitions: one after another until the engine has taken them.

use std::sync::Arc;
use std::time::Instant;

use plimsoll_client::{Applied, Client, PoolDefinition, PutResult, Status};
use tokio::sync::Semaphore;

use crate::limits::RETRY_AFTER;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// Puts definitions, those again that the engine was too busy for, for as long as a request may take: the rest has taken effect already.
pub(crate) async fn put_all(client: &Client, definitions: &[PoolDefinition]) -> Result<Vec<PutResult>, Problem> {
    let until = Instant::now() + client.options().request_timeout;
    let mut results = put(client, definitions).await?;
    loop {
        let left: Vec<usize> = (0..results.len())
            .filter(|index| results[*index].status.retryable())
            .collect();
        // What nobody can tell of is for the caller to look at, before more is done.
        let is_unknown = results.iter().any(|result| result.status.applied() == Applied::Unknown);
        if left.is_empty() || is_unknown || Instant::now() >= until {
            return Ok(results);
        }
        tokio::time::sleep(RETRY_AFTER / 10).await;
        let definitions: Vec<_> = left.iter().map(|index| definitions[*index].clone()).collect();
        match put(client, &definitions).await {
            Ok(again) => {
                for (index, result) in left.into_iter().zip(again) {
                    results[index] = result;
                }
            }
            // Others have taken effect before, so that this is no answer to all of them.
            Err(_) => {
                for index in left {
                    results[index] = unknown();
                }
                return Ok(results);
            }
        }
    }
}

/// What is said of a definition of which nobody can tell.
pub(crate) fn unknown() -> PutResult {
    PutResult::failed(Status::OutcomeUnknown)
}

/// Makes a change to its end, also when whoever asked for it goes away: a request is dropped then, and would leave a part of what is all or nothing. It has a
/// place among the changes meanwhile, all of which a stop waits for.
pub(crate) async fn to_its_end<T: Send + 'static>(
    changes: &Arc<Semaphore>,
    change: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let Ok(place) = Arc::clone(changes).try_acquire_owned() else {
        return Err(Problem::new(
            ProblemKind::Overloaded,
            "too many changes of many pools are being made",
        ));
    };
    let change = async move {
        let _place = place;
        change.await
    };
    let ended = tokio::spawn(change).await;
    ended.unwrap_or_else(|error| Err(Problem::new(ProblemKind::Internal, error.to_string())))
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
