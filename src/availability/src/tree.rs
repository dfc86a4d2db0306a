//! A persistent ordered tree: a copy costs one reference, and a change of a copy copies only the way to what it changes.
//!
//! - Items stand in ascending order, no two equal; leaves all lie equally deep.
//! - A node holds 1 to [`FANOUT`] items or children.
//! - A child's head is the head of its first item, and its summary joins those of all its items.
//! - A node that another tree shares is never changed: it is copied first.

use std::cmp::Ordering;
use std::slice;
use std::sync::Arc;

/// The most items of a leaf and the most children of an inner node. Small, since a change copies one node of each level,
/// and a copied item may touch a reference count that lies in no cache.
pub(crate) const FANOUT: usize = 32;
/// The most inner nodes on a way from the root. Nodes with few children are joined, so this is far from reached.
const DEPTH_MAX: usize = 12;
/// A node that has fewer than this after a removal is joined with a neighbour when both fit into [`JOINED_MAX`].
const SPARSE: usize = FANOUT / 4;
const JOINED_MAX: usize = FANOUT - SPARSE;

/// What a tree holds.
pub(crate) trait Item: Clone {
    /// The first part of the order, which inner nodes hold as well, so that a search follows no reference.
    type Head: Copy + Ord;
    /// What is known of all items below a child, so that a scan can step over it.
    type Summary: Copy;

    fn head(&self) -> Self::Head;
    /// The whole order: by head first.
    fn order(&self, other: &Self) -> Ordering;
    fn summary(&self) -> Self::Summary;
    fn join(left: Self::Summary, right: Self::Summary) -> Self::Summary;
}

/// An ordered set of items.
pub(crate) struct Tree<T: Item> {
    root: Option<Arc<Node<T>>>,
}

enum Node<T: Item> {
    Leaf(Vec<T>),
    Inner(Vec<Child<T>>),
}

struct Child<T: Item> {
    head: T::Head,
    summary: T::Summary,
    node: Arc<Node<T>>,
}

impl<T: Item> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Tree {
            root: self.root.clone(),
        }
    }
}

impl<T: Item> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Node::Leaf(items) => Node::Leaf(items.clone()),
            Node::Inner(children) => Node::Inner(children.clone()),
        }
    }
}

impl<T: Item> Clone for Child<T> {
    fn clone(&self) -> Self {
        Child {
            head: self.head,
            summary: self.summary,
            node: Arc::clone(&self.node),
        }
    }
}

/// What is sought: a head, and how an item stands to it.
pub(crate) struct Sought<T: Item, F: Fn(&T) -> Ordering> {
    pub(crate) head: T::Head,
    /// `Less` when the item stands before what is sought.
    pub(crate) order: F,
}

impl<T: Item, F: Fn(&T) -> Ordering> Sought<T, F> {
    /// The child in which what is sought is, or would be.
    fn child(&self, children: &[Child<T>]) -> usize {
        let not_after = |child: &Child<T>| match child.head.cmp(&self.head) {
            Ordering::Less => true,
            Ordering::Equal => (self.order)(child.node.first()) != Ordering::Greater,
            Ordering::Greater => false,
        };
        children.partition_point(not_after).saturating_sub(1)
    }
}

impl<T: Item> Node<T> {
    fn first(&self) -> &T {
        match self {
            Node::Leaf(items) => &items[0],
            Node::Inner(children) => children[0].node.first(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn head(&self) -> T::Head {
        match self {
            Node::Leaf(items) => items[0].head(),
            Node::Inner(children) => children[0].head,
        }
    }

    fn summary(&self) -> T::Summary {
        match self {
            Node::Leaf(items) => joined(items.iter().map(Item::summary), T::join),
            Node::Inner(children) => joined(children.iter().map(|child| child.summary), T::join),
        }
    }

    /// Appends what stands in the node to the right.
    fn append(&mut self, right: Arc<Node<T>>) {
        match (self, Arc::unwrap_or_clone(right)) {
            (Node::Leaf(items), Node::Leaf(more)) => items.extend(more),
            (Node::Inner(children), Node::Inner(more)) => children.extend(more),
            _ => unreachable!("neighbours lie equally deep"),
        }
    }
}

fn joined<S>(mut summaries: impl Iterator<Item = S>, join: impl Fn(S, S) -> S) -> S {
    let first = summaries.next().expect("a node is never empty");
    summaries.fold(first, join)
}

impl<T: Item> Child<T> {
    fn new(node: Arc<Node<T>>) -> Child<T> {
        Child {
            head: node.head(),
            summary: node.summary(),
            node,
        }
    }

    fn refresh(&mut self) {
        self.head = self.node.head();
        self.summary = self.node.summary();
    }
}

impl<T: Item> Tree<T> {
    pub(crate) const fn new() -> Tree<T> {
        Tree { root: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Puts an item in its place; one that stands equal is replaced.
    pub(crate) fn insert(&mut self, item: T) {
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(vec![item])));
            return;
        };
        if let Some(right) = insert(root, item) {
            let left = Arc::clone(root);
            *root = Arc::new(Node::Inner(vec![Child::new(left), Child::new(right)]));
        }
    }

    /// Takes an item out, if it is there.
    pub(crate) fn remove<F: Fn(&T) -> Ordering>(&mut self, sought: &Sought<T, F>) -> Option<T> {
        // Looked for first, so that nothing is copied in vain.
        self.get(sought)?;
        let root = self.root.as_mut()?;
        let removed = remove(root, sought);
        while let Node::Inner(children) = &**root
            && let [only] = &children[..]
        {
            *root = Arc::clone(&only.node);
        }
        if root.len() == 0 {
            self.root = None;
        }
        removed
    }

    /// The item that stands equal to what is sought.
    pub(crate) fn get<F: Fn(&T) -> Ordering>(&self, sought: &Sought<T, F>) -> Option<&T> {
        let mut node = self.root.as_ref()?;
        loop {
            match &**node {
                Node::Leaf(items) => return items.binary_search_by(&sought.order).ok().map(|index| &items[index]),
                Node::Inner(children) => node = &children[sought.child(children)].node,
            }
        }
    }

    /// Changes an item where it stands, if it is there. The change must leave its order as it is.
    pub(crate) fn change<F: Fn(&T) -> Ordering, R>(
        &mut self,
        sought: &Sought<T, F>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.get(sought)?;
        let root = self.root.as_mut()?;
        Some(change_in(root, sought, change))
    }

    /// From the first item whose head is not below `head`.
    #[inline]
    pub(crate) fn from(&self, head: T::Head) -> Cursor<'_, T> {
        let mut cursor = Cursor {
            leaf: [].iter(),
            path: [const { [].as_slice() }; DEPTH_MAX].map(<[Child<T>]>::iter),
            depth: 0,
        };
        let Some(mut node) = self.root.as_ref() else {
            return cursor;
        };
        loop {
            match &**node {
                Node::Leaf(items) => {
                    cursor.leaf = items[items.partition_point(|item| item.head() < head)..].iter();
                    return cursor;
                }
                Node::Inner(children) => {
                    // The last child that begins below `head` may hold what is not.
                    let index = children.partition_point(|child| child.head < head).saturating_sub(1);
                    node = &children[index].node;
                    cursor.path[cursor.depth] = children[index + 1..].iter();
                    cursor.depth += 1;
                }
            }
        }
    }
}

/// Returns the right half of a node that became too large.
fn insert<T: Item>(node: &mut Arc<Node<T>>, item: T) -> Option<Arc<Node<T>>> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match items.binary_search_by(|other| other.order(&item)) {
            Ok(index) => {
                items[index] = item;
                None
            }
            Err(index) => {
                items.insert(index, item);
                split(items, index).map(|right| Arc::new(Node::Leaf(right)))
            }
        },
        Node::Inner(children) => {
            let sought = Sought {
                head: item.head(),
                order: |other: &T| other.order(&item),
            };
            let index = sought.child(children);
            let right = insert(&mut children[index].node, item);
            children[index].refresh();
            children.insert(index + 1, Child::new(right?));
            split(children, index + 1).map(|right| Arc::new(Node::Inner(right)))
        }
    }
}

/// Splits off the right half of a list that became too large by what was put at `index`. What is put behind all others
/// goes alone, so that a rising sequence leaves full nodes.
fn split<E>(list: &mut Vec<E>, index: usize) -> Option<Vec<E>> {
    if list.len() <= FANOUT {
        return None;
    }
    let at = if index + 1 == list.len() { index } else { list.len() / 2 };
    Some(list.split_off(at))
}

fn remove<T: Item, F: Fn(&T) -> Ordering>(node: &mut Arc<Node<T>>, sought: &Sought<T, F>) -> Option<T> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => items
            .binary_search_by(&sought.order)
            .ok()
            .map(|index| items.remove(index)),
        Node::Inner(children) => {
            let index = sought.child(children);
            let removed = remove(&mut children[index].node, sought);
            mend(children, index);
            removed
        }
    }
}

/// Restores what holds of a child from which something was taken.
fn mend<T: Item>(children: &mut Vec<Child<T>>, index: usize) {
    let count = children[index].node.len();
    if count == 0 {
        children.remove(index);
        return;
    }
    children[index].refresh();
    if count >= SPARSE {
        return;
    }
    // With the neighbour to the left, or with the one to the right when there is none.
    let left = index.saturating_sub(1);
    let fits = |right: &Child<T>| children[left].node.len() + right.node.len() <= JOINED_MAX;
    if children.get(left + 1).is_some_and(fits) {
        let right = children.remove(left + 1).node;
        Arc::make_mut(&mut children[left].node).append(right);
        children[left].refresh();
    }
}

fn change_in<T: Item, F: Fn(&T) -> Ordering, R>(
    node: &mut Arc<Node<T>>,
    sought: &Sought<T, F>,
    change: impl FnOnce(&mut T) -> R,
) -> R {
    match Arc::make_mut(node) {
        Node::Leaf(items) => {
            let index = items
                .binary_search_by(&sought.order)
                .expect("only an item that is there is changed");
            change(&mut items[index])
        }
        Node::Inner(children) => {
            let index = sought.child(children);
            let result = change_in(&mut children[index].node, sought, change);
            children[index].refresh();
            result
        }
    }
}

/// Walks over the items in order.
pub(crate) struct Cursor<'a, T: Item> {
    /// What is left of the leaf.
    leaf: slice::Iter<'a, T>,
    /// What is left of the inner nodes above it, the root first.
    path: [slice::Iter<'a, Child<T>>; DEPTH_MAX],
    depth: usize,
}

impl<'a, T: Item> Cursor<'a, T> {
    /// The next item. Children whose summary `keep` refuses are stepped over; it is asked for each child once.
    #[inline]
    pub(crate) fn next(&mut self, keep: impl FnMut(T::Summary) -> bool) -> Option<&'a T> {
        match self.leaf.next() {
            Some(item) => Some(item),
            None => self.next_leaf(keep),
        }
    }

    fn next_leaf(&mut self, mut keep: impl FnMut(T::Summary) -> bool) -> Option<&'a T> {
        while self.depth > 0 {
            let Some(child) = self.path[self.depth - 1].next() else {
                self.depth -= 1;
                continue;
            };
            if !keep(child.summary) {
                continue;
            }
            match &*child.node {
                Node::Leaf(items) => {
                    self.leaf = items.iter();
                    return self.leaf.next();
                }
                Node::Inner(children) => {
                    self.path[self.depth] = children.iter();
                    self.depth += 1;
                }
            }
        }
        None
    }
}
