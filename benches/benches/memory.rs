//! How many bytes does what is kept take, with what its tables leave unused?
//!
//! A live reservation, held or confirmed, with its place in the key table and, if held, among the deadlines: 1 million
//! without reference in 500 pools, in two dimensions. A pool, in the domain and in the table of availability: 100,000 with
//! names of 20 bytes and two coverage prefixes. Making a state of a snapshot of the held reservations: the most that is in
//! use meanwhile, beside the snapshot. All from the fixed seed.
//!
//! Bytes asked of the allocator are counted, so the figures are the same on every machine; the resident set shows what the
//! allocator adds to them.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;

use plimsoll_availability::Table;
use plimsoll_benches::{Bytes, Counting, HOLD_SECONDS, Inventory, InventorySize, definition, is_test_run, sized};
use plimsoll_domain::{PoolId, Timestamp};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The target of the design; only the full size is held to it.
const BYTES_PER_RESERVATION_MAX: f64 = 128.0;

const DIMENSION_COUNT: usize = 2;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc/self/statm");
    let pages = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number counts resident pages") * 4_096
}

/// An inventory and what it keeps, in bytes asked of the allocator.
fn inventory(size: InventorySize, hold_seconds: u32) -> (Inventory, usize) {
    let (inventory, Bytes { kept, .. }) = Counting::around(|| Inventory::with_hold(size, hold_seconds));
    (inventory, kept)
}

/// Live reservations, beyond what their pools take.
fn reservations(name: &str, hold_seconds: u32) -> Inventory {
    let pool_count = sized(500, 5);
    let count = sized(1_000_000, 1_000);
    let empty = InventorySize {
        pool_count,
        live_count: 0,
    };
    let pools_bytes = inventory(empty, hold_seconds).1;
    let full = InventorySize {
        live_count: count,
        ..empty
    };
    let (inventory, bytes) = inventory(full, hold_seconds);
    let asked = (bytes - pools_bytes) as f64 / count as f64;
    println!(
        "memory: {count} {name} reservations in {pool_count} pools: {asked:.1} bytes each asked of the allocator; digest \
         {:#018x}",
        inventory.digest()
    );
    if !is_test_run() {
        assert!(
            asked <= BYTES_PER_RESERVATION_MAX,
            "{asked:.1} bytes for each {name} reservation"
        );
    }
    inventory
}

/// Making a state of a snapshot.
fn restoring(mut inventory: Inventory) {
    let (snapshot, digest) = (inventory.snapshot(), inventory.digest());
    drop(inventory);
    let (restored, bytes) = Counting::around(|| snapshot.restore());
    assert_eq!(restored.digest(), digest, "the state is what it was");
    println!(
        "memory: a state from {} bytes of snapshot: {} bytes, {} at most while it is made ({:.2} times); digest {digest:#018x}",
        snapshot.size_bytes(),
        bytes.kept,
        bytes.peak,
        bytes.peak as f64 / bytes.kept as f64,
    );
}

/// Pools, in the domain and as readers of availability see them.
fn pools(count: usize) {
    let size = InventorySize {
        pool_count: count,
        live_count: 0,
    };
    let none = InventorySize { pool_count: 0, ..size };
    let nothing = inventory(none, HOLD_SECONDS).1;
    let (inventory, domain) = inventory(size, HOLD_SECONDS);
    let definitions: Vec<_> = (0..count).map(definition).collect();
    let (table, availability) = Counting::around(|| {
        let (table, mut writers) = Table::new(1, DIMENSION_COUNT);
        for (number, definition) in definitions.iter().enumerate() {
            let id = PoolId((number as u64 % 1_024) << 48 | (number as u64 / 1_024) << 24 | 1);
            writers[0].put(id, 1, definition);
        }
        writers[0].publish(Timestamp(0));
        (table, writers)
    });
    let by_pool = |bytes: usize| bytes as f64 / count as f64;
    let (domain, availability) = (by_pool(domain - nothing), by_pool(availability.kept));
    println!(
        "memory: {count} pools: {domain:.0} bytes each in the domain, {availability:.0} in the table of availability, {:.0} \
         in all; digest {:#018x}",
        domain + availability,
        inventory.digest()
    );
    black_box(table);
}

fn main() {
    let resident = resident_bytes();
    let held = reservations("held", HOLD_SECONDS);
    // Only now: what follows uses the memory again that is given back.
    let resident = resident_bytes() - resident;
    println!("memory: {} KiB resident with them and their pools", resident >> 10);
    restoring(held);
    black_box(reservations("confirmed", 0));
    pools(sized(500, 5));
    pools(sized(100_000, 50));
}
