//! The one reader of the engine's feed that all live streams share.
//!
//! - It reads only while somebody listens: a feed costs the engine a place among those that wait.
//! - Whoever listens gets every page behind the position that it was given, since both are taken under one lock.
//! - When the feed cannot go on (the engine runs on another directory), every listener is told by the end of its channel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_client::{Client, FeedQuery};
use tokio::sync::{broadcast, watch};

use crate::engine::Engine;
use crate::event_page::{EventPage, Position};
use crate::limits::{FEED_PAGE_SIZE, PAGES_BEHIND_MAX};
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// How long a listener waits for the first page.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a feed that cannot go on.
const PAUSE: Duration = Duration::from_millis(250);

/// The one reader of the engine's feed.
pub(crate) struct Follower(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// How many listeners have come so far.
    comers: watch::Sender<u64>,
    /// Counts the changes of the position from none to some.
    begun: watch::Sender<u64>,
}

struct State {
    pages: broadcast::Sender<Arc<EventPage>>,
    /// How far the pages have come; `None` while nobody reads.
    position: Option<Position>,
}

/// What a listener gets.
pub(crate) struct Listener {
    pub(crate) pages: broadcast::Receiver<Arc<EventPage>>,
    /// The pages go on behind this.
    pub(crate) position: Position,
}

impl Follower {
    pub(crate) fn start(engine: Engine) -> Follower {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                pages: broadcast::Sender::new(PAGES_BEHIND_MAX),
                position: None,
            }),
            comers: watch::Sender::new(0),
            begun: watch::Sender::new(0),
        });
        tokio::spawn(follow(engine, Arc::clone(&shared)));
        Follower(shared)
    }

    /// Listens from now on.
    pub(crate) async fn listen(&self) -> Result<Listener, Problem> {
        let mut begun = self.0.begun.subscribe();
        // It keeps the reader reading until there is a position.
        let pages = self.0.lock().pages.subscribe();
        self.0.comers.send_modify(|comers| *comers += 1);
        let listening = async {
            loop {
                begun.mark_unchanged();
                if let Some(listener) = self.0.listener() {
                    return Some(listener);
                }
                begun.changed().await.ok()?;
            }
        };
        let listener = tokio::time::timeout(BEGIN_TIMEOUT, listening).await;
        drop(pages);
        let none = || {
            Problem::new(
                ProblemKind::Unavailable,
                "the engine does not tell its events at the moment",
            )
        };
        listener.ok().flatten().ok_or_else(none)
    }

    /// How far it has come, when it reads.
    pub(crate) fn position(&self) -> Option<Position> {
        self.0.lock().position.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under it is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> Option<Listener> {
        let state = self.lock();
        let position = state.position.clone()?;
        Some(Listener {
            pages: state.pages.subscribe(),
            position,
        })
    }

    /// Tells a page; `false`: nobody listens any more, and the reader is to stop.
    fn tell(&self, page: EventPage) -> bool {
        let mut state = self.lock();
        if state.pages.receiver_count() == 0 {
            state.position = None;
            return false;
        }
        let is_first = state.position.replace(page.position.clone()).is_none();
        // It fails only when nobody listens.
        let _ = state.pages.send(Arc::new(page));
        drop(state);
        if is_first {
            self.begun.send_modify(|begun| *begun += 1);
        }
        true
    }

    /// Ends every listener.
    fn end(&self) {
        let mut state = self.lock();
        state.position = None;
        state.pages = broadcast::Sender::new(PAGES_BEHIND_MAX);
    }
}

async fn follow(engine: Engine, shared: Arc<Shared>) {
    let mut comers = shared.comers.subscribe();
    loop {
        comers.mark_unchanged();
        let is_wanted = shared.lock().pages.receiver_count() > 0;
        if !is_wanted && comers.changed().await.is_err() {
            return;
        }
        engine.connected().await;
        if let Ok(client) = engine.client() {
            read(&client, &shared).await;
        }
    }
}

async fn read(client: &Client, shared: &Shared) {
    let mut feed = client.feed(FeedQuery {
        limit: FEED_PAGE_SIZE,
        ..FeedQuery::default()
    });
    loop {
        match feed.next().await {
            Ok(page) => {
                let cursor = feed.cursor().unwrap_or_default();
                let page = EventPage::new(&page, cursor, &client.welcome().dimensions, now());
                if !shared.tell(page) {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the feed of events cannot go on; streams are ended");
                shared.end();
                tokio::time::sleep(PAUSE).await;
                return;
            }
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
