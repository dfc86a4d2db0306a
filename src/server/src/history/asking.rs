//! A core's side of history: requests are handed to the thread, finished answers taken.

use std::rc::Rc;

use plimsoll_domain::limits::{POOL_NAME_SIZE_MAX, REFERENCE_SIZE_MAX, TIME_MAX};
use plimsoll_engine::limits::ITEM_COUNT_MAX;
use plimsoll_protocol::frame::{Frame, Head};
use plimsoll_protocol::{Operation, Status, payload, wire};

use super::{
    EventsQuestion, FeedQuestion, HistoryAnswer, HistoryRequest, PastQuestion, Question, ResetQuestion, SearchQuestion,
};
use crate::connection::Connection;
use crate::core::{Core, Inner};
use crate::limits::{FEED_KINDS_MAX, FEED_WAIT_MAX, HISTORY_PER_CONNECTION_MAX, HISTORY_PER_CORE_MAX, REQUEST_WEIGHT};

type Refused = (Status, String);

/// How many items an answer has at most when the question does not say.
const LIMIT_DEFAULT: usize = 100;
/// The longest cursor, in bytes; one of ours is far shorter.
const CURSOR_SIZE_MAX: usize = 8192;

/// Requests that the thread has, by a small number that is used again.
pub(crate) struct Asked<Asker = Rc<Connection>> {
    places: Vec<Option<Asker>>,
    count: usize,
}

impl<Asker> Default for Asked<Asker> {
    fn default() -> Asked<Asker> {
        Asked {
            places: Vec::new(),
            count: 0,
        }
    }
}

impl<Asker> Asked<Asker> {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A place for one that asks; nothing while there are as many as there may be.
    fn insert(&mut self, asker: Asker) -> Option<u32> {
        if self.count >= HISTORY_PER_CORE_MAX {
            return None;
        }
        self.count += 1;
        let place = self.places.iter().position(Option::is_none);
        let place = place.unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(asker);
        Some(place as u32)
    }

    fn take(&mut self, place: u32) -> Asker {
        self.count -= 1;
        self.places[place as usize]
            .take()
            .expect("answers come for requests that wait")
    }
}

impl Core {
    /// Hands a request to the thread.
    pub(crate) fn ask_history(
        &self,
        connection: &Rc<Connection>,
        frame: &Frame<'_>,
        head: Head,
        operation: Operation,
    ) -> Result<(), Refused> {
        let question = question(operation, frame.payload)?;
        self.with(|inner| {
            let overloaded = || (Status::Overloaded, "too many requests of history wait".to_owned());
            if connection.history_in_flight.get() >= HISTORY_PER_CONNECTION_MAX {
                let detail =
                    format!("{HISTORY_PER_CONNECTION_MAX} requests of history of this connection wait already");
                return Err((Status::Overloaded, detail));
            }
            let place = inner.asked.insert(Rc::clone(connection)).ok_or_else(overloaded)?;
            let request = HistoryRequest {
                core: self.index(),
                place,
                head,
                is_gone: connection.closing_flag(),
                question,
            };
            if self.shared.history.push_request(request).is_err() {
                inner.asked.take(place);
                return Err(overloaded());
            }
            connection.history_in_flight.update(|count| count + 1);
            connection.add_in_flight(REQUEST_WEIGHT);
            Ok(())
        })
    }

    /// Takes the answers that are finished.
    pub(crate) fn take_history_answers(&self, inner: &mut Inner) {
        while let Some(HistoryAnswer { place, frame }) = self.shared.history.pop_answer(self.index()) {
            let connection = inner.asked.take(place);
            connection.history_in_flight.update(|count| count - 1);
            connection.answered(REQUEST_WEIGHT);
            connection.unsent.borrow_mut().extend_from_slice(&frame);
            inner.mark_dirty(&connection);
        }
    }
}

/// Reads a question, with its values in their ranges.
fn question(operation: Operation, payload: &[u8]) -> Result<Question, Refused> {
    match operation {
        Operation::PoolEvents => {
            let table = table::<wire::GetPoolEvents>("GetPoolEvents", payload)?;
            Ok(Question::Events(EventsQuestion {
                pool: pool_name(table.pool())?,
                cursor: cursor(table.cursor())?,
                limit: limit(table.limit()),
            }))
        }
        Operation::Feed => {
            let table = table::<wire::GetFeed>("GetFeed", payload)?;
            let kinds = table.kinds();
            if kinds.as_ref().is_some_and(|kinds| kinds.len() > FEED_KINDS_MAX) {
                return Err(invalid("kinds: too many"));
            }
            let since = Some(table.since()).filter(|since| *since != i64::MIN);
            if since.is_some() && table.cursor().is_some() {
                return Err(invalid("a cursor and since cannot both be given"));
            }
            Ok(Question::Feed(FeedQuestion {
                cursor: cursor(table.cursor())?,
                since,
                pool: table.pool().map(pool_name).transpose()?,
                zone: table.zone().map(Box::from),
                kinds: kinds.map(|kinds| kinds.iter().collect()).unwrap_or_default(),
                limit: limit(table.limit()),
                wait: std::time::Duration::from_millis(table.wait_ms().into()).min(FEED_WAIT_MAX),
            }))
        }
        Operation::SearchReservations => {
            let table = table::<wire::SearchReservations>("SearchReservations", payload)?;
            if table.reference().is_none() && table.pool().is_none() {
                return Err(invalid("a reference or a pool must be given"));
            }
            let reference = table.reference();
            if reference.is_some_and(|text| text.is_empty() || text.len() > REFERENCE_SIZE_MAX) {
                return Err(invalid("reference: 1 to 64 bytes"));
            }
            if table.state().variant_name().is_none() {
                return Err(invalid("state: unknown"));
            }
            Ok(Question::Search(SearchQuestion {
                reference: reference.map(Box::from),
                pool: table.pool().map(pool_name).transpose()?,
                state: table.state(),
                cursor: cursor(table.cursor())?,
                limit: limit(table.limit()),
            }))
        }
        Operation::PastState => {
            let table = table::<wire::GetPastPools>("GetPastPools", payload)?;
            if !(0..=TIME_MAX).contains(&table.at()) {
                return Err(invalid("at: out of range"));
            }
            Ok(Question::Past(PastQuestion {
                at: table.at(),
                pool: table.pool().map(pool_name).transpose()?,
                after: table.after().unwrap_or_default().into(),
                zone: table.zone().map(Box::from),
                kind: table.kind().map(Box::from),
                limit: limit(table.limit()),
            }))
        }
        Operation::ResetPool => {
            let table = table::<wire::ResetPool>("ResetPool", payload)?;
            if !(0..=TIME_MAX).contains(&table.to()) {
                return Err(invalid("to: out of range"));
            }
            Ok(Question::Reset(ResetQuestion {
                pool: pool_name(table.pool())?,
                to: table.to(),
                attributes: table.attributes(),
                expected_version: Some(table.expected_version()).filter(|version| *version != 0),
                dry_run: table.dry_run(),
                offset: table.offset() as usize,
                limit: limit(table.limit()),
            }))
        }
        _ => Err((Status::Unsupported, "not an operation of this server".into())),
    }
}

fn table<'payload, T>(name: &'static str, bytes: &'payload [u8]) -> Result<T::Inner, Refused>
where
    T: flatbuffers::Follow<'payload> + flatbuffers::Verifiable + 'payload,
{
    payload::table::<T>(name, bytes).map_err(|error| (error.status(), error.to_string()))
}

fn invalid(detail: &str) -> Refused {
    (Status::Invalid, detail.to_owned())
}

fn limit(asked: u32) -> usize {
    match asked as usize {
        0 => LIMIT_DEFAULT,
        limit => limit.min(ITEM_COUNT_MAX),
    }
}

/// No pool has a longer name.
fn pool_name(name: &str) -> Result<Box<str>, Refused> {
    if name.is_empty() || name.len() > POOL_NAME_SIZE_MAX {
        return Err((Status::PoolNotFound, "no pool can have this name".into()));
    }
    Ok(name.into())
}

fn cursor(cursor: Option<&str>) -> Result<Option<Box<str>>, Refused> {
    match cursor {
        Some(text) if text.len() > CURSOR_SIZE_MAX => Err(invalid("cursor: too long")),
        cursor => Ok(cursor.map(Box::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_hands_over_so_many_and_no_more() {
        let mut asked = Asked::default();
        let places: Vec<_> = (0..HISTORY_PER_CORE_MAX)
            .filter_map(|number| asked.insert(number))
            .collect();
        assert_eq!(places.len(), HISTORY_PER_CORE_MAX);
        for _ in 0..1000 {
            assert_eq!(asked.insert(0), None);
        }
        assert_eq!(asked.places.len(), HISTORY_PER_CORE_MAX);
        // An answer makes room for one, at its place.
        assert_eq!(asked.take(7), 7);
        assert_eq!((asked.insert(0), asked.insert(0)), (Some(7), None));
    }
}
