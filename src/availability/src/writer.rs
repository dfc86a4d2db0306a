//! The writing side of one part.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use plimsoll_domain::limits::PARTITION_COUNT;
use plimsoll_domain::{Counters, PoolDefinition, PoolId, Timestamp};

use crate::entry::{Coverage, Entry, Group, Listed, Place};
use crate::index::Index;
use crate::limits::{FORMER_INDEX_COUNT_MAX, LOCATION_SIZE_MAX};
use crate::slot::Slots;
use crate::table::SharedPart;

/// Publishes the pools of one core. All of its methods change what readers see, so it can be moved, but not shared.
///
/// - Each pool that was put and not removed has an entry in `pools` and a slot of its own.
/// - `index` holds the entries that are not closed; it is what readers have, but for changes that wait for `publish`.
/// - `groups` counts the entries of each group.
pub struct Writer {
    part: SharedPart,
    index: Index,
    /// Whether readers lack a change of the index.
    is_changed: bool,
    as_of: Timestamp,
    pools: Pools,
    slots: Slots,
    groups: HashMap<Arc<Group>, u32>,
    /// Ids of groups begin at 1.
    group_id_last: u64,
    /// How many prefixes of groups have `n + 1` bytes.
    prefix_length_counts: [u32; LOCATION_SIZE_MAX],
    /// What readers had before and may still hold, oldest first. Kept so that the last one to let go is the writer: freeing
    /// thousands of entries would delay a reader's query.
    former: VecDeque<Arc<Index>>,
}

impl Writer {
    pub(crate) fn new(part: SharedPart, dimension_count: usize) -> Writer {
        Writer {
            part,
            index: Index::new(),
            is_changed: false,
            as_of: Timestamp::ABSENT,
            pools: Pools::new(),
            slots: Slots::new(dimension_count),
            groups: HashMap::new(),
            group_id_last: 0,
            prefix_length_counts: [0; LOCATION_SIZE_MAX],
            former: VecDeque::new(),
        }
    }

    /// Adds a pool, with nothing reserved, or replaces the definition of one that is there, which keeps its numbers. Readers
    /// see it after the next [`publish`](Writer::publish).
    ///
    /// `version` counts the definitions of the pool; the definition is one that `PoolDefinition::check` accepts.
    ///
    /// # Panics
    /// If the table has another pool with the same partition and slot: it has to be removed first.
    pub fn put(&mut self, id: PoolId, version: u64, definition: &PoolDefinition) {
        let previous = self.pools.get(id).cloned();
        let place = self.place(definition);
        let entry = Arc::new(Entry {
            id,
            version,
            ceilings: Entry::ceilings_of(definition),
            slot: match &previous {
                Some(previous) => previous.slot.clone(),
                None => self.slots.take(id),
            },
            name: definition.name.clone(),
            group: self.join_group(&place, &definition.coverage),
            place,
            starts_at: definition.starts_at.0,
            ends_at: definition.ends_at.0,
            closed: definition.closed,
        });
        if let Some(previous) = previous {
            if !previous.closed && (entry.closed || !stands_where(&previous, &entry)) {
                self.index.unlink(&previous);
            }
            self.leave_group(&previous);
        }
        if !entry.closed {
            self.index.link(&Listed {
                starts_at: entry.starts_at,
                ends_at: entry.ends_at,
                opens_at: definition.opens_at.0,
                closes_at: definition.closes_at.0,
                entry: Arc::clone(&entry),
            });
        }
        self.pools.put(entry);
        self.is_changed = true;
    }

    /// Removes a pool. Readers find it no more, from now on or from the next [`publish`](Writer::publish) on.
    ///
    /// # Panics
    /// If the pool is not in the table.
    pub fn remove(&mut self, id: PoolId) {
        let entry = self.pools.take(id);
        if !entry.closed {
            self.index.unlink(&entry);
        }
        self.leave_group(&entry);
        self.slots.give_back(entry.slot.clone());
        self.is_changed = true;
    }

    /// Sets what is reserved of a pool, held and confirmed together, by dimension. Readers see it at once, all dimensions
    /// together. Finds the pool by the numbers in its id, without a search.
    ///
    /// # Panics
    /// If the pool is not in the table.
    #[inline]
    pub fn set_reserved(&mut self, id: PoolId, reserved: &Counters) {
        self.pools
            .get(id)
            .unwrap_or_else(|| panic!("no pool {id:?}"))
            .slot
            .write(reserved);
    }

    /// Makes all changes visible, those of the index by one swap, and says that the part is as of this time: an answer that
    /// is read from now on shows everything up to it.
    ///
    /// # Panics
    /// If the time is before that of the last call.
    pub fn publish(&mut self, as_of: Timestamp) {
        assert!(as_of >= self.as_of, "{as_of:?} is before {:?}", self.as_of);
        if self.is_changed {
            self.former.push_back(self.part.swap(Arc::new(self.index.clone())));
            self.is_changed = false;
        }
        self.as_of = as_of;
        self.part.set_as_of(as_of);
        self.free_former();
    }

    /// Frees the former indexes that no reader holds.
    fn free_former(&mut self) {
        while let Some(oldest) = self.former.front()
            && (Arc::strong_count(oldest) == 1 || self.former.len() > FORMER_INDEX_COUNT_MAX)
        {
            self.former.pop_front();
        }
    }

    /// The zone and kind of a pool, shared with others when there are.
    fn place(&self, definition: &PoolDefinition) -> Arc<Place> {
        let place = Place::new(&definition.zone, &definition.kind);
        match self.index.place(&place) {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(place),
        }
    }

    fn join_group(&mut self, place: &Arc<Place>, prefixes: &[Box<str>]) -> Option<Arc<Group>> {
        if prefixes.is_empty() {
            return None;
        }
        let group = Group {
            id: self.group_id_last + 1,
            place: Arc::clone(place),
            coverage: Coverage::new(prefixes),
        };
        if let Some((group, _)) = self.groups.get_key_value(&group) {
            let group = Arc::clone(group);
            *self.groups.get_mut(&group).expect("the group was just found") += 1;
            return Some(group);
        }
        self.group_id_last = group.id;
        self.index.cover(&group);
        for prefix in &group.coverage.0 {
            self.prefix_length_counts[prefix.len() - 1] += 1;
            self.index.prefix_lengths |= 1 << (prefix.len() - 1);
        }
        let group = Arc::new(group);
        self.groups.insert(Arc::clone(&group), 1);
        Some(group)
    }

    fn leave_group(&mut self, entry: &Entry) {
        let Some(group) = &entry.group else { return };
        let count = self.groups.get_mut(group).expect("a pool's group is known");
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.groups.remove(group);
        self.index.uncover(group);
        for prefix in &group.coverage.0 {
            let count = &mut self.prefix_length_counts[prefix.len() - 1];
            *count -= 1;
            if *count == 0 {
                self.index.prefix_lengths &= !(1 << (prefix.len() - 1));
            }
        }
    }
}

/// Whether one pool replaces the other where it stands in all lists.
fn stands_where(previous: &Entry, entry: &Entry) -> bool {
    let group_id = |entry: &Entry| entry.group.as_ref().map(|group| group.id);
    previous.place == entry.place
        && group_id(previous) == group_id(entry)
        && previous.level() == entry.level()
        && previous.starts_at == entry.starts_at
        && previous.name == entry.name
}

/// Groups are equal when they stand for the same pools.
impl PartialEq for Group {
    fn eq(&self, other: &Group) -> bool {
        self.place == other.place && self.coverage == other.coverage
    }
}

impl Eq for Group {}

impl Hash for Group {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
        self.coverage.hash(state);
    }
}

/// The pools of a part by partition and slot, which are part of their ids and dense in each partition.
struct Pools(Vec<Vec<Option<Arc<Entry>>>>);

impl Pools {
    fn new() -> Pools {
        Pools(std::iter::repeat_with(Vec::new).take(PARTITION_COUNT).collect())
    }

    /// Where a pool stands: ARCHITECTURE.md, "Identifiers".
    #[inline]
    fn position(id: PoolId) -> (usize, usize) {
        (id.partition().index(), (id.0 >> 24) as usize & 0xFF_FFFF)
    }

    #[inline]
    fn get(&self, id: PoolId) -> Option<&Arc<Entry>> {
        let (partition, slot) = Pools::position(id);
        self.0[partition]
            .get(slot)?
            .as_ref()
            .inspect(|entry| assert_eq!(entry.id, id, "another pool has the place"))
    }

    fn put(&mut self, entry: Arc<Entry>) {
        let (partition, slot) = Pools::position(entry.id);
        let slots = &mut self.0[partition];
        if slots.len() <= slot {
            slots.resize_with(slot + 1, || None);
        }
        slots[slot] = Some(entry);
    }

    fn take(&mut self, id: PoolId) -> Arc<Entry> {
        assert!(self.get(id).is_some(), "no pool {id:?}");
        let (partition, slot) = Pools::position(id);
        self.0[partition][slot]
            .take()
            .expect("the pool was just seen in its place")
    }
}
