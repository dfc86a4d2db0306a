//! Sending a command, or a frame of a rare operation, until its outcome is known or its deadline has passed.

use plimsoll_protocol::{Applied, StatusNumber, wire};

use crate::attempts::{Attempts, retried};
use crate::checks;
use crate::client::Client;
use crate::directory::{Directory, Epoch};
use crate::error::{AnswerError, Error, UnknownCause};
use crate::outcome::{Decided, Refusal, Short, Unknown};
use crate::request::{CommandAnswer, CommandRequest, Failed, FrameAnswer, Unsent};

/// A command that is ready to be sent, as often as needed.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) command: wire::Command,
    pub(crate) units: checks::UnitsArray,
    pub(crate) reference: Option<Box<str>>,
    pub(crate) epoch: Epoch,
}

impl Client {
    /// Sends a command until its outcome is known or the deadline has passed. An error means that it had no effect.
    pub(crate) async fn execute(
        &self,
        prepared: Prepared,
        directory: &Directory,
        attempts: &mut Attempts,
    ) -> Result<Decided, Error> {
        // Always the same connection: an attempt that is late on a former one is then behind it, not beside it.
        let link = self.link();
        let deadline = attempts.deadline;
        loop {
            let sent = link.command(|reply| {
                let Prepared {
                    command,
                    units,
                    reference,
                    epoch,
                } = prepared.clone();
                CommandRequest {
                    command,
                    units,
                    reference,
                    epoch,
                    deadline,
                    reply,
                }
            });
            let reply = match sent {
                Ok(reply) => reply.await,
                Err(error) => {
                    let Some(unknown) = attempts.unknown() else {
                        return Err(error);
                    };
                    if matches!(error, Error::QueueFull { .. }) && attempts.pause().await {
                        continue;
                    }
                    return Ok(Decided::Unknown(unknown));
                }
            };
            let refusal = match reply.unwrap_or(Err(Failed::Lost(UnknownCause::Closed))) {
                Err(Failed::Unsent(unsent)) => {
                    let Some(mut unknown) = attempts.unknown() else {
                        return Err(self.unsent(&unsent, link));
                    };
                    if matches!(unsent, Unsent::DirectoryChanged) {
                        unknown.cause = UnknownCause::DirectoryChanged;
                    }
                    return Ok(Decided::Unknown(unknown));
                }
                Err(Failed::Lost(cause)) => {
                    let at_once = cause == UnknownCause::ConnectionLost;
                    let last = matches!(cause, UnknownCause::Deadline | UnknownCause::Closed);
                    attempts.lose(cause);
                    let again = !last
                        && if at_once {
                            attempts.again()
                        } else {
                            attempts.pause().await
                        };
                    match attempts.unknown() {
                        Some(unknown) if !again => return Ok(Decided::Unknown(unknown)),
                        _ => continue,
                    }
                }
                Ok(CommandAnswer::FrameRefused { status, detail }) => {
                    attempts.answered();
                    Refusal {
                        detail: detail.map(|text| text.to_string()),
                        ..Refusal::new(status)
                    }
                }
                Ok(CommandAnswer::Outcome { outcome, remaining }) => {
                    match decide(&outcome, remaining.as_deref(), &directory.welcome.dimensions) {
                        Decided::Refused(refusal) => {
                            attempts.answered();
                            refusal
                        }
                        Decided::Unknown(unknown) => {
                            attempts.lose(unknown.cause);
                            match attempts.unknown() {
                                Some(unknown) if !attempts.pause().await => return Ok(Decided::Unknown(unknown)),
                                _ => continue,
                            }
                        }
                        applied @ Decided::Applied(_) => return Ok(applied),
                    }
                }
            };
            if retried(refusal.status) {
                if attempts.pause().await {
                    continue;
                }
                // The refusal is of the last attempt only, and says nothing of an earlier one that was lost.
                return Ok(attempts.unknown().map_or(Decided::Refused(refusal), Decided::Unknown));
            }
            attempts.resolve();
            return Ok(Decided::Refused(refusal));
        }
    }

    /// Sends a frame of a rare operation until it is answered or the deadline has passed, and checks the answer's
    /// checksum.
    pub(crate) async fn call(
        &self,
        frame: Vec<u8>,
        epoch: Epoch,
        attempts: &mut Attempts,
    ) -> Result<FrameAnswer, Error> {
        let link = self.link();
        loop {
            let reply = match link.frame(frame.clone(), epoch, attempts.deadline) {
                Ok(reply) => reply.await,
                Err(error) => return Err(attempts.unknown().map_or(error, Error::Unknown)),
            };
            match reply.unwrap_or(Err(Failed::Lost(UnknownCause::Closed))) {
                Err(Failed::Unsent(unsent)) => {
                    return Err(attempts
                        .unknown()
                        .map_or_else(|| self.unsent(&unsent, link), Error::Unknown));
                }
                Err(Failed::Lost(cause)) => {
                    let last = matches!(cause, UnknownCause::Deadline | UnknownCause::Closed);
                    attempts.lose(cause);
                    if last || !attempts.again() {
                        return Err(attempts.unknown().map_or(Error::Closed, Error::Unknown));
                    }
                }
                Ok(answer) => match check_answer(&answer) {
                    Ok(()) => return Ok(answer),
                    Err(Error::Unknown(Unknown { cause, .. })) => {
                        attempts.lose(cause);
                        if !attempts.pause().await {
                            return Err(attempts.unknown().map_or(Error::Closed, Error::Unknown));
                        }
                    }
                    Err(Error::Refused(refusal)) if retried(refusal.status) => {
                        attempts.answered();
                        if !attempts.pause().await {
                            return Err(attempts.unknown().map_or(Error::Refused(refusal), Error::Unknown));
                        }
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }
}

/// Reads an outcome.
pub(crate) fn decide(outcome: &wire::Outcome, remaining: Option<&[i64]>, dimensions: &[String]) -> Decided {
    let status: StatusNumber = outcome.status_number();
    match status.applied() {
        Applied::Yes => Decided::Applied(outcome.into()),
        Applied::Unknown => Decided::Unknown(Unknown {
            cause: UnknownCause::Status(status),
            attempts: 1,
        }),
        Applied::No => {
            let remaining = remaining.unwrap_or_default();
            let is_short = |index: usize| u32::from(outcome.short_dimensions()) >> index & 1 == 1;
            let short = remaining
                .iter()
                .zip(dimensions)
                .enumerate()
                .filter(|(index, _)| is_short(*index))
                .map(|(_, (&remaining, dimension))| Short {
                    dimension: dimension.clone(),
                    remaining,
                })
                .collect();
            Decided::Refused(Refusal {
                status,
                short,
                remaining: remaining.to_vec(),
                detail: None,
            })
        }
    }
}

/// Checks an answer's checksum, and whether the frame was refused.
pub(crate) fn check_answer(answer: &FrameAnswer) -> Result<(), Error> {
    let unknown = |cause| Error::Unknown(Unknown { cause, attempts: 1 });
    let status = answer.header.status;
    match status.applied() {
        Applied::Yes => {
            let checked = answer.header.check_payload(&answer.payload);
            checked.map_err(|error| unknown(UnknownCause::Answer(AnswerError::Frame(error))))
        }
        Applied::Unknown => Err(unknown(UnknownCause::Status(status))),
        Applied::No => {
            let whole = answer.header.check_payload(&answer.payload).is_ok();
            let failure = plimsoll_protocol::payload::table::<wire::Failure>("Failure", &answer.payload);
            let detail = failure
                .ok()
                .filter(|_| whole)
                .and_then(|failure| failure.detail())
                .map(str::to_owned);
            Err(Error::Refused(Refusal {
                detail,
                ..Refusal::new(status)
            }))
        }
    }
}
