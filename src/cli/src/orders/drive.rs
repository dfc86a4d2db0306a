//! Sends the lines that are ready, keeps their outcomes, and tries again what got no answer.

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_client::{
    Client, Error, PoolId, Refusal, Releasing, ReservationId, Reserve, Reserving, Status, Units, Unknown, UnknownCause,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::file::{OrderFile, OrderLine};
use super::key_of;
use super::meter::Meter;
use super::plan::{LineIndex, Outcome, Plan, Step};
use super::progress::{Progress, ProgressError};
use crate::failure::{Exit, Failure};

/// Between two attempts at the lines that got no answer. The client itself has tried for its `--timeout` before.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often the meter moves, and patience is looked at, while nothing arrives.
const TICK: Duration = Duration::from_millis(500);

/// Trouble that is over sooner is not worth a line.
const TROUBLE_UNSAID_MAX: Duration = Duration::from_secs(1);

/// What is the same for all lines.
pub(crate) struct Drive<'a> {
    pub(crate) client: &'a Client,
    pub(crate) file: &'a Arc<OrderFile>,
    /// The ids of the file's pools; `None` for one that does not exist. Ids are of one data directory, names would be found again in
    /// another.
    pub(crate) pools: &'a [Option<PoolId>],
    /// SHA-256 of the input.
    pub(crate) input: [u8; 32],
    /// The engine's data directory when the run began.
    pub(crate) directory: &'a str,
    /// The most lines in flight.
    pub(crate) window: usize,
    /// How long no line at all may come to anything.
    pub(crate) patience: Duration,
}

/// How a run ended that did not fail.
pub(crate) enum Ending {
    Finished,
    /// By SIGINT or SIGTERM.
    Interrupted,
}

/// What came of sending a line.
enum Answer {
    Known {
        outcome: Outcome,
        /// The engine knew the line's key from an earlier attempt.
        repeated: bool,
    },
    /// No effect, or nobody can tell: send it again with the same key.
    Again { why: String, unknown: bool },
    /// Sending it again would not help.
    Stop(Failure),
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
    progress: Progress,
    meter: Meter,
    /// Lines to send before any others, the last first: those that an earlier run left.
    left: Vec<(LineIndex, Step)>,
    /// Lines that got no answer, to be sent again at `again_at`.
    again: Vec<(LineIndex, Step)>,
    again_at: Instant,
    in_flight: usize,
    /// Lines that may have taken effect without our knowing.
    unknown: HashSet<LineIndex>,
    trouble: Option<Trouble>,
    repeated_count: usize,
}

impl Drive<'_> {
    /// Sends what is ready until everything is settled, or until it cannot go on. Whatever the ending, what is known is kept.
    pub(crate) async fn run(
        &self,
        plan: &mut Plan<'_>,
        progress: Progress,
        mut left: Vec<(LineIndex, Step)>,
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
            let input = self.drive.input;
            let pool = self.drive.pools[file.lines[index.index()].pool.index()];
            let answers = answers.clone();
            tokio::spawn(async move {
                let answer = match (step, pool) {
                    (Step::Reserve, Some(pool)) => reserve(&client, &file, &input, index, pool).await,
                    (Step::Reserve, None) => refused_reserve(&Refusal::new(Status::PoolNotFound), 0),
                    (Step::Release(reservation), _) => release(&client, &file.lines[index.index()], reservation).await,
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
        let mut stop = None;
        for (index, step, answer) in batch.drain(..) {
            match answer {
                Answer::Known { outcome, repeated } => {
                    self.unknown.remove(&index);
                    self.note_repeated(repeated);
                    known.push((index, outcome));
                }
                Answer::Again { why, unknown } => {
                    if unknown {
                        self.unknown.insert(index);
                    }
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
                Answer::Stop(failure) => stop = Some(failure),
            }
        }
        if !known.is_empty() {
            for (index, outcome) in &known {
                self.progress.add(self.drive.file.lines[index.index()].number, *outcome);
            }
            if let Err(error) = self.progress.write() {
                return Err(cannot_keep(error, self.progress.path()));
            }
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

    /// After a crash, the lines that were in flight are known to the engine. More than that means that the progress of an earlier
    /// run is gone, and with it what was refused.
    fn note_repeated(&mut self, repeated: bool) {
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
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::failed("cannot listen for signals").because(error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn reserve(client: &Client, file: &OrderFile, input: &[u8; 32], index: LineIndex, pool: PoolId) -> Answer {
    let line = &file.lines[index.index()];
    let reserve = Reserve {
        reference: Some(&file.orders[line.order.index()]),
        occurred_at: Some(line.at),
        ..Reserve::new(
            pool,
            Units::InOrder(file.units(index.index())),
            key_of(input, line.number),
        )
    };
    match client.reserve(&reserve).await {
        Ok(Reserving::Reserved(reservation)) => Answer::Known {
            outcome: Outcome::Accepted(reservation.id),
            repeated: reservation.repeated,
        },
        Ok(Reserving::Refused(refusal)) => refused_reserve(&refusal, line.number),
        Ok(Reserving::Unknown(unknown)) => unknown_answer(&unknown),
        Err(error) => error_answer(error),
    }
}

async fn release(client: &Client, line: &OrderLine, reservation: ReservationId) -> Answer {
    match client.release(reservation, Some(line.at)).await {
        Ok(Releasing::Released(_)) => Answer::Known {
            outcome: Outcome::Released,
            repeated: false,
        },
        Ok(Releasing::Refused(refusal)) => refused_release(&refusal, line.number),
        Ok(Releasing::Unknown(unknown)) => unknown_answer(&unknown),
        Err(error) => error_answer(error),
    }
}

/// The statuses that are an outcome of business: the line is rejected.
fn is_rejection(refusal: &Refusal) -> bool {
    match refusal.status.known() {
        Some(Status::PoolNotFound | Status::InsufficientCapacity) => true,
        Some(Status::PoolClosed | Status::PoolNotOpenYet | Status::PoolPastClosing) => true,
        Some(_) => false,
        // The range of refusals, in which later releases add numbers.
        None => (16..48).contains(&refusal.status.0),
    }
}

fn refused_reserve(refusal: &Refusal, number: u64) -> Answer {
    if is_rejection(refusal) {
        return Answer::Known {
            outcome: Outcome::Rejected(refusal.status.0),
            repeated: false,
        };
    }
    if refusal.retryable() {
        return Answer::Again {
            why: format!("the engine answers {refusal}"),
            unknown: false,
        };
    }
    let failure = Failure::failed(format!("line {number}: the engine answers {refusal}"));
    Answer::Stop(if refusal.is(Status::KeyReused) {
        failure.help("this file was driven through this engine before with other --dimensions; use those again")
    } else {
        failure.help("mend the cause and run the same command again: it goes on where it was")
    })
}

fn refused_release(refusal: &Refusal, number: u64) -> Answer {
    // Its reservation was accepted in this data directory, so one that is ended, or ended so long ago that it is forgotten, was
    // released: by an attempt of ours whose outcome was lost, most likely.
    if refusal.is(Status::ReservationNotFound) || refusal.is(Status::ReservationEnded) {
        return Answer::Known {
            outcome: Outcome::Released,
            repeated: false,
        };
    }
    if refusal.retryable() {
        return Answer::Again {
            why: format!("the engine answers {refusal}"),
            unknown: false,
        };
    }
    Answer::Stop(
        Failure::failed(format!("line {number}: the engine answers {refusal}"))
            .help("mend the cause and run the same command again: it goes on where it was"),
    )
}

fn unknown_answer(unknown: &Unknown) -> Answer {
    match unknown.cause {
        UnknownCause::DirectoryChanged => Answer::Stop(other_directory()),
        _ => Answer::Again {
            why: unknown.to_string(),
            unknown: true,
        },
    }
}

fn error_answer(error: Error) -> Answer {
    match error {
        Error::DirectoryChanged => Answer::Stop(other_directory()),
        Error::NotSent { .. } | Error::NotConnected { .. } => Answer::Again {
            why: "the engine does not answer".to_owned(),
            unknown: false,
        },
        error if error.retryable() => Answer::Again {
            why: error.to_string(),
            unknown: false,
        },
        error => Answer::Stop(Failure::failed("a line cannot be sent").because(error)),
    }
}

fn other_directory() -> Failure {
    Failure::failed("the engine came back on another data directory")
        .help("start it on the directory that it had, and run the same command again: it goes on where it was")
}

fn cannot_keep(error: ProgressError, path: &Path) -> Failure {
    Failure::failed(format!(
        "cannot write the progress file {}, so nothing more is sent",
        path.display()
    ))
    .because(error)
    .help("make room, and run the same command again: it goes on where it was")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refused_reserve_comes_to() {
        let check = |status: u16, expected: &str| {
            let refusal = Refusal::new(plimsoll_client::StatusNumber(status));
            let found = match refused_reserve(&refusal, 1) {
                Answer::Known {
                    outcome: Outcome::Rejected(kept),
                    ..
                } if kept == status => "rejected",
                Answer::Known { .. } => "known",
                Answer::Again { unknown: false, .. } => "again",
                Answer::Again { unknown: true, .. } => "unknown",
                Answer::Stop(_) => "stop",
            };
            assert_eq!(found, expected, "{status}");
        };
        for status in [16, 18, 19, 20, 21, 40] {
            check(status, "rejected");
        }
        for status in [22, 48, 49, 70] {
            check(status, "stop");
        }
        for status in [54, 80, 81, 82, 100] {
            check(status, "again");
        }
    }

    #[test]
    fn a_release_of_what_is_gone_is_done() {
        for status in [Status::ReservationNotFound, Status::ReservationEnded] {
            let answer = refused_release(&Refusal::new(status), 1);
            assert!(
                matches!(
                    answer,
                    Answer::Known {
                        outcome: Outcome::Released,
                        ..
                    }
                ),
                "{status}"
            );
        }
        assert!(matches!(
            refused_release(&Refusal::new(Status::Overloaded), 1),
            Answer::Again { .. }
        ));
    }
}
