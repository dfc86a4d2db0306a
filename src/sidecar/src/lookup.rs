//! Reservations by id: what many requests ask for at the same time is asked of the engine together, since each question
//! counts as much as thousands of commands.

use std::sync::Arc;

use plimsoll_client::{Error, ReservationDetails, ReservationId};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::engine::Engine;
use crate::limits::{LOOKUP_BATCH_SIZE, LOOKUP_COUNT_MAX, LOOKUPS_IN_FLIGHT_MAX};
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

struct Lookup {
    id: ReservationId,
    answer: oneshot::Sender<Result<Option<ReservationDetails>, Problem>>,
}

/// Where reservations are looked up.
pub(crate) struct Lookups(mpsc::Sender<Lookup>);

impl Lookups {
    pub(crate) fn start(engine: Engine) -> Lookups {
        let (sender, receiver) = mpsc::channel(LOOKUP_COUNT_MAX);
        tokio::spawn(gather(engine, receiver));
        Lookups(sender)
    }

    /// The reservation as it is now; `None` when it is not known.
    pub(crate) async fn find(&self, id: ReservationId) -> Result<Option<ReservationDetails>, Problem> {
        let (answer, answered) = oneshot::channel();
        let busy = || Problem::new(ProblemKind::Overloaded, "too many reservations wait to be looked up");
        self.0.try_send(Lookup { id, answer }).map_err(|_| busy())?;
        answered.await.unwrap_or_else(|_| Err(busy()))
    }
}

async fn gather(engine: Engine, mut receiver: mpsc::Receiver<Lookup>) {
    let slots = Arc::new(Semaphore::new(LOOKUPS_IN_FLIGHT_MAX));
    let mut lookups = Vec::with_capacity(LOOKUP_BATCH_SIZE);
    // While all slots are taken, those that wait become more, and share the next question.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        if receiver.recv_many(&mut lookups, LOOKUP_BATCH_SIZE).await == 0 {
            return;
        }
        let lookups = std::mem::replace(&mut lookups, Vec::with_capacity(LOOKUP_BATCH_SIZE));
        let engine = engine.clone();
        tokio::spawn(async move {
            let _slot = slot;
            ask(&engine, lookups).await;
        });
    }
}

async fn ask(engine: &Engine, lookups: Vec<Lookup>) {
    let ids: Vec<ReservationId> = lookups.iter().map(|lookup| lookup.id).collect();
    let found = match engine.client() {
        Ok(client) => client
            .reservations(&ids)
            .await
            .map_err(|error: Error| Problem::of_read(&error)),
        Err(problem) => Err(problem),
    };
    match found {
        Ok(found) => {
            // They stand in the order asked for, without those that are not known.
            let mut found = found.into_iter().peekable();
            for lookup in lookups {
                let details = found.next_if(|details| details.id == lookup.id);
                let _ = lookup.answer.send(Ok(details));
            }
        }
        Err(problem) => {
            for lookup in lookups {
                let _ = lookup.answer.send(Err(problem.clone()));
            }
        }
    }
}
