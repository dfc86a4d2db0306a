//! An allocator that counts. A bench that wants it makes it the global one.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with the bytes that were asked of it counted.
pub struct Counting;

// SAFETY: every call goes to the system's allocator as it came, which keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

impl Counting {
    /// Bytes that are in use.
    pub fn in_use() -> usize {
        IN_USE.load(Ordering::Relaxed)
    }

    /// Runs `work` and returns with its result how many bytes more than before were in use at most, and are now.
    pub fn around<T>(work: impl FnOnce() -> T) -> (T, Bytes) {
        let before = Counting::in_use();
        PEAK.store(before, Ordering::Relaxed);
        let result = work();
        let bytes = Bytes {
            peak: PEAK.load(Ordering::Relaxed) - before,
            kept: Counting::in_use().saturating_sub(before),
        };
        (result, bytes)
    }
}

/// What some work asked of the allocator.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The most that was in use meanwhile.
    pub peak: usize,
    /// What is still in use.
    pub kept: usize,
}
