//! Events as they happen: read from a position on, in the order of their pools.
//!
//! The counters after an event are given where the thread follows the counters of all pools up to the end of the page: of events that are told soon
//! after they happened. They are undone from there back, as for the events of a pool.

use std::collections::HashMap;
use std::time::Instant;

use plimsoll_domain::{Event, PoolId, Timestamp, partition_of};
use plimsoll_protocol::wire::EventKind;
use plimsoll_replay::{After, Budget, Effect, Forward, Positions, RecordedEvent, Selection, Step};

use super::cursor::{self, Sort, Writer};
use super::encode::{FeedPage, Told, event_size, kind_of};
use super::labels::{Label, label_of};
use super::reader::{Page, Reader};
use super::{FeedQuestion, Refused};
use crate::limits::{FEED_EVENTS_MAX, HISTORY_ANSWER_SIZE_MAX};

/// Where a feed goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FeedPlace {
    pub(super) positions: Positions,
    /// Only events from this time on.
    since: i64,
    /// What was durable at this time was looked at, microseconds since 1970.
    as_of: i64,
}

/// A feed that has nothing to tell yet.
pub(super) struct WaitingFeed {
    pub(super) question: FeedQuestion,
    pub(super) place: FeedPlace,
    pub(super) until: Instant,
}

/// An event that was read for a page.
struct Passed {
    recorded: RecordedEvent,
    /// With the cursor behind it, if it is to be told.
    label: Option<(Label, String)>,
}

impl Reader {
    /// Where a feed begins.
    pub(super) fn feed_place(&mut self, question: &FeedQuestion) -> Result<FeedPlace, Refused> {
        let now = self.now();
        let history = self.history()?;
        let end = history.end()?;
        if let Some(text) = question.cursor.as_deref() {
            // Whoever goes on may look for something else.
            let mut reader = cursor::Reader::new(text, Sort::Feed, self.directory_id(), 0)?;
            return Ok(FeedPlace {
                positions: reader.positions(&end)?,
                since: reader.signed()?,
                as_of: reader.signed()?,
            });
        }
        Ok(match question.since {
            Some(since) => FeedPlace {
                positions: history.beginning(),
                since,
                as_of: since.min(now.0),
            },
            None => FeedPlace {
                positions: end,
                since: i64::MIN,
                as_of: now.0,
            },
        })
    }

    /// Reads on, and moves the place. Nothing: no event matched, and everything durable was looked at.
    pub(super) fn feed(
        &mut self,
        question: &FeedQuestion,
        place: &mut FeedPlace,
        budget: &mut Budget,
    ) -> Result<Option<Page>, Refused> {
        let looked_at = self.now();
        // The pools that live where the page begins are known then; later ones by their first event.
        if !self.follow(Some(&place.positions), budget)? {
            return self.feed_page(place, Vec::new(), true, budget).map(Some);
        }
        let mut defined = HashMap::new();
        let selection = Selection {
            partition: question.pool.as_deref().map(partition_of),
            times: Timestamp(place.since)..=Timestamp(i64::MAX),
            ..Selection::ALL
        };
        let mut events = Forward::open(self.history()?, &place.positions, None, selection)?;
        let mut passed: Vec<Passed> = Vec::new();
        let (mut told_count, mut size) = (0, 0);
        let mut more = true;
        while told_count < question.limit && size < HISTORY_ANSWER_SIZE_MAX && passed.len() < FEED_EVENTS_MAX {
            // A label that is not known yet ends the page before its event.
            let before = events.positions();
            let recorded = match events.next_within(self.history()?, budget)? {
                Step::Next(recorded) => recorded,
                Step::Paused => break,
                Step::End => {
                    more = false;
                    break;
                }
            };
            place.positions = before;
            let Some(pool) = recorded.event.pool() else { continue };
            if let Event::PoolCreated(event) | Event::PoolChanged(event) = &recorded.event {
                defined.insert(pool, label_of(&event.definition));
            }
            let label = if is_wanted(&recorded.event, &question.kinds) {
                match self.label(pool, &defined, budget)? {
                    Step::Next(label) => Some(label).filter(|label| question.matches(label)),
                    Step::End => None,
                    Step::Paused => return self.feed_page(place, passed, true, budget).map(Some),
                }
            } else {
                None
            };
            place.as_of = place.as_of.max(recorded.time.0);
            let label = label.map(|label| {
                let behind = FeedPlace {
                    positions: events.positions(),
                    ..*place
                };
                (label, self.write_feed(&behind))
            });
            if let Some((_, cursor)) = &label {
                told_count += 1;
                size += event_size(&recorded.event) + cursor.len();
            }
            // What comes before the first one that is told need not be undone.
            if label.is_some() || !passed.is_empty() {
                passed.push(Passed { recorded, label });
            }
        }
        place.positions = events.positions();
        if !more {
            place.as_of = place.as_of.max(looked_at.0);
        }
        if told_count == 0 && !more {
            return Ok(None);
        }
        self.feed_page(place, passed, more, budget).map(Some)
    }

    /// An answer without events, for a feed that has waited long enough.
    pub(super) fn empty_feed(&self, place: &FeedPlace) -> Page {
        Page::Feed {
            events: Vec::new(),
            page: FeedPage {
                cursor: self.write_feed(place),
                as_of: Timestamp(place.as_of),
                more: false,
            },
        }
    }

    fn feed_page(
        &mut self,
        place: &FeedPlace,
        passed: Vec<Passed>,
        more: bool,
        budget: &mut Budget,
    ) -> Result<Page, Refused> {
        let afters = self.afters(place, &passed, budget)?;
        let mut events = Vec::new();
        for (passed, after) in passed.into_iter().zip(afters) {
            let Some((label, cursor)) = passed.label else {
                continue;
            };
            events.push(Told {
                time: passed.recorded.time,
                event: passed.recorded.event,
                pool: label.name,
                zone: Some(label.zone),
                after,
                cursor: Some(cursor),
            });
        }
        let page = FeedPage {
            cursor: self.write_feed(place),
            as_of: Timestamp(place.as_of),
            more,
        };
        Ok(Page::Feed { events, page })
    }

    /// The counters after each event, where they can be known: when the thread has not followed them past the end of the page.
    fn afters(
        &mut self,
        place: &FeedPlace,
        passed: &[Passed],
        budget: &mut Budget,
    ) -> Result<Vec<Option<After>>, Refused> {
        let mut afters = vec![None; passed.len()];
        if passed.iter().all(|passed| passed.label.is_none()) {
            return Ok(afters);
        }
        self.follow(Some(&place.positions), budget)?;
        if !self.follows_exactly(&place.positions)? {
            return Ok(afters);
        }
        let followed = self.followed()?;
        let mut counters: HashMap<PoolId, Option<After>> = HashMap::new();
        for (passed, after) in passed.iter().zip(&mut afters).rev() {
            let event = &passed.recorded.event;
            let Some(pool) = event.pool() else { continue };
            let known = counters.entry(pool).or_insert_with(|| Some(followed.get(pool)?.after));
            *after = *known;
            match (event, &mut *known) {
                // The limits before are another definition's.
                (Event::PoolCreated(_) | Event::PoolChanged(_) | Event::PoolRetired(_), _) => *known = None,
                (event, Some(known)) => known.undo(&Effect::of(event)),
                (_, None) => {}
            }
        }
        Ok(afters)
    }

    fn label(
        &mut self,
        pool: PoolId,
        defined: &HashMap<PoolId, Label>,
        budget: &mut Budget,
    ) -> Result<Step<Label>, Refused> {
        if let Some(label) = defined.get(&pool) {
            return Ok(Step::Next(label.clone()));
        }
        self.pool_label(pool, budget)
    }

    fn write_feed(&self, place: &FeedPlace) -> String {
        let mut writer = Writer::new(Sort::Feed, self.directory_id(), 0);
        writer.positions(&place.positions);
        writer.signed(place.since);
        writer.signed(place.as_of);
        writer.finish()
    }
}

impl FeedQuestion {
    fn matches(&self, label: &Label) -> bool {
        self.pool.as_ref().is_none_or(|pool| *pool == label.name)
            && self.zone.as_ref().is_none_or(|zone| *zone == label.zone)
    }
}

fn is_wanted(event: &Event, kinds: &[EventKind]) -> bool {
    kind_of(event).is_some_and(|kind| kinds.is_empty() || kinds.contains(&kind))
}
