//! A page of the feed as event streams tell it: each event is written once for all streams.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use plimsoll_client::{Event, EventKind, FeedPage};
use plimsoll_form::{EventForm, format_time};

/// A page of the feed.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<ToldEvent>,
    pub(crate) position: Position,
    /// There is more to look at already.
    pub(crate) more: bool,
}

/// How far a feed has come.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// Goes on behind everything that was looked at.
    pub(crate) cursor: String,
    /// Everything that was durable at this time was looked at, microseconds since 1970.
    pub(crate) as_of: i64,
    /// How far that was behind, in milliseconds, when it was told.
    lag_ms: u64,
    told_at: Instant,
}

/// An event, written as a stream tells it.
#[derive(Debug)]
pub(crate) struct ToldEvent {
    /// Orders the events of a partition for ever.
    pub(crate) partition: u16,
    pub(crate) sequence: u64,
    pool: String,
    zone: Option<String>,
    kind: EventKind,
    text: Bytes,
}

/// Which events a stream tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) pool: Option<String>,
    pub(crate) zone: Option<String>,
    /// None: all.
    pub(crate) kinds: Vec<EventKind>,
}

impl Filter {
    pub(crate) fn lets_pass(&self, event: &ToldEvent) -> bool {
        let is_pool = self.pool.as_ref().is_none_or(|pool| *pool == event.pool);
        let is_zone = self.zone.is_none() || self.zone == event.zone;
        is_pool && is_zone && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }
}

impl EventPage {
    /// `cursor` goes on behind the page, `now` is microseconds since 1970.
    pub(crate) fn new(page: &FeedPage, cursor: &str, dimensions: &[String], now: i64) -> EventPage {
        EventPage {
            events: page
                .events
                .iter()
                .map(|event| ToldEvent::new(event, dimensions))
                .collect(),
            position: Position {
                cursor: cursor.to_owned(),
                as_of: page.as_of,
                lag_ms: u64::try_from(now.saturating_sub(page.as_of) / 1000).unwrap_or(0),
                told_at: Instant::now(),
            },
            more: page.more,
        }
    }
}

impl Position {
    /// How far it is behind now. A feed without events is told at least each `told_every_ms`; what is beyond that is lag.
    pub(crate) fn lag_ms(&self, told_every_ms: u64) -> u64 {
        let since = u64::try_from(self.told_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.lag_ms.saturating_add(since.saturating_sub(told_every_ms))
    }

    /// A comment with the lag.
    pub(crate) fn lag(&self, told_every_ms: u64) -> Bytes {
        format!(": lag_ms={}\n\n", self.lag_ms(told_every_ms)).into()
    }

    /// The same, and a cursor behind all that was told before it, so that a stream that told nothing can be resumed too.
    pub(crate) fn comment(&self, told_every_ms: u64) -> Bytes {
        format!(": lag_ms={}\nid: {}\n\n", self.lag_ms(told_every_ms), self.cursor).into()
    }

    /// Says that the past has been told.
    pub(crate) fn caught_up(&self) -> Bytes {
        let as_of = format_time(self.as_of).unwrap_or_default();
        format!(
            "id: {}\nevent: caught_up\ndata: {{\"as_of\":\"{as_of}\"}}\n\n",
            self.cursor
        )
        .into()
    }
}

impl ToldEvent {
    fn new(event: &Event, dimensions: &[String]) -> ToldEvent {
        let (partition, sequence) = place_of(&event.id);
        let mut text = BytesMut::new();
        if let Some(cursor) = &event.cursor {
            text.extend_from_slice(b"id: ");
            text.extend_from_slice(cursor.as_bytes());
            text.extend_from_slice(b"\n");
        }
        text.extend_from_slice(format!("event: {}\ndata: ", event.kind).as_bytes());
        // JSON has no line breaks of its own, and what is formed here can always be written.
        text.extend_from_slice(&serde_json::to_vec(&EventForm::new(event, dimensions)).unwrap_or_default());
        text.extend_from_slice(b"\n\n");
        ToldEvent {
            partition,
            sequence,
            pool: event.pool.clone(),
            zone: event.zone.clone(),
            kind: event.kind,
            text: text.freeze(),
        }
    }

    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }
}

/// Partition and sequence, from `<partition>-<sequence>`.
fn place_of(id: &str) -> (u16, u64) {
    let (partition, sequence) = id.split_once('-').unwrap_or_default();
    (partition.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use plimsoll_client::Cause;

    use super::*;

    fn told(pool: &str, zone: Option<&str>, kind: EventKind) -> ToldEvent {
        let event = Event {
            id: "7-12".into(),
            at: 1_435_759_200_500_000,
            kind,
            cause: Cause::Asked,
            pool: pool.into(),
            zone: zone.map(str::to_owned),
            reservation: None,
            units: Some(vec![1]),
            previous_units: None,
            expires_at: None,
            version: 0,
            would_refuse: false,
            was_confirmed: false,
            occurred_at: None,
            reference: Some("line\nbreak".into()),
            turned_away: None,
            definition: None,
            after: None,
            cursor: Some("abc".into()),
        };
        ToldEvent::new(&event, &["rooms".to_owned()])
    }

    #[test]
    fn an_event_stands_on_one_line() {
        let told = told("a", None, EventKind::Reserved);
        let text = std::str::from_utf8(told.text()).unwrap();
        assert!(
            text.starts_with("id: abc\nevent: reserved\ndata: {\"id\":\"7-12\","),
            "{text}"
        );
        assert!(text.contains("line\\nbreak") && text.ends_with("}\n\n"), "{text}");
        assert_eq!(text.lines().count(), 4);
        assert_eq!((told.partition, told.sequence), (7, 12));
    }

    #[test]
    fn filters_let_pass_what_is_asked_for() {
        let event = told("a", Some("z"), EventKind::Reserved);
        let check = |pool: Option<&str>, zone: Option<&str>, kinds: &[EventKind], expected: bool| {
            let filter = Filter {
                pool: pool.map(str::to_owned),
                zone: zone.map(str::to_owned),
                kinds: kinds.to_vec(),
            };
            assert_eq!(filter.lets_pass(&event), expected, "{filter:?}");
        };
        check(None, None, &[], true);
        check(Some("a"), Some("z"), &[EventKind::Released, EventKind::Reserved], true);
        check(Some("b"), None, &[], false);
        check(None, Some("y"), &[], false);
        check(None, None, &[EventKind::Released], false);
    }
}
