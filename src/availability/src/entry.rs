//! What the index holds: pools, where they apply, and what locations they cover.

use std::cmp::Ordering;
use std::sync::Arc;

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{PoolDefinition, PoolId};
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::LOCATION_SIZE_MAX;
use crate::slot::Slot;
use crate::tree::{Item, Tree};

/// A zone and a kind, shared by the pools that have both.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) zone_hash: u64,
    pub(crate) zone: Box<str>,
    pub(crate) kind: Box<str>,
}

impl Place {
    pub(crate) fn new(zone: &str, kind: &str) -> Place {
        Place {
            zone_hash: zone_hash(zone),
            zone: zone.into(),
            kind: kind.into(),
        }
    }

    pub(crate) fn order(&self, zone: &str, kind: &str) -> Ordering {
        (&*self.zone, &*self.kind).cmp(&(zone, kind))
    }
}

/// The head of a zone's lists. Zones with one hash are told apart by their names.
pub(crate) fn zone_hash(zone: &str) -> u64 {
    xxh3_64(zone.as_bytes())
}

/// A coverage prefix, or so much of a location, in 32 bytes; the rest is 0, which no prefix contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix([u64; LOCATION_SIZE_MAX / 8]);

impl Prefix {
    /// From at most 32 bytes; what comes after them is left out.
    pub(crate) fn new(text: &[u8]) -> Prefix {
        let mut bytes = [0; LOCATION_SIZE_MAX];
        for (byte, from) in bytes.iter_mut().zip(text) {
            *byte = *from;
        }
        let (words, _) = bytes.as_chunks::<8>();
        Prefix(std::array::from_fn(|index| u64::from_be_bytes(words[index])))
    }
}

/// The pools of one place with one coverage. A location leads to groups, and they to pools, since most pools of a zone
/// have the same coverage, and it may have many prefixes.
#[derive(Debug)]
pub(crate) struct Group {
    /// Never given to another group.
    pub(crate) id: u64,
    pub(crate) place: Arc<Place>,
    pub(crate) coverage: Coverage,
}

/// Prefixes in ascending order, none of which is a prefix of another: a location has at most one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coverage(pub(crate) Box<[Box<str>]>);

impl Coverage {
    pub(crate) fn new(prefixes: &[Box<str>]) -> Coverage {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_unstable();
        // What begins with a prefix follows directly behind it.
        prefixes.dedup_by(|longer, prefix| longer.starts_with(&**prefix));
        Coverage(prefixes.into())
    }
}

/// A pool as it was published: everything but its numbers.
pub(crate) struct Entry {
    pub(crate) id: PoolId,
    pub(crate) version: u64,
    /// Limit plus allowance, by dimension.
    pub(crate) ceilings: [u32; DIMENSION_COUNT_MAX],
    pub(crate) slot: Slot,
    pub(crate) name: Box<str>,
    pub(crate) place: Arc<Place>,
    /// None without coverage.
    pub(crate) group: Option<Arc<Group>>,
    pub(crate) starts_at: i64,
    pub(crate) ends_at: i64,
    /// A closed pool is in no list.
    pub(crate) closed: bool,
}

impl Entry {
    pub(crate) fn level(&self) -> u8 {
        level_of(self.ends_at - self.starts_at)
    }

    /// Limits and allowances are below 2^31 each, so their sums fit.
    pub(crate) fn ceilings_of(definition: &PoolDefinition) -> [u32; DIMENSION_COUNT_MAX] {
        std::array::from_fn(|dimension| definition.limits.0[dimension] + definition.overbook.0[dimension])
    }
}

/// Windows of one level are less than twice as long as each other: the binary digits of the length in microseconds. So
/// whoever looks for windows that overlap a time begins at most one length before it.
pub(crate) fn level_of(length: i64) -> u8 {
    (i64::BITS - length.leading_zeros()) as u8
}

/// The earliest start of a window of this level that can overlap what begins at `from`.
pub(crate) fn earliest_start(level: u8, from: i64) -> i64 {
    match level {
        0 => from,
        // It must end behind `from`, and is at most 2^level - 1 long.
        _ => from.saturating_sub(((1_u64 << level) - 2) as i64),
    }
}

/// A pool in a list, with what a scan asks of it.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) starts_at: i64,
    pub(crate) ends_at: i64,
    pub(crate) opens_at: i64,
    pub(crate) closes_at: i64,
    pub(crate) entry: Arc<Entry>,
}

impl Listed {
    /// The order of answers; ids tell apart what has one name for a moment, while a pool follows another.
    pub(crate) fn order(&self, starts_at: i64, entry: &Entry) -> Ordering {
        self.starts_at
            .cmp(&starts_at)
            .then_with(|| self.entry.name.cmp(&entry.name))
            .then_with(|| self.entry.id.cmp(&entry.id))
    }
}

/// What some pools have in common, so that a scan can step over all of them.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) opens_at_min: i64,
    pub(crate) closes_at_max: i64,
    pub(crate) ends_at_max: i64,
}

impl Item for Listed {
    type Head = i64;
    type Summary = Extent;

    fn head(&self) -> i64 {
        self.starts_at
    }

    fn order(&self, other: &Listed) -> Ordering {
        self.order(other.starts_at, &other.entry)
    }

    fn summary(&self) -> Extent {
        Extent {
            opens_at_min: self.opens_at,
            closes_at_max: self.closes_at,
            ends_at_max: self.ends_at,
        }
    }

    fn join(left: Extent, right: Extent) -> Extent {
        Extent {
            opens_at_min: left.opens_at_min.min(right.opens_at_min),
            closes_at_max: left.closes_at_max.max(right.closes_at_max),
            ends_at_max: left.ends_at_max.max(right.ends_at_max),
        }
    }
}

/// The pools of one place and one level: all of them under the hash of their zone, or those of one group under its id.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) head: u64,
    pub(crate) level: u8,
    pub(crate) place: Arc<Place>,
    pub(crate) pools: Tree<Listed>,
}

impl List {
    pub(crate) fn order(&self, head: u64, place: &Place, level: u8) -> Ordering {
        self.head
            .cmp(&head)
            .then_with(|| self.place.order(&place.zone, &place.kind))
            .then_with(|| self.level.cmp(&level))
    }
}

impl Item for List {
    type Head = u64;
    type Summary = ();

    fn head(&self) -> u64 {
        self.head
    }

    fn order(&self, other: &List) -> Ordering {
        self.order(other.head, &other.place, other.level)
    }

    fn summary(&self) {}

    fn join((): (), (): ()) {}
}

/// A group has this prefix in its coverage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Covered {
    pub(crate) prefix: Prefix,
    pub(crate) zone_hash: u64,
    pub(crate) group: u64,
}

impl Item for Covered {
    type Head = (Prefix, u64);
    type Summary = ();

    fn head(&self) -> (Prefix, u64) {
        (self.prefix, self.zone_hash)
    }

    fn order(&self, other: &Covered) -> Ordering {
        self.cmp(other)
    }

    fn summary(&self) {}

    fn join((): (), (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_bound_the_length_of_a_window() {
        for (length, level) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (3_600_000_000, 32),
            (i64::MAX, 63),
        ] {
            assert_eq!(level_of(length), level, "{length}");
            // The longest of the level that still overlaps begins exactly there.
            let longest = if level == 0 { 1 } else { ((1_u64 << level) - 1) as i64 };
            assert_eq!(earliest_start(level, 0) + longest, 1, "{length}");
        }
        assert_eq!(earliest_start(63, i64::MIN), i64::MIN);
    }

    #[test]
    fn coverage_keeps_the_shortest_prefixes() {
        let prefixes = ["12", "101", "10", "1010", "12", "11", "9"].map(Box::from);
        assert_eq!(&*Coverage::new(&prefixes).0, ["10", "11", "12", "9"].map(Box::from));
    }

    #[test]
    fn a_prefix_is_its_first_bytes() {
        assert_eq!(Prefix::new(b"10"), Prefix::new(&b"1011"[..2]));
        assert!(Prefix::new(b"10") < Prefix::new(b"101"));
        assert!(Prefix::new(b"101") < Prefix::new(b"11"));
    }
}
