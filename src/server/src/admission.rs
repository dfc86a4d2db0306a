//! What a core lets in: connections within their number, and frames by their headers, before anything of them is kept, checksummed or decoded.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_protocol::frame::{Head, Header};
use plimsoll_protocol::limits::OUTCOME_SIZE_BYTES;
use plimsoll_protocol::{Operation, Status};

use crate::connection::Connection;
use crate::connections::Place;
use crate::core::{BETWEEN_PASSES, Core};
use crate::limits::{
    ACCEPTED_COMMANDS_MAX, ACCEPTED_REQUESTS_MAX, ACCEPTS_IN_A_ROW_MAX, COMMANDS_MAX, REQUEST_ANSWER_SIZE,
};
use crate::runtime::{self, Listener, Stream};

/// Why a frame is refused, and in words.
pub(crate) type Refused = (Status, Cow<'static, str>);

pub(crate) fn owned((status, detail): (Status, String)) -> Refused {
    (status, detail.into())
}

impl Core {
    /// Accepts connections until the server stops.
    pub(crate) async fn accept(self: Rc<Core>, listener: Listener) {
        let mut in_a_row = 0;
        while !self.shared.is_stopping() {
            match listener.accept().await {
                Ok(None) => {}
                // The listener was closed.
                _ if self.shared.is_stopping() => return,
                Ok(Some((stream, peer))) => self.take_connection(stream, peer),
                Err(error) => {
                    // Out of file descriptors, most likely; accepting goes on when some are free.
                    if let Some(count) = self.connections.accept_failed.tell(Instant::now()) {
                        tracing::warn!(%error, count, "accepting a connection failed");
                    }
                    runtime::sleep(Duration::from_millis(100)).await;
                }
            }
            in_a_row += 1;
            if in_a_row == ACCEPTS_IN_A_ROW_MAX {
                in_a_row = 0;
                runtime::sleep(BETWEEN_PASSES).await;
            }
        }
    }

    fn take_connection(self: &Rc<Core>, stream: Stream, peer: SocketAddr) {
        let place = Place::take(&self.shared.connection_count, self.shared.connection_count_max);
        let detail = match place {
            None => "the server has as many connections as it may",
            Some(_) if !self.connections.memory.has_room_for_connection() => "the connections hold too much memory",
            Some(place) => {
                let connection = Rc::new(Connection::new(stream, peer, place, &self.connections));
                self.connections.add(&connection);
                runtime::spawn_local(Rc::clone(&connection).write());
                let core = Rc::clone(self);
                runtime::spawn_local(async move {
                    core.counters().connected();
                    connection.read(Rc::clone(&core)).await;
                    core.counters().disconnected();
                });
                return;
            }
        };
        let mut last_word = Vec::new();
        self.with(|inner| {
            inner
                .encoder
                .failure(&mut last_word, Head::farewell(), Status::Overloaded, detail);
        });
        stream.close_with(&last_word);
        if let Some(count) = self.connections.refused.tell(Instant::now()) {
            let limit = self.shared.connection_count_max;
            tracing::warn!(%peer, limit, count, "connections refused: {detail}");
        }
    }

    /// Judges a frame by its header, before its payload is kept, checksummed or decoded. `growth` is what keeping it would add to what the connection
    /// holds.
    pub(crate) fn admit(&self, connection: &Connection, header: &Header, growth: usize) -> Result<Operation, Refused> {
        let operation = header
            .request()
            .map_err(|status| (status, Cow::Borrowed("not an operation of this server")))?;
        if self.shared.is_stopping() {
            return Err((Status::Unavailable, "the server is stopping".into()));
        }
        if !connection.is_welcome.get() && operation != Operation::Hello {
            return Err((Status::Malformed, "the first frame must be hello".into()));
        }
        let answer_size = match operation {
            Operation::Commands => {
                let count = usize::from(header.count);
                if header.count > COMMANDS_MAX {
                    let detail = format!("at most {COMMANDS_MAX} commands in a frame, found {count}");
                    return Err((Status::FrameTooLarge, detail.into()));
                }
                if self.connections.accepted_commands.get() + count > ACCEPTED_COMMANDS_MAX {
                    self.counters().overloaded(count);
                    return Err((Status::Overloaded, "too many commands wait".into()));
                }
                self.answer_size(count)
            }
            Operation::Ping if header.payload_size() > 0 => {
                return Err((Status::Malformed, "a ping has no payload".into()));
            }
            Operation::Hello | Operation::Ping => 0,
            _ => {
                if self.connections.memory.request_count() >= ACCEPTED_REQUESTS_MAX {
                    return Err((Status::Overloaded, "too many requests wait".into()));
                }
                REQUEST_ANSWER_SIZE
            }
        };
        if !connection.may_hold(growth + answer_size) {
            return Err((Status::Overloaded, "the connections hold too much memory".into()));
        }
        Ok(operation)
    }

    /// The most that the outcomes of so many commands take.
    pub(crate) fn answer_size(&self, count: usize) -> usize {
        count * (OUTCOME_SIZE_BYTES + size_of::<i64>() * self.shared.dimensions.len())
    }

    /// Answers that a frame was refused.
    pub(crate) fn refuse(&self, connection: &Rc<Connection>, header: &Header, (status, detail): Refused) {
        let head = Head::answer_to(header);
        self.with(|inner| {
            inner
                .encoder
                .failure(&mut connection.unsent.borrow_mut(), head, status, &detail);
        });
        self.wants_flush(connection);
    }

    /// Answers that no further frame can be read.
    pub(crate) fn say_farewell(&self, connection: &Rc<Connection>, status: Status, detail: &str) {
        self.with(|inner| {
            inner
                .encoder
                .failure(&mut connection.unsent.borrow_mut(), Head::farewell(), status, detail);
        });
        self.wants_flush(connection);
    }
}
