//! The same work on other systems, each started by the harness and measured beside Plimsoll.
//!
//! - A system is looked for before anything runs, so that nobody waits for a run only to read that a program is missing.
//! - One system runs at a time, and Plimsoll's server has ended before.

mod connection;
mod load;
mod postgres;
mod process;
mod programs;
mod redis;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::load::{Driven, Plan, System, drive};
use self::postgres::Postgres;
use self::programs::{PostgresPrograms, find_postgres, find_redis};
use self::redis::Redis;
pub(crate) use self::report::Beside;
use self::report::{Measured, PeerReport};
use crate::args::PresetArguments;
use crate::pools;
use crate::preset::Settings;

/// A system that Plimsoll is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// A Lua script for each reserve, `appendfsync always`
    Redis,
    /// One prepared statement for each reserve, `synchronous_commit` on
    Postgres,
}

/// What a peer is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Reserves,
    /// Reserves, each of which is released a second later, beside many that live.
    ReservesAndReleases,
    Queries,
}

impl Work {
    /// What the preset of this name asks of a peer; `None`: it is not driven with that load.
    fn of(preset: &str) -> Option<Self> {
        match preset {
            "p16" | "p1" | "single" | "hot" => Some(Self::Reserves),
            "batched" => Some(Self::ReservesAndReleases),
            "availability" => Some(Self::Queries),
            _ => None,
        }
    }
}

/// The systems of a run, found and not yet started.
#[derive(Debug)]
pub(crate) struct Peers {
    asked_for: Vec<Peer>,
    work: Option<Work>,
    redis: Option<PathBuf>,
    postgres: Option<PostgresPrograms>,
}

impl Peers {
    /// Looks for the programs, and whether they can run in a directory below this one. The error says how to come by one that is missing.
    pub(crate) fn find(arguments: &PresetArguments, settings: &Settings, directory: &Path) -> Result<Self> {
        let wanted = |peer| arguments.against.contains(&peer);
        let work = Work::of(settings.name);
        let redis = wanted(Peer::Redis).then(|| find_redis(arguments.redis_server.as_deref()));
        let postgres = wanted(Peer::Postgres).then(|| find_postgres(arguments.postgres_bin.as_deref()));
        if postgres.is_some() && work.is_some() {
            postgres::check(directory).context("postgres")?;
        }
        Ok(Self {
            asked_for: arguments.against.clone(),
            work,
            redis: redis.transpose()?,
            postgres: postgres.transpose()?,
        })
    }

    /// What there is to say when none of them is driven.
    pub(crate) fn undriven(&self, settings: &Settings) -> Beside {
        let mut beside = Beside::default();
        for peer in &self.asked_for {
            beside.not_driven(peer.name(), settings.name);
        }
        beside
    }

    /// Drives one after the other. `rate` is Plimsoll's.
    pub(crate) async fn measure(&self, settings: &Settings, seed: u64, directory: &Path, rate: f64) -> Result<Beside> {
        let Some(work) = self.work else {
            return Ok(self.undriven(settings));
        };
        let mut beside = Beside::default();
        if let Some(program) = &self.redis {
            let mut measure = async |name, servers| -> Result<()> {
                let plan = Plan::of_redis(work, settings, seed, servers);
                let redis = Redis::start(program, directory, &plan).await?;
                let measured = measure_one(name, redis, plan).await?;
                beside.add(name, PeerReport::new(measured, rate));
                Ok(())
            };
            measure("redis", 1).await.context("redis")?;
            if work == Work::ReservesAndReleases {
                measure("redis_two_servers", 2).await.context("two servers of redis")?;
            }
        }
        if let Some(programs) = &self.postgres {
            let plan = Plan::of_postgres(work, settings, seed);
            let postgres = Postgres::start(programs, directory, &plan).await.context("postgres")?;
            let measured = measure_one("postgres", postgres, plan).await.context("postgres")?;
            beside.add("postgres", PeerReport::new(measured, rate));
        }
        Ok(beside)
    }
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// Drives one system, adds up what it holds, and stops it.
async fn measure_one<S: System>(name: &'static str, system: S, plan: Plan) -> Result<Measured> {
    let Driven { ledger, used } = drive(name, &system, &plan).await?;
    let held = system.used(&plan).await.context("cannot add up what it holds")?;
    let sums = held.and_then(|held| pools::compare(&held, &ledger));
    let version = system.version().to_owned();
    let how = system.how(&plan);
    system.stop()?;
    Ok(Measured {
        version,
        how,
        plan,
        ledger,
        used,
        sums,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_preset_asks_of_a_peer() {
        let check = |preset, expected| assert_eq!(Work::of(preset), expected, "{preset}");
        check("p16", Some(Work::Reserves));
        check("batched", Some(Work::ReservesAndReleases));
        check("availability", Some(Work::Queries));
        check("recovery", None);
        check("open100k", None);
    }
}
