//! Random commands against a naive model.
//!
//! The model keeps every pool and every reservation there ever was in plain lists, and computes sums and free slots by
//! going through all of them. Each outcome of the domain is compared with the model's, events and refusals in full;
//! after each step everything that shows to callers is compared and the counters are checked. At the end the events are
//! replayed, by themselves and as recovery does it, and a snapshot that was taken along the way, copied between later
//! steps, is restored and continued.

mod faults;
mod naive;
mod resets;
mod rules;
mod snapshots;
mod steps;

use std::collections::BTreeMap;

use plimsoll_domain::{
    Command, Confirm, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, Replaying,
    ReservationId, Reserve, Resize, State, StateOptions, Timestamp, TurnedAway, partition_of,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::faults::Fault;
use crate::naive::{Bounds, Model, ModelReservation, RETENTION_MICROS, RETIRE_AFTER_MICROS};
use crate::resets::Moment;
use crate::rules::unchanged;
use crate::snapshots::{Snapshot, check_alike, pieces_of, replay_into};
use crate::steps::{Advance, Case, ReservationChoice, Step, Version, cases, names};

fn options(dimension_count: usize, bounds: Bounds) -> StateOptions {
    StateOptions {
        key_retention_micros: RETENTION_MICROS,
        retire_after_micros: RETIRE_AFTER_MICROS,
        reservation_count_max: bounds.reservation_count_max,
        pool_count_max: bounds.pool_count_max,
        hash_seed: 1,
        ..StateOptions::new(dimension_count)
    }
}

/// The domain and the model, side by side.
struct Run {
    names: Vec<String>,
    state: State,
    model: Model,
    events: Vec<Event>,
    reserves: Vec<Command>,
    /// What there was after each step.
    moments: Vec<Moment>,
    /// By version of a pool, what it was.
    versions: BTreeMap<u64, String>,
}

impl Run {
    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.state.check_fits(&event), Ok(()), "{:?}", event);
        self.state.apply(&event);
        prop_assert!(self.state.check_fits(&event).is_err(), "it fits twice: {:?}", event);
        self.model.apply(&event);
        let mut touched = Vec::new();
        self.state.take_touched(&mut touched);
        let changed: Vec<PoolId> = Model::pool_changed_by(&event).into_iter().collect();
        prop_assert_eq!(touched, changed, "touched by {:?}", event);
        self.events.push(event);
        Ok(())
    }

    /// One command, decided by both.
    fn decide(&mut self, command: &Command) -> Result<(), TestCaseError> {
        let outcome = self.state.decide(command, Timestamp(self.model.now));
        prop_assert_eq!(&outcome, &self.model.decide(command), "{:?}", command);
        match outcome {
            Ok(Decision::Change(event)) => self.apply(event),
            Ok(Decision::Standing(_)) | Err(_) => Ok(()),
        }
    }

    fn put(&mut self, definition: &PoolDefinition, version: Version) -> Result<(), TestCaseError> {
        let current = self.model.pools.get(&*definition.name).map(|pool| pool.version);
        let put = PutPool {
            definition: definition.clone(),
            expected_version: match version {
                Version::Any => None,
                Version::MustNotExist => Some(PutPool::MUST_NOT_EXIST),
                Version::Current => current,
                Version::Other => Some(current.unwrap_or(0) + 1),
            },
        };
        let outcome = self.state.decide_put(&put, Timestamp(self.model.now));
        prop_assert_eq!(&outcome, &self.model.decide_put(&put));
        match outcome {
            Ok(PutOutcome::Created(event)) => self.apply(Event::PoolCreated(event)),
            Ok(PutOutcome::Changed(event)) => self.apply(Event::PoolChanged(event)),
            Ok(PutOutcome::Unchanged { .. }) | Err(_) => Ok(()),
        }
    }

    /// The id of the pool of this name. One that does not exist has an id in a partition that may exist.
    fn pool(&self, name: usize) -> PoolId {
        let name = &self.names[name];
        let unknown = PoolId(u64::from(partition_of(name).0) << 48 | 1 << 40 | 1);
        self.model.pools.get(name).map_or(unknown, |pool| pool.id)
    }

    fn chosen(&self, choice: ReservationChoice) -> ReservationId {
        let made = |index: Index| {
            let all = &self.model.reservations;
            (!all.is_empty()).then(|| index.get(all).id())
        };
        let id = match choice {
            ReservationChoice::Made(index) => made(index),
            ReservationChoice::Late(back) => self.model.reservations.iter().rev().nth(back).map(ModelReservation::id),
            ReservationChoice::Forged(index, bit) => made(index).map(|id| ReservationId(id.0 ^ 1 << bit)),
            ReservationChoice::Unknown(id) => Some(ReservationId(id)),
        };
        id.unwrap_or(ReservationId(0))
    }

    fn resize(
        &mut self,
        choice: ReservationChoice,
        version: Version,
        asked: &[Option<u32>],
        hold_seconds: u32,
    ) -> Result<(), TestCaseError> {
        let reservation = self.chosen(choice);
        let current = self.model.reservation(reservation).map_or(0, |found| found.version);
        let mut units = unchanged();
        for (unit, asked) in units.0.iter_mut().zip(asked) {
            *unit = asked.unwrap_or(Resize::UNCHANGED);
        }
        self.decide(&Command::Resize(Resize {
            reservation,
            expected_version: match version {
                Version::Any | Version::MustNotExist => None,
                Version::Current => Some(current),
                Version::Other => Some(current + 1),
            },
            units,
            hold_seconds,
            occurred_at: Timestamp(self.model.now - 7),
        }))
    }

    fn advance(&mut self, advance: Advance) {
        let now = self.model.now;
        let to = match advance {
            Advance::Micros(micros) => now + micros,
            Advance::ToDeadline(more) => {
                let holds = self
                    .model
                    .reservations
                    .iter()
                    .filter(|reservation| reservation.is_held());
                let ahead = holds
                    .map(|reservation| reservation.deadline)
                    .filter(|deadline| *deadline >= now);
                ahead.min().unwrap_or(now) + more
            }
        };
        self.model.now = to.max(now);
    }

    /// Everything that is due, at most `count` of it; nothing is left over when the domain says so.
    fn expire(&mut self, count: usize) -> Result<(), TestCaseError> {
        for _ in 0..count {
            let Some(event) = self.state.next_expiry(Timestamp(self.model.now)) else {
                prop_assert_eq!(self.model.overdue(), None, "at {}", self.model.now);
                return Ok(());
            };
            let Event::Expired(expired) = &event else {
                panic!("{event:?}")
            };
            let expected = self.model.expiry(expired.reservation);
            prop_assert_eq!(Some(&event), expected.as_ref());
            self.apply(event)?;
        }
        Ok(())
    }

    fn extend(&mut self, micros: i64) -> Result<(), TestCaseError> {
        let expires_at = self.model.now + micros;
        while let Some(event) = self
            .state
            .next_extension(Timestamp(self.model.now), Timestamp(expires_at))
        {
            let Event::Resized(resized) = &event else {
                panic!("{event:?}")
            };
            let expected = self.model.extension(resized.reservation, expires_at);
            prop_assert_eq!(Some(&event), expected.as_ref());
            self.apply(event)?;
        }
        prop_assert_eq!(self.model.overdue(), None, "at {}", self.model.now);
        Ok(())
    }

    fn retire(&mut self, count: usize) -> Result<(), TestCaseError> {
        for _ in 0..count {
            let Some(event) = self.state.next_retirement(Timestamp(self.model.now)) else {
                let mut all = self.model.pools.values();
                let left = all.find(|pool| self.model.may_retire(pool)).map(|pool| pool.id);
                prop_assert_eq!(left, None, "at {}", self.model.now);
                return Ok(());
            };
            let Event::PoolRetired(retired) = &event else {
                panic!("{event:?}")
            };
            let pool = self.model.pool(retired.pool);
            prop_assert!(pool.is_some_and(|pool| self.model.may_retire(pool)), "{:?}", event);
            let sequence = self.model.next_sequence(retired.pool.partition());
            prop_assert_eq!(retired.sequence, sequence);
            self.apply(event)?;
        }
        Ok(())
    }

    fn sweep(&mut self, count: u32) -> Result<(), TestCaseError> {
        let event = self.state.next_sweep(Timestamp(self.model.now));
        let expected = self.model.next_sweep(RETENTION_MICROS, 1_024);
        prop_assert_eq!(&event, &expected.map(Event::Swept));
        match event {
            // Fewer slots, so that it takes several to go through all of them.
            Some(Event::Swept(swept)) => self.apply(Event::Swept(plimsoll_domain::Swept { count, ..swept })),
            _ => Ok(()),
        }
    }

    fn turned_away(&mut self, name: usize) -> Result<(), TestCaseError> {
        let pool = self.pool(name);
        let (since, at) = (Timestamp(self.model.now - 60), Timestamp(self.model.now));
        let event = self.state.turned_away(pool, since, at, 3, [7; 8]);
        let expected = self.model.pool(pool).map(|found| {
            Event::TurnedAway(TurnedAway {
                sequence: self.model.next_sequence(pool.partition()),
                pool: found.id,
                since,
                at,
                refusals: 3,
                units: [7; 8],
            })
        });
        prop_assert_eq!(&event, &expected);
        event.map_or(Ok(()), |event| self.apply(event))
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put { definition, version } => self.put(&definition, version),
            Step::Reserve {
                name,
                turned,
                key,
                units,
                hold_seconds,
                reference,
                random,
            } => {
                let command = Command::Reserve(Reserve {
                    pool: PoolId(self.pool(name).0 ^ turned),
                    key: Key(u128::from(key)),
                    units,
                    hold_seconds,
                    occurred_at: Timestamp(self.model.now - 5),
                    random,
                    reference: reference.map(String::into_boxed_str),
                });
                self.reserves.push(command.clone());
                self.decide(&command)
            }
            Step::ReserveAgain(_) if self.reserves.is_empty() => Ok(()),
            Step::ReserveAgain(index) => {
                let command = index.get(&self.reserves).clone();
                self.decide(&command)
            }
            Step::Confirm(choice) => self.decide(&Command::Confirm(Confirm {
                reservation: self.chosen(choice),
                occurred_at: Timestamp(self.model.now - 3),
            })),
            Step::Resize {
                choice,
                version,
                units,
                hold_seconds,
            } => self.resize(choice, version, &units, hold_seconds),
            Step::Release(choice) => self.decide(&Command::Release(Release {
                reservation: self.chosen(choice),
                occurred_at: Timestamp::ABSENT,
            })),
            Step::Advance(advance) => {
                self.advance(advance);
                Ok(())
            }
            Step::Expire(count) => self.expire(count),
            Step::Extend(micros) => self.extend(micros),
            Step::Retire(count) => self.retire(count),
            Step::Sweep(count) => self.sweep(count),
            Step::TurnedAway(name) => self.turned_away(name),
            Step::Reset {
                name,
                moment,
                has_definition,
                version,
            } => self.reset(name, moment, has_definition, version),
        }
    }
}

fn run(case: Case, dimension_count: usize, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let same = options(dimension_count, case.bounds);
    let mut run = Run {
        names: names(),
        state: State::new(same),
        model: Model::new(dimension_count, case.bounds, fault),
        events: Vec::new(),
        reserves: Vec::new(),
        moments: Vec::new(),
        versions: BTreeMap::new(),
    };
    let snapshot_after = case.snapshot_after.index(case.steps.len());
    let mut snapshot = None;
    for (number, (step, copied)) in case.steps.into_iter().enumerate() {
        if number == snapshot_after {
            snapshot = Some(Snapshot::begin(&mut run.state, run.events.len()));
        }
        run.step(step)?;
        run.moments.push(run.model.moment());
        if let Some(snapshot) = &mut snapshot {
            snapshot.copy(&mut run.state, copied);
        }
        run.state.assert_counters();
        run.model.check_shown(&run.state)?;
    }
    let mut snapshot = snapshot.expect("it begins before one of the steps");
    snapshot.copy(&mut run.state, usize::MAX);
    let mut restored = snapshot.restore(same, case.seed)?;
    let mut replayed = replay(same, &run.events[..snapshot.event_count]);
    prop_assert_eq!(pieces_of(&mut restored), pieces_of(&mut replayed));
    for event in &run.events[snapshot.event_count..] {
        restored.apply(event);
    }
    restored.assert_counters();
    check_replay(&run, same)?;
    let behind_snapshot = replay_into(snapshot.before_replay(same)?, &run.events[snapshot.event_count..])?;
    let from_nothing = replay_into(Replaying::new(same), &run.events)?;
    let Run { state, model, .. } = run;
    check_alike(&model, state, restored)?;
    check_alike(&model, replay(same, &run.events), behind_snapshot)?;
    check_alike(&model, replay(same, &run.events), from_nothing)
}

fn replay(options: StateOptions, events: &[Event]) -> State {
    let mut state = State::new(options);
    events.iter().for_each(|event| state.apply(event));
    state.assert_counters();
    state
}

/// The state is a function of the events: neither the seed nor the retention nor a bound shows in what replay gives.
fn check_replay(run: &Run, same: StateOptions) -> Result<(), TestCaseError> {
    let now = Timestamp(run.model.now);
    prop_assert_eq!(replay(same, &run.events).digest(now), run.state.digest(now));
    for key_retention_micros in [0, 7, 1_000_000_000] {
        let options = StateOptions {
            key_retention_micros,
            retire_after_micros: key_retention_micros / 2,
            reservation_count_max: 0,
            pool_count_max: 0,
            hash_seed: 0xDEAD_BEEF_0BAD_CAFE,
            ..same
        };
        let other = replay(options, &run.events);
        // What is remembered depends on the retention. Before all times everything is, after all times what lives.
        for time in [Timestamp::ABSENT, Timestamp::NEVER] {
            prop_assert_eq!(other.digest(time), run.state.digest(time));
        }
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn one_dimension(case in cases(1)) {
        run(case, 1, None)?;
    }

    #[test]
    fn two_dimensions(case in cases(2)) {
        run(case, 2, None)?;
    }

    #[test]
    fn eight_dimensions(case in cases(8)) {
        run(case, 8, None)?;
    }
}

/// The canaries: a comparison that would not notice these mistakes would be worth nothing.
#[test]
fn planted_faults_are_found() {
    for fault in Fault::ALL {
        let config = Config {
            max_shrink_iters: 0,
            failure_persistence: None,
            ..config(3_000)
        };
        let mut runner = TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let outcome = runner.run(&cases(2), |case| run(case, 2, Some(fault)));
        assert!(matches!(outcome, Err(TestError::Fail(..))), "{fault:?} is not noticed");
    }
}
