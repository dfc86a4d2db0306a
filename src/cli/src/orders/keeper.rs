//! Keeps pools open for every order while a file is rebuilt, and gives them back what they had.
//!
//! What always holds:
//! - What a pool had stands in the progress file before the pool is changed. So whatever is killed, a later run knows it.
//! - Each change is made from a definition that was just read, under its version: what somebody else changes meanwhile is never
//!   overwritten.
//! - A change whose outcome is lost is not repeated blindly: the pools are read again, and what is still to be done follows from that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use plimsoll_client::{Client, Error, Pool, PoolDefinition, Refusal, Status};

use super::drive::{cannot_keep, other_directory};
use super::progress::Progress;
use super::selling::Selling;
use crate::connection::{failure_of, read_failure, refused};
use crate::failure::Failure;

/// Between two attempts, while the engine does not answer or others change the pools too.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The most pools that are named in a message.
pub(super) const POOL_COUNT_SHOWN_MAX: usize = 5;

/// The pools of a file, and what they had before they were changed.
pub(super) struct Keeper<'a> {
    client: &'a Client,
    engine: &'a str,
    /// The engine's data directory when the run began.
    directory: &'a str,
    /// The index of each pool that a reserve names, by its name.
    places: HashMap<&'a str, usize>,
    /// What pools had that are changed, or about to be.
    earlier: HashMap<String, Selling>,
}

/// Why a step came to nothing.
enum Trouble {
    /// It may come to something when it is tried again.
    Again(String),
    Stop(Failure),
}

impl<'a> Keeper<'a> {
    /// `earlier` is what an earlier run left to be given back.
    pub(super) fn new(
        client: &'a Client,
        engine: &'a str,
        directory: &'a str,
        places: HashMap<&'a str, usize>,
        earlier: HashMap<String, Selling>,
    ) -> Keeper<'a> {
        Keeper {
            client,
            engine,
            directory,
            places,
            earlier,
        }
    }

    /// How many pools are to be given back what they had.
    pub(super) fn changed_count(&self) -> usize {
        self.earlier.len()
    }

    /// The first names of those, for a message.
    pub(super) fn changed_names(&self) -> String {
        let mut names: Vec<&str> = self.earlier.keys().map(String::as_str).collect();
        names.sort_unstable();
        shortened(&names)
    }

    /// The pools that the file names, each with its place in it, and others that are to be given back something or hold something.
    async fn read_all(&self) -> Result<Vec<(Option<usize>, Pool)>, Error> {
        let mut found = Vec::with_capacity(self.places.len());
        let mut pages = self.client.all_pools();
        while let Some(page) = pages.next().await? {
            for pool in page {
                let name = pool.definition.name.as_str();
                let place = self.places.get(name).copied();
                let is_used = pool.held.iter().chain(&pool.confirmed).any(|units| *units != 0);
                if place.is_some() || is_used || self.earlier.contains_key(name) {
                    found.push((place, pool));
                }
            }
        }
        Ok(found)
    }

    /// The same, as they will be when they have been given back what they had.
    pub(super) async fn read(&self) -> Result<Vec<(Option<usize>, Pool)>, Failure> {
        let mut found = self
            .read_all()
            .await
            .map_err(|error| read_failure(error, self.engine))?;
        for (_, pool) in &mut found {
            if let Some(earlier) = self.earlier.get(&pool.definition.name) {
                let given_back = Selling::of(&pool.definition).given_back(*earlier);
                pool.definition = given_back.put_into(&pool.definition);
            }
        }
        Ok(found)
    }

    /// Lets all pools take every order. What they had is kept before.
    pub(super) async fn lift(&mut self, progress: &mut Progress, patience: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let why = match self.try_lift(progress).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Again(why)) => why,
                Err(Trouble::Stop(failure)) => return Err(failure),
            };
            pause(started, patience, why).await?;
        }
    }

    /// Gives all pools back what they had.
    pub(super) async fn give_back(&mut self, progress: &mut Progress, patience: Duration) -> Result<(), Failure> {
        if self.earlier.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            let why = match self.try_give_back().await {
                Ok(()) => break,
                Err(Trouble::Again(why)) => why,
                Err(Trouble::Stop(failure)) => return Err(failure),
            };
            pause(started, patience, why).await?;
        }
        progress.add_restored();
        progress.write().map_err(|error| cannot_keep(error, progress.path()))?;
        self.earlier.clear();
        Ok(())
    }

    async fn try_lift(&mut self, progress: &mut Progress) -> Result<(), Trouble> {
        let mut changes = Vec::new();
        let mut is_noted = false;
        for (place, pool) in self.read_all().await.map_err(|error| self.trouble(error))? {
            if place.is_none() {
                continue;
            }
            let name = &pool.definition.name;
            let now = Selling::of(&pool.definition);
            let known = self.earlier.get(name).copied();
            let earlier = now.given_back(known.unwrap_or(now));
            if earlier != Selling::LIFTED && known != Some(earlier) {
                self.earlier.insert(name.clone(), earlier);
                progress.add_earlier(name, earlier);
                is_noted = true;
            }
            if now != Selling::LIFTED {
                changes.push(Selling::LIFTED.put_into(&pool.definition));
            }
        }
        if is_noted {
            progress
                .write()
                .map_err(|error| Trouble::Stop(cannot_keep(error, progress.path())))?;
        }
        self.put(&changes).await
    }

    async fn try_give_back(&self) -> Result<(), Trouble> {
        let mut changes = Vec::new();
        for (_, pool) in self.read_all().await.map_err(|error| self.trouble(error))? {
            if let Some(earlier) = self.earlier.get(&pool.definition.name) {
                let now = Selling::of(&pool.definition);
                let given_back = now.given_back(*earlier);
                if given_back != now {
                    changes.push(given_back.put_into(&pool.definition));
                }
            }
        }
        self.put(&changes).await
    }

    /// Puts definitions under the versions that they were read at.
    async fn put(&self, changes: &[PoolDefinition]) -> Result<(), Trouble> {
        if changes.is_empty() {
            return Ok(());
        }
        // Pools of the same names in another directory are others.
        if self.client.welcome().directory_id != self.directory {
            return Err(Trouble::Stop(other_directory()));
        }
        let results = self
            .client
            .put_pools(changes, false)
            .await
            .map_err(|error| self.trouble(error))?;
        let mut refusals = results.iter().zip(changes).filter(|(result, _)| !result.status.is_ok());
        // One at a time: a later attempt comes to the others.
        let Some((result, definition)) = refusals.next() else {
            return Ok(());
        };
        let refusal = Refusal::new(result.status);
        if refusal.is(Status::ChangedMeanwhile) || refusal.retryable() {
            return Err(Trouble::Again(format!(
                "{}: the engine answers {refusal}",
                definition.name
            )));
        }
        Err(Trouble::Stop(refused(&refusal).details(vec![definition.name.clone()])))
    }

    fn trouble(&self, error: Error) -> Trouble {
        match error {
            Error::DirectoryChanged => Trouble::Stop(other_directory()),
            error if error.retryable() => Trouble::Again(error.to_string()),
            error => Trouble::Stop(failure_of(error, self.engine)),
        }
    }
}

/// Waits before the next attempt, unless patience is at its end.
async fn pause(started: Instant, patience: Duration, why: String) -> Result<(), Failure> {
    if started.elapsed() >= patience {
        return Err(Failure::failed(format!("gave up after {patience:?}: {why}")));
    }
    tokio::time::sleep(RETRY_PAUSE).await;
    Ok(())
}

/// The first names of a list, separated by commas.
pub(super) fn shortened(names: &[&str]) -> String {
    let shown = names[..names.len().min(POOL_COUNT_SHOWN_MAX)].join(", ");
    let dots = if names.len() > POOL_COUNT_SHOWN_MAX { ", .." } else { "" };
    format!("{shown}{dots}")
}
