//! Giving an answer to those who wait for it.

use std::sync::Arc;

use plimsoll_protocol::frame::Frame;
use plimsoll_protocol::{Applied, OutcomesView, payload, wire};

use super::Loss;
use crate::error::{AnswerError, UnknownCause};
use crate::request::{CommandAnswer, CommandReply, Failed, FrameAnswer};
use crate::waiters::{Call, InFlight, Waiter, Waiters};

/// Gives an answer to the callers of its frame. An error ends the connection: from there on nobody can tell what belongs
/// to what.
pub(super) fn give_out(waiters: &mut Waiters, dimensions: usize, frame: Frame<'_>) -> Result<(), Loss> {
    let header = frame.header;
    if header.correlation.0 == 0 && header.is_answer() && !header.status.is_ok() {
        return Err(Loss::Refused {
            status: header.status,
            detail: detail(frame),
        });
    }
    if !header.is_answer() {
        return Err(Loss::Unasked(header.correlation));
    }
    let Some(in_flight) = waiters.take(header.correlation) else {
        return Err(Loss::Unasked(header.correlation));
    };
    let InFlight { waiter, operation, .. } = in_flight;
    match waiter {
        Waiter::Nobody => {}
        Waiter::Frame {
            reply,
            mut buffer,
            permit,
            ..
        } => {
            buffer.clear();
            buffer.extend_from_slice(frame.payload);
            drop(permit);
            let answer = if header.operation == operation {
                Ok(FrameAnswer {
                    header,
                    payload: buffer,
                })
            } else {
                Err(Failed::Lost(UnknownCause::Answer(other_operation(
                    operation,
                    header.operation,
                ))))
            };
            // A caller that has gone away wants no answer.
            let _ = reply.send(answer);
        }
        Waiter::Calls(mut calls) => {
            if header.operation == operation {
                give_out_calls(&mut calls, dimensions, frame);
            } else {
                let cause = UnknownCause::Answer(other_operation(operation, header.operation));
                give_all(&mut calls, || Err(Failed::Lost(cause.clone())));
            }
            waiters.give_back(calls);
        }
    }
    Ok(())
}

fn other_operation(expected: u16, found: u16) -> AnswerError {
    AnswerError::Operation { expected, found }
}

/// What the server says of a frame that it refused.
fn detail(frame: Frame<'_>) -> Option<String> {
    frame.check_payload().ok()?;
    let failure = payload::table::<wire::Failure>("Failure", frame.payload).ok()?;
    failure.detail().map(str::to_owned)
}

fn give_out_calls(calls: &mut [Call], dimensions: usize, frame: Frame<'_>) {
    let status = frame.header.status;
    if !status.is_ok() {
        // The status stands in the header, which has a checksum of its own.
        if status.applied() == Applied::No {
            let detail: Option<Arc<str>> = detail(frame).map(Into::into);
            return give_all(calls, || {
                Ok(CommandAnswer::FrameRefused {
                    status,
                    detail: detail.clone(),
                })
            });
        }
        return give_all(calls, || Err(Failed::Lost(UnknownCause::Status(status))));
    }
    let view = frame
        .check_payload()
        .map_err(AnswerError::from)
        .and_then(|()| Ok(OutcomesView::new(frame.payload, frame.header.count, dimensions)?))
        .and_then(|view| match view.len() {
            found if found == calls.len() => Ok(view),
            found => Err(AnswerError::Count {
                what: "outcomes",
                expected: calls.len(),
                found,
            }),
        });
    let view = match view {
        Ok(view) => view,
        Err(error) => {
            let cause = UnknownCause::Answer(error);
            return give_all(calls, || Err(Failed::Lost(cause.clone())));
        }
    };
    for (call, found) in calls.iter_mut().zip(&view) {
        let Some(reply) = call.reply.take() else { continue };
        let remaining = (!found.remaining.is_empty()).then(|| found.remaining.iter().collect());
        // A caller that has gone away wants no answer.
        let _ = reply.send(Ok(CommandAnswer::Outcome {
            outcome: *found.outcome,
            remaining,
        }));
    }
}

fn give_all(calls: &mut [Call], reply: impl Fn() -> CommandReply) {
    for call in calls {
        if let Some(sender) = call.reply.take() {
            // A caller that has gone away wants no answer.
            let _ = sender.send(reply());
        }
    }
}
