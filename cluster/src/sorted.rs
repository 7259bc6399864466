//! A sorted map of copy-on-write chunks: cloning it clones one pointer per chunk, and a write copies one chunk.
//!
//! Chunks are cut by how many keys they hold, so that keys may be as dense or as sparse as they like.

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// Most keys of a chunk: what the first write after a clone copies.
const CHUNK: usize = 64;

#[derive(Debug, Clone)]
pub struct SortedMap<K, V> {
    chunks: VecDeque<Chunk<K, V>>,
    len: usize,
}

/// Never empty.
#[derive(Debug, Clone)]
struct Chunk<K, V> {
    /// Not above any key of this chunk, above every key of the one before.
    from: K,
    items: Arc<Vec<(K, V)>>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap { chunks: VecDeque::new(), len: 0 }
    }
}

impl<K: Clone + Ord, V: Clone> SortedMap<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key)?;
        Some(&self.chunks[chunk].items[at].1)
    }

    /// Copies the chunk if a clone still shares it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key)?;
        Some(&mut Arc::make_mut(&mut self.chunks[chunk].items)[at].1)
    }

    /// What was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(number) = self.chunk_of(&key) else {
            self.put_first(key, value);
            return None;
        };
        let last = number + 1 == self.chunks.len();
        let chunk = &mut self.chunks[number];
        let at = match chunk.items.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(at) => return Some(std::mem::replace(&mut Arc::make_mut(&mut chunk.items)[at].1, value)),
            Err(at) => at,
        };
        self.len += 1;
        if chunk.items.len() < CHUNK {
            let items = Arc::make_mut(&mut chunk.items);
            grow(items);
            items.insert(at, (key, value));
        } else if last && at == CHUNK {
            // Keys that only rise fill chunk after chunk.
            self.chunks.push_back(Chunk::of(vec![(key, value)]));
        } else {
            self.split(number, at, key, value);
        }
        None
    }

    /// The very first key, or one below all others.
    fn put_first(&mut self, key: K, value: V) {
        self.len += 1;
        match self.chunks.front_mut() {
            Some(first) if first.items.len() < CHUNK => {
                first.from = key.clone();
                let items = Arc::make_mut(&mut first.items);
                grow(items);
                items.insert(0, (key, value));
            }
            Some(_) => self.chunks.push_front(Chunk::of(vec![(key, value)])),
            None => {
                // Most maps of many small ones stay this small.
                self.chunks.reserve_exact(1);
                self.chunks.push_front(Chunk::of(vec![(key, value)]));
            }
        }
    }

    fn split(&mut self, number: usize, at: usize, key: K, value: V) {
        let items = Arc::make_mut(&mut self.chunks[number].items);
        let mut upper = items.split_off(CHUNK / 2);
        if at <= CHUNK / 2 {
            items.insert(at, (key, value));
        } else {
            upper.insert(at - CHUNK / 2, (key, value));
        }
        self.chunks.insert(number + 1, Chunk::of(upper));
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (number, at) = self.find(key)?;
        self.len -= 1;
        let items = Arc::make_mut(&mut self.chunks[number].items);
        let (_, value) = items.remove(at);
        let left = items.len();
        if left == 0 {
            self.chunks.remove(number);
            shrink_deque(&mut self.chunks);
        } else if left < CHUNK / 4 {
            shrink(items);
            self.merge(number);
        }
        Some(value)
    }

    /// Puts a small chunk together with a neighbour, if that leaves room in it: sparse keys stay in few chunks.
    fn merge(&mut self, number: usize) {
        let together = |a: usize| {
            let both = self.chunks.get(a)?.items.len() + self.chunks.get(a + 1)?.items.len();
            (both <= CHUNK * 3 / 4).then_some(a)
        };
        let Some(lower) = number.checked_sub(1).and_then(together).or_else(|| together(number)) else { return };
        let Some(upper) = self.chunks.remove(lower + 1) else { return };
        Arc::make_mut(&mut self.chunks[lower].items).extend(Arc::unwrap_or_clone(upper.items));
        shrink_deque(&mut self.chunks);
    }

    pub fn clear(&mut self) {
        *self = SortedMap::default();
    }

    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Everything, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.items.iter()).map(|(key, value)| (key, value))
    }

    /// From `start` on, in key order.
    pub fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        start: Bound<&Q>,
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, Q, K, V>
    where
        K: Borrow<Q>,
    {
        let is_before = |key: &K| match start {
            Bound::Included(start) => key.borrow() < start,
            Bound::Excluded(start) => key.borrow() <= start,
            Bound::Unbounded => false,
        };
        let number = self.chunks.partition_point(|chunk| is_before(&chunk.from)).saturating_sub(1);
        let at = self.chunks.get(number).map_or(0, |chunk| chunk.items.partition_point(|(key, _)| is_before(key)));
        let rest = self.chunks.range(number.min(self.chunks.len())..).flat_map(|chunk| chunk.items.iter());
        rest.skip(at).map(|(key, value)| (key, value))
    }

    /// The chunk that has the key if any has; `None` if the key is below all.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        // New keys are often the highest.
        if self.chunks.back().is_some_and(|last| last.from.borrow() <= key) {
            return Some(self.chunks.len() - 1);
        }
        self.chunks.partition_point(|chunk| chunk.from.borrow() <= key).checked_sub(1)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(usize, usize)>
    where
        K: Borrow<Q>,
    {
        let number = self.chunk_of(key)?;
        let at = self.chunks[number].items.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
        Some((number, at))
    }
}

impl<K: Clone, V> Chunk<K, V> {
    /// `items` has at least one.
    fn of(items: Vec<(K, V)>) -> Self {
        Chunk { from: items[0].0.clone(), items: Arc::new(items) }
    }
}

/// Room for one more: doubled from 1 on, where a `Vec` would begin with 4.
fn grow<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(items.len());
    }
}

/// Gives back what a chunk had room for when it was fuller.
fn shrink<T>(items: &mut Vec<T>) {
    if items.capacity() > 4 * items.len() {
        items.shrink_to(2 * items.len());
    }
}

fn shrink_deque<T>(chunks: &mut VecDeque<T>) {
    if chunks.capacity() > 4 * chunks.len() {
        chunks.shrink_to(2 * chunks.len());
    }
}
