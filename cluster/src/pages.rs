//! A map of copy-on-write pages: cloning it, for a snapshot, clones pointers only.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, Range};
use std::ops::Bound;
use std::sync::Arc;

/// Enough that the first write to a page after a snapshot copies few records, even at millions of keys.
pub const PAGES: usize = 32_768;

type Page<V> = BTreeMap<Arc<str>, Arc<V>>;

/// Keys are spread over pages by a fixed hash, so that its order is the same on every node and in every run.
#[derive(Debug, Clone)]
pub struct PageMap<V> {
    pages: Vec<Arc<Page<V>>>,
    len: usize,
}

impl<V> Default for PageMap<V> {
    fn default() -> Self {
        // All of them share one empty page until they are written to.
        let empty = Arc::new(Page::new());
        PageMap { pages: std::iter::repeat_n(empty, PAGES).collect(), len: 0 }
    }
}

impl<V: Clone> PageMap<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key as it is kept here, for who wants to share it.
    pub fn entry(&self, key: &str) -> Option<(&Arc<str>, &V)> {
        self.pages[page_of(key)].get_key_value(key).map(|(key, value)| (key, &**value))
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        self.pages[page_of(key)].get(key).map(|value| &**value)
    }

    /// Copies the page if a snapshot still shares it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let page = &mut self.pages[page_of(key)];
        // Asked first where the answer may cost a copy.
        if Arc::strong_count(page) > 1 && !page.contains_key(key) {
            return None;
        }
        Arc::make_mut(page).get_mut(key).map(Arc::make_mut)
    }

    pub fn insert(&mut self, key: &str, value: V) {
        match Arc::make_mut(&mut self.pages[page_of(key)]).entry(key.into()) {
            Entry::Vacant(place) => {
                place.insert(Arc::new(value));
                self.len += 1;
            }
            Entry::Occupied(mut place) => {
                place.insert(Arc::new(value));
            }
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Arc<V>> {
        let page = &mut self.pages[page_of(key)];
        if !page.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(page).remove(key)
    }

    /// One page, in key order; empty beyond the last.
    pub fn page(&self, number: usize) -> impl Iterator<Item = (&str, &V)> {
        self.pages.get(number).into_iter().flat_map(|page| page.iter().map(|(key, value)| (&**key, &**value)))
    }

    /// Everything, in the map's own order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        (0..PAGES).flat_map(|number| self.page(number))
    }

    /// Everything behind `key` in the map's own order, whether or not `key` is still there.
    pub fn after(&self, key: &str) -> impl Iterator<Item = (&str, &V)> {
        let number = page_of(key);
        let rest: Range<'_, Arc<str>, Arc<V>> =
            self.pages[number].range::<str, _>((Bound::Excluded(key), Bound::Unbounded));
        rest.map(|(key, value)| (&**key, &**value)).chain((number + 1..PAGES).flat_map(|next| self.page(next)))
    }
}

/// Any fixed hash does: this one needs no table and no seed.
pub(crate) fn fnv1a(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Folded, so that all of the hash counts.
fn page_of(key: &str) -> usize {
    let hash = fnv1a(key);
    ((hash ^ (hash >> 32) ^ (hash >> 17)) % PAGES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_the_original_changes() {
        let mut map = PageMap::default();
        map.insert("a", 1);
        map.insert("b", 2);
        let snapshot = map.clone();
        *map.get_mut("a").unwrap() = 10;
        map.remove("b");
        map.insert("c", 3);
        assert_eq!((snapshot.get("a"), snapshot.get("b"), snapshot.get("c")), (Some(&1), Some(&2), None));
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some(&10), None, Some(&3)));
        assert_eq!((snapshot.len(), map.len()), (2, 2));
    }

    #[test]
    fn going_on_after_a_key_meets_every_other_key_once() {
        let mut map = PageMap::default();
        for number in 0..1000 {
            map.insert(&format!("client-{number}"), number);
        }
        let mut seen = Vec::new();
        let mut position: Option<String> = None;
        loop {
            let next: Vec<_> = match &position {
                None => map.iter().take(7).map(|(key, _)| key.to_owned()).collect(),
                Some(key) => map.after(key).take(7).map(|(key, _)| key.to_owned()).collect(),
            };
            let Some(last) = next.last() else { break };
            position = Some(last.clone());
            seen.extend(next);
        }
        let whole: Vec<_> = map.iter().map(|(key, _)| key.to_owned()).collect();
        assert_eq!(seen, whole);
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn keys_spread_over_the_pages() {
        let mut map = PageMap::default();
        for number in 0..100_000 {
            map.insert(&format!("device/{number:08}"), ());
        }
        let fullest = (0..PAGES).map(|number| map.page(number).count()).max().unwrap();
        assert!(fullest < 20, "3 on average, but one page holds {fullest}");
    }
}
