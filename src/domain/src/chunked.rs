//! A vector in chunks of at most 64 KiB, so that growing never copies more than one chunk.

use alloc::vec::Vec;

/// A value of the size of a cache line, in one: an allocator would put nearly all of them across two. Only the tables align
/// their values. The copies of pages, which come and go, would leave gaps all over the memory.
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

pub(crate) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    count: usize,
    /// A chunk that begins below this gets room for all up to here at once.
    expected_count: usize,
}

impl<T> Chunked<T> {
    /// A power of two, so that an index is split by shifting.
    const CHUNK_COUNT: usize = 1 << (65_536 / size_of::<T>()).ilog2();

    pub(crate) fn new() -> Chunked<T> {
        Chunked {
            chunks: Vec::new(),
            count: 0,
            expected_count: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.chunks
            .get(index / Self::CHUNK_COUNT)?
            .get(index % Self::CHUNK_COUNT)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks
            .get_mut(index / Self::CHUNK_COUNT)?
            .get_mut(index % Self::CHUNK_COUNT)
    }

    /// Neighbours that lie in one chunk.
    pub(crate) fn slice(&self, first: usize, last: usize) -> &[T] {
        let start = first % Self::CHUNK_COUNT;
        &self.chunks[first / Self::CHUNK_COUNT][start..start + (last - first)]
    }

    /// There will be so many in all, soon.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.expected_count = count;
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.count.is_multiple_of(Self::CHUNK_COUNT) {
            let expected = self.expected_count.saturating_sub(self.count);
            self.chunks.push(Vec::with_capacity(expected.min(Self::CHUNK_COUNT)));
        }
        let chunk = self
            .chunks
            .last_mut()
            .expect("a chunk was pushed when the last one was full");
        chunk.push(value);
        self.count += 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}
