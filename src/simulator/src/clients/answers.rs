//! What an answer tells a client, and which answers it may get.

use plimsoll_protocol::{Status, wire};

use super::{Client, ENDED_COUNT_MAX, Intent, Ledger, Origin, Progress, Wish, resized};
use crate::checkers::{Promise, Violation, violation};

/// Attempts after which a client takes it that there is no room.
const ATTEMPT_COUNT_MAX: u32 = 6;

impl Ledger {
    /// An outcome has reached its client. True when the wish stays open.
    pub(crate) fn outcome(
        &mut self,
        index: usize,
        client: &mut Client,
        outcome: &wire::Outcome,
    ) -> Result<bool, Violation> {
        let number = outcome.status_number();
        let Some(status) = number.known() else {
            return violation(Promise::Answer, || format!("unknown status {number:?}"));
        };
        if status.retryable() {
            let gives_up = matches!(self.intents[index].wish, Wish::Reserve { .. })
                && self.rules.reservation_count_max < usize::MAX
                && self.intents[index].attempts > ATTEMPT_COUNT_MAX;
            if gives_up {
                self.intents[index].progress = Progress::Abandoned;
            }
            return Ok(!gives_up);
        }
        if let Some((promise, what)) = self.breach(index, status, outcome) {
            let of = self.intents[index].wish.of().map(|of| &self.intents[of]);
            return violation(promise, || {
                let intent = &self.intents[index];
                format!("{what}: wish {index} {intent:?}, outcome {outcome:?}, about {of:?}")
            });
        }
        let intent = &mut self.intents[index];
        intent.progress = if status == Status::Ok {
            Progress::Done(outcome.reservation_id().0)
        } else {
            Progress::Refused(status)
        };
        match intent.wish.clone() {
            Wish::Reserve { origin, .. } if status == Status::Ok => {
                let holding = &mut intent.holding;
                (holding.deadline, holding.version) = (deadline(outcome), Some(outcome.version()));
                if origin == Origin::New {
                    client.held.push(index);
                }
            }
            Wish::Reserve { .. } | Wish::Release { of: None, .. } => {}
            Wish::Release { of: Some(of), .. } => {
                self.intents[of].release_done |= status == Status::Ok;
                self.intents[of].release_answered = true;
                end(client, of);
            }
            Wish::Confirm { of, .. } => {
                let of_intent = &mut self.intents[of];
                if status == Status::Ok {
                    of_intent.confirm_done = true;
                    of_intent.holding.deadline = i64::MAX;
                }
                self.put_back(client, of, status);
            }
            Wish::Resize { of, units, before, .. } => {
                let is_first = self.intents[index].attempts == 1;
                let holding = &mut self.intents[of].holding;
                if status == Status::Ok {
                    let all = holding.units.iter().map(|before| resized(before, &units));
                    holding.units = all.collect();
                    holding.units.dedup();
                    (holding.deadline, holding.version) = (deadline(outcome), Some(outcome.version()));
                } else if is_first {
                    *holding = *before;
                }
                self.put_back(client, of, status);
            }
        }
        Ok(false)
    }

    /// The client goes on with its reservation, unless it has ended.
    fn put_back(&mut self, client: &mut Client, of: usize, status: Status) {
        let has_ended = [
            Status::HoldExpired,
            Status::ReservationNotFound,
            Status::ReservationEnded,
        ];
        self.intents[of].expired_told |= status == Status::HoldExpired;
        if client.ended.contains(&of) {
            return;
        }
        if has_ended.contains(&status) {
            end(client, of);
        } else {
            client.held.push(of);
        }
    }

    /// What no client may be told.
    fn breach(&self, index: usize, status: Status, outcome: &wire::Outcome) -> Option<(Promise, &'static str)> {
        let intent = &self.intents[index];
        match &intent.wish {
            Wish::Reserve { pool, id, origin, .. } => {
                let firm = |first: usize| !self.intents[first].release_attempted && !self.may_have_ended(first);
                let is_done = |first: usize| {
                    status == Status::Ok && self.intents[first].progress == Progress::Done(outcome.reservation_id().0)
                };
                if status == Status::PoolNotFound && !self.may_be_retired(*pool, *id) {
                    return Some((Promise::Durable, "a pool that was acknowledged is gone"));
                }
                match origin {
                    Origin::New if status == Status::KeyReused => {
                        Some((Promise::OneEffect, "a key that nobody else has is refused as used"))
                    }
                    Origin::Same(first) if firm(*first) && !is_done(*first) => {
                        Some((Promise::OneEffect, "a repetition does not get the first outcome"))
                    }
                    Origin::Conflict(first) if firm(*first) && status != Status::KeyReused => {
                        Some((Promise::OneEffect, "another request under a used key is not refused"))
                    }
                    _ => None,
                }
            }
            Wish::Release { of: None, .. } => None,
            Wish::Release { of: Some(of), .. } => {
                let may_have_ended = self.may_have_ended(*of);
                match status {
                    Status::Ok if outcome.state() == wire::State::released => None,
                    Status::Ok if outcome.state() == wire::State::expired && may_have_ended => None,
                    Status::Ok => Some((Promise::OneEffect, "what was released is not")),
                    _ if intent.attempts > 1 || may_have_ended || self.intents[*of].release_answered => None,
                    _ => Some((
                        Promise::Durable,
                        "a reservation that was acknowledged cannot be released",
                    )),
                }
            }
            Wish::Confirm { of, .. } => {
                let of_intent = &self.intents[*of];
                let is_excused = of_intent.release_attempted || self.may_have_ended(*of);
                match status {
                    Status::Ok if outcome.state() != wire::State::confirmed => {
                        Some((Promise::OneEffect, "what was confirmed is not"))
                    }
                    Status::Ok if self.may_be_reset(*of) => None,
                    Status::Ok if of_intent.expired_told => {
                        Some((Promise::Time, "what had expired, as its client was told, is confirmed"))
                    }
                    Status::Ok if of_intent.release_done => Some((Promise::Durable, "what was released is confirmed")),
                    Status::Ok => None,
                    _ if is_excused => None,
                    _ => Some((Promise::Durable, "a live reservation cannot be confirmed")),
                }
            }
            Wish::Resize {
                of,
                expected_version,
                is_current,
                ..
            } => {
                let is_excused = self.intents[*of].release_attempted || self.may_have_ended(*of);
                match (status, expected_version) {
                    (Status::Ok, Some(version)) if !(*version..=*version + 1).contains(&outcome.version()) => {
                        Some((Promise::Order, "a change was made from another version"))
                    }
                    (Status::ChangedMeanwhile, _) if *is_current && intent.attempts == 1 && !self.may_be_reset(*of) => {
                        Some((Promise::Order, "the version that was told is not current"))
                    }
                    (Status::ReservationNotFound | Status::ReservationEnded | Status::HoldExpired, _)
                        if !is_excused =>
                    {
                        Some((Promise::Durable, "a live reservation cannot be resized"))
                    }
                    _ => None,
                }
            }
        }
    }
}

impl Intent {
    /// It was confirmed, and the client knows.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirm_done
    }
}

/// The earliest time at which what the outcome is about may expire.
fn deadline(outcome: &wire::Outcome) -> i64 {
    match outcome.state() {
        wire::State::held => outcome.expires_at(),
        wire::State::confirmed => i64::MAX,
        _ => 0,
    }
}

fn end(client: &mut Client, of: usize) {
    if client.ended.contains(&of) {
        return;
    }
    if client.ended.len() == ENDED_COUNT_MAX {
        client.ended.pop_front();
    }
    client.ended.push_back(of);
}
