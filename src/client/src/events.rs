//! What happened in pools.

use std::fmt;
use std::time::Duration;

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, OCCURRED_AT_NONE, Operation, ReservationId, wire};

use crate::attempts::Attempts;
use crate::checks;
use crate::client::Client;
use crate::error::Error;
use crate::pools::{PoolDefinition, encode, read};

/// The least time that a request for a feed may take beside its waiting.
const FEED_WAIT_SHARE: u32 = 2;

/// The longest that a request for a feed waits; the reader asks again.
const FEED_WAIT_MAX: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A pool exists from now on.
    PoolCreated,
    /// A pool has another definition from now on.
    PoolChanged,
    /// A pool went back to an earlier moment; the changes follow as events of their own.
    PoolReset,
    /// A pool has left memory.
    PoolRetired,
    /// Units were taken.
    Reserved,
    /// A hold lasts from now on.
    Confirmed,
    /// A reservation was given back.
    Released,
    /// A hold ended at its deadline.
    Expired,
    /// A reservation has other units or another deadline.
    Resized,
    /// A reservation is again as it was, by a reset.
    Restored,
    /// Refusals of a pool in a minute.
    TurnedAway,
    /// A kind that this version does not know.
    Other(u16),
}

/// The kinds with their names and numbers.
const KINDS: [(EventKind, &str, wire::EventKind); 11] = [
    (EventKind::PoolCreated, "pool_created", wire::EventKind::pool_created),
    (EventKind::PoolChanged, "pool_changed", wire::EventKind::pool_changed),
    (EventKind::PoolReset, "pool_reset", wire::EventKind::pool_reset),
    (EventKind::PoolRetired, "pool_retired", wire::EventKind::pool_retired),
    (EventKind::Reserved, "reserved", wire::EventKind::reserved),
    (EventKind::Confirmed, "confirmed", wire::EventKind::confirmed),
    (EventKind::Released, "released", wire::EventKind::released),
    (EventKind::Expired, "expired", wire::EventKind::expired),
    (EventKind::Resized, "resized", wire::EventKind::resized),
    (EventKind::Restored, "restored", wire::EventKind::restored),
    (EventKind::TurnedAway, "turned_away", wire::EventKind::turned_away),
];

impl EventKind {
    /// The kind of this name, such as `pool_created`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut kinds = KINDS.iter();
        kinds.find(|(_, known, _)| *known == name).map(|(kind, _, _)| *kind)
    }
}

impl From<wire::EventKind> for EventKind {
    fn from(kind: wire::EventKind) -> Self {
        let known = KINDS.iter().find(|(_, _, wire)| *wire == kind);
        known.map_or(Self::Other(kind.0), |(known, _, _)| *known)
    }
}

impl From<EventKind> for wire::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Other(number) => Self(number),
            kind => KINDS
                .iter()
                .find(|(known, _, _)| *known == kind)
                .map_or(Self::none, |(_, _, wire)| *wire),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().find(|(known, _, _)| known == self) {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "kind {}", wire::EventKind::from(*self).0),
        }
    }
}

/// Why something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Somebody asked for it, or it is in the nature of the event.
    Asked,
    /// A deadline passed while the server was down.
    Downtime,
    /// The pool was reset.
    Reset,
    /// A cause that this version does not know.
    Other(u8),
}

impl From<wire::Cause> for Cause {
    fn from(cause: wire::Cause) -> Self {
        match cause {
            wire::Cause::asked => Self::Asked,
            wire::Cause::downtime => Self::Downtime,
            wire::Cause::reset => Self::Reset,
            other => Self::Other(other.0),
        }
    }
}

/// A pool's counters after an event, a value for each dimension each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The limits.
    pub limits: Vec<u32>,
    /// Held units.
    pub held: Vec<i64>,
    /// Confirmed units.
    pub confirmed: Vec<i64>,
}

impl From<wire::After<'_>> for After {
    fn from(table: wire::After<'_>) -> Self {
        Self {
            limits: table.limits().iter().collect(),
            held: table.held().iter().collect(),
            confirmed: table.confirmed().iter().collect(),
        }
    }
}

/// An event of a pool. It is durable: what a crash can take back is never told. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Names it for ever: `<partition>-<sequence>`.
    pub id: String,
    /// When: the owner's clock.
    pub at: i64,
    /// What.
    pub kind: EventKind,
    /// Why.
    pub cause: Cause,
    /// The pool's name.
    pub pool: String,
    /// The zone that the pool has now, or had last. Feed only.
    pub zone: Option<String>,
    /// The reservation that it is about.
    pub reservation: Option<ReservationId>,
    /// What the reservation takes, or took until it ended.
    pub units: Option<Vec<u32>>,
    /// What it took before.
    pub previous_units: Option<Vec<u32>>,
    /// When the hold expires from now on.
    pub expires_at: Option<i64>,
    /// The reservation's version from now on, where the event changes it.
    pub version: u16,
    /// Enforcement would have refused it: the pool was in shadow mode.
    pub would_refuse: bool,
    /// A release gave back confirmed units, not held ones.
    pub was_confirmed: bool,
    /// The caller's business time.
    pub occurred_at: Option<i64>,
    /// The caller's own name for what was reserved; only where that is recorded: reserved and restored.
    pub reference: Option<String>,
    /// Turned away: since when refusals were counted, how many there were, and what they asked for in each dimension.
    pub turned_away: Option<TurnedAway>,
    /// Pool created and changed: what holds from now on.
    pub definition: Option<PoolDefinition>,
    /// The pool's counters after it, where they are known: of [`Client::pool_events`] unless the pool has retired since; of a feed when it is told soon
    /// after it happened.
    pub after: Option<After>,
    /// Of a feed: goes on behind this event.
    pub cursor: Option<String>,
}

/// Refusals for want of capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Since when they were counted.
    pub since: i64,
    /// How many.
    pub refusals: u64,
    /// What they asked for, summed by dimension.
    pub units: Vec<u64>,
}

impl From<wire::Event<'_>> for Event {
    fn from(table: wire::Event<'_>) -> Self {
        let halves = wire::ReservationId::new(table.reservation_high(), table.reservation_low());
        let turned_away = table.refused_units().map(|units| TurnedAway {
            since: table.since(),
            refusals: table.refusals(),
            units: units.iter().collect(),
        });
        Self {
            id: format!("{}-{}", table.partition(), table.sequence()),
            at: table.at(),
            kind: table.kind().into(),
            cause: table.cause().into(),
            pool: table.pool().to_owned(),
            zone: table.zone().map(str::to_owned),
            reservation: Some(ReservationId::from(halves)).filter(|id| id.0 != 0),
            units: table.units().map(|units| units.iter().collect()),
            previous_units: table.previous_units().map(|units| units.iter().collect()),
            expires_at: Some(table.expires_at()).filter(|&time| time != 0),
            version: table.version(),
            would_refuse: table.would_refuse(),
            was_confirmed: table.was_confirmed(),
            occurred_at: Some(table.occurred_at()).filter(|&time| time != OCCURRED_AT_NONE),
            reference: table.reference().map(str::to_owned),
            turned_away,
            definition: table.definition().map(PoolDefinition::from),
            after: table.after().map(After::from),
            cursor: table.cursor().map(str::to_owned),
        }
    }
}

/// Some events of a pool, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsPage {
    /// The events; never empty when there is a next page.
    pub events: Vec<Event>,
    /// Goes on behind the last one; `None`: there are no more.
    pub next: Option<String>,
}

/// Which events a feed tells, and from where on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedQuery {
    /// From [`Feed::cursor`] or [`Event::cursor`]. Without it and `since`, from now on.
    pub cursor: Option<String>,
    /// Events from this time on, microseconds since 1970. Not with a cursor.
    pub since: Option<i64>,
    /// Only events of the pools of this name.
    pub pool: Option<String>,
    /// Only events of pools in this zone.
    pub zone: Option<String>,
    /// Only these kinds; empty: all.
    pub kinds: Vec<EventKind>,
    /// Most events at once; 0: the server's default.
    pub limit: u32,
}

/// What a feed has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// The events; those of one pool in their order.
    pub events: Vec<Event>,
    /// Everything that was durable at this time, microseconds since 1970, was looked at; of a feed that is behind, the time of the last event.
    pub as_of: i64,
    /// There is more to look at already.
    pub more: bool,
}

/// Events as they happen; made by [`Client::feed`].
#[derive(Debug)]
pub struct Feed {
    client: Client,
    query: FeedQuery,
    /// A first answer comes at once, so that there is a cursor whatever happens to the connection then.
    may_wait: bool,
}

impl Feed {
    /// Waits for events, at most a few seconds: the page is then empty. Lost connections and servers that start again are waited for without an end;
    /// the feed goes on behind the last page, so that nothing is missed. Cancelling it misses nothing either. An event may come twice only when its
    /// page was not taken.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the server does not take the cursor or a filter; [`Error::DirectoryChanged`]. Those that can be retried are not told.
    pub async fn next(&mut self) -> Result<FeedPage, Error> {
        let backoff = self.client.options().backoff;
        let mut failures = 0;
        loop {
            match self.ask().await {
                Ok(page) => return Ok(page),
                Err(error) if error.retryable() => {
                    failures += 1;
                    tracing::debug!(%error, failures, "a feed tries again");
                    tokio::time::sleep(backoff.pause(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on behind everything that was told.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.query.cursor.as_deref()
    }

    async fn ask(&mut self) -> Result<FeedPage, Error> {
        let client = &self.client;
        let directory = client.inner.shared.directory();
        let wait = (client.options().request_timeout / FEED_WAIT_SHARE).min(FEED_WAIT_MAX);
        let wait_ms = if self.may_wait { wait.as_millis() as u32 } else { 0 };
        let query = &self.query;
        let head = Head::request(Operation::Feed, CorrelationId(0));
        let frame = encode(&directory, head, |builder| {
            let [cursor, pool, zone] = [&query.cursor, &query.pool, &query.zone]
                .map(|text| text.as_deref().map(|text| builder.create_string(text)));
            let kinds: Vec<wire::EventKind> = query.kinds.iter().copied().map(Into::into).collect();
            let kinds = (!kinds.is_empty()).then(|| builder.create_vector(&kinds));
            let since = query.since.filter(|_| query.cursor.is_none()).unwrap_or(i64::MIN);
            let args = wire::GetFeedArgs {
                cursor,
                since,
                pool,
                zone,
                kinds,
                limit: query.limit,
                wait_ms,
            };
            wire::GetFeed::create(builder, &args)
        })?;
        let mut attempts = Attempts::new(client.options());
        let answer = client.call(frame, directory.epoch, &mut attempts).await?;
        let table = read::<wire::Feed>("Feed", &answer)?;
        let page = FeedPage {
            events: table.events().iter().map(Event::from).collect(),
            as_of: table.as_of(),
            more: table.more(),
        };
        self.query.cursor = Some(table.cursor().to_owned());
        // Of what is there already, nothing is waited for.
        self.may_wait = !page.more;
        Ok(page)
    }
}

impl Client {
    /// The events of all pools that ever had this name, the newest first: behind `cursor` of an earlier page, or from the newest on. What an answer to this
    /// client acknowledged before is among them. A limit of 0 is the server's default.
    ///
    /// Each request does a bounded piece of work; this asks on until there is an event, each time with a deadline of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`PoolNotFound`](crate::Status::PoolNotFound) when no pool ever had the name. Reading has no effect, so that any retryable
    /// error may be tried again.
    pub async fn pool_events(&self, name: &str, cursor: Option<&str>, limit: u32) -> Result<EventsPage, Error> {
        checks::pool_name(name)?;
        let mut cursor = cursor.map(str::to_owned);
        loop {
            let directory = self.inner.shared.directory();
            let head = Head::request(Operation::PoolEvents, CorrelationId(0));
            let frame = encode(&directory, head, |builder| {
                let pool = Some(builder.create_string(name));
                let cursor = cursor.as_deref().map(|text| builder.create_string(text));
                wire::GetPoolEvents::create(builder, &wire::GetPoolEventsArgs { pool, cursor, limit })
            })?;
            let mut attempts = Attempts::new(self.options());
            let answer = self.call(frame, directory.epoch, &mut attempts).await?;
            let table = read::<wire::PoolEvents>("PoolEvents", &answer)?;
            let page = EventsPage {
                events: table.events().iter().map(Event::from).collect(),
                next: table.next().map(str::to_owned),
            };
            if !page.events.is_empty() || page.next.is_none() {
                return Ok(page);
            }
            cursor = page.next;
        }
    }

    /// Events as they happen. Nothing is sent before [`Feed::next`].
    ///
    /// A server takes four requests of history at once from a connection; further ones wait for a pause between attempts. Whoever follows more feeds with one
    /// client gives it more [`connections`](crate::Options::connections).
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), plimsoll_client::Error> {
    /// use plimsoll_client::FeedQuery;
    ///
    /// let mut feed = client.feed(FeedQuery { zone: Some("north".into()), ..FeedQuery::default() });
    /// loop {
    ///     for event in feed.next().await?.events {
    ///         println!("{} {} {}", event.id, event.kind, event.pool);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn feed(&self, query: FeedQuery) -> Feed {
        Feed {
            client: self.clone(),
            query,
            may_wait: false,
        }
    }
}
