//! Pools that come and go leave nothing behind.

mod churn;

use crate::churn::Churn;

#[test]
fn two_hundred_thousand_pools_take_the_room_of_those_that_live() {
    let mut churn = Churn::new(8_000);
    for _ in 0..25 {
        churn.round();
        churn.assert_counters();
        assert!(churn.alive_count() <= 3 * 8_000, "{} pools live", churn.alive_count());
    }
    assert_eq!(churn.pool_count, 200_000);
    assert_eq!(churn.alive_max, 3 * 8_000);
    // Names fall on partitions unevenly, and each partition keeps as many slots as it needed at most.
    let pools_max = 2 * churn.alive_max as u64;
    let reservations_max = 5 * 2 * churn.alive_max;
    assert!(
        churn.pool_slot_count() <= pools_max,
        "{} slots for pools",
        churn.pool_slot_count()
    );
    assert!(
        churn.reservation_slot_count() <= reservations_max,
        "{} slots for reservations",
        churn.reservation_slot_count()
    );
}
