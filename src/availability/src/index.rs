//! The first layer: from zone, kind, window and location to pools. A copy costs a few references, and a change of a copy
//! leaves what is published as it is.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::entry::{Covered, Entry, Group, List, Listed, Place, Prefix};
use crate::limits::LOCATION_SIZE_MAX;
use crate::tree::{Sought, Tree};

/// The pools of one part that are not closed.
///
/// - A pool is in the list of its zone, kind and level in `zones`, and, if it has coverage, in one of its group in `groups`.
/// - No list is empty.
/// - `prefixes` holds each prefix of each group that has a pool, open or closed.
#[derive(Clone)]
pub(crate) struct Index {
    pub(crate) zones: Tree<List>,
    pub(crate) groups: Tree<List>,
    pub(crate) prefixes: Tree<Covered>,
    /// Bit `n`: there is a prefix of `n + 1` bytes.
    pub(crate) prefix_lengths: u32,
}

const _: () = assert!(LOCATION_SIZE_MAX <= u32::BITS as usize);

impl Index {
    pub(crate) const fn new() -> Index {
        Index {
            zones: Tree::new(),
            groups: Tree::new(),
            prefixes: Tree::new(),
            prefix_lengths: 0,
        }
    }

    /// The place of this zone and kind, if a pool of it is listed.
    pub(crate) fn place(&self, wanted: &Place) -> Option<&Arc<Place>> {
        let mut lists = self.zones.from(wanted.zone_hash);
        while let Some(list) = lists.next(|()| true)
            && list.head == wanted.zone_hash
        {
            if *list.place == *wanted {
                return Some(&list.place);
            }
        }
        None
    }

    /// Adds a pool to its lists; one of the same id, name, group and window is replaced.
    pub(crate) fn link(&mut self, listed: &Listed) {
        let entry = &listed.entry;
        add(&mut self.zones, entry.place.zone_hash, listed);
        if let Some(group) = &entry.group {
            add(&mut self.groups, group.id, listed);
        }
    }

    /// Takes a pool out of its lists.
    pub(crate) fn unlink(&mut self, entry: &Entry) {
        take_out(&mut self.zones, entry.place.zone_hash, entry);
        if let Some(group) = &entry.group {
            take_out(&mut self.groups, group.id, entry);
        }
    }

    /// Lets the prefixes of a group lead to it.
    pub(crate) fn cover(&mut self, group: &Group) {
        for covered in covered_by(group) {
            self.prefixes.insert(covered);
        }
    }

    /// Forgets the prefixes of a group.
    pub(crate) fn uncover(&mut self, group: &Group) {
        for covered in covered_by(group) {
            let removed = self.prefixes.remove(&Sought {
                head: (covered.prefix, covered.zone_hash),
                order: |other: &Covered| other.cmp(&covered),
            });
            assert!(
                removed.is_some(),
                "group {} had a prefix that was not indexed",
                group.id
            );
        }
    }
}

fn covered_by(group: &Group) -> impl Iterator<Item = Covered> {
    group.coverage.0.iter().map(|prefix| Covered {
        prefix: Prefix::new(prefix.as_bytes()),
        zone_hash: group.place.zone_hash,
        group: group.id,
    })
}

/// The list of a head, and how others stand to it.
fn list_of(head: u64, entry: &Entry) -> Sought<List, impl Fn(&List) -> Ordering> {
    let level = entry.level();
    Sought {
        head,
        order: move |list: &List| list.order(head, &entry.place, level),
    }
}

fn add(lists: &mut Tree<List>, head: u64, listed: &Listed) {
    let entry = &*listed.entry;
    let added = lists.change(&list_of(head, entry), |list| list.pools.insert(listed.clone()));
    if added.is_none() {
        let mut pools = Tree::new();
        pools.insert(listed.clone());
        lists.insert(List {
            head,
            level: entry.level(),
            place: Arc::clone(&entry.place),
            pools,
        });
    }
}

fn take_out(lists: &mut Tree<List>, head: u64, entry: &Entry) {
    let sought = list_of(head, entry);
    let is_empty = lists.change(&sought, |list| {
        let removed = list.pools.remove(&Sought {
            head: entry.starts_at,
            order: |other: &Listed| other.order(entry.starts_at, entry),
        });
        assert!(removed.is_some(), "pool {} was not in its list", entry.name);
        list.pools.is_empty()
    });
    if is_empty.expect("an open pool has its lists") {
        lists.remove(&sought);
    }
}
