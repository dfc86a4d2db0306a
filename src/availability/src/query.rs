//! The reading side.

use std::sync::Arc;

use arc_swap::Cache;
use plimsoll_domain::{Counters, PoolId, Timestamp, Units};

use crate::band::{Band, room};
use crate::entry::{Entry, List, Listed, Prefix, zone_hash};
use crate::index::Index;
use crate::limits::{EXAMINED_MAX, LIST_COST, LOCATION_SIZE_MAX};
use crate::merge::{Merge, Scratch, Wanted};
use crate::table::SharedPart;
use crate::tree::Cursor;

/// How many pools are read at a time.
const BATCH_SIZE: usize = 16;

/// Which pools are asked for: those that sell at the time of the query, full ones too, and match everything that is given.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The pool's zone. At least one of `zone` and `location` must be given: without both nothing is found.
    pub zone: Option<&'a str>,
    /// A location that begins with a coverage prefix of the pool. What comes after its 32nd byte does not count.
    pub location: Option<&'a str>,
    /// The pool's kind.
    pub kind: Option<&'a str>,
    /// The window overlaps `[from, to)`; one without length begins in it. Nothing does unless `from < to`.
    pub from: Timestamp,
    /// The end of `[from, to)`.
    pub to: Timestamp,
    /// What has to fit, by dimension. All 0: one unit of any dimension.
    pub units: Units,
    /// The most pools that are found.
    pub limit: usize,
}

/// A pool that matches, and what remains of it.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The pool.
    pub pool: PoolId,
    /// Counts the definitions of the pool; while it stands, so do name, zone and kind.
    pub version: u64,
    /// The pool's name.
    pub name: &'a str,
    /// The pool's zone.
    pub zone: &'a str,
    /// The pool's kind.
    pub kind: &'a str,
    /// Begin of the window.
    pub starts_at: Timestamp,
    /// End of the window.
    pub ends_at: Timestamp,
    /// Limit plus allowance minus what is reserved, by dimension; may be below zero. All dimensions are of one moment.
    pub remaining: Counters,
    /// How full the pool is.
    pub band: Band,
    /// The units that were asked for fit.
    pub fits: bool,
}

/// What holds of an answer as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySummary {
    /// Everything published up to this time is in the answer, and later things may be: the oldest time among the parts.
    /// [`Timestamp::ABSENT`] while some part has not published anything.
    pub as_of: Timestamp,
    /// There are more pools than the limit, or than one query looks at ([`EXAMINED_MAX`]).
    pub truncated: bool,
}

/// Reads a table. Each thread has its own: a reader keeps what it last saw of the index, until its next query.
pub struct Reader {
    parts: Vec<ReaderPart>,
    scratch: Scratch,
}

struct ReaderPart {
    shared: SharedPart,
    index: Cache<SharedPart, Arc<Index>>,
}

impl Reader {
    pub(crate) fn new(parts: &[SharedPart]) -> Reader {
        let parts = parts.iter().map(|part| ReaderPart {
            shared: part.clone(),
            index: Cache::new(part.clone()),
        });
        Reader {
            parts: parts.collect(),
            scratch: Scratch::default(),
        }
    }

    /// Hands each match to `found`, ordered by `starts_at`, then name. Never waits, and allocates nothing in the steady
    /// state. Does work in proportion to what is found, and to the lists that can have it: one for each part, kind and
    /// length of window (in powers of two), for a location also one for each coverage that has a prefix of it.
    pub fn query(&mut self, query: &Query<'_>, now: Timestamp, mut found: impl FnMut(Match<'_>)) -> QuerySummary {
        let wanted = Wanted {
            now: now.0,
            from: query.from.0,
            to: query.to.0,
        };
        let zone_hash = query.zone.map(zone_hash);
        let mut merge = Merge::new(wanted, EXAMINED_MAX, std::mem::take(&mut self.scratch));
        let mut as_of = Timestamp::NEVER;
        for part in &mut self.parts {
            // Before the index and the numbers: the answer must not claim to be later than what it shows.
            as_of = as_of.min(part.shared.as_of());
            let index = part.index.load();
            if query.from >= query.to {
                continue;
            }
            match (query.location, zone_hash) {
                (Some(location), _) => add_located(&mut merge, index, query, location, zone_hash),
                (None, Some(zone_hash)) => add_lists(&mut merge, index.zones.from(zone_hash), zone_hash, query),
                (None, None) => {}
            }
        }
        let mut count = 0;
        let mut truncated = false;
        // In steps over several pools at a time: what one step reads of a pool does not depend on the others, so the
        // processor waits for many of them at once where no cache holds them.
        let mut batch = [None; BATCH_SIZE];
        let mut reserved = [None; BATCH_SIZE];
        'batches: loop {
            let mut batch_count = 0;
            while batch_count < BATCH_SIZE
                && let Some(pool) = merge.next()
            {
                batch[batch_count] = Some((pool, &*pool.entry));
                batch_count += 1;
            }
            for (reserved, (_, entry)) in reserved.iter_mut().zip(batch[..batch_count].iter().flatten()) {
                // None when the pool was removed since.
                *reserved = entry.slot.read(entry.id);
            }
            for ((pool, entry), reserved) in batch[..batch_count].iter().flatten().zip(&reserved) {
                let Some(reserved) = reserved else { continue };
                if count == query.limit {
                    truncated = true;
                    break 'batches;
                }
                count += 1;
                found(matched(pool, entry, reserved, &query.units));
            }
            if batch_count < BATCH_SIZE {
                break;
            }
        }
        truncated |= merge.is_cut_short();
        self.scratch = merge.into_scratch();
        QuerySummary { as_of, truncated }
    }
}

#[inline]
fn matched<'a>(pool: &Listed, entry: &'a Entry, reserved: &Counters, units: &Units) -> Match<'a> {
    let mut remaining = Counters::default();
    for (dimension, left) in remaining.0.iter_mut().enumerate() {
        *left = i64::from(entry.ceilings[dimension]).saturating_sub(reserved.0[dimension]);
    }
    let room = room(&remaining, &entry.ceilings, units);
    Match {
        pool: entry.id,
        version: entry.version,
        name: &entry.name,
        zone: &entry.place.zone,
        kind: &entry.place.kind,
        starts_at: Timestamp(pool.starts_at),
        ends_at: Timestamp(pool.ends_at),
        remaining,
        band: room.band,
        fits: room.fits,
    }
}

/// Adds the lists of one head that have the query's zone and kind.
#[inline]
fn add_lists<'a>(merge: &mut Merge<'a>, mut lists: Cursor<'a, List>, head: u64, query: &Query<'_>) {
    while let Some(list) = lists.next(|()| true)
        && list.head == head
        && !merge.is_cut_short()
    {
        let place = &list.place;
        if query.zone.is_none_or(|zone| *place.zone == *zone) && query.kind.is_none_or(|kind| *place.kind == *kind) {
            merge.add(list);
        }
    }
}

/// Adds the lists of the groups that have a prefix of the location.
fn add_located<'a>(merge: &mut Merge<'a>, index: &'a Index, query: &Query<'_>, location: &str, zone_hash: Option<u64>) {
    // A prefix has no byte 0, so a location that has one is the same as what stands before it.
    let location = location.split('\0').next().unwrap_or_default().as_bytes();
    let mut lengths = index.prefix_lengths;
    while lengths != 0 {
        let length = lengths.trailing_zeros() as usize + 1;
        lengths &= lengths - 1;
        let Some(prefix) = location.get(..length) else { break };
        let prefix = Prefix::new(prefix);
        let mut groups = index.prefixes.from((prefix, zone_hash.unwrap_or(0)));
        while let Some(covered) = groups.next(|()| true)
            && covered.prefix == prefix
            && zone_hash.is_none_or(|zone_hash| covered.zone_hash == zone_hash)
            && !merge.is_cut_short()
        {
            merge.charge(LIST_COST);
            add_lists(merge, index.groups.from(covered.group), covered.group, query);
        }
    }
}

const _: () = assert!(LOCATION_SIZE_MAX == 32, "the documentation of `Query` says so");
