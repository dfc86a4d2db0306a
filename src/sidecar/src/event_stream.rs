//! One event stream: first the past, when it is asked for, then what everybody is told.
//!
//! - From the past to the present nothing is missed: the stream listens before it reads the last page of the past, and that
//!   page reaches further than where its listening began.
//! - Nothing is told out of order: what the past has told is passed over in the present, by the sequence of each partition.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, stream};
use plimsoll_client::{Client, Feed, FeedQuery};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::app::App;
use crate::event_page::{EventPage, Filter, Position};
use crate::follower::{Listener, now};
use crate::limits::{FEED_PAGE_SIZE, LAG_INTERVAL};
use crate::problem::Problem;
use crate::reservations::page_problem;

/// Where a stream begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// With what happens from now on.
    Now,
    /// Behind an event that was told.
    Behind(String),
    /// With the first event from this time on, microseconds since 1970.
    Since(i64),
}

/// One event stream.
pub(crate) struct EventStream {
    app: Arc<App>,
    filter: Filter,
    phase: Phase,
    /// What is to be sent first.
    ready: Option<Bytes>,
    /// By partition, the last event that the past has told.
    told: HashMap<u16, u64>,
    comments: Interval,
    draining: watch::Receiver<bool>,
    /// While no position is known, there is nothing to say of the lag.
    position: Option<Position>,
    _place: OwnedSemaphorePermit,
}

enum Phase {
    /// Waits for a turn to read the past.
    Waiting {
        query: FeedQuery,
    },
    /// Reads the past.
    Past {
        feed: Feed,
        turn: OwnedSemaphorePermit,
    },
    Present(Listener),
    Over,
}

impl EventStream {
    pub(crate) async fn open(
        app: Arc<App>,
        filter: Filter,
        start: Start,
        place: OwnedSemaphorePermit,
    ) -> Result<EventStream, Problem> {
        let mut comments = tokio::time::interval_at(Instant::now() + LAG_INTERVAL, LAG_INTERVAL);
        comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stream = EventStream {
            draining: app.draining.clone(),
            app,
            filter,
            phase: Phase::Over,
            ready: None,
            told: HashMap::new(),
            comments,
            position: None,
            _place: place,
        };
        let (cursor, since) = match start {
            Start::Now => {
                let listener = stream.app.follower.listen().await?;
                stream.ready = Some(listener.position.comment(stream.app.options.feed_interval_ms()));
                stream.position = Some(listener.position.clone());
                stream.phase = Phase::Present(listener);
                return Ok(stream);
            }
            Start::Behind(cursor) => (Some(cursor), None),
            Start::Since(since) => (None, Some(since)),
        };
        let query = FeedQuery {
            cursor,
            since,
            pool: stream.filter.pool.clone(),
            zone: stream.filter.zone.clone(),
            kinds: stream.filter.kinds.clone(),
            limit: FEED_PAGE_SIZE,
        };
        // What is wrong with the question is told before the stream begins, unless it has to wait for its turn.
        match Arc::clone(&stream.app.catching_up).try_acquire_owned() {
            Err(_) => stream.phase = Phase::Waiting { query },
            Ok(turn) => {
                let feed = stream.app.engine.client()?.feed(query);
                let piece = stream.past(feed, turn).await?.unwrap_or_default();
                // Without an id: what follows has not been told yet.
                let comment = stream
                    .position
                    .as_ref()
                    .map(|position| position.lag(stream.app.options.feed_interval_ms()));
                stream.ready = Some([comment.unwrap_or_default(), piece].concat().into());
            }
        }
        Ok(stream)
    }

    /// The pieces of the body.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut stream| async {
            let piece = match stream.ready.take() {
                Some(ready) => Some(ready),
                None => match stream.next().await {
                    Ok(piece) => piece,
                    Err(problem) => {
                        stream.phase = Phase::Over;
                        let text = serde_json::to_string(problem.document()).unwrap_or_default();
                        Some(format!("event: problem\ndata: {text}\n\n").into())
                    }
                },
            };
            piece.map(|piece| (Ok(piece), stream))
        })
    }

    /// The next piece; `None`: the stream is over.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Over => return Ok(None),
                Phase::Waiting { query } => {
                    let turn = Arc::clone(&self.app.catching_up).acquire_owned();
                    let turn = tokio::select! {
                        turn = turn => turn,
                        _ = self.comments.tick() => {
                            self.phase = Phase::Waiting { query };
                            return Ok(Some(Bytes::from_static(b": waiting\n\n")));
                        }
                        _ = self.draining.wait_for(|draining| *draining) => return Ok(None),
                    };
                    let Ok(turn) = turn else { return Ok(None) };
                    let feed = self.app.engine.client()?.feed(query);
                    self.phase = Phase::Past { feed, turn };
                }
                Phase::Past { feed, turn } => {
                    if let Some(piece) = self.past(feed, turn).await? {
                        return Ok(Some(piece));
                    }
                    // Long passages may hold nothing that the filter lets pass.
                    if let (Some(_), Some(position)) = (self.comments.tick().now_or_never(), &self.position) {
                        return Ok(Some(position.comment(self.app.options.feed_interval_ms())));
                    }
                }
                Phase::Present(listener) => return Ok(self.present(listener).await),
            }
        }
    }

    /// Reads a page of the past; behind the last one, goes on with the present.
    async fn past(&mut self, mut feed: Feed, turn: OwnedSemaphorePermit) -> Result<Option<Bytes>, Problem> {
        let client = self.app.engine.client()?;
        let Some(page) = self.page(&mut feed, &client).await? else {
            return Ok(None);
        };
        let mut piece = BytesMut::new();
        self.tell(&page, &mut piece);
        if page.more {
            self.phase = Phase::Past { feed, turn };
            return Ok(some(piece));
        }
        let listener = self.app.follower.listen().await?;
        // A new feed does not wait for an event before it answers.
        let mut last = client.feed(FeedQuery {
            cursor: Some(page.position.cursor.clone()),
            pool: self.filter.pool.clone(),
            zone: self.filter.zone.clone(),
            kinds: self.filter.kinds.clone(),
            limit: FEED_PAGE_SIZE,
            ..FeedQuery::default()
        });
        let Some(page) = self.page(&mut last, &client).await? else {
            return Ok(None);
        };
        self.tell(&page, &mut piece);
        self.phase = match page.more {
            true => Phase::Past { feed: last, turn },
            false => {
                piece.extend_from_slice(&page.position.caught_up());
                Phase::Present(listener)
            }
        };
        Ok(some(piece))
    }

    /// A page of a feed of its own; `None`: the sidecar stops.
    async fn page(&mut self, feed: &mut Feed, client: &Client) -> Result<Option<EventPage>, Problem> {
        let page = tokio::select! {
            page = feed.next() => page.map_err(|error| page_problem(&error))?,
            _ = self.draining.wait_for(|draining| *draining) => return Ok(None),
        };
        let cursor = feed.cursor().unwrap_or_default();
        Ok(Some(EventPage::new(&page, cursor, &client.welcome().dimensions, now())))
    }

    /// Tells a page of the past.
    fn tell(&mut self, page: &EventPage, piece: &mut BytesMut) {
        for event in &page.events {
            piece.extend_from_slice(event.text());
            self.told.insert(event.partition, event.sequence);
        }
        self.position = Some(page.position.clone());
    }

    /// Waits for what happens next; `None`: the stream is over.
    async fn present(&mut self, mut listener: Listener) -> Option<Bytes> {
        let piece = loop {
            let told_every_ms = self.app.options.feed_interval_ms();
            tokio::select! {
                page = listener.pages.recv() => match page {
                    Ok(page) => {
                        let mut piece = BytesMut::new();
                        let told = &self.told;
                        let is_new = |partition: u16, sequence: u64| told.get(&partition).is_none_or(|last| sequence > *last);
                        for event in page.events.iter().filter(|event| is_new(event.partition, event.sequence)) {
                            if self.filter.lets_pass(event) {
                                piece.extend_from_slice(event.text());
                            }
                        }
                        self.position = Some(page.position.clone());
                        if !piece.is_empty() {
                            break piece.freeze();
                        }
                    }
                    Err(RecvError::Lagged(pages)) => {
                        tracing::info!(pages, "an event stream is too slow, and cut off");
                        return None;
                    }
                    Err(RecvError::Closed) => return None,
                },
                _ = self.comments.tick() => break self.position.as_ref().map(|position| position.comment(told_every_ms)).unwrap_or_default(),
                _ = self.draining.wait_for(|draining| *draining) => return None,
            }
        };
        self.phase = Phase::Present(listener);
        Some(piece)
    }
}

fn some(piece: BytesMut) -> Option<Bytes> {
    (!piece.is_empty()).then(|| piece.freeze())
}
