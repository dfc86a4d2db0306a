//! What was used last: bounded, and cheap to keep bounded.
//!
//! - Two generations. What is used moves to the young one; when that is full, it becomes the old one, and the old one
//!   is forgotten.
//! - At most `2 * half` entries, `half` being half of what was asked for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone + PartialEq> Recent<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            half: entries_max / 2,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.put(key, value);
    }

    /// Forgets an entry, when its value is still this one.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, value: &V)
    where
        K: Borrow<Q>,
    {
        for entries in [&mut self.young, &mut self.old] {
            if entries.get(key) == Some(value) {
                entries.remove(key);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn put(&mut self, key: K, value: V) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_protocol::PoolId;

    use super::*;

    type Names = Recent<Box<str>, PoolId>;

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes() {
        let mut names = Names::new(8);
        for number in 0..1000_u64 {
            names.insert(format!("pool-{number}").into(), PoolId(number + 1));
            assert_eq!(names.get("pool-0"), Some(PoolId(1)), "after {number}");
            assert!(names.young.len() + names.old.len() <= 8);
        }
        assert_eq!(names.get("pool-500"), None);
        names.remove("pool-0", &PoolId(99));
        assert_eq!(names.get("pool-0"), Some(PoolId(1)), "another id is not meant");
        names.remove("pool-0", &PoolId(1));
        assert_eq!(names.get("pool-0"), None);
    }

    #[test]
    fn a_cache_of_nothing_remembers_nothing() {
        let mut names = Names::new(0);
        names.insert("pool".into(), PoolId(1));
        assert_eq!(names.get("pool"), None);
    }
}
