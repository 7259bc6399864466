//! Topic filters and what is filed under them, found by topic.

use std::collections::HashMap;

/// A map from topic filters to values, which finds all filters that match a topic without looking at the others.
///
/// Filters must be valid, share groups taken off (see [`crate::topic::Filter`]). A filter may have tens of thousands of
/// levels: nodes lie in one vector and nothing here recurses, not even dropping it.
#[derive(Debug, Clone)]
pub struct Trie<T> {
    /// The root is [`ROOT`]; a removed node's place is used again.
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    len: usize,
}

const ROOT: usize = 0;

#[derive(Debug, Clone)]
struct Node<T> {
    /// The root's is itself.
    parent: usize,
    children: HashMap<Box<str>, usize>,
    /// The child for a `+` level.
    plus: Option<usize>,
    /// Of the filter that ends with this level.
    value: Option<T>,
    /// Of the filter that has one more level, `#`.
    hash_value: Option<T>,
}

impl<T> Node<T> {
    fn new(parent: usize) -> Self {
        Node { parent, children: HashMap::new(), plus: None, value: None, hash_value: None }
    }

    fn is_unused(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.value.is_none() && self.hash_value.is_none()
    }
}

/// A filter as the path to its node and which of the node's two values it means.
struct Path<'a> {
    /// `None` is the root itself, where only `#` is filed.
    levels: Option<&'a str>,
    hash: bool,
}

impl<'a> Path<'a> {
    fn new(filter: &'a str) -> Self {
        if filter == "#" {
            return Path { levels: None, hash: true };
        }
        match filter.strip_suffix("/#") {
            Some(levels) => Path { levels: Some(levels), hash: true },
            None => Path { levels: Some(filter), hash: false },
        }
    }

    fn levels(&self) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
        self.levels.into_iter().flat_map(|levels| levels.split('/'))
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Trie<T> {
    pub fn new() -> Self {
        Trie { nodes: vec![Node::new(ROOT)], free: Vec::new(), len: 0 }
    }

    /// Filters with a value.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, filter: &str) -> Option<&T> {
        let path = Path::new(filter);
        let node = &self.nodes[self.find(&path)?];
        if path.hash { node.hash_value.as_ref() } else { node.value.as_ref() }
    }

    pub fn get_mut(&mut self, filter: &str) -> Option<&mut T> {
        let path = Path::new(filter);
        let at = self.find(&path)?;
        self.slot(at, path.hash).as_mut()
    }

    /// The value of `filter`, made by `value` if there is none.
    pub fn get_or_insert_with(&mut self, filter: &str, value: impl FnOnce() -> T) -> &mut T {
        let path = Path::new(filter);
        let at = path.levels().fold(ROOT, |at, level| self.child_or_insert(at, level));
        if self.slot(at, path.hash).is_none() {
            self.len += 1;
        }
        self.slot(at, path.hash).get_or_insert_with(value)
    }

    pub fn remove(&mut self, filter: &str) -> Option<T> {
        let path = Path::new(filter);
        let mut at = self.find(&path)?;
        let value = self.slot(at, path.hash).take()?;
        self.len -= 1;
        for level in path.levels().rev() {
            if !self.nodes[at].is_unused() {
                break;
            }
            at = self.remove_child(at, level);
        }
        Some(value)
    }

    /// Calls `visit` with the value of each filter that matches `topic`, in no particular order. Allocates nothing.
    pub fn for_each_match(&self, topic: &str, mut visit: impl FnMut(&T)) {
        let mut walk = Walk { trie: self, topic, at: ROOT, next: 0 };
        loop {
            walk.visit_here(&mut visit);
            if !walk.descend() && !walk.turn_back() {
                return;
            }
        }
    }

    fn slot(&mut self, at: usize, hash: bool) -> &mut Option<T> {
        let node = &mut self.nodes[at];
        if hash { &mut node.hash_value } else { &mut node.value }
    }

    fn find(&self, path: &Path<'_>) -> Option<usize> {
        path.levels().try_fold(ROOT, |at, level| {
            let node = &self.nodes[at];
            if level == "+" { node.plus } else { node.children.get(level).copied() }
        })
    }

    fn child_or_insert(&mut self, at: usize, level: &str) -> usize {
        let node = &self.nodes[at];
        let known = if level == "+" { node.plus } else { node.children.get(level).copied() };
        if let Some(child) = known {
            return child;
        }
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = Node::new(at);
                free
            }
            None => {
                self.nodes.push(Node::new(at));
                self.nodes.len() - 1
            }
        };
        if level == "+" {
            self.nodes[at].plus = Some(child);
        } else {
            self.nodes[at].children.insert(level.into(), child);
        }
        child
    }

    /// Takes the unused node `at`, which its parent knows as `level`, out; returns the parent.
    fn remove_child(&mut self, at: usize, level: &str) -> usize {
        let parent = self.nodes[at].parent;
        let node = &mut self.nodes[parent];
        if level == "+" {
            node.plus = None;
        } else {
            node.children.remove(level);
            // A level that once had a million children must not keep room for them.
            if node.children.is_empty() {
                node.children = HashMap::new();
            }
        }
        self.free.push(at);
        parent
    }
}

/// A depth-first search that keeps no stack: each node knows its parent, and the topic is read backwards on the way
/// up. At each node the literal child is tried first, then `+`.
struct Walk<'a, T> {
    trie: &'a Trie<T>,
    topic: &'a str,
    at: usize,
    /// Where the level below `at` begins in `topic`; `topic.len() + 1` when there is none.
    next: usize,
}

impl<T> Walk<'_, T> {
    fn visit_here(&self, visit: &mut impl FnMut(&T)) {
        let node = &self.trie.nodes[self.at];
        if let Some(value) = node.hash_value.as_ref().filter(|_| self.wildcards_match()) {
            visit(value);
        }
        if let Some(value) = node.value.as_ref().filter(|_| self.next > self.topic.len()) {
            visit(value);
        }
    }

    /// [MQTT-4.7.2-1]
    fn wildcards_match(&self) -> bool {
        self.at != ROOT || !self.topic.starts_with('$')
    }

    /// Goes to the first child that matches the next level, if there is one.
    fn descend(&mut self) -> bool {
        let Some(rest) = self.topic.get(self.next..) else { return false };
        let level = rest.find('/').map_or(rest, |end| &rest[..end]);
        let node = &self.trie.nodes[self.at];
        let plus = node.plus.filter(|_| self.wildcards_match());
        match node.children.get(level).copied().or(plus) {
            Some(child) => {
                self.at = child;
                self.next += level.len() + 1;
                true
            }
            None => false,
        }
    }

    /// Goes up until a `+` beside the way is left, and into it.
    fn turn_back(&mut self) -> bool {
        while self.at != ROOT {
            let child = self.at;
            let behind_child = self.next;
            self.at = self.trie.nodes[child].parent;
            self.next = self.topic[..behind_child - 1].rfind('/').map_or(0, |slash| slash + 1);
            let plus = self.trie.nodes[self.at].plus.filter(|&plus| plus != child && self.wildcards_match());
            if let Some(plus) = plus {
                self.at = plus;
                self.next = behind_child;
                return true;
            }
        }
        false
    }
}
