//! Accounts for every acknowledged command after a run in which the server failed.
//!
//! 1. What has an unknown outcome is settled: a reserve by its key, a confirmation and a release by the reservation's state.
//! 2. The pools are added up and compared with the answers (`pools::compare`): a lost release or a reserve too many shows there.
//! 3. Each reservation that stands is asked for by its key: the answer must be that it is there, under the id that was
//!    acknowledged, and confirmed if that was. A lost one would be made anew, and the answer says so.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Client, Confirming, Key, PoolId, Releasing, ReservationId, Reserve, Reserving, State, Status, StatusNumber, Units,
};

use crate::ledger::Ledger;

/// How a reservation stands, as far as answers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Held,
    Confirmed,
    /// It takes nothing any more, or it never came to be.
    Released,
    UnknownReserve,
    UnknownConfirm,
    UnknownRelease,
}

/// A reservation of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) id: ReservationId,
    pub(crate) pool: u16,
    /// As it was asked for; 0: confirmed at once.
    pub(crate) hold_seconds: u32,
    pub(crate) standing: Standing,
}

/// What the accounting found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Account {
    /// Reservations that the answers know of.
    pub(crate) reservations: u64,
    /// Commands with an unknown outcome that were settled.
    pub(crate) settled: u64,
    /// Reservations that stand, each asked for by its key.
    pub(crate) asked: u64,
    /// Acknowledged, and not there.
    pub(crate) missing: u64,
    /// What the first missing one was.
    pub(crate) problem: Option<String>,
}

/// What an answer says of a reservation that was asked for by its key.
#[derive(Clone, Copy, Debug)]
struct Found {
    status: StatusNumber,
    repeated: bool,
    id: ReservationId,
    state: wire::State,
}

impl Record {
    /// What is wrong with what was found, if anything.
    fn difference(&self, found: Found) -> Option<String> {
        if !found.status.is_ok() {
            return Some(format!(
                "{} was acknowledged, and now refused with {}",
                self.id, found.status
            ));
        }
        if !found.repeated {
            return Some(format!(
                "{} was acknowledged, and is lost: its key made another",
                self.id
            ));
        }
        if found.id != self.id {
            return Some(format!("{} was acknowledged, its key belongs to {}", self.id, found.id));
        }
        let right = match self.standing {
            Standing::Held => found.state == wire::State::held,
            _ => found.state == wire::State::confirmed,
        };
        (!right).then(|| {
            format!(
                "{} was acknowledged as {:?}, and is in state {:?}",
                self.id, self.standing, found.state
            )
        })
    }

    fn stands(&self) -> bool {
        matches!(self.standing, Standing::Held | Standing::Confirmed)
    }
}

/// Accounts for what a run was told.
pub(crate) struct Accountant<'run> {
    pub(crate) client: &'run Client,
    pub(crate) pools: &'run [PoolId],
    /// Of each reserve, for each dimension.
    pub(crate) units: &'run [u32],
}

impl Accountant<'_> {
    /// Finds out what became of commands without an answer, and puts it into records and ledger.
    pub(crate) async fn settle(&self, records: &mut [Record], ledger: &mut Ledger) -> Result<Account> {
        let mut account = Account {
            reservations: records.len() as u64,
            ..Account::default()
        };
        for record in records {
            let units = i64::from(self.units[0]);
            match record.standing {
                Standing::Held | Standing::Confirmed | Standing::Released => continue,
                Standing::UnknownReserve => {
                    record.standing = self.settle_reserve(record).await?;
                    ledger.unknown_reserves -= units as u64;
                    if record.stands() {
                        ledger.used[usize::from(record.pool)] += units;
                    }
                }
                Standing::UnknownConfirm => match self.client.confirm(record.id, None).await? {
                    Confirming::Confirmed(_) => record.standing = Standing::Confirmed,
                    other => bail!("{} was held, and cannot be confirmed: {other:?}", record.id),
                },
                Standing::UnknownRelease => {
                    match self.client.release(record.id, None).await? {
                        Releasing::Released(_) => {}
                        // It was released, and is forgotten.
                        Releasing::Refused(refusal) if refusal.is(Status::ReservationNotFound) => {}
                        other => bail!("{} stood, and cannot be released: {other:?}", record.id),
                    }
                    record.standing = Standing::Released;
                    ledger.unknown_releases -= units as u64;
                    ledger.used[usize::from(record.pool)] -= units;
                }
            }
            account.settled += 1;
        }
        Ok(account)
    }

    /// Sends a reserve again by its key, and says how its reservation stands.
    async fn settle_reserve(&self, record: &mut Record) -> Result<Standing> {
        let reserve = Reserve {
            hold: (record.hold_seconds > 0).then(|| Duration::from_secs(record.hold_seconds.into())),
            ..Reserve::new(
                self.pools[usize::from(record.pool)],
                Units::InOrder(self.units),
                record.key,
            )
        };
        match self.client.reserve(&reserve).await? {
            Reserving::Reserved(reservation) => {
                record.id = reservation.id;
                Ok(match reservation.state {
                    State::Held => Standing::Held,
                    State::Confirmed => Standing::Confirmed,
                    // Released, or the hold's time is over.
                    _ => Standing::Released,
                })
            }
            Reserving::Refused(_) => Ok(Standing::Released),
            Reserving::Unknown(unknown) => bail!("a reserve without an answer cannot be settled: {unknown:?}"),
        }
    }

    /// Asks for each reservation that stands by its key.
    pub(crate) async fn check(&self, records: &[Record], account: &mut Account) -> Result<()> {
        let standing: Vec<&Record> = records.iter().filter(|record| record.stands()).collect();
        let mut batch = self.client.new_batch();
        for part in standing.chunks(batch.commands_max()) {
            batch.clear();
            for record in part {
                let reserve = plimsoll_client::protocol::Reserve {
                    pool: self.pools[usize::from(record.pool)],
                    key: record.key,
                    hold_seconds: record.hold_seconds,
                    occurred_at: None,
                };
                batch.push_reserve(reserve, self.units, None)?;
            }
            let outcome = self
                .client
                .batch(batch)
                .await
                .context("cannot ask for what was acknowledged")?;
            for (found, record) in outcome.outcomes().iter().zip(part) {
                account.take(
                    record,
                    Found {
                        status: found.outcome.status_number(),
                        repeated: found.outcome.is_repeated(),
                        id: found.outcome.reservation_id(),
                        state: found.outcome.state(),
                    },
                );
            }
            batch = outcome.into_batch();
        }
        Ok(())
    }
}

impl Account {
    fn take(&mut self, record: &Record, found: Found) {
        self.asked += 1;
        if let Some(difference) = record.difference(found) {
            self.missing += 1;
            self.problem.get_or_insert(difference);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::Fate;
    use crate::pools::compare;

    fn record(standing: Standing) -> Record {
        Record {
            key: Key(1),
            id: ReservationId(7),
            pool: 0,
            hold_seconds: 0,
            standing,
        }
    }

    /// Whether the accounting of one reservation finds nothing missing.
    fn check(standing: Standing, found: Found, expected: bool) {
        let mut account = Account::default();
        account.take(&record(standing), found);
        assert_eq!((account.asked, account.missing), (1, u64::from(!expected)), "{found:?}");
        assert_eq!(account.problem.is_none(), expected);
    }

    /// What the harness was told, and what the pools say then, must be one: an acknowledgement that is counted twice or not at all
    /// shows in the sums.
    #[test]
    fn an_acknowledgement_counts_once() {
        let told = |counted: u32| {
            let mut ledger = Ledger::new(1, Arc::default()).expect("the bounds are sound");
            for _ in 0..counted {
                ledger.reserve_units(0, 2, Fate::Applied);
            }
            ledger.release_units(0, 2, Fate::Applied);
            ledger
        };
        let pools = [2 * 9];
        for (counted, right) in [(10, true), (11, false), (9, false)] {
            assert_eq!(compare(&pools, &told(counted)).is_ok(), right, "{counted}");
        }
    }

    #[test]
    fn an_acknowledged_reservation_must_be_there() {
        let there = Found {
            status: Status::Ok.into(),
            repeated: true,
            id: ReservationId(7),
            state: wire::State::confirmed,
        };
        check(Standing::Confirmed, there, true);
        // Lost: the key made it anew.
        check(
            Standing::Confirmed,
            Found {
                repeated: false,
                ..there
            },
            false,
        );
        // The key was acknowledged twice, with two reservations.
        let other = Found {
            id: ReservationId(8),
            ..there
        };
        check(Standing::Confirmed, other, false);
        let refused = Found {
            status: Status::InsufficientCapacity.into(),
            ..there
        };
        check(Standing::Confirmed, refused, false);
        // Its confirmation is lost.
        let held = Found {
            state: wire::State::held,
            ..there
        };
        check(Standing::Confirmed, held, false);
        check(Standing::Held, held, true);
        check(Standing::Held, there, false);
    }
}
