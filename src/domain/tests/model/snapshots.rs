//! A snapshot that is copied beside later commands, and the state that it gives.

use plimsoll_domain::{
    Command, Confirm, Decision, Event, Key, PoolDefinition, PutOutcome, PutPool, Replaying, Reserve, Resize, Restoring,
    SnapshotPiece, State, StateOptions, Timestamp, Units,
};
use proptest::prelude::*;

use crate::naive::{Model, ModelReservation, START};
use crate::rules::unchanged;
use crate::steps::names;

/// A snapshot of the moment after the first `event_count` events.
pub(crate) struct Snapshot {
    pub(crate) event_count: usize,
    digest: u64,
    pieces: Vec<SnapshotPiece>,
    is_whole: bool,
}

impl Snapshot {
    pub(crate) fn begin(state: &mut State, event_count: usize) -> Snapshot {
        state.begin_snapshot();
        Snapshot {
            event_count,
            digest: state.digest(Timestamp::ABSENT),
            pieces: Vec::new(),
            is_whole: false,
        }
    }

    pub(crate) fn copy(&mut self, state: &mut State, byte_count: usize) {
        if !self.is_whole {
            self.is_whole = state.copy_snapshot(byte_count, &mut self.pieces);
            assert_eq!(state.is_taking_snapshot(), !self.is_whole);
        }
    }

    /// The state that the pieces make in any order.
    pub(crate) fn restore(&mut self, options: StateOptions, seed: u64) -> Result<State, TestCaseError> {
        let mut random = seed | 1;
        self.pieces.sort_by_cached_key(|piece| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Only the image of a partition comes before its pages.
            (!matches!(piece, SnapshotPiece::Partition(_)), random >> 33)
        });
        let state = self.before_replay(options)?.finish();
        prop_assert_eq!(state.digest(Timestamp::ABSENT), self.digest);
        state.assert_counters();
        Ok(state)
    }

    /// The same for events to be replayed into.
    pub(crate) fn before_replay(&self, options: StateOptions) -> Result<Replaying, TestCaseError> {
        let mut restoring = Restoring::new(options);
        for piece in &self.pieces {
            let taken = restoring.take(piece);
            prop_assert!(taken.is_ok(), "{:?} of {:?}", taken, piece);
        }
        let restored = restoring.before_replay();
        let error = restored.as_ref().err().copied();
        prop_assert!(error.is_none(), "{:?}", error);
        Ok(restored.expect("it is no error"))
    }
}

/// The state that the events lead to from there. Each is tried twice: the second time it does not fit, and changes
/// nothing.
pub(crate) fn replay_into(mut state: Replaying, events: &[Event]) -> Result<State, TestCaseError> {
    for event in events {
        prop_assert_eq!(state.take(event), Ok(()), "{:?}", event);
        prop_assert!(state.take(event).is_err(), "it fits twice: {:?}", event);
    }
    let state = state.finish();
    state.assert_counters();
    Ok(state)
}

/// Everything of a state, also what does not show to callers.
pub(crate) fn pieces_of(state: &mut State) -> Vec<SnapshotPiece> {
    let mut pieces = Vec::new();
    state.begin_snapshot();
    while !state.copy_snapshot(1_000_000, &mut pieces) {}
    for piece in &mut pieces {
        if let SnapshotPiece::Reservations(_, page) = piece {
            for entry in &mut page.entries {
                // The node of a hold in the timer wheel means nothing.
                if !entry.is_free() && entry.bits >> 17 & 0b111 == 1 {
                    entry.link = 0;
                }
            }
        }
    }
    pieces
}

/// Two states decide alike from now on: each command gets the same outcome, and so does each one after it.
pub(crate) fn check_alike(model: &Model, mut one: State, mut other: State) -> Result<(), TestCaseError> {
    let now = Timestamp(model.now);
    prop_assert_eq!(one.digest(now), other.digest(now));
    prop_assert_eq!(one.held_count(), other.held_count());
    prop_assert_eq!(one.reservation_slot_count(), other.reservation_slot_count());
    prop_assert_eq!(pieces_of(&mut one), pieces_of(&mut other));
    let ids = || model.reservations.iter().map(ModelReservation::id);
    let confirms = ids().map(|reservation| {
        Command::Confirm(Confirm {
            reservation,
            occurred_at: now,
        })
    });
    let resizes = ids().map(|reservation| {
        Command::Resize(Resize {
            reservation,
            expected_version: None,
            units: Units([Resize::UNCHANGED - 1; 8].map(|unit| unit / 4)),
            hold_seconds: 0,
            occurred_at: now,
        })
    });
    let holds = ids().map(|reservation| {
        Command::Resize(Resize {
            reservation,
            expected_version: Some(0),
            units: unchanged(),
            hold_seconds: 5,
            occurred_at: now,
        })
    });
    // Old keys, and new ones until no slot that was used before is left.
    let pools: Vec<_> = one.pools_after("").map(|(id, _)| id).collect();
    let keys = || (0..8_u128).chain(1_000..1_040);
    let reserves = pools.iter().flat_map(|pool| {
        keys().map(|key| {
            Command::Reserve(Reserve {
                pool: *pool,
                key: Key(key),
                units: Units::from_slice(&[1]),
                hold_seconds: 0,
                occurred_at: now,
                random: key as u64,
                reference: None,
            })
        })
    });
    let commands: Vec<Command> = confirms.chain(resizes).chain(holds).chain(reserves).collect();
    for command in commands {
        let outcome = one.decide(&command, now);
        prop_assert_eq!(&outcome, &other.decide(&command, now), "{:?}", command);
        if let Ok(Decision::Change(event)) = outcome {
            one.apply(&event);
            other.apply(&event);
        }
    }
    for name in names() {
        let put = PutPool {
            definition: definition(name.clone()),
            expected_version: None,
        };
        let outcome = one.decide_put(&put, now);
        prop_assert_eq!(&outcome, &other.decide_put(&put, now), "{}", name);
        if let Ok(PutOutcome::Created(event)) = outcome {
            one.apply(&Event::PoolCreated(event.clone()));
            other.apply(&Event::PoolCreated(event));
        }
    }
    while let Some(event) = one.next_sweep(now) {
        prop_assert_eq!(Some(event.clone()), other.next_sweep(now));
        one.apply(&event);
        other.apply(&event);
    }
    prop_assert_eq!(other.next_sweep(now), None);
    // Holds expire in any order, but the same ones.
    let late = now.plus_seconds(100_000);
    let (expired, others) = (drain_expiry(&mut one, late), drain_expiry(&mut other, late));
    prop_assert_eq!(expired, others);
    prop_assert_eq!((one.held_count(), other.held_count()), (0, 0));
    one.assert_counters();
    other.assert_counters();
    Ok(())
}

fn definition(name: String) -> PoolDefinition {
    PoolDefinition {
        name: name.into(),
        zone: "north".into(),
        kind: "delivery".into(),
        starts_at: Timestamp(START),
        ends_at: Timestamp(START),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: Vec::new(),
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[5]),
        overbook: Units::default(),
    }
}

fn drain_expiry(state: &mut State, now: Timestamp) -> Vec<u128> {
    let mut expired = Vec::new();
    while let Some(event) = state.next_expiry(now) {
        state.apply(&event);
        let Event::Expired(event) = event else {
            panic!("{event:?}")
        };
        expired.push(event.reservation.0);
    }
    expired.sort_unstable();
    expired
}
