//! The ids of pools, by name: bounded, and cheap to keep bounded.
//!
//! - Two generations. A name that is used moves to the young one; when that is full, it becomes the old one, and the old
//!   one is forgotten.
//! - At most `2 * half` names, `half` being half of what was asked for.

use std::collections::HashMap;

use plimsoll_protocol::PoolId;

#[derive(Debug)]
pub(crate) struct Names {
    half: usize,
    young: HashMap<Box<str>, PoolId>,
    old: HashMap<Box<str>, PoolId>,
}

impl Names {
    pub(crate) fn new(names_max: usize) -> Self {
        Self {
            half: names_max / 2,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(crate) fn get(&mut self, name: &str) -> Option<PoolId> {
        if let Some(&id) = self.young.get(name) {
            return Some(id);
        }
        let (name, id) = self.old.remove_entry(name)?;
        self.put(name, id);
        Some(id)
    }

    pub(crate) fn insert(&mut self, name: &str, id: PoolId) {
        self.old.remove(name);
        self.put(name.into(), id);
    }

    pub(crate) fn remove(&mut self, name: &str, id: PoolId) {
        for names in [&mut self.young, &mut self.old] {
            if names.get(name) == Some(&id) {
                names.remove(name);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn put(&mut self, name: Box<str>, id: PoolId) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_stay_and_others_go() {
        let mut names = Names::new(8);
        for number in 0..1000_u64 {
            names.insert(&format!("pool-{number}"), PoolId(number + 1));
            assert_eq!(names.get("pool-0"), Some(PoolId(1)), "after {number}");
            assert!(names.young.len() + names.old.len() <= 8);
        }
        assert_eq!(names.get("pool-500"), None);
        names.remove("pool-0", PoolId(99));
        assert_eq!(names.get("pool-0"), Some(PoolId(1)), "another id is not meant");
        names.remove("pool-0", PoolId(1));
        assert_eq!(names.get("pool-0"), None);
    }

    #[test]
    fn a_cache_of_nothing_remembers_nothing() {
        let mut names = Names::new(0);
        names.insert("pool", PoolId(1));
        assert_eq!(names.get("pool"), None);
    }
}
