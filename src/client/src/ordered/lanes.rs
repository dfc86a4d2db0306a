//! The task behind [`Ordered`](super::Ordered): a lane for each pool with work.
//!
//! - A lane is in one place: on its way in a frame, pausing, in `ready`, or gone because it has no work.
//! - While a lane has commands in flight, or pauses, nothing of it is sent.
//! - What comes back undecided goes to the front of its lane, in its order, before anything that came later.
//! - `blocked` holds the pools on which the outcome of a command stayed unknown.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_protocol::PoolId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attempts::retried;
use crate::batch::{Batch, BatchError, BatchOutcome};
use crate::client::Client;
use crate::error::{Error, UnknownCause};
use crate::execution::{Prepared, decide};
use crate::limits::{ORDERED_BLOCKED_MAX, ORDERED_FRAMES_MAX};
use crate::outcome::{Decided, Refusal, Unknown};

/// What the task is told.
#[derive(Debug)]
pub(super) enum Order {
    Command(Box<Item>),
    Resume(PoolId),
}

/// A command in its place.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) pool: PoolId,
    pub(super) prepared: Prepared,
    /// The pool's name, when its id was a remembered one that may be void.
    pub(super) forget: Option<Box<str>>,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Decided, Error>>,
    /// Its share of the room; held until it is answered.
    pub(super) permit: OwnedSemaphorePermit,
    /// Why an attempt that was sent has no outcome.
    pub(super) lost: Option<UnknownCause>,
    pub(super) attempts: u32,
}

impl Item {
    fn answer(self, decided: Result<Decided, Error>) {
        drop(self.permit);
        // A caller that has gone away wants no answer.
        let _ = self.reply.send(decided);
    }

    fn unknown(&self) -> Option<Unknown> {
        Some(Unknown {
            cause: self.lost.clone()?,
            attempts: self.attempts,
        })
    }
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Item>,
    /// In flight or pausing.
    busy: bool,
    failures: u32,
}

/// A frame that has come back.
#[derive(Debug)]
struct Returned {
    items: Vec<Item>,
    result: Result<BatchOutcome, BatchError>,
}

/// Why a command is not decided.
#[derive(Clone, Debug)]
enum Undecided {
    /// It was sent, and its outcome is not known.
    Lost(UnknownCause),
    /// It was refused for now.
    Refused(Refusal),
    /// It was not sent.
    Unsent(Error),
}

/// What a lane's part of a frame came to.
#[derive(Debug, Default)]
struct Settled {
    again: Vec<Item>,
    blocked: bool,
}

pub(super) struct Lanes {
    client: Client,
    lanes: HashMap<PoolId, Lane>,
    ready: VecDeque<PoolId>,
    /// Lanes that pause, with the time when they are ready again. As many as lanes, so few in practice.
    pausing: Vec<(Instant, PoolId)>,
    blocked: HashSet<PoolId>,
    /// More pools were blocked than can be remembered.
    all_blocked: bool,
    in_flight: JoinSet<Returned>,
    spare: Vec<Batch>,
}

impl Lanes {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            pausing: Vec::new(),
            blocked: HashSet::new(),
            all_blocked: false,
            in_flight: JoinSet::new(),
            spare: Vec::new(),
        }
    }

    /// Runs until nobody gives commands any more and the last one is answered.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut open = true;
        while open || !self.lanes.is_empty() {
            let until = self.pausing.iter().map(|&(until, _)| until).min();
            let pause = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                order = orders.recv(), if open => match order {
                    Some(order) => {
                        self.take(order);
                        // What has arrived as well may share a frame.
                        while let Ok(order) = orders.try_recv() {
                            self.take(order);
                        }
                    }
                    None => open = false,
                },
                Some(returned) = self.in_flight.join_next() => match returned {
                    Ok(returned) => self.settle(returned),
                    // The runtime is shutting down: the callers' channels are closed already.
                    Err(_) => return,
                },
                () = pause => self.end_pauses(Instant::now()),
            }
            self.send();
        }
    }

    fn is_blocked(&self, pool: PoolId) -> bool {
        self.all_blocked || self.blocked.contains(&pool)
    }

    fn block(&mut self, pool: PoolId) {
        if self.blocked.len() < ORDERED_BLOCKED_MAX {
            self.blocked.insert(pool);
        } else {
            self.all_blocked = true;
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Command(item) if self.is_blocked(item.pool) => {
                let pool = item.pool;
                item.answer(Err(Error::Blocked { pool }));
            }
            Order::Command(item) => {
                let pool = item.pool;
                let lane = self.lanes.entry(pool).or_default();
                lane.waiting.push_back(*item);
                if !lane.busy && lane.waiting.len() == 1 {
                    self.ready.push_back(pool);
                }
            }
            Order::Resume(pool) => {
                self.blocked.remove(&pool);
                self.all_blocked = false;
            }
        }
    }

    fn end_pauses(&mut self, now: Instant) {
        let (lanes, ready) = (&mut self.lanes, &mut self.ready);
        self.pausing.retain(|&(until, pool)| {
            if until > now {
                return true;
            }
            if let Some(lane) = lanes.get_mut(&pool) {
                lane.busy = false;
                ready.push_back(pool);
            }
            false
        });
    }

    /// Sends what is ready, as long as there are frames for it.
    fn send(&mut self) {
        while self.in_flight.len() < ORDERED_FRAMES_MAX && !self.ready.is_empty() {
            let mut batch = self.spare.pop().unwrap_or_else(|| self.client.new_batch());
            batch.clear();
            if batch.epoch() != self.client.inner.shared.epoch() {
                batch = self.client.new_batch();
            }
            let mut items = Vec::new();
            let mut deadline = Instant::now();
            while let Some(pool) = self.ready.pop_front() {
                let Some(lane) = self.lanes.get_mut(&pool) else {
                    continue;
                };
                let filled = fill(
                    &mut batch,
                    lane,
                    &mut items,
                    &mut deadline,
                    &self.client.inner.shared.address,
                );
                if filled == Filled::Blocked {
                    let waiting = std::mem::take(&mut lane.waiting);
                    if !lane.busy {
                        self.lanes.remove(&pool);
                    }
                    self.block(pool);
                    for item in waiting {
                        item.answer(Err(Error::Blocked { pool }));
                    }
                } else if lane.busy {
                    // What is left over waits for those in this frame.
                } else if lane.waiting.is_empty() {
                    self.lanes.remove(&pool);
                } else {
                    self.ready.push_front(pool);
                }
                let full = filled == Filled::Full;
                if full {
                    break;
                }
            }
            if items.is_empty() {
                self.keep(batch);
                continue;
            }
            let client = self.client.clone();
            self.in_flight.spawn(async move {
                let result = client.batch_until(batch, deadline).await;
                Returned { items, result }
            });
        }
    }

    fn keep(&mut self, batch: Batch) {
        if self.spare.len() < ORDERED_FRAMES_MAX {
            self.spare.push(batch);
        }
    }

    /// Answers what a frame decided, and puts the rest back to the front of its lanes.
    fn settle(&mut self, returned: Returned) {
        let Returned { items, result } = returned;
        let mut settled: HashMap<PoolId, Settled> = HashMap::new();
        match result {
            Ok(outcome) => {
                let welcome = self.client.welcome();
                for (item, found) in items.into_iter().zip(&outcome.outcomes()) {
                    let remaining: Vec<i64> = found.remaining.iter().collect();
                    let decided = decide(found.outcome, Some(&remaining), &welcome.dimensions);
                    self.settle_item(&mut settled, item, decided);
                }
                self.keep(outcome.into_batch());
            }
            Err(BatchError { batch, error }) => {
                let undecided = match error {
                    Error::Unknown(unknown) => Undecided::Lost(unknown.cause),
                    Error::Refused(refusal) => Undecided::Refused(refusal),
                    error => Undecided::Unsent(error),
                };
                for item in items {
                    self.postpone(&mut settled, item, undecided.clone());
                }
                self.keep(batch);
            }
        }
        let now = Instant::now();
        for (pool, Settled { again, blocked }) in settled {
            if blocked {
                self.block(pool);
            }
            let blocked = self.is_blocked(pool);
            let backoff = self.client.options().backoff;
            let Some(lane) = self.lanes.get_mut(&pool) else {
                continue;
            };
            lane.failures = if again.is_empty() {
                0
            } else {
                lane.failures.saturating_add(1)
            };
            for item in again.into_iter().rev() {
                lane.waiting.push_front(item);
            }
            if blocked {
                for item in std::mem::take(&mut lane.waiting) {
                    let error = Error::Blocked { pool };
                    let unknown = item.unknown();
                    item.answer(unknown.map_or(Err(error), |unknown| Ok(Decided::Unknown(unknown))));
                }
            }
            if lane.waiting.is_empty() {
                self.lanes.remove(&pool);
            } else if lane.failures > 0 {
                self.pausing.push((now + backoff.pause(lane.failures), pool));
            } else {
                lane.busy = false;
                self.ready.push_back(pool);
            }
        }
    }

    fn settle_item(&mut self, settled: &mut HashMap<PoolId, Settled>, mut item: Item, decided: Decided) {
        match decided {
            Decided::Refused(refusal) if retried(refusal.status) => {
                self.postpone(settled, item, Undecided::Refused(refusal));
            }
            Decided::Unknown(unknown) => self.postpone(settled, item, Undecided::Lost(unknown.cause)),
            decided => {
                settled.entry(item.pool).or_default();
                if let (Decided::Refused(refusal), Some(name)) = (&decided, item.forget.take())
                    && refusal.is(plimsoll_protocol::Status::PoolNotFound)
                {
                    self.client.inner.shared.forget(&name, item.pool);
                }
                item.answer(Ok(decided));
            }
        }
    }

    /// A command without an outcome: once more, unless its time is over or it must not be.
    fn postpone(&self, settled: &mut HashMap<PoolId, Settled>, mut item: Item, undecided: Undecided) {
        let lane = settled.entry(item.pool).or_default();
        let in_time = self.client.options().retry && Instant::now() < item.deadline;
        let retryable = match &undecided {
            Undecided::Lost(_) => true,
            Undecided::Refused(refusal) => retried(refusal.status),
            // The batch's own deadline is that of the last of its commands.
            Undecided::Unsent(error) => matches!(error, Error::QueueFull { .. } | Error::NotSent { .. }),
        };
        if let Undecided::Lost(cause) = &undecided {
            item.lost = Some(cause.clone());
            item.attempts = item.attempts.saturating_add(1);
        }
        if in_time && retryable {
            lane.again.push(item);
            return;
        }
        if matches!(undecided, Undecided::Unsent(Error::DirectoryChanged)) && item.lost.is_some() {
            item.lost = Some(UnknownCause::DirectoryChanged);
        }
        let resolved = matches!(&undecided, Undecided::Refused(refusal) if !retried(refusal.status));
        match item.unknown() {
            Some(unknown) if !resolved => {
                lane.blocked = true;
                item.answer(Ok(Decided::Unknown(unknown)));
            }
            _ => item.answer(match undecided {
                Undecided::Refused(refusal) => Ok(Decided::Refused(refusal)),
                Undecided::Unsent(error) => Err(error),
                Undecided::Lost(_) => Err(Error::Closed),
            }),
        }
    }
}

/// How far a lane went into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// All of it.
    All,
    /// The batch is full.
    Full,
    /// The outcome of a command stayed unknown; nothing behind it may be sent.
    Blocked,
}

/// Moves commands from the front of a lane into a batch. Those whose time is over are answered instead.
fn fill(
    batch: &mut Batch,
    lane: &mut Lane,
    items: &mut Vec<Item>,
    deadline: &mut Instant,
    address: &Arc<str>,
) -> Filled {
    let now = Instant::now();
    while let Some(item) = lane.waiting.front() {
        let Prepared {
            command,
            units,
            reference,
            epoch,
        } = &item.prepared;
        let void = *epoch != batch.epoch();
        if void || item.deadline <= now {
            let Some(mut item) = lane.waiting.pop_front() else {
                break;
            };
            if void && item.lost.is_some() {
                item.lost = Some(UnknownCause::DirectoryChanged);
            }
            if let Some(unknown) = item.unknown() {
                item.answer(Ok(Decided::Unknown(unknown)));
                // Ids of another directory are void, and with them the order on its pools.
                if !void {
                    return Filled::Blocked;
                }
            } else {
                let late = Error::NotSent {
                    address: Arc::clone(address),
                    source: None,
                };
                item.answer(Err(if void { Error::DirectoryChanged } else { late }));
            }
            continue;
        }
        let units = if command.takes_units() {
            &units[..batch.dimensions()]
        } else {
            &[]
        };
        if batch.push(*command, units, reference.as_deref()).is_err() {
            return Filled::Full;
        }
        lane.busy = true;
        let Some(item) = lane.waiting.pop_front() else { break };
        *deadline = item.deadline.max(*deadline);
        items.push(item);
    }
    Filled::All
}
