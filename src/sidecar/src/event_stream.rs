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
use plimsoll_client::{Feed, FeedPage, FeedQuery};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::app::App;
use crate::event_page::{EventPage, Filter, Position};
use crate::follower::{Listener, now};
use crate::limits::{FEED_PAGE_SIZE, LAG_INTERVAL};
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
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
    /// Reads the past. With a listener, that has been read once to its end, and what happened meanwhile is left.
    Past {
        feed: Feed,
        listener: Option<Listener>,
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
                stream.position = Some(listener.position.clone());
                stream.ready = Some(stream.comment());
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
        let feed = stream.app.engine.client()?.feed(query);
        stream.phase = Phase::Past { feed, listener: None };
        // What is wrong with the question is told before the stream begins, unless it has to wait for its turn.
        if stream.app.catching_up.available_permits() > 0 {
            stream.ready = stream.next().await?;
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
                Phase::Past { feed, listener } => {
                    if let Some(piece) = self.past(feed, listener).await? {
                        return Ok(Some(piece));
                    }
                    // Long passages may hold nothing that the filter lets pass.
                    if self.comments.tick().now_or_never().is_some() {
                        return Ok(Some(self.comment()));
                    }
                }
                Phase::Present(listener) => return Ok(self.present(listener).await),
            }
        }
    }

    /// Reads a page of the past, or says that it waits for one; behind the last page, goes on with the present.
    async fn past(&mut self, mut feed: Feed, listener: Option<Listener>) -> Result<Option<Bytes>, Problem> {
        let turns = Arc::clone(&self.app.catching_up);
        let page = tokio::select! {
            page = next_page(&turns, &mut feed) => Some(page.map_err(of_place)?),
            _ = self.comments.tick() => None,
            _ = self.draining.wait_for(|draining| *draining) => return Ok(None),
        };
        let Some(page) = page else {
            // A question that is given up misses nothing.
            self.phase = Phase::Past { feed, listener };
            return Ok(Some(self.comment()));
        };
        let client = self.app.engine.client()?;
        let cursor = feed.cursor().unwrap_or_default();
        let page = EventPage::new(&page, cursor, &client.welcome().dimensions, now());
        let mut piece = BytesMut::new();
        if self.position.is_none() {
            // Without an id: what follows has not been told yet.
            piece.extend_from_slice(&page.position.lag(self.app.options.feed_interval_ms()));
        }
        self.tell(&page, &mut piece);
        self.phase = match listener {
            _ if page.more => Phase::Past { feed, listener: None },
            Some(listener) => {
                piece.extend_from_slice(&page.position.caught_up());
                Phase::Present(listener)
            }
            None => {
                let listener = Some(self.app.follower.listen().await?);
                // A new feed does not wait for an event before it answers.
                let feed = client.feed(FeedQuery {
                    cursor: Some(page.position.cursor),
                    pool: self.filter.pool.clone(),
                    zone: self.filter.zone.clone(),
                    kinds: self.filter.kinds.clone(),
                    limit: FEED_PAGE_SIZE,
                    ..FeedQuery::default()
                });
                Phase::Past { feed, listener }
            }
        };
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    /// How far the stream is behind, and from where it can be resumed, once that is known.
    fn comment(&self) -> Bytes {
        match &self.position {
            Some(position) => position.comment(self.app.options.feed_interval_ms()),
            None => Bytes::from_static(b": waiting\n\n"),
        }
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
                            break Some(piece.freeze());
                        }
                    }
                    Err(RecvError::Lagged(pages)) => {
                        tracing::info!(pages, "an event stream is too slow, and cut off");
                        return None;
                    }
                    Err(RecvError::Closed) => return None,
                },
                _ = self.comments.tick() => break None,
                _ = self.draining.wait_for(|draining| *draining) => return None,
            }
        };
        self.phase = Phase::Present(listener);
        Some(piece.unwrap_or_else(|| self.comment()))
    }
}

/// Of a place that is none, or that the engine does not know.
pub(crate) fn bad_last_event_id() -> Problem {
    let detail = "Last-Event-ID: not an id of this stream of events";
    Problem::new(ProblemKind::BadHeader, detail)
}

/// A stream has no cursor but the place that it is resumed from.
fn of_place(problem: Problem) -> Problem {
    match problem.is_of("/cursor") {
        true => bad_last_event_id(),
        false => problem,
    }
}

/// The next page of the past, in its turn, which ends with the answer: a reader that is slow to take a page keeps nobody waiting.
async fn next_page(turns: &Semaphore, feed: &mut Feed) -> Result<FeedPage, Problem> {
    let _turn = turns.acquire().await;
    feed.next().await.map_err(|error| page_problem(&error))
}
