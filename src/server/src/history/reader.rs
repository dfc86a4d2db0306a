//! The thread that reads history.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_domain::{PoolId, Timestamp};
use plimsoll_engine::{PoolReport, ResetReport};
use plimsoll_journal::SnapshotReader;
use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{EncodeError, Encoder, Status};
use plimsoll_replay::{Budget, FollowedPools, History, Positions, ReplayError, Step};

use super::encode::{self, FeedPage, Told};
use super::feed::WaitingFeed;
use super::labels::{Label, Labels, label_of};
use super::lookup::Lookups;
use super::past::PastState;
use super::reset::KeptTarget;
use super::search::Found;
use super::settling::Settlings;
use super::{HistoryAnswer, HistoryRequest, Question, Refused};
use crate::background::spawn;
use crate::clock::Clock;
use crate::limits::{FEEDS_WAITING_MAX, HISTORY_WORK_BYTES_MAX, HISTORY_WORK_TIME_MAX};
use crate::seldom::Seldom;
use crate::shared::Shared;

/// How often the thread looks for what has become durable while a feed waits.
const FEED_INTERVAL: Duration = Duration::from_millis(20);
/// How long it rests at most otherwise.
const REST: Duration = Duration::from_secs(10);
/// What is kept between requests goes when nobody asked for so long.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// When so many records were not followed, a newer snapshot is looked for.
const FAR_BEHIND: u64 = 1 << 20;

/// Starts the thread; it ends when the executors have.
pub(crate) fn start(shared: Arc<Shared>, data: PathBuf) -> std::io::Result<JoinHandle<()>> {
    let lookups = Lookups::new(shared.core_count());
    let mut reader = Reader {
        shared,
        data,
        clock: Clock::new(),
        history: None,
        followed: None,
        labels: Labels::default(),
        settlings: Settlings::default(),
        past: Vec::new(),
        targets: Vec::new(),
        waiting: Vec::new(),
        lookups,
        encoder: Encoder::new(),
        failures: Seldom::default(),
    };
    spawn("history", move || reader.run())
}

/// A piece of work.
pub(super) fn work() -> Budget {
    Budget::new(HISTORY_WORK_TIME_MAX, HISTORY_WORK_BYTES_MAX)
}

/// What a request is answered with.
pub(super) enum Page {
    Events {
        events: Vec<Told>,
        next: Option<String>,
    },
    Feed {
        events: Vec<Told>,
        page: FeedPage,
    },
    Found {
        reservations: Vec<Found>,
        next: Option<String>,
    },
    Past {
        pools: Vec<PoolReport>,
        more: bool,
    },
    Reset {
        report: Box<ResetReport>,
        offset: usize,
        limit: usize,
    },
}

/// The thread's own, between requests.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    data: PathBuf,
    clock: Clock,
    pub(super) history: Option<History>,
    /// All pools, followed as far as a request needed it.
    pub(super) followed: Option<FollowedPools>,
    labels: Labels,
    pub(super) settlings: Settlings,
    pub(super) past: Vec<PastState>,
    pub(super) targets: Vec<KeptTarget>,
    waiting: Vec<(Waiter, WaitingFeed)>,
    pub(super) lookups: Lookups,
    encoder: Encoder,
    failures: Seldom,
}

/// Who waits for an answer.
struct Waiter {
    core: usize,
    place: u32,
    head: Head,
    is_gone: Arc<AtomicBool>,
}

impl Waiter {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }
}

impl From<ReplayError> for Refused {
    fn from(error: ReplayError) -> Refused {
        let mut detail = format!("history cannot be read: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !detail.ends_with(&text) {
                detail.push_str(": ");
                detail.push_str(&text);
            }
            cause = error.source();
        }
        match error.is_damage() {
            true => Refused(Status::HistoryDamaged, detail),
            false => Refused(Status::Unavailable, detail),
        }
    }
}

impl Reader {
    fn run(&mut self) {
        let _ = self.shared.history.thread.set(std::thread::current());
        let mut looked_at = Instant::now();
        while !self.shared.is_finished() {
            // A jump is followed some time after it was seen first.
            self.clock.now();
            if let Some(request) = self.shared.history.requests.pop() {
                self.serve(request);
            } else if self.waiting.is_empty() {
                std::thread::park_timeout(REST);
            } else {
                std::thread::park_timeout(FEED_INTERVAL);
            }
            if !self.waiting.is_empty() && (looked_at.elapsed() >= FEED_INTERVAL || self.shared.is_stopping()) {
                self.look_at_feeds();
                looked_at = Instant::now();
            }
            self.rest();
        }
    }

    /// Gives up what nobody asked for in a while, and the files that it keeps open.
    fn rest(&mut self) {
        let now = Instant::now();
        let is_used = |used_at: Instant| now.duration_since(used_at) < KEPT_FOR;
        self.past.retain(|state| is_used(state.used_at));
        self.settlings.rest(is_used);
        self.targets.retain(|kept| is_used(kept.used_at));
        if self.labels.used_at.is_some_and(|used_at| !is_used(used_at)) {
            self.labels = Labels::default();
        }
    }

    fn serve(&mut self, request: HistoryRequest) {
        let HistoryRequest {
            core,
            place,
            head,
            is_gone,
            question,
        } = request;
        let waiter = Waiter {
            core,
            place,
            head,
            is_gone,
        };
        if waiter.is_gone() {
            return self.answer(
                &waiter,
                Err(Refused(Status::Unavailable, "the connection is closing".into())),
            );
        }
        let mut budget = work();
        let result = match question {
            Question::Events(question) => self.pool_events(&question, &mut budget),
            Question::Search(question) => self.search(&question, &mut budget),
            Question::Past(question) => self.past(&question, &mut budget),
            Question::Reset(question) => {
                let shared = Arc::clone(&self.shared);
                self.reset(&question, &|| !shared.is_stopping() && !waiter.is_gone())
            }
            Question::Feed(question) => {
                let until = Instant::now() + question.wait;
                let place = match self.feed_place(&question) {
                    Ok(place) => place,
                    Err(refused) => return self.answer(&waiter, Err(refused)),
                };
                let feed = WaitingFeed { question, place, until };
                if let Some(feed) = self.look_at_feed(&waiter, feed, &mut budget) {
                    self.waiting.push((waiter, feed));
                }
                return;
            }
        };
        self.answer(&waiter, result);
    }

    /// Answers the waiting feeds that have something to tell, or have waited long enough.
    fn look_at_feeds(&mut self) {
        let end = self.history().and_then(|history| Ok(history.end()?));
        for (waiter, feed) in std::mem::take(&mut self.waiting) {
            let has_more = match &end {
                Ok(end) => (0..end.0.len()).any(|journal| end.of(journal) > feed.place.positions.of(journal)),
                Err(_) => true,
            };
            let is_over = Instant::now() >= feed.until || waiter.is_gone();
            if !has_more && !is_over {
                self.waiting.push((waiter, feed));
                continue;
            }
            let mut budget = work();
            if let Some(feed) = self.look_at_feed(&waiter, feed, &mut budget) {
                self.waiting.push((waiter, feed));
            }
        }
    }

    /// Answers a feed, or gives it back because it has nothing to tell and time to wait.
    fn look_at_feed(&mut self, waiter: &Waiter, mut feed: WaitingFeed, budget: &mut Budget) -> Option<WaitingFeed> {
        let result = match self.feed(&feed.question, &mut feed.place, budget) {
            Ok(None) => {
                if Instant::now() >= feed.until || waiter.is_gone() || self.shared.is_stopping() {
                    Ok(self.empty_feed(&feed.place))
                } else if self.waiting.len() < FEEDS_WAITING_MAX {
                    return Some(feed);
                } else {
                    // An empty answer would be asked for again at once.
                    Err(Refused(
                        Status::Overloaded,
                        format!("{FEEDS_WAITING_MAX} feeds wait already"),
                    ))
                }
            }
            Ok(Some(page)) => Ok(page),
            Err(refused) => Err(refused),
        };
        self.answer(waiter, result);
        None
    }

    fn answer(&mut self, waiter: &Waiter, result: Result<Page, Refused>) {
        let mut frame = Vec::new();
        let encoded = match result {
            Ok(page) => self.encode(&mut frame, waiter.head, &page).map_err(|error| {
                let detail = format!("the answer does not fit: {error}; ask for less");
                Refused(Status::FrameTooLarge, detail)
            }),
            Err(refused) => Err(refused),
        };
        if let Err(Refused(status, detail)) = encoded {
            self.log_failure(waiter, status, &detail);
            self.encoder.failure(&mut frame, waiter.head, status, &detail);
        }
        let answer = HistoryAnswer {
            place: waiter.place,
            frame,
        };
        let pushed = self.shared.history.answers[waiter.core].push(answer);
        assert!(pushed.is_ok(), "no more requests are in flight than the queue holds");
        self.shared.mailboxes[waiter.core].notify();
    }

    /// Whoever asks again and again must not fill the log.
    fn log_failure(&self, waiter: &Waiter, status: Status, detail: &str) {
        let is_failure = match status {
            Status::HistoryDamaged => true,
            Status::Unavailable => !waiter.is_gone() && !self.shared.is_stopping(),
            _ => false,
        };
        if status == Status::HistoryDamaged {
            self.shared.history_is_damaged();
        }
        if is_failure && let Some(count) = self.failures.tell(Instant::now()) {
            tracing::error!(%status, detail, count, "requests of history fail");
        }
    }

    fn encode(&mut self, out: &mut Vec<u8>, head: Head, page: &Page) -> Result<(), EncodeError> {
        let count = self.dimension_count();
        let encoder = &mut self.encoder;
        match page {
            Page::Events { events, next } => encoder.table(out, head, |builder| {
                encode::pool_events(builder, events, next.as_deref(), count)
            }),
            Page::Feed { events, page } => {
                encoder.table(out, head, |builder| encode::feed(builder, events, page, count))
            }
            Page::Found { reservations, next } => encoder.table(out, head, |builder| {
                encode::found(builder, reservations, next.as_deref(), count)
            }),
            Page::Reset { report, offset, limit } => encoder.table(out, head, |builder| {
                encode::reset(builder, report, (*offset, *limit), count)
            }),
            Page::Past { pools, more } => encoder.table(out, head, |builder| {
                crate::encode::past_pools(builder, pools, *more, count)
            }),
        }
    }

    /// History, whose manifest is read with the first request.
    pub(super) fn history(&mut self) -> Result<&History, Refused> {
        if self.history.is_none() {
            self.history = Some(History::read(&self.data)?);
        }
        self.history_read()
    }

    /// The same, when a request has got so far that it was read.
    pub(super) fn history_read(&self) -> Result<&History, Refused> {
        let unavailable = || Refused(Status::Unavailable, "history is not there yet".into());
        self.history.as_ref().ok_or_else(unavailable)
    }

    /// Reads which snapshots there are now.
    pub(super) fn refresh(&mut self) -> Result<(), Refused> {
        self.history()?;
        if let Some(history) = &mut self.history {
            history.refresh()?;
        }
        Ok(())
    }

    /// The pools as far as they are followed.
    pub(super) fn followed(&self) -> Result<&FollowedPools, Refused> {
        let unavailable = || Refused(Status::Unavailable, "history is not there yet".into());
        self.followed.as_ref().ok_or_else(unavailable)
    }

    /// Follows all pools to `upto`, or to what is durable now. False when the budget was spent before.
    pub(super) fn follow(&mut self, upto: Option<&Positions>, budget: &mut Budget) -> Result<bool, Refused> {
        let end = self.history()?.end()?;
        if self.is_far_behind(upto.unwrap_or(&end)) {
            self.refresh()?;
            if self.has_newer_snapshot(upto.unwrap_or(&end))? {
                self.followed = None;
            }
        }
        if self.followed.is_none() {
            self.refresh()?;
            self.followed = Some(FollowedPools::near(self.history_read()?, Timestamp::NEVER));
        }
        let (Some(history), Some(followed)) = (&self.history, &mut self.followed) else {
            return Ok(false);
        };
        Ok(followed.advance(history, upto, Timestamp::NEVER, budget)?)
    }

    fn is_far_behind(&self, upto: &Positions) -> bool {
        let Some(followed) = &self.followed else { return false };
        let positions = followed.positions();
        (0..upto.0.len()).any(|journal| upto.of(journal).0.saturating_sub(positions.of(journal).0) > FAR_BEHIND)
    }

    /// Whether every running journal has a snapshot behind where it is followed, but not behind `upto`.
    fn has_newer_snapshot(&self, upto: &Positions) -> Result<bool, Refused> {
        let view = self.history_read()?.view();
        let positions = self.followed()?.positions();
        let mut running = (0..view.journals().len()).filter(|journal| view.journals()[*journal].core.is_some());
        Ok(running.all(|journal| {
            let newest = view.snapshots(journal).first();
            newest.is_some_and(|snapshot| {
                snapshot.lsn >= positions.of(journal)
                    && snapshot.lsn < upto.of(journal)
                    && SnapshotReader::open(&snapshot.path).is_ok()
            })
        }))
    }

    /// Whether the pools are followed to here in every journal, and no further. Of one without a core, too: a page may end in the midst of it while the
    /// pools are those of the snapshots that came after it.
    pub(super) fn follows_exactly(&self, positions: &Positions) -> Result<bool, Refused> {
        let end = self.history_read()?.end()?;
        let followed = self.followed()?.positions();
        // Read to its end is the same as being at its end.
        let at = |positions: &Positions, journal| positions.of(journal).min(end.of(journal));
        Ok((0..end.0.len()).all(|journal| at(followed, journal) == at(positions, journal)))
    }

    /// What a pool is called that lives, or has ever lived.
    pub(super) fn pool_label(&mut self, pool: PoolId, budget: &mut Budget) -> Result<Step<Label>, Refused> {
        if let Some(definition) = self.followed.as_ref().and_then(|followed| followed.definition(pool)) {
            return Ok(Step::Next(label_of(definition)));
        }
        let Some(history) = &self.history else {
            return Ok(Step::Paused);
        };
        Ok(self.labels.find(history, pool, budget)?)
    }

    pub(super) fn dimension_count(&self) -> usize {
        self.shared.dimensions.len()
    }

    pub(super) fn directory_id(&self) -> [u8; 16] {
        self.history.as_ref().map_or([0; 16], |history| history.view().id())
    }

    pub(super) fn now(&mut self) -> Timestamp {
        self.clock.now()
    }
}
