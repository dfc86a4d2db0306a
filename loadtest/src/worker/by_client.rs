//! One command in a frame, through `Client::reserve`: what a caller of the client library gets.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Result;
use plimsoll_client::{Applied, Client, Confirming, ReservationId, Reserve, Reserving, Units};
use tokio::task::JoinSet;

use super::{Plan, client_options};
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger, Window};
use crate::limits::HOLD_SECONDS;
use crate::threads::SharedLedger;

/// A client with one connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    index: usize,
}

impl Connection {
    pub(super) async fn open(plan: &Arc<Plan>, index: usize) -> Result<Self> {
        let client = Client::connect(plan.address.as_str(), client_options()).await?;
        Ok(Self { client, index })
    }

    /// Starts a task for each command that may be in flight.
    pub(super) fn start(
        self,
        plan: &Arc<Plan>,
        window: Window,
        ledger: &SharedLedger,
        tasks: &mut JoinSet<Result<()>>,
    ) {
        let in_flight = plan.settings.in_flight;
        for task in 0..in_flight {
            let draws = Draws::new(plan.seed, (self.index * in_flight + task) as u64, plan.pools.len());
            tasks.spawn(run(
                self.client.clone(),
                Arc::clone(plan),
                draws,
                window,
                ledger.clone(),
            ));
        }
    }
}

async fn run(client: Client, plan: Arc<Plan>, mut draws: Draws, window: Window, ledger: SharedLedger) -> Result<()> {
    let units = plan.one_unit();
    let hold = plan.settings.hold.then(|| Duration::from_secs(HOLD_SECONDS.into()));
    loop {
        let sent_at = Instant::now();
        if sent_at >= window.end {
            return Ok(());
        }
        let pool = draws.pool();
        let reserve = Reserve {
            hold,
            ..Reserve::new(plan.pools[usize::from(pool)], Units::InOrder(&units), draws.key())
        };
        let answer = client.reserve(&reserve).await;
        let fate = match &answer {
            Ok(Reserving::Reserved(reservation)) if !reservation.repeated => Fate::Applied,
            Ok(Reserving::Refused(refusal)) => Fate::of(refusal.status, false),
            Ok(Reserving::Unknown(_)) => Fate::Unknown,
            Err(error) if error.applied() == Applied::Unknown => Fate::Unknown,
            Ok(Reserving::Reserved(_)) | Err(_) => Fate::Error,
        };
        {
            let mut ledger = answered(&ledger, sent_at);
            ledger.reserve(pool, fate);
            ledger.publish();
            if matches!(fate, Fate::Error | Fate::Unknown) {
                ledger.note(|| format!("{answer:?}"));
                if answer.is_err() || fate == Fate::Unknown {
                    return Ok(());
                }
            }
        }
        if let (Some(_), Ok(Reserving::Reserved(reservation))) = (hold, &answer)
            && !confirm(&client, reservation.id, &ledger).await
        {
            return Ok(());
        }
    }
}

/// Confirms a hold; false when it cannot be told whether that took effect, or there is no connection.
async fn confirm(client: &Client, id: ReservationId, ledger: &SharedLedger) -> bool {
    let sent_at = Instant::now();
    let answer = client.confirm(id, None).await;
    let fate = match &answer {
        Ok(Confirming::Confirmed(reservation)) if !reservation.repeated => Fate::Applied,
        Ok(Confirming::Refused(refusal)) => Fate::of(refusal.status, false),
        Ok(Confirming::Unknown(_)) => Fate::Unknown,
        Err(error) if error.applied() == Applied::Unknown => Fate::Unknown,
        Ok(Confirming::Confirmed(_)) | Err(_) => Fate::Error,
    };
    let mut ledger = answered(ledger, sent_at);
    ledger.confirm(fate);
    ledger.publish();
    if matches!(fate, Fate::Error | Fate::Unknown) {
        ledger.note(|| format!("{answer:?}"));
    }
    answer.is_ok() && fate != Fate::Unknown
}

/// Counts the latency of an answer that has just arrived.
fn answered(ledger: &SharedLedger, sent_at: Instant) -> MutexGuard<'_, Ledger> {
    let now = Instant::now();
    let mut ledger = ledger.lock();
    ledger.arrived(now);
    ledger.latency(now - sent_at, 1);
    ledger
}
