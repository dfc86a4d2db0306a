//! Sends one line, and judges what came of it.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::{
    Client, Confirming, Error, Key, PoolId, Refusal, Releasing, Reservation, ReservationId, Reserve, Reserving, State,
    Status, Units, Unknown, UnknownCause,
};

use super::drive::other_directory;
use super::file::{OrderFile, OrderLine};
use super::plan::{LineIndex, Outcome};
use crate::failure::Failure;

/// What came of sending a line.
pub(super) enum Answer {
    Known {
        outcome: Outcome,
        /// The engine knew the line's key from an earlier attempt.
        repeated: bool,
    },
    /// Its hold has expired before it was confirmed: no effect any more. It needs another key.
    Expired,
    /// No effect, or nobody can tell: send it again with the same key.
    Again { why: String, unknown: bool },
    /// Sending it again would not help.
    Stop(Failure),
}

/// A reserve that is about to be sent.
pub(super) struct Order {
    pub(super) file: Arc<OrderFile>,
    pub(super) index: LineIndex,
    pub(super) key: Key,
    /// How long it is held before it is confirmed; `None`: it is confirmed at once.
    pub(super) hold: Option<Duration>,
    /// Whether its key is the order's own.
    pub(super) is_rebuild: bool,
}

impl Order {
    pub(super) fn line(&self) -> &OrderLine {
        &self.file.lines[self.index.index()]
    }

    pub(super) async fn reserve(&self, client: &Client, pool: PoolId) -> Answer {
        let line = self.line();
        let reserve = Reserve {
            hold: self.hold,
            reference: Some(&self.file.orders[line.order.index()]),
            occurred_at: Some(line.at),
            ..Reserve::new(pool, Units::InOrder(self.file.units(self.index.index())), self.key)
        };
        match client.reserve(&reserve).await {
            Ok(Reserving::Reserved(reservation)) => match reservation.state {
                State::Held => confirm(client, line, &reservation).await,
                // Before it was confirmed: the line would be settled otherwise.
                State::Expired | State::Released if self.hold.is_some() => Answer::Expired,
                // Confirmed at once, or by an earlier attempt.
                _ => accepted(&reservation),
            },
            Ok(Reserving::Refused(refusal)) if self.is_rebuild && refusal.is(Status::KeyReused) => {
                other_request(&self.file.orders[line.order.index()], line.number)
            }
            Ok(Reserving::Refused(refusal)) => refused_reserve(&refusal, line.number),
            Ok(Reserving::Unknown(unknown)) => unknown_answer(&unknown),
            Err(error) => error_answer(error),
        }
    }
}

fn accepted(reservation: &Reservation) -> Answer {
    Answer::Known {
        outcome: Outcome::Accepted(reservation.id),
        repeated: reservation.repeated,
    }
}

async fn confirm(client: &Client, line: &OrderLine, held: &Reservation) -> Answer {
    match client.confirm(held.id, Some(line.at)).await {
        Ok(Confirming::Confirmed(_)) => accepted(held),
        Ok(Confirming::Refused(refusal)) if refusal.is(Status::HoldExpired) => give_back(client, line, held.id).await,
        Ok(Confirming::Refused(refusal)) => refused_confirmation(&refusal, line.number),
        Ok(Confirming::Unknown(unknown)) => unknown_answer(&unknown),
        Err(error) => error_answer(error),
    }
}

/// Releases a hold whose deadline has passed. The engine frees its units a moment later than it refuses to confirm it, and
/// until then there may be no room for the same order under another key.
async fn give_back(client: &Client, line: &OrderLine, id: ReservationId) -> Answer {
    match release(client, line, id).await {
        Answer::Known { .. } => Answer::Expired,
        other => other,
    }
}

pub(super) async fn release(client: &Client, line: &OrderLine, reservation: ReservationId) -> Answer {
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

pub(super) fn refused_reserve(refusal: &Refusal, number: u64) -> Answer {
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
        failure.help("this file was driven through this engine before with other --dimensions, or another --hold; use those again")
    } else {
        failure.help("mend the cause and run the same command again: it goes on where it was")
    })
}

/// The engine has a reservation of this order that is not what the file says.
fn other_request(order: &str, number: u64) -> Answer {
    Answer::Stop(
        Failure::failed(format!(
            "line {number}: order {order} has a reservation already, with another pool or other units"
        ))
        .help(
            "its line has changed since an earlier file, or a caller sends something else under its name; a change of an order \
             is a release and another reserve",
        ),
    )
}

fn refused_confirmation(refusal: &Refusal, number: u64) -> Answer {
    // Nobody else has its id, so that one that is ended was given back by an earlier attempt, and one that is not known any
    // more ended long ago.
    if refusal.is(Status::ReservationEnded) || refusal.is(Status::ReservationNotFound) {
        return Answer::Expired;
    }
    if refusal.retryable() {
        return Answer::Again {
            why: format!("the engine answers {refusal}"),
            unknown: false,
        };
    }
    Answer::Stop(
        Failure::failed(format!(
            "line {number}: its hold cannot be confirmed: the engine answers {refusal}"
        ))
        .help("mend the cause and run the same command again: it goes on where it was"),
    )
}

fn refused_release(refusal: &Refusal, number: u64) -> Answer {
    // Its reservation was accepted in this data directory, so one that is ended, or ended so long ago that it is
    // forgotten, was released: by an attempt of ours whose outcome was lost, most likely.
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
                Answer::Expired => "expired",
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
    fn a_hold_that_has_ended_needs_another_key() {
        for status in [Status::ReservationEnded, Status::ReservationNotFound] {
            assert!(
                matches!(refused_confirmation(&Refusal::new(status), 1), Answer::Expired),
                "{status}"
            );
        }
        let busy = refused_confirmation(&Refusal::new(Status::Unavailable), 1);
        assert!(matches!(busy, Answer::Again { unknown: false, .. }));
        let wrong = refused_confirmation(&Refusal::new(Status::Invalid), 1);
        assert!(matches!(wrong, Answer::Stop(_)));
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
