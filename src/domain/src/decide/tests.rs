use alloc::vec::Vec;

use super::*;
use crate::{Counters, Key, PoolDefinition, StateOptions, Units};

const RETENTION_MICROS: i64 = 1_000;

fn empty() -> State {
    State::new(StateOptions {
        key_retention_micros: RETENTION_MICROS,
        hash_seed: 7,
        ..StateOptions::new(2)
    })
}

fn put(state: &mut State, definition: PoolDefinition) -> PoolId {
    let outcome = state.decide_put(
        &PutPool {
            definition,
            expected_version: None,
        },
        Timestamp(0),
    );
    let (event, id) = match outcome {
        Ok(PutOutcome::Created(event)) => (Event::PoolCreated(event.clone()), event.pool),
        Ok(PutOutcome::Changed(event)) => (Event::PoolChanged(event.clone()), event.pool),
        other => panic!("{other:?}"),
    };
    state.apply(&event);
    id
}

fn reserve(pool: PoolId, key: u128, units: &[u32]) -> Reserve {
    Reserve {
        pool,
        key: Key(key),
        units: Units::from_slice(units),
        hold_seconds: 600,
        occurred_at: Timestamp::ABSENT,
        random: 0xA5,
        reference: None,
    }
}

/// The id of the reservation that the reserve makes.
fn make(state: &mut State, reserve: Reserve, now: i64) -> ReservationId {
    let decision = state.decide(&Command::Reserve(reserve), Timestamp(now));
    let Ok(Decision::Change(event)) = decision else {
        panic!("{decision:?}")
    };
    state.apply(&event);
    let Event::Reserved(event) = event else {
        panic!("{event:?}")
    };
    event.reservation
}

fn release(state: &State, reservation: ReservationId, now: i64) -> Result<Decision, Refusal> {
    let release = Release {
        reservation,
        occurred_at: Timestamp::ABSENT,
    };
    state.decide(&Command::Release(release), Timestamp(now))
}

fn end(state: &mut State, reservation: ReservationId, now: i64) {
    let decision = release(state, reservation, now);
    let Ok(Decision::Change(event)) = decision else {
        panic!("{decision:?}")
    };
    state.apply(&event);
}

/// What a reserve meets in a pool with room for 10 and 10 from 100 to 200, in which key 1 took 4 and 4.
fn check(
    change: impl FnOnce(&mut PoolDefinition),
    reserve: impl FnOnce(&mut Reserve),
    now: i64,
    expected: Option<Refusal>,
) {
    let mut state = empty();
    let mut definition = PoolDefinition::sample("slot-1", &[10, 10]);
    (definition.opens_at, definition.closes_at) = (Timestamp(100), Timestamp(200));
    let pool = put(&mut state, definition.clone());
    make(&mut state, self::reserve(pool, 1, &[4, 4]), 100);
    let before = definition.clone();
    change(&mut definition);
    if definition != before {
        put(&mut state, definition);
    }
    let mut command = self::reserve(pool, 2, &[1, 1]);
    reserve(&mut command);
    let found = state.decide(&Command::Reserve(command.clone()), Timestamp(now));
    assert_eq!(found.err(), expected, "{command:?}");
}

#[test]
fn the_first_check_that_fails_decides() {
    let short = |short| {
        let mut remaining = Counters::default();
        remaining.0[..2].fill(6);
        Some(Refusal::InsufficientCapacity { short, remaining })
    };
    let no_change = |_: &mut PoolDefinition| ();
    let close = |pool: &mut PoolDefinition| pool.closed = true;
    check(no_change, |_| (), 100, None);
    // The key comes before everything else: the pool, its state, its times, its capacity.
    let reused = |reserve: &mut Reserve| (reserve.key, reserve.units.0[0]) = (Key(1), 100);
    check(no_change, reused, 100, Some(Refusal::KeyReused));
    check(close, reused, 300, Some(Refusal::KeyReused));
    let reused_elsewhere = |reserve: &mut Reserve| (reserve.key, reserve.pool.0) = (Key(1), reserve.pool.0 + 1);
    check(close, reused_elsewhere, 300, Some(Refusal::KeyReused));
    // Repeated as it was, it stands, whatever became of the pool.
    let repeated = |reserve: &mut Reserve| (reserve.key, reserve.units) = (Key(1), Units::from_slice(&[4, 4]));
    check(close, repeated, 300, None);
    // The pool comes before its state.
    let unknown_generation = |reserve: &mut Reserve| reserve.pool.0 += 1;
    check(close, unknown_generation, 300, Some(Refusal::PoolNotFound));
    check(
        no_change,
        |reserve| reserve.pool.0 ^= 1 << 24,
        100,
        Some(Refusal::PoolNotFound),
    );
    check(
        no_change,
        |reserve| reserve.pool.0 ^= 1 << 48,
        100,
        Some(Refusal::PoolNotFound),
    );
    check(
        no_change,
        |reserve| reserve.pool = PoolId(u64::MAX),
        100,
        Some(Refusal::PoolNotFound),
    );
    // State before times, times before capacity.
    let too_much = |reserve: &mut Reserve| reserve.units = Units::from_slice(&[7, 7]);
    check(close, too_much, 99, Some(Refusal::PoolClosed));
    check(close, too_much, 200, Some(Refusal::PoolClosed));
    check(no_change, too_much, 99, Some(Refusal::PoolNotOpenYet));
    check(no_change, too_much, 200, Some(Refusal::PoolPastClosing));
    check(no_change, too_much, 199, short(0b11));
    check(no_change, |reserve| reserve.units.0[1] = 7, 100, short(0b10));
    check(no_change, |reserve| reserve.units.0[1] = 6, 100, None);
    check(|pool| pool.shadow = true, too_much, 100, None);
    check(|pool| pool.overbook.0[..2].fill(1), too_much, 100, None);
    check(|pool| pool.closed = true, |_| (), 100, Some(Refusal::PoolClosed));
}

#[test]
fn only_the_very_same_request_may_use_a_key_again() {
    let changes: [fn(&mut Reserve); 4] = [
        |reserve| reserve.units.0[1] = 2,
        |reserve| reserve.hold_seconds = 601,
        |reserve| reserve.hold_seconds = 0,
        |reserve| reserve.reference = Some("order".into()),
    ];
    let mut state = empty();
    let pool = put(&mut state, PoolDefinition::sample("slot-1", &[10, 10]));
    let first = reserve(pool, 1, &[1, 1]);
    let id = make(&mut state, first.clone(), 100);
    let view = state.reservation(id, Timestamp(100)).expect("it was just made");
    for change in changes {
        let mut other = first.clone();
        change(&mut other);
        assert_eq!(
            state.decide(&Command::Reserve(other), Timestamp(100)),
            Err(Refusal::KeyReused)
        );
    }
    // What decides nothing may differ: a client draws no random bits, and its clock moves on.
    let again = Reserve {
        random: 1,
        occurred_at: Timestamp(5),
        ..first
    };
    assert_eq!(
        state.decide(&Command::Reserve(again), Timestamp(100)),
        Ok(Decision::Standing(view))
    );
}

#[test]
fn a_shadow_pool_records_what_enforcement_would_refuse() {
    let mut state = empty();
    let mut definition = PoolDefinition::sample("slot-1", &[10, 10]);
    definition.shadow = true;
    let pool = put(&mut state, definition.clone());
    let ids = [(1, 10), (2, 1), (3, 5)].map(|(key, units)| make(&mut state, reserve(pool, key, &[units, 0]), 100));
    let flags = ids.map(|id| {
        state
            .reservation(id, Timestamp(100))
            .expect("it was just made")
            .would_refuse
    });
    assert_eq!(flags, [false, true, true]);
    assert_eq!(state.pool(pool).expect("the pool exists").remaining().0[..2], [-6, 10]);
    // Enforced from now on: what was recorded stays, and nothing more fits until it is gone.
    definition.shadow = false;
    put(&mut state, definition);
    let refusal = state
        .decide(&Command::Reserve(reserve(pool, 4, &[1, 1])), Timestamp(100))
        .unwrap_err();
    assert!(
        matches!(refusal, Refusal::InsufficientCapacity { short: 1, .. }),
        "{refusal:?}"
    );
    make(&mut state, reserve(pool, 5, &[0, 1]), 100);
    end(&mut state, ids[0], 101);
    make(&mut state, reserve(pool, 6, &[4, 0]), 101);
    state.assert_counters();
}

#[test]
fn a_slot_is_used_again_after_the_retention() {
    let mut state = empty();
    let pool = put(&mut state, PoolDefinition::sample("slot-1", &[10, 10]));
    let reserve = |key| Reserve {
        reference: Some("order".into()),
        ..reserve(pool, key, &[1, 1])
    };
    let first = make(&mut state, reserve(1), 100);
    let second = make(&mut state, reserve(2), 100);
    end(&mut state, second, 150);
    end(&mut state, first, 200);
    let last_moment = 150 + RETENTION_MICROS;
    // Until then the ended one is known, and its slot its own.
    assert!(matches!(
        release(&state, second, last_moment),
        Ok(Decision::Standing(_))
    ));
    let third = make(&mut state, reserve(3), last_moment);
    assert_eq!((third.parts().slot, third.parts().generation), (2, 0));
    // Then the one that ended first goes first, and its id leads nowhere.
    assert_eq!(
        release(&state, second, last_moment + 1),
        Err(Refusal::ReservationNotFound)
    );
    let fourth = make(
        &mut state,
        Reserve {
            reference: None,
            ..reserve(4)
        },
        last_moment + 1,
    );
    assert_eq!(
        (fourth.parts().slot, fourth.parts().generation),
        (second.parts().slot, 1)
    );
    assert_eq!(state.reservation(second, Timestamp(last_moment + 1)), None);
    assert_eq!(
        release(&state, second, last_moment + 1),
        Err(Refusal::ReservationNotFound)
    );
    assert_eq!(state.reference(fourth), None);
    assert_eq!(state.reference(first), Some("order"));
    // The other one is still known.
    assert!(matches!(
        release(&state, first, last_moment + 1),
        Ok(Decision::Standing(_))
    ));
    state.assert_counters();
}

#[test]
fn a_key_means_another_request_after_the_retention() {
    let mut state = empty();
    let pool = put(&mut state, PoolDefinition::sample("slot-1", &[10, 10]));
    let ids: Vec<_> = (1..=3)
        .map(|key| make(&mut state, reserve(pool, key, &[1, 1]), 100))
        .collect();
    for (id, now) in ids.iter().zip([200, 201, 202]) {
        end(&mut state, *id, now);
    }
    let other = reserve(pool, 3, &[2, 2]);
    let decide = |state: &State, now| state.decide(&Command::Reserve(other.clone()), Timestamp(now));
    assert_eq!(decide(&state, 202 + RETENTION_MICROS), Err(Refusal::KeyReused));
    // The key moves into the slot of the first one, while its own old slot is still to be used again.
    let now = 203 + RETENTION_MICROS;
    let id = make(&mut state, other.clone(), now);
    assert_eq!((id.parts().slot, id.parts().generation), (0, 1));
    let view = state.reservation(id, Timestamp(now)).expect("it was just made");
    for key in [4, 5] {
        make(&mut state, reserve(pool, key, &[1, 1]), now);
        assert_eq!(
            decide(&state, now),
            Ok(Decision::Standing(view)),
            "after key {key} took an old slot"
        );
    }
    state.assert_counters();
}

#[test]
fn a_release_needs_the_whole_id_and_ends_once() {
    let mut state = empty();
    let pool = put(&mut state, PoolDefinition::sample("slot-1", &[10, 10]));
    let confirmed = make(
        &mut state,
        Reserve {
            hold_seconds: 0,
            ..reserve(pool, 1, &[2, 3])
        },
        100,
    );
    for bit in 0..128 {
        let forged = ReservationId(confirmed.0 ^ 1 << bit);
        assert_eq!(
            release(&state, forged, 100),
            Err(Refusal::ReservationNotFound),
            "bit {bit} turned"
        );
    }
    let Ok(Decision::Change(Event::Released(event))) = release(&state, confirmed, 100) else {
        panic!("it can be released")
    };
    assert_eq!((event.units, event.was_confirmed), (Units::from_slice(&[2, 3]), true));
    state.apply(&Event::Released(event));
    let view = state.reservation(confirmed, Timestamp(100)).expect("it is remembered");
    assert_eq!(view.state, ReservationState::Released);
    assert_eq!(release(&state, confirmed, 101), Ok(Decision::Standing(view)));
    assert_eq!(
        state.pool(pool).expect("the pool exists").confirmed(),
        &Counters::default()
    );
}

#[test]
fn a_put_counts_versions_and_minds_the_expected_one() {
    let mut state = empty();
    let definition = PoolDefinition::sample("slot-1", &[10, 10]);
    let decide = |state: &State, definition: &PoolDefinition, expected_version| {
        state.decide_put(
            &PutPool {
                definition: definition.clone(),
                expected_version,
            },
            Timestamp(0),
        )
    };
    assert_eq!(decide(&state, &definition, Some(1)), Err(Refusal::ChangedMeanwhile));
    assert!(matches!(
        decide(&state, &definition, Some(PutPool::MUST_NOT_EXIST)),
        Ok(PutOutcome::Created(_))
    ));
    let pool = put(&mut state, definition.clone());
    assert_eq!(
        decide(&state, &definition, Some(PutPool::MUST_NOT_EXIST)),
        Err(Refusal::ChangedMeanwhile)
    );
    assert_eq!(
        decide(&state, &definition, Some(1)),
        Ok(PutOutcome::Unchanged { pool, version: 1 })
    );
    let changed = PoolDefinition {
        closed: true,
        ..definition.clone()
    };
    assert_eq!(decide(&state, &changed, Some(2)), Err(Refusal::ChangedMeanwhile));
    assert_eq!(put(&mut state, changed.clone()), pool);
    assert_eq!(state.pool(pool).expect("the pool exists").version(), 2);
    // Not even what stands is put from another version.
    assert_eq!(decide(&state, &changed, Some(1)), Err(Refusal::ChangedMeanwhile));
}
