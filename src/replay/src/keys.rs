//! Under which keys a record is found in an archive.
//!
//! Three classes, told apart by the two upper bits, which no pool's id has set: the pool that the record is about, by its id; for a definition, also the hash
//! of the pool's name; for a new reservation with a reference, the reference's hash cut to 16 bits, since references are as many as reservations: a
//! search looks at a few more frames, and the index stays a fraction of the archive.

use std::ops::RangeInclusive;

use plimsoll_domain::{Event, PoolId};
use xxhash_rust::xxh3::xxh3_64;

const OF_NAME: u64 = 1 << 63;
const OF_REFERENCE: u64 = 1 << 62;
const REFERENCE_HASH_MASK: u64 = (1 << 16) - 1;

/// The keys of everything about a pool.
pub fn keys_of_pool(pool: PoolId) -> RangeInclusive<u64> {
    pool.0..=pool.0
}

/// The keys of the definitions of pools that may have this name; of all pools without one.
pub fn keys_of_name(name: Option<&str>) -> RangeInclusive<u64> {
    match name {
        Some(name) => name_key(name)..=name_key(name),
        None => OF_NAME..=u64::MAX,
    }
}

/// The keys of new reservations that may have this reference.
pub fn keys_of_reference(reference: &str) -> RangeInclusive<u64> {
    let key = reference_key(reference);
    key..=key
}

fn name_key(name: &str) -> u64 {
    OF_NAME | xxh3_64(name.as_bytes()) >> 1
}

fn reference_key(reference: &str) -> u64 {
    OF_REFERENCE | xxh3_64(reference.as_bytes()) & REFERENCE_HASH_MASK
}

/// Puts the keys of an event's record into the list.
pub fn put_keys(event: &Event, keys: &mut Vec<u64>) {
    keys.extend(event.pool().map(|pool| pool.0));
    match event {
        Event::PoolCreated(defined) | Event::PoolChanged(defined) => keys.push(name_key(&defined.definition.name)),
        Event::Reserved(reserved) => keys.extend(reserved.reference.as_deref().map(reference_key)),
        Event::Restored(restored) => keys.extend(restored.reference.as_deref().map(reference_key)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_do_not_overlap() {
        let highest_pool = PoolId(u64::MAX >> 6);
        assert!(*keys_of_pool(highest_pool).end() < *keys_of_reference("").start());
        assert!(*keys_of_reference("order-7").end() < *keys_of_name(None).start());
        assert!(keys_of_name(None).contains(keys_of_name(Some("a")).start()));
        assert_ne!(keys_of_name(Some("a")), keys_of_name(Some("b")));
    }
}
