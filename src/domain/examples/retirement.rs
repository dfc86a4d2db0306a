//! Ten million pools come and go: does the memory stay that of those that live?
//!
//! Prints a line for each million pools. The first argument is how many pools there are to be, in millions.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "../tests/retirement/churn.rs"]
mod churn;

use std::time::Instant;

use crate::churn::Churn;

const POOLS_PER_ROUND: u64 = 50_000;

/// What the process has in memory, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn main() {
    let millions: u64 = std::env::args()
        .nth(1)
        .map_or(10, |text| text.parse().expect("a number of millions"));
    let mut churn = Churn::new(POOLS_PER_ROUND);
    let start = Instant::now();
    println!("pools_created,pools_alive,pool_slots,reservation_slots,resident_kib,seconds");
    for million in 1..=millions {
        while churn.pool_count < million * 1_000_000 {
            churn.round();
        }
        println!(
            "{},{},{},{},{},{:.1}",
            churn.pool_count,
            churn.alive_count(),
            churn.pool_slot_count(),
            churn.reservation_slot_count(),
            resident_kib(),
            start.elapsed().as_secs_f64(),
        );
    }
    churn.assert_counters();
    assert!(
        churn.pool_slot_count() < 2 * churn.alive_max as u64,
        "slots for pools are used again"
    );
}
