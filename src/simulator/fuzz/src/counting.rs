//! How much memory a call asks for.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes in use, and the most that ever were. A thread may free what another one allocated: hence signed.
    static IN_USE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(change: isize) {
    // Nothing is counted while a thread ends.
    let _ = IN_USE.try_with(|in_use| {
        let (now, peak) = in_use.get();
        let now = now + change;
        in_use.set((now, peak.max(now)));
    });
}

// SAFETY: every call goes to the system's allocator as it came, which keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the promises of `dealloc`, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Calls, and holds the most bytes that were in use at once during the call against a bound.
///
/// # Panics
/// When it is more than `most`.
pub(crate) fn within<T>(most: usize, call: impl FnOnce() -> T) -> T {
    let before = IN_USE.with(|in_use| {
        let (now, _) = in_use.get();
        in_use.set((now, now));
        now
    });
    let result = call();
    let (_, peak) = IN_USE.with(Cell::get);
    let used = (peak - before) as usize;
    assert!(
        used <= most,
        "{used} bytes were in use at once, where {most} are enough"
    );
    result
}
