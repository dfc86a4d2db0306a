//! How many bytes does a live reservation take, with its place in the key table and what both leave unused?
//!
//! 500 pools in two dimensions, 1 million live reservations without reference, from the fixed seed. Bytes asked of the
//! allocator are counted, so the figure is the same on every machine; the process's resident set shows what the allocator
//! adds to it.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;

use plimsoll_benches::{Inventory, InventorySize, is_test_run, sized};

/// Counts the bytes that are in use.
#[allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands everything on to the system's"
)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;
    static IN_USE: AtomicUsize = AtomicUsize::new(0);

    struct Counting;

    // SAFETY: every call goes to the system's allocator as it came, which keeps the promises of the trait.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller keeps the promises of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller keeps the promises of `dealloc`, and the pointer came from the system's allocator.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    pub(crate) fn in_use() -> usize {
        IN_USE.load(Ordering::Relaxed)
    }
}

/// The target of the design; only the full size is held to it.
const BYTES_PER_RESERVATION_MAX: f64 = 128.0;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc/self/statm");
    let pages = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number counts resident pages") * 4_096
}

fn main() {
    let pool_count = sized(500, 5);
    let count = sized(1_000_000, 1_000);
    let pools = Inventory::new(InventorySize {
        pool_count,
        live_count: 0,
    });
    black_box(pools.digest());
    drop(pools);
    let (used, resident) = (counting::in_use(), resident_bytes());
    let inventory = Inventory::new(InventorySize {
        pool_count,
        live_count: count,
    });
    let pools_bytes = {
        let before = counting::in_use();
        let pools = Inventory::new(InventorySize {
            pool_count,
            live_count: 0,
        });
        black_box(&pools);
        counting::in_use() - before
    };
    let by_reservation = |bytes: usize| bytes as f64 / count as f64;
    let asked = by_reservation(counting::in_use() - used - pools_bytes);
    let resident = by_reservation(resident_bytes() - resident);
    println!(
        "memory: {count} live reservations in {pool_count} pools: {asked:.1} bytes each asked of the allocator, {resident:.1} \
         resident with the pools; digest {:#018x}",
        inventory.digest()
    );
    if !is_test_run() {
        assert!(
            asked <= BYTES_PER_RESERVATION_MAX,
            "{asked:.1} bytes for each live reservation"
        );
    }
}
