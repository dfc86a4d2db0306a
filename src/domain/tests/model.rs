//! Random commands against a naive model.
//!
//! The model keeps every pool and every reservation there ever was in plain maps, and computes sums and free slots by going
//! through all of them. Each outcome of the domain is compared with the model's, events and refusals in full; after each step
//! everything that shows to callers is compared, the counters are checked, and at the end the events are replayed.

use std::collections::BTreeMap;

use plimsoll_domain::limits::{DIMENSION_COUNT_MAX, UNITS_MAX};
use plimsoll_domain::{
    Command, Counters, Decision, Event, Key, PartitionId, PoolDefined, PoolDefinition, PoolId, PutOutcome, PutPool,
    Refusal, Release, Released, ReservationId, ReservationState, ReservationView, Reserve, Reserved, State,
    StateOptions, Timestamp, Units, partition_of,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

const RETENTION_MICROS: i64 = 100;
const START: i64 = 1_000_000;

/// A mistake that the model can be told to make, to see that the comparison would notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    AllowanceOverlooked,
    ClosingTimeStillSells,
    KeyForgottenOneMicrosecondEarly,
    HoldNotCompared,
    EndedStillCounts,
    GenerationStays,
}

struct ModelReservation {
    event: Reserved,
    state: ReservationState,
    /// When it ended, and how many had ended before it.
    ended: Option<(i64, usize)>,
    /// Whether its slot and its id still are its own.
    has_slot: bool,
}

struct ModelPool {
    id: PoolId,
    version: u64,
    definition: PoolDefinition,
}

struct Model {
    fault: Option<Fault>,
    dimension_count: usize,
    now: i64,
    /// Last sequence by partition.
    sequences: BTreeMap<u16, u64>,
    pools: BTreeMap<String, ModelPool>,
    /// In the order in which they were made.
    reservations: Vec<ModelReservation>,
    ended_count: usize,
}

impl Model {
    fn next_sequence(&self, partition: PartitionId) -> u64 {
        self.sequences.get(&partition.0).copied().unwrap_or(0) + 1
    }

    fn pool(&self, id: PoolId) -> Option<&ModelPool> {
        self.pools.values().find(|pool| pool.id == id)
    }

    fn is_forgotten(&self, reservation: &ModelReservation) -> bool {
        let early = i64::from(self.fault == Some(Fault::KeyForgottenOneMicrosecondEarly));
        reservation
            .ended
            .is_some_and(|(at, _)| self.now - at > RETENTION_MICROS - early)
    }

    /// Held and confirmed units of a pool.
    fn sums(&self, pool: PoolId) -> (Counters, Counters) {
        let (mut held, mut confirmed) = (Counters::default(), Counters::default());
        for reservation in &self.reservations {
            let counters = match reservation.state {
                ReservationState::Held => &mut held,
                ReservationState::Confirmed => &mut confirmed,
                _ if self.fault == Some(Fault::EndedStillCounts) => &mut held,
                _ => continue,
            };
            if reservation.event.pool == pool {
                for dimension in 0..DIMENSION_COUNT_MAX {
                    counters.0[dimension] += i64::from(reservation.event.units.0[dimension]);
                }
            }
        }
        (held, confirmed)
    }

    fn remaining(&self, pool: &ModelPool) -> Counters {
        let (held, confirmed) = self.sums(pool.id);
        let mut remaining = Counters::default();
        for dimension in 0..DIMENSION_COUNT_MAX {
            let allowance = match self.fault {
                Some(Fault::AllowanceOverlooked) => 0,
                _ => i64::from(pool.definition.overbook.0[dimension]),
            };
            remaining.0[dimension] =
                i64::from(pool.definition.limits.0[dimension]) + allowance - held.0[dimension] - confirmed.0[dimension];
        }
        remaining
    }

    fn view(reservation: &ModelReservation) -> ReservationView {
        let event = &reservation.event;
        let deadline = event.at.0 + i64::from(event.hold_seconds) * 1_000_000;
        ReservationView {
            id: event.reservation,
            pool: event.pool,
            units: event.units,
            state: reservation.state,
            created_at: event.at,
            expires_at: (event.hold_seconds != 0).then_some(Timestamp(deadline)),
            would_refuse: event.would_refuse,
        }
    }

    /// Where the next reservation of the partition goes: slot and generation.
    fn free_slot(&self, partition: PartitionId) -> (u64, u16) {
        let mine = || {
            self.reservations
                .iter()
                .filter(|reservation| reservation.event.pool.partition() == partition)
                .filter(|reservation| reservation.has_slot)
        };
        let oldest = mine()
            .filter(|reservation| self.is_forgotten(reservation))
            .min_by_key(|reservation| reservation.ended);
        match oldest {
            Some(reservation) => {
                let parts = reservation.event.reservation.parts();
                let step = u16::from(self.fault != Some(Fault::GenerationStays));
                (parts.slot, parts.generation.wrapping_add(step))
            }
            None => (mine().count() as u64, 0),
        }
    }

    fn decide_reserve(&self, reserve: &Reserve) -> Result<Decision, Refusal> {
        let partition = reserve.pool.partition();
        let earlier = self.reservations.iter().find(|reservation| {
            reservation.event.key == reserve.key
                && reservation.event.pool.partition() == partition
                && !self.is_forgotten(reservation)
        });
        if let Some(earlier) = earlier {
            let same = earlier.event.pool == reserve.pool
                && earlier.event.units == reserve.units
                && (self.fault == Some(Fault::HoldNotCompared) || earlier.event.hold_seconds == reserve.hold_seconds)
                && earlier.event.reference == reserve.reference;
            return if same {
                Ok(Decision::Standing(Model::view(earlier)))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let pool = self.pool(reserve.pool).ok_or(Refusal::PoolNotFound)?;
        let definition = &pool.definition;
        if definition.closed {
            return Err(Refusal::PoolClosed);
        }
        if self.now < definition.opens_at.0 {
            return Err(Refusal::PoolNotOpenYet);
        }
        let last = i64::from(self.fault == Some(Fault::ClosingTimeStillSells));
        if definition.closes_at != Timestamp::NEVER && self.now >= definition.closes_at.0 + last {
            return Err(Refusal::PoolPastClosing);
        }
        let remaining = self.remaining(pool);
        let mut short = 0;
        for (dimension, unit) in reserve.units.0.iter().enumerate() {
            if *unit > 0 && i64::from(*unit) > remaining.0[dimension] {
                short |= 1 << dimension;
            }
        }
        if short != 0 && !definition.shadow {
            return Err(Refusal::InsufficientCapacity { short, remaining });
        }
        let (slot, generation) = self.free_slot(partition);
        let id = u128::from(partition.0) << 112
            | u128::from(slot) << 72
            | u128::from(generation) << 56
            | u128::from(reserve.random);
        Ok(Decision::Change(Event::Reserved(Reserved {
            sequence: self.next_sequence(partition),
            at: Timestamp(self.now),
            key: reserve.key,
            reservation: ReservationId(id),
            pool: reserve.pool,
            units: reserve.units,
            hold_seconds: reserve.hold_seconds,
            occurred_at: reserve.occurred_at,
            would_refuse: short != 0,
            reference: reserve.reference.clone(),
        })))
    }

    fn decide_release(&self, release: &Release) -> Result<Decision, Refusal> {
        let reservation = self
            .reservation(release.reservation)
            .ok_or(Refusal::ReservationNotFound)?;
        if reservation.ended.is_some() {
            return Ok(Decision::Standing(Model::view(reservation)));
        }
        let event = &reservation.event;
        Ok(Decision::Change(Event::Released(Released {
            sequence: self.next_sequence(event.pool.partition()),
            at: Timestamp(self.now),
            reservation: event.reservation,
            pool: event.pool,
            units: event.units,
            was_confirmed: event.hold_seconds == 0,
            occurred_at: release.occurred_at,
        })))
    }

    fn decide(&self, command: &Command) -> Result<Decision, Refusal> {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve),
            Command::Release(release) => self.decide_release(release),
        }
    }

    fn decide_put(&self, put: &PutPool) -> Result<PutOutcome, Refusal> {
        let definition = &put.definition;
        let partition = partition_of(&definition.name);
        let sequence = self.next_sequence(partition);
        let defined = |pool, version| PoolDefined {
            sequence,
            pool,
            version,
            definition: Box::new(definition.clone()),
        };
        match self.pools.get(&*definition.name) {
            None => match put.expected_version {
                None | Some(PutPool::MUST_NOT_EXIST) => {
                    let slot = self
                        .pools
                        .values()
                        .filter(|pool| pool.id.partition() == partition)
                        .count();
                    let id = u64::from(partition.0) << 48 | (slot as u64) << 24 | 1;
                    Ok(PutOutcome::Created(defined(PoolId(id), 1)))
                }
                Some(_) => Err(Refusal::ChangedMeanwhile),
            },
            Some(pool) => match put.expected_version {
                Some(version) if version != pool.version => Err(Refusal::ChangedMeanwhile),
                _ if pool.definition == *definition => Ok(PutOutcome::Unchanged {
                    pool: pool.id,
                    version: pool.version,
                }),
                _ => Ok(PutOutcome::Changed(defined(pool.id, pool.version + 1))),
            },
        }
    }

    /// The reservation of this id, unless it is forgotten.
    fn reservation(&self, id: ReservationId) -> Option<&ModelReservation> {
        self.reservations
            .iter()
            .find(|reservation| reservation.event.reservation == id)
            .filter(|reservation| reservation.has_slot && !self.is_forgotten(reservation))
    }

    fn apply(&mut self, event: &Event) {
        *self.sequences.entry(event.partition().0).or_default() += 1;
        match event {
            Event::Reserved(event) => {
                let slot = event.reservation.0 >> 72;
                for earlier in &mut self.reservations {
                    if earlier.event.reservation.0 >> 72 == slot {
                        earlier.has_slot = false;
                    }
                }
                self.reservations.push(ModelReservation {
                    event: event.clone(),
                    state: match event.hold_seconds {
                        0 => ReservationState::Confirmed,
                        _ => ReservationState::Held,
                    },
                    ended: None,
                    has_slot: true,
                });
            }
            Event::Released(event) => {
                let ended = Some((self.now, self.ended_count));
                self.ended_count += 1;
                let reservation = self
                    .reservations
                    .iter_mut()
                    .find(|reservation| reservation.event.reservation == event.reservation)
                    .expect("a released reservation was made");
                reservation.state = ReservationState::Released;
                reservation.ended = ended;
            }
            Event::PoolCreated(event) | Event::PoolChanged(event) => {
                let pool = ModelPool {
                    id: event.pool,
                    version: event.version,
                    definition: (*event.definition).clone(),
                };
                self.pools.insert(pool.definition.name.to_string(), pool);
            }
        }
    }

    /// Everything that shows to callers.
    fn check_shown(&self, state: &State) -> Result<(), TestCaseError> {
        let now = Timestamp(self.now);
        prop_assert_eq!(state.pool_count(), self.pools.len());
        let names: Vec<&str> = state
            .pools_after("")
            .map(|(_, pool)| &*pool.definition().name)
            .collect();
        prop_assert!(names.iter().copied().eq(self.pools.keys()), "{:?}", names);
        for (name, expected) in &self.pools {
            prop_assert_eq!(state.pool_id(name), Some(expected.id));
            let pool = state.pool(expected.id).expect("the id of an existing pool");
            prop_assert_eq!(pool.definition(), &expected.definition);
            prop_assert_eq!(pool.version(), expected.version);
            prop_assert_eq!((*pool.held(), *pool.confirmed()), self.sums(expected.id));
            prop_assert_eq!(pool.remaining(), self.remaining(expected));
        }
        let mut shown: Vec<ReservationView> = state.reservations(now).collect();
        let mut expected: Vec<ReservationView> = self
            .reservations
            .iter()
            .filter(|reservation| reservation.has_slot && !self.is_forgotten(reservation))
            .map(Model::view)
            .collect();
        shown.sort_by_key(|view| view.id);
        expected.sort_by_key(|view| view.id);
        prop_assert_eq!(shown, expected);
        for reservation in &self.reservations {
            let id = reservation.event.reservation;
            let expected = self.reservation(id).map(Model::view);
            prop_assert_eq!(state.reservation(id, now), expected);
            if expected.is_some() {
                prop_assert_eq!(state.reference(id), reservation.event.reference.as_deref());
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Any,
    MustNotExist,
    Current,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum ReservationChoice {
    /// One that was made at some time.
    Made(Index),
    /// One that was made at some time, with a bit of its id turned.
    Forged(Index, u32),
    Unknown(u128),
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        definition: PoolDefinition,
        version: Version,
    },
    Reserve {
        name: usize,
        /// Turned bits of the pool's id; 0 mostly.
        turned: u64,
        key: u8,
        units: Units,
        hold_seconds: u32,
        reference: Option<String>,
        random: u64,
    },
    /// The same command again, as a client does that saw no answer.
    ReserveAgain(Index),
    Release(ReservationChoice),
    Advance(i64),
}

/// Three pools of one partition, two of another, and one of its own: keys are shared within a partition only.
fn names() -> Vec<String> {
    let mut by_partition = BTreeMap::<u16, Vec<String>>::new();
    for number in 0..4_000 {
        let name = format!("pool-{number}");
        by_partition.entry(partition_of(&name).0).or_default().push(name);
    }
    let mut names = Vec::new();
    for (members, count) in by_partition.into_values().zip([3, 2, 1]) {
        names.extend(members.into_iter().take(count));
    }
    assert_eq!(names.len(), 6, "4,000 names fill three partitions");
    names
}

fn limits(dimension_count: usize) -> impl Strategy<Value = Units> {
    let limit = prop_oneof![8 => 0..12_u32, 1 => Just(UNITS_MAX)];
    vec(limit, dimension_count).prop_map(|values| Units::from_slice(&values))
}

/// At least one above 0.
fn asked(dimension_count: usize) -> impl Strategy<Value = Units> {
    let unit = prop_oneof![6 => 0..4_u32, 1 => Just(UNITS_MAX)];
    (vec(unit, dimension_count), 0..dimension_count).prop_map(|(mut values, at_least)| {
        values[at_least] = values[at_least].max(1);
        Units::from_slice(&values)
    })
}

prop_compose! {
    fn definition(dimension_count: usize)(
        name in prop::sample::select(names()),
        opens_at in prop_oneof![3 => Just(0), 1 => START..START + 300],
        closes_at in prop_oneof![3 => Just(Timestamp::NEVER), 1 => (START..START + 600).prop_map(Timestamp)],
        closed in prop::bool::weighted(0.15),
        shadow in prop::bool::weighted(0.25),
        limits in limits(dimension_count),
        overbook in prop_oneof![2 => Just(Units::default()), 1 => limits(dimension_count)],
    ) -> PoolDefinition {
        PoolDefinition {
            name: name.into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(START),
            ends_at: Timestamp(START + 1),
            opens_at: Timestamp(opens_at),
            closes_at,
            coverage: vec!["10".into()],
            closed,
            shadow,
            limits,
            overbook,
        }
    }
}

fn step(dimension_count: usize) -> impl Strategy<Value = Step> {
    let put = (
        definition(dimension_count),
        prop_oneof![
            4 => Just(Version::Any),
            1 => Just(Version::MustNotExist),
            1 => Just(Version::Current),
            1 => Just(Version::Other),
        ],
    )
        .prop_map(|(definition, version)| Step::Put { definition, version });
    let turned = prop_oneof![20 => Just(0), 1 => (0..64_u32).prop_map(|bit| 1_u64 << bit)];
    let hold_seconds = prop_oneof![Just(0), Just(600)];
    let reference = prop_oneof![2 => Just(None), 1 => "[ab]".prop_map(Some)];
    let reserve = (
        0..6_usize,
        turned,
        0..8_u8,
        asked(dimension_count),
        hold_seconds,
        reference,
        0..1_u64 << 56,
    )
        .prop_map(
            |(name, turned, key, units, hold_seconds, reference, random)| Step::Reserve {
                name,
                turned,
                key,
                units,
                hold_seconds,
                reference,
                random,
            },
        );
    let choice = prop_oneof![
        8 => any::<Index>().prop_map(ReservationChoice::Made),
        1 => (any::<Index>(), 0..128_u32).prop_map(|(index, bit)| ReservationChoice::Forged(index, bit)),
        1 => any::<u128>().prop_map(ReservationChoice::Unknown),
    ];
    prop_oneof![
        2 => put,
        8 => reserve,
        2 => any::<Index>().prop_map(Step::ReserveAgain),
        5 => choice.prop_map(Step::Release),
        3 => prop_oneof![0..40_i64, Just(RETENTION_MICROS), Just(RETENTION_MICROS + 1)].prop_map(Step::Advance),
    ]
}

/// The pools exist in most runs, so that most commands meet one.
fn steps(dimension_count: usize) -> impl Strategy<Value = Vec<Step>> {
    (
        vec(definition(dimension_count), 0..8),
        vec(step(dimension_count), 1..120),
    )
        .prop_map(|(definitions, steps)| {
            let puts = definitions.into_iter().map(|definition| Step::Put {
                definition,
                version: Version::Any,
            });
            puts.chain(steps).collect()
        })
}

fn options(dimension_count: usize) -> StateOptions {
    StateOptions {
        dimension_count,
        key_retention_micros: RETENTION_MICROS,
        hash_seed: 1,
    }
}

/// One command, from both; returns the event that both decided on.
fn decide(model: &Model, state: &State, command: &Command) -> Result<Option<Event>, TestCaseError> {
    let outcome = state.decide(command, Timestamp(model.now));
    prop_assert_eq!(&outcome, &model.decide(command), "{:?}", command);
    match outcome {
        Ok(Decision::Change(event)) => Ok(Some(event)),
        Ok(Decision::Standing(_)) | Err(_) => Ok(None),
    }
}

fn decide_put(
    model: &Model,
    state: &State,
    definition: &PoolDefinition,
    version: Version,
) -> Result<Option<Event>, TestCaseError> {
    let current = model.pools.get(&*definition.name).map(|pool| pool.version);
    let put = PutPool {
        definition: definition.clone(),
        expected_version: match version {
            Version::Any => None,
            Version::MustNotExist => Some(PutPool::MUST_NOT_EXIST),
            Version::Current => current,
            Version::Other => Some(current.unwrap_or(0) + 1),
        },
    };
    let outcome = state.decide_put(&put);
    prop_assert_eq!(&outcome, &model.decide_put(&put));
    match outcome {
        Ok(PutOutcome::Created(event)) => Ok(Some(Event::PoolCreated(event))),
        Ok(PutOutcome::Changed(event)) => Ok(Some(Event::PoolChanged(event))),
        Ok(PutOutcome::Unchanged { .. }) | Err(_) => Ok(None),
    }
}

/// The id of a reservation that was made, if any was.
fn made(model: &Model, index: Index) -> Option<ReservationId> {
    (!model.reservations.is_empty()).then(|| index.get(&model.reservations).event.reservation)
}

fn run(steps: Vec<Step>, dimension_count: usize, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let names = names();
    let mut state = State::new(options(dimension_count));
    let mut model = Model {
        fault,
        dimension_count,
        now: START,
        sequences: BTreeMap::new(),
        pools: BTreeMap::new(),
        reservations: Vec::new(),
        ended_count: 0,
    };
    let mut events = Vec::new();
    let mut reserves: Vec<Command> = Vec::new();
    for step in steps {
        let event = match step {
            Step::Put { definition, version } => decide_put(&model, &state, &definition, version)?,
            Step::Reserve {
                name,
                turned,
                key,
                units,
                hold_seconds,
                reference,
                random,
            } => {
                let name = &names[name];
                // A pool that does not exist has an id in a partition that may exist.
                let pool = model
                    .pools
                    .get(name)
                    .map_or(PoolId(u64::from(partition_of(name).0) << 48 | 1 << 40 | 1), |pool| {
                        pool.id
                    });
                let command = Command::Reserve(Reserve {
                    pool: PoolId(pool.0 ^ turned),
                    key: Key(u128::from(key)),
                    units,
                    hold_seconds,
                    occurred_at: Timestamp(model.now - 5),
                    random,
                    reference: reference.map(String::into_boxed_str),
                });
                reserves.push(command.clone());
                decide(&model, &state, &command)?
            }
            Step::ReserveAgain(_) if reserves.is_empty() => None,
            Step::ReserveAgain(index) => {
                let command = index.get(&reserves).clone();
                decide(&model, &state, &command)?
            }
            Step::Release(choice) => {
                let id = match choice {
                    ReservationChoice::Made(index) => made(&model, index),
                    ReservationChoice::Forged(index, bit) => {
                        made(&model, index).map(|id| ReservationId(id.0 ^ 1 << bit))
                    }
                    ReservationChoice::Unknown(id) => Some(ReservationId(id)),
                };
                let command = Command::Release(Release {
                    reservation: id.unwrap_or(ReservationId(0)),
                    occurred_at: Timestamp::ABSENT,
                });
                decide(&model, &state, &command)?
            }
            Step::Advance(micros) => {
                model.now += micros;
                None
            }
        };
        if let Some(event) = event {
            state.apply(&event);
            model.apply(&event);
            events.push(event);
        }
        state.assert_counters();
        model.check_shown(&state)?;
    }
    check_replay(&state, &events, &model)
}

/// The state is a function of the events: neither the seed nor the retention shows in what replay gives.
fn check_replay(state: &State, events: &[Event], model: &Model) -> Result<(), TestCaseError> {
    let replayed = |options| {
        let mut state = State::new(options);
        events.iter().for_each(|event| state.apply(event));
        state.assert_counters();
        state
    };
    let same = options(model.dimension_count);
    let now = Timestamp(model.now);
    prop_assert_eq!(replayed(same).digest(now), state.digest(now));
    for key_retention_micros in [0, 7, 1_000_000_000] {
        let other = replayed(StateOptions {
            key_retention_micros,
            hash_seed: 0xDEAD_BEEF_0BAD_CAFE,
            ..same
        });
        // What is remembered depends on the retention. Before all times everything is, after all times what lives.
        for time in [Timestamp::ABSENT, Timestamp::NEVER] {
            prop_assert_eq!(other.digest(time), state.digest(time));
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
    fn one_dimension(steps in steps(1)) {
        run(steps, 1, None)?;
    }

    #[test]
    fn two_dimensions(steps in steps(2)) {
        run(steps, 2, None)?;
    }

    #[test]
    fn eight_dimensions(steps in steps(8)) {
        run(steps, 8, None)?;
    }
}

/// The canaries: a comparison that would not notice these mistakes would be worth nothing.
#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::AllowanceOverlooked,
        Fault::ClosingTimeStillSells,
        Fault::KeyForgottenOneMicrosecondEarly,
        Fault::HoldNotCompared,
        Fault::EndedStillCounts,
        Fault::GenerationStays,
    ] {
        let config = Config {
            max_shrink_iters: 0,
            failure_persistence: None,
            ..config(2_000)
        };
        let mut runner = TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let outcome = runner.run(&steps(2), |steps| run(steps, 2, Some(fault)));
        assert!(matches!(outcome, Err(TestError::Fail(..))), "{fault:?} is not noticed");
    }
}
