//! From idempotency key to reservation slot.
//!
//! Invariants:
//! - A key is at most once in the table.
//! - The table grows a shard at a time (extendible hashing): no insert moves more than one shard's entries.
//! - Only slots and 32 bits of each hash are stored; the keys themselves stand in the reservations.
//! - A table that stands still is empty. It is made of the reservations before anything is looked up in it.

use alloc::vec;
use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::Key;

/// A shard is split when it holds this many entries: 7/8 of 4,096 buckets, where hashbrown would double it.
const SHARD_ENTRY_COUNT_MAX: usize = 3584;
/// The bits of a stored hash that choose the shard; hashbrown takes the bucket from those below and its tag from the
/// top 7.
const DIRECTORY_SHIFT: u32 = 12;
/// Past this depth shards double instead of splitting: 28 million keys in one partition.
const DEPTH_MAX: u32 = 13;

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    slot: u32,
}

struct Shard {
    depth: u32,
    table: HashTable<Entry>,
}

pub(crate) struct KeyTable {
    /// Indices into `shards`, by the lowest `depth` directory bits of a hash.
    directory: Vec<u32>,
    shards: Vec<Shard>,
    seed: u64,
    stands_still: bool,
}

/// hashbrown takes the bucket from the low bits of 64 and a tag from the high bits; both come from the 32 that are
/// stored.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl KeyTable {
    /// `seed`, 64 random bits, keeps callers from choosing keys that collide; it does not show in any result.
    pub(crate) fn new(seed: u64) -> KeyTable {
        KeyTable {
            directory: vec![0],
            shards: vec![Shard {
                depth: 0,
                table: HashTable::new(),
            }],
            seed,
            stands_still: false,
        }
    }

    /// An empty table that nothing is put into until [`KeyTable::moves`].
    pub(crate) fn standing_still(seed: u64) -> KeyTable {
        KeyTable {
            stands_still: true,
            ..KeyTable::new(seed)
        }
    }

    /// From now on the table takes keys, about so many at first, for which it has room at once: growing with them would move each of them twice.
    pub(crate) fn moves(&mut self, count: usize) {
        self.stands_still = false;
        let mut depth = 0;
        // What the shards of a depth get differs a little from their share.
        while depth < DEPTH_MAX && (count >> depth) > SHARD_ENTRY_COUNT_MAX / 8 * 7 {
            depth += 1;
        }
        let share = (count >> depth) / 16 * 17;
        self.directory = (0..1 << depth).collect();
        self.shards.clear();
        self.shards.resize_with(1 << depth, || Shard {
            depth,
            table: HashTable::with_capacity(share.min(SHARD_ENTRY_COUNT_MAX)),
        });
    }

    #[inline]
    fn hash(&self, key: Key) -> u32 {
        // A folded multiplication, as in wyhash: every bit of both halves reaches every bit of the result. The seed
        // goes into both factors: a caller that knew a half for which one of them is 0 could make any number of keys
        // that collide.
        let left = (key.0 >> 64) as u64 ^ self.seed;
        let right = key.0 as u64 ^ self.seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15;
        let product = u128::from(left) * u128::from(right);
        let folded = (product >> 64) as u64 ^ product as u64;
        let product = u128::from(folded ^ 0xD6E8_FEB8_6659_FD93) * u128::from(self.seed | 1);
        ((product >> 64) as u64 ^ product as u64) as u32
    }

    #[inline]
    fn shard_index(&self, hash: u32) -> usize {
        let index = (hash >> DIRECTORY_SHIFT) as usize & (self.directory.len() - 1);
        self.directory[index] as usize
    }

    /// The slot of the key; `key_at` tells the key of a slot that has the same hash.
    #[inline]
    pub(crate) fn find(&self, key: Key, key_at: impl Fn(u32) -> Key) -> Option<u32> {
        debug_assert!(!self.stands_still, "nothing is looked up in a table that stands still");
        let hash = self.hash(key);
        let shard = &self.shards[self.shard_index(hash)];
        shard
            .table
            .find(spread(hash), |entry| entry.hash == hash && key_at(entry.slot) == key)
            .map(|entry| entry.slot)
    }

    /// Reads what finding the key will read, so that it is in the cache then.
    #[inline]
    pub(crate) fn touch(&self, key: Key) -> u32 {
        let hash = self.hash(key);
        let shard = &self.shards[self.shard_index(hash)];
        shard
            .table
            .find(spread(hash), |entry| entry.hash == hash)
            .map_or(0, |entry| entry.slot)
    }

    /// Makes the key name this slot from now on, and returns the other one that it named.
    #[inline]
    pub(crate) fn insert(&mut self, key: Key, slot: u32, key_at: impl Fn(u32) -> Key) -> Option<u32> {
        self.insert_if(key, slot, key_at, |_| true)
    }

    /// Makes the key name this slot if it names none, or one that may lose it. Of two, returns the one that it does not name
    /// now.
    #[inline]
    pub(crate) fn insert_if(
        &mut self,
        key: Key,
        slot: u32,
        key_at: impl Fn(u32) -> Key,
        may_lose: impl FnOnce(u32) -> bool,
    ) -> Option<u32> {
        if self.stands_still {
            return None;
        }
        let hash = self.hash(key);
        let mut index = self.shard_index(hash);
        let same = |entry: &Entry| entry.hash == hash && (entry.slot == slot || key_at(entry.slot) == key);
        if let Some(entry) = self.shards[index].table.find_mut(spread(hash), same) {
            let earlier = entry.slot;
            if earlier == slot {
                return None;
            }
            if !may_lose(earlier) {
                return Some(slot);
            }
            entry.slot = slot;
            return Some(earlier);
        }
        while self.shards[index].table.len() >= SHARD_ENTRY_COUNT_MAX && self.shards[index].depth < DEPTH_MAX {
            self.split(index);
            index = self.shard_index(hash);
        }
        self.shards[index]
            .table
            .insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
        None
    }

    /// Forgets that the key names this slot; nothing happens when it names another one by now.
    pub(crate) fn remove(&mut self, key: Key, slot: u32) {
        if self.stands_still {
            return;
        }
        let hash = self.hash(key);
        let index = self.shard_index(hash);
        if let Ok(entry) = self.shards[index]
            .table
            .find_entry(spread(hash), |entry| entry.hash == hash && entry.slot == slot)
        {
            entry.remove();
        }
    }

    fn split(&mut self, index: usize) {
        let depth = self.shards[index].depth;
        if 1 << depth == self.directory.len() {
            self.directory.extend_from_within(..);
        }
        let bit = 1 << (DIRECTORY_SHIFT + depth);
        let full = core::mem::replace(&mut self.shards[index].table, HashTable::new());
        let new_index = self.shards.len() as u32;
        let mut upper = HashTable::new();
        for entry in full {
            let table = if entry.hash & bit == 0 {
                &mut self.shards[index].table
            } else {
                &mut upper
            };
            table.insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
        }
        self.shards[index].depth = depth + 1;
        self.shards.push(Shard {
            depth: depth + 1,
            table: upper,
        });
        for (position, shard) in self.directory.iter_mut().enumerate() {
            if *shard as usize == index && position >> depth & 1 == 1 {
                *shard = new_index;
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.table.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the seed in both factors, all keys with this lower half have one hash.
    #[test]
    fn no_half_of_a_key_that_callers_can_know_makes_all_keys_collide() {
        let table = KeyTable::new(0x3C6E_F372_FE94_F82B);
        for half in [0, u64::MAX, 0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93] {
            for shift in [0, 64] {
                let mut hashes: Vec<u32> = (0..1_000_u128)
                    .map(|n| table.hash(Key(u128::from(half) << shift | n << (64 - shift))))
                    .collect();
                hashes.sort_unstable();
                hashes.dedup();
                assert!(
                    hashes.len() > 990,
                    "half {half:#x} << {shift} gives {} hashes",
                    hashes.len()
                );
            }
        }
    }

    #[test]
    fn a_hundred_thousand_keys_are_found_moved_and_forgotten() {
        let keys: Vec<Key> = (0..100_000_u128).map(|n| Key(n * 0x1_0000_0001_0000_0001)).collect();
        let key_at = |slot: u32| keys[slot as usize % keys.len()];
        let mut table = KeyTable::new(42);
        for (slot, key) in keys.iter().enumerate() {
            assert_eq!(table.find(*key, key_at), None);
            assert_eq!(table.insert(*key, slot as u32, key_at), None);
        }
        assert!(
            table.shards.len() > 16,
            "the table splits into {} shards",
            table.shards.len()
        );
        for (slot, key) in keys.iter().enumerate() {
            assert_eq!(table.find(*key, key_at), Some(slot as u32));
        }
        // The same key names a later slot; the earlier one no longer takes it away.
        assert_eq!(table.insert(keys[7], 100_007, key_at), Some(7));
        assert_eq!(table.insert(keys[7], 100_007, key_at), None);
        table.remove(keys[7], 7);
        assert_eq!(table.find(keys[7], key_at), Some(100_007));
        assert_eq!(table.len(), keys.len());
        table.remove(keys[7], 100_007);
        assert_eq!(table.find(keys[7], key_at), None);
    }
}
