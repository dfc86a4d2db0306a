//! Sends the lines that are ready, keeps their outcomes, and tries again what got no answer.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_client::{Client, PoolId, Refusal, Status, StatusNumber};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::account::Account;
use super::file::OrderFile;
use super::meter::Meter;
use super::plan::{LineIndex, Outcome, Plan, Step};
use super::progress::{Progress, ProgressError};
use super::send::{Answer, Order, refused_reserve, release};
use super::{key_of, key_of_order};
use crate::failure::{Exit, Failure};

/// Between two attempts at the lines that got no answer. The client itself has tried for its `--timeout` before.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often the meter moves, and patience is looked at, while nothing arrives.
const TICK: Duration = Duration::from_millis(500);

/// Trouble that is over sooner is not worth a line.
const TROUBLE_UNSAID_MAX: Duration = Duration::from_secs(1);

/// Where the keys of lines come from.
#[derive(Clone, Copy)]
pub(crate) enum Keys<'a> {
    /// From the line: SHA-256 of the input, and the line's number.
    OfLines([u8; 32]),
    /// From the order's name and how many reservations it had before. So another file that goes on where this one ends, and callers
    /// who name the order as their key, find what is there. For a rebuild, in which nothing can be refused.
    OfOrders(&'a Account),
}

/// What is the same for all lines.
pub(crate) struct Drive<'a> {
    pub(crate) client: &'a Client,
    pub(crate) file: &'a Arc<OrderFile>,
    /// The ids of the file's pools; `None` for one that does not exist. Ids are of one data directory, names would be found again in
    /// another.
    pub(crate) pools: &'a [Option<PoolId>],
    pub(crate) keys: Keys<'a>,
    /// The engine's data directory when the run began.
    pub(crate) directory: &'a str,
    /// The most lines in flight.
    pub(crate) window: usize,
    /// How long no line at all may come to anything.
    pub(crate) patience: Duration,
    /// How long each order is held before it is confirmed; `None`: it is confirmed at once.
    pub(crate) hold: Option<Duration>,
}

/// How a run ended that did not fail.
pub(crate) enum Ending {
    Finished,
    /// By SIGINT or SIGTERM.
    Interrupted,
}

/// A time in which no line came to anything.
struct Trouble {
    since: Instant,
    why: String,
    said: bool,
}

/// What changes while lines are sent.
struct Running<'a, 'p> {
    drive: &'a Drive<'a>,
    plan: &'a mut Plan<'p>,
    progress: &'a mut Progress,
    meter: Meter,
    /// Lines to send before any others, the last first: those that an earlier run left.
    left: Vec<(LineIndex, Step)>,
    /// Lines that got no answer, to be sent again at `again_at`.
    again: Vec<(LineIndex, Step)>,
    again_at: Instant,
    in_flight: usize,
    /// How many holds of a line have expired before they were confirmed.
    expired: HashMap<LineIndex, u32>,
    /// Lines that may have taken effect without our knowing.
    unknown: HashSet<LineIndex>,
    trouble: Option<Trouble>,
    repeated_count: usize,
}

impl Drive<'_> {
    fn is_rebuild(&self) -> bool {
        matches!(self.keys, Keys::OfOrders(_))
    }

    /// Sends what is ready until everything is settled, or until it cannot go on. Whatever the ending, what is known is kept.
    pub(crate) async fn run(
        &self,
        plan: &mut Plan<'_>,
        progress: &mut Progress,
        mut left: Vec<(LineIndex, Step)>,
        expired: HashMap<LineIndex, u32>,
    ) -> Result<Ending, Failure> {
        left.reverse();
        let meter = Meter::new(self.file.lines.len(), plan.settled());
        let mut running = Running {
            drive: self,
            plan,
            progress,
            meter,
            left,
            again: Vec::new(),
            again_at: Instant::now(),
            in_flight: 0,
            expired,
            unknown: HashSet::new(),
            trouble: None,
            repeated_count: 0,
        };
        let ending = running.run().await;
        running.meter.finish();
        ending
    }
}

impl Running<'_, '_> {
    async fn run(&mut self) -> Result<Ending, Failure> {
        let mut interrupted = std::pin::pin!(interruption()?);
        let (answers, mut arrivals) = mpsc::channel(self.drive.window);
        let mut batch = Vec::new();
        loop {
            self.send_what_is_ready(&answers);
            if self.in_flight == 0 && self.again.is_empty() {
                assert!(self.plan.is_finished(), "nothing is in flight, yet lines are left");
                return Ok(Ending::Finished);
            }
            let pause = if self.again.is_empty() { TICK } else { RETRY_PAUSE };
            tokio::select! {
                biased;
                () = &mut interrupted => return Ok(Ending::Interrupted),
                _ = arrivals.recv_many(&mut batch, self.drive.window) => {}
                () = tokio::time::sleep(pause) => {}
            }
            // An answer from another data directory says nothing of this run, so this is looked at before anything is kept.
            if self.drive.client.welcome().directory_id != self.drive.directory {
                return Err(other_directory());
            }
            self.take(&mut batch)?;
            self.meter.set(self.plan.settled());
            self.judge_patience()?;
        }
    }

    fn send_what_is_ready(&mut self, answers: &mpsc::Sender<(LineIndex, Step, Answer)>) {
        if Instant::now() >= self.again_at {
            self.left.append(&mut self.again);
        }
        while self.in_flight < self.drive.window {
            let Some((index, step)) = self.left.pop().or_else(|| self.plan.next()) else {
                break;
            };
            self.in_flight += 1;
            let (client, file) = (self.drive.client.clone(), Arc::clone(self.drive.file));
            let line = &file.lines[index.index()];
            let pool = self.drive.pools[line.pool.index()];
            let key = match self.drive.keys {
                Keys::OfLines(input) => {
                    let expired = self.expired.get(&index).copied().unwrap_or(0);
                    key_of(&input, line.number, expired)
                }
                Keys::OfOrders(account) => key_of_order(&file.orders[line.order.index()], account.turn(index)),
            };
            let answers = answers.clone();
            let order = Order {
                file,
                index,
                key,
                hold: self.drive.hold,
                is_rebuild: self.drive.is_rebuild(),
            };
            tokio::spawn(async move {
                let answer = match (step, pool) {
                    (Step::Reserve, Some(pool)) => order.reserve(&client, pool).await,
                    (Step::Reserve, None) => refused_reserve(&Refusal::new(Status::PoolNotFound), 0),
                    (Step::Release(reservation), _) => release(&client, order.line(), reservation).await,
                };
                // Nobody listens any more when the run was stopped.
                let _ = answers.send((index, step, answer)).await;
            });
        }
    }

    /// Keeps the outcomes of a batch of answers, and only then lets go of the lines that waited for them.
    fn take(&mut self, batch: &mut Vec<(LineIndex, Step, Answer)>) -> Result<(), Failure> {
        self.in_flight -= batch.len();
        let mut known = Vec::with_capacity(batch.len());
        let mut expired = false;
        let mut stop = None;
        for (index, step, answer) in batch.drain(..) {
            match answer {
                // Somebody else has changed the pool meanwhile. Not kept: the line is sent again when its pool takes it.
                Answer::Known {
                    outcome: Outcome::Rejected(status),
                    ..
                } if self.drive.is_rebuild() => {
                    let line = &self.drive.file.lines[index.index()];
                    stop = Some(refused_in_rebuild(&self.drive.file.pools[line.pool.index()], status));
                }
                Answer::Known { outcome, repeated } => {
                    self.unknown.remove(&index);
                    self.note_repeated(repeated);
                    known.push((index, outcome));
                }
                Answer::Expired => {
                    let count = self.expired.entry(index).or_default();
                    *count += 1;
                    // Kept before the next key is used: this one may be forgotten by then.
                    self.progress
                        .add_expired(self.drive.file.lines[index.index()].number, *count);
                    expired = true;
                    self.unknown.remove(&index);
                    self.try_again(index, step, "a hold expired before it was confirmed".to_owned());
                }
                Answer::Again { why, unknown } => {
                    if unknown {
                        self.unknown.insert(index);
                    }
                    self.try_again(index, step, why);
                }
                Answer::Stop(failure) => stop = Some(failure),
            }
        }
        for (index, outcome) in &known {
            self.progress.add(self.drive.file.lines[index.index()].number, *outcome);
        }
        if expired || !known.is_empty() {
            self.progress
                .write()
                .map_err(|error| cannot_keep(error, self.progress.path()))?;
        }
        if !known.is_empty() {
            for (index, outcome) in known {
                let settled = self.plan.settle(index, outcome);
                assert!(
                    settled.is_ok(),
                    "line {} was handed out and answered with {outcome:?}",
                    index.0
                );
            }
            if self.trouble.take().is_some_and(|trouble| trouble.said) {
                self.meter.say("note: the engine answers again");
            }
        }
        match stop {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn try_again(&mut self, index: LineIndex, step: Step, why: String) {
        self.again.push((index, step));
        self.again_at = Instant::now() + RETRY_PAUSE;
        let since = Instant::now();
        self.trouble
            .get_or_insert(Trouble {
                since,
                why: String::new(),
                said: false,
            })
            .why = why;
    }

    /// After a crash, the lines that were in flight are known to the engine. More than that means that the progress of an earlier
    /// run is gone, and with it what was refused.
    fn note_repeated(&mut self, repeated: bool) {
        // A rebuild is meant to find what is there already, and nothing was refused.
        if self.drive.is_rebuild() {
            return;
        }
        self.repeated_count += usize::from(repeated);
        if repeated && self.repeated_count == self.drive.window + 1 {
            self.meter.say(
                "warning: the engine took more of these lines before than were in flight; without the progress file of that run, \
                 lines that were refused then may be accepted now",
            );
        }
    }

    fn judge_patience(&mut self) -> Result<(), Failure> {
        let Some(trouble) = &mut self.trouble else {
            return Ok(());
        };
        let lasted = trouble.since.elapsed();
        if lasted > TROUBLE_UNSAID_MAX && !trouble.said {
            trouble.said = true;
            self.meter.say(&format!(
                "note: {}; trying for up to {:?}",
                trouble.why, self.drive.patience
            ));
        }
        if lasted <= self.drive.patience {
            return Ok(());
        }
        let unknown = self.unknown.len();
        let (exit, message) = if unknown > 0 {
            (
                Exit::Unknown,
                format!(
                    "gave up after {:?}, the outcome of {unknown} lines is unknown",
                    self.drive.patience
                ),
            )
        } else {
            (Exit::Failed, format!("gave up after {:?}", self.drive.patience))
        };
        Err(Failure::new(exit, format!("{message}: {}", trouble.why))
            .help("run the same command again when the engine is back: it goes on where it was"))
    }
}

/// Ends with SIGINT or SIGTERM.
pub(super) fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::failed("cannot listen for signals").because(error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

pub(super) fn other_directory() -> Failure {
    Failure::failed("the engine came back on another data directory")
        .help("start it on the directory that it had, and run the same command again: it goes on where it was")
}

fn refused_in_rebuild(pool: &str, status: u16) -> Failure {
    let refusal = Refusal::new(StatusNumber(status));
    Failure::failed(format!(
        "the pool {pool} does not take every order any more: the engine answers {refusal}"
    ))
    .help("somebody has changed it meanwhile; run the same command again: it goes on where it was")
}

pub(super) fn cannot_keep(error: ProgressError, path: &Path) -> Failure {
    Failure::failed(format!(
        "cannot write the progress file {}, so nothing more is sent",
        path.display()
    ))
    .because(error)
    .help("make room, and run the same command again: it goes on where it was")
}
