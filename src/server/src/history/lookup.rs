//! The thread asks engines about reservations, as a core does.

use std::time::{Duration, Instant};

use plimsoll_domain::ReservationId;
use plimsoll_engine::{Answer, Call, Message, Request, ReservationReport};
use plimsoll_protocol::Status;

use super::Refused;
use super::reader::Reader;

/// How long an engine may take to read something; it answers with its next sync. A change is waited for: whoever asked must learn what came of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A wake-up that was lost delays an answer by no more than this.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

impl Reader {
    /// What the owner of these reservations knows of them, in their order: one partition's, at most as many as an answer takes.
    pub(super) fn look_up(
        &mut self,
        owner: usize,
        reservations: Vec<ReservationId>,
    ) -> Result<Vec<Option<ReservationReport>>, Refused> {
        match self.ask_engine(owner, Call::GetReservations(reservations))? {
            Answer::Reservations(found) => Ok(found),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Asks an engine, and waits for its answer, which comes when it is durable.
    pub(super) fn ask_engine(&mut self, owner: usize, call: Call) -> Result<Answer, Refused> {
        let is_change = matches!(&call, Call::ResetPool { dry_run: false, .. });
        let overloaded = || Refused(Status::Overloaded, "an engine does not answer".to_owned());
        self.lookup_count = self.lookup_count.wrapping_add(1);
        let origin = self.lookup_count;
        let request = Request {
            // Behind the last core.
            sender: self.shared.core_count(),
            origin,
            part: owner as u32,
            call,
            answer: Answer::Pending,
        };
        let queue = &self.shared.history;
        // One that was given up is still on its way; the next one waits for its reply.
        if self.lookups_unanswered[owner] || queue.lookups[owner].push(Message::Request(Box::new(request))).is_err() {
            return Err(overloaded());
        }
        self.lookups_unanswered[owner] = true;
        self.shared.mailboxes[owner].notify();
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(message) = queue.replies.pop() {
                let Message::Request(reply) = message else { continue };
                self.lookups_unanswered[reply.part as usize] = false;
                if reply.origin != origin {
                    continue;
                }
                return match reply.answer {
                    Answer::Refused(status) => Err(Refused(status, status.meaning().to_owned())),
                    answer => Ok(answer),
                };
            }
            if self.shared.is_finished() || Instant::now() >= until && !is_change {
                return Err(overloaded());
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }
}

/// An engine answers what it was asked.
pub(super) fn unexpected(answer: &Answer) -> Refused {
    tracing::error!(?answer, "an engine gave an answer of another sort");
    Refused(
        Status::Unavailable,
        "an engine gave an answer of another sort".to_owned(),
    )
}
