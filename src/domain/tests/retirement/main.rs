//! Pools that come and go leave nothing behind.

mod churn;

use plimsoll_domain::{
    Command, Decision, Event, Key, PoolDefined, PutOutcome, PutPool, Refusal, Release, Reserve, State, StateOptions,
    Timestamp, Units,
};

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

/// The retention was lengthened between a pool's retirement and the sweep: what ended in it is within the retention
/// then, and must not pass to the next pool in the slot.
#[test]
fn ended_reservations_do_not_pass_to_the_next_pool_in_the_slot() {
    let options = |key_retention_micros| StateOptions {
        key_retention_micros,
        retire_after_micros: 1_000,
        ..StateOptions::new(2)
    };
    let mut state = State::new(options(1_000));
    let mut events = Vec::new();
    let mut apply = |state: &mut State, event: Event| {
        state.apply(&event);
        events.push(event);
    };
    let at = Timestamp(1_000_000);
    let event = created(&state, at);
    let first = event.pool;
    apply(&mut state, Event::PoolCreated(event));
    let reserve = Reserve {
        pool: first,
        key: Key(1),
        units: Units::from_slice(&[1, 1]),
        hold_seconds: 0,
        occurred_at: Timestamp::ABSENT,
        random: 7,
        reference: None,
    };
    let Ok(Decision::Change(Event::Reserved(event))) = state.decide(&Command::Reserve(reserve.clone()), at) else {
        panic!("the pool is empty")
    };
    let reservation = event.reservation;
    apply(&mut state, Event::Reserved(event));
    let release = Command::Release(Release {
        reservation,
        occurred_at: Timestamp::ABSENT,
    });
    let Ok(Decision::Change(event)) = state.decide(&release, at) else {
        panic!("it lives")
    };
    apply(&mut state, event);
    let late = at.plus_micros(10_000);
    let event = state.next_retirement(late).expect("its life is over");
    apply(&mut state, event);
    // The same events, remembered for longer.
    let mut state = State::new(options(1_000_000_000));
    events.iter().for_each(|event| state.apply(event));
    while let Some(event) = state.next_sweep(late) {
        state.apply(&event);
    }
    let event = created(&state, late);
    let second = event.pool;
    assert_eq!((first.slot(), second.slot()), (0, 0), "the slot is used again");
    state.apply(&Event::PoolCreated(event));
    assert_eq!(state.reservation(reservation, late), None);
    assert_eq!(state.reservations(late).count(), 0);
    assert_eq!(state.decide(&release, late), Err(Refusal::ReservationNotFound));
    // Its key is gone with its pool.
    let again = Reserve {
        pool: second,
        ..reserve
    };
    let decision = state.decide(&Command::Reserve(again), late);
    assert!(matches!(decision, Ok(Decision::Change(_))), "{decision:?}");
    state.assert_counters();
}

fn created(state: &State, now: Timestamp) -> PoolDefined {
    let put = PutPool {
        definition: churn::definition("slot-1", Timestamp(0)),
        expected_version: None,
    };
    match state.decide_put(&put, now) {
        Ok(PutOutcome::Created(event)) => event,
        other => panic!("{other:?}"),
    }
}
