//! Streams of commands, steps of time, crashes and snapshots against the domain's state.
//!
//! Every event goes through its bytes and back. Besides the live state there may be a twin, made from the events or from a snapshot:
//! both must decide every command alike and show the same. A crash puts what the events make in the place of the live state.

use std::sync::OnceLock;

use plimsoll_domain::limits::UNITS_MAX;
use plimsoll_domain::{
    Command, Confirm, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, ReservationId,
    Reserve, Resize, Restoring, SnapshotPiece, State, StateOptions, Timestamp, Units, partition_of,
};
use plimsoll_record::{RecordTag, SnapshotError, decode, decode_pieces, encode, encode_piece};

use crate::input::Input;

/// What one input may do at most.
const STEP_COUNT_MAX: usize = 500;
const POOL_COUNT_MAX: usize = 16;
/// The ids that commands name: the last ones that were made.
const RESERVATION_COUNT_MAX: usize = 64;

pub(crate) const DIMENSION_COUNTS: [usize; 4] = [1, 2, 3, 8];
pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000_000);

struct Recorded {
    tag: RecordTag,
    at: Timestamp,
    body: Vec<u8>,
}

/// A snapshot that is being taken.
struct Taking {
    pieces: Vec<SnapshotPiece>,
    /// Events before it.
    event_count: usize,
    digest: u64,
    at: Timestamp,
}

pub(crate) struct Machine {
    options: StateOptions,
    live: State,
    twin: Option<State>,
    /// What the events begin with: pieces of a snapshot, or nothing.
    base: Vec<u8>,
    events: Vec<Recorded>,
    taking: Option<Taking>,
    now: Timestamp,
    pools: Vec<PoolId>,
    reservations: Vec<ReservationId>,
    random: u64,
}

/// What the pieces make.
///
/// # Errors
/// When they make no state.
pub(crate) fn restored(pieces: &[u8], options: StateOptions) -> Result<State, String> {
    let mut restoring = Restoring::new(options);
    let mut refused = None;
    decode_pieces(pieces, options.dimension_count, |piece| {
        if refused.is_none() {
            refused = restoring.take(&piece).err();
        }
        Ok::<_, SnapshotError>(())
    })
    .map_err(|error| error.to_string())?;
    match refused {
        Some(error) => Err(error.to_string()),
        None => restoring.finish().map_err(|error| error.to_string()),
    }
}

pub(crate) fn encoded(pieces: &[SnapshotPiece], dimension_count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        encode_piece(piece, dimension_count, &mut bytes);
    }
    bytes
}

/// All pieces of a snapshot of this moment; one that is being taken is not wanted any more.
pub(crate) fn snapshot(state: &mut State) -> Vec<u8> {
    while !state.copy_snapshot(usize::MAX, &mut Vec::new()) {}
    let mut pieces = Vec::new();
    state.begin_snapshot();
    while !state.copy_snapshot(usize::MAX, &mut pieces) {}
    encoded(&pieces, state.dimension_count())
}

/// Six names, of which three share a partition.
fn names() -> &'static [String; 6] {
    static NAMES: OnceLock<[String; 6]> = OnceLock::new();
    NAMES.get_or_init(|| {
        let shared = partition_of("a");
        let mut others = (0..)
            .map(|n| format!("n{n}"))
            .filter(|name| partition_of(name) == shared);
        let mut next = || others.next().expect("names do not end");
        [
            "a".into(),
            next(),
            next(),
            "slot-1".into(),
            "slot-2".into(),
            "slot-3".into(),
        ]
    })
}

impl Machine {
    pub(crate) fn new(options: StateOptions) -> Machine {
        Machine {
            options,
            live: State::new(options),
            twin: None,
            base: Vec::new(),
            events: Vec::new(),
            taking: None,
            now: START,
            pools: Vec::new(),
            reservations: Vec::new(),
            random: 0,
        }
    }

    /// A machine that goes on from a state at this time.
    pub(crate) fn adopt(mut live: State, options: StateOptions, now: Timestamp) -> Machine {
        let base = snapshot(&mut live);
        let reservations = live.reservations(now).take(RESERVATION_COUNT_MAX).map(|view| view.id);
        Machine {
            reservations: reservations.collect(),
            pools: live.pools_after("").take(POOL_COUNT_MAX).map(|(id, _)| id).collect(),
            base,
            live,
            now,
            ..Machine::new(options)
        }
    }

    pub(crate) fn run(&mut self, input: &mut Input<'_>) {
        for _ in 0..STEP_COUNT_MAX {
            if input.is_empty() {
                break;
            }
            self.step(input);
        }
        self.check();
    }

    /// Everything that can be compared.
    pub(crate) fn check(&self) {
        self.live.assert_counters();
        assert_same(&self.live, &self.replayed(), self.now);
        if let Some(twin) = &self.twin {
            assert_same(&self.live, twin, self.now);
        }
    }

    fn replayed(&self) -> State {
        self.replayed_from(&self.base, 0)
    }

    fn replayed_from(&self, base: &[u8], event_count: usize) -> State {
        let mut state = restored(base, self.options).expect("a snapshot of a state makes a state");
        for event in &self.events[event_count..] {
            let event = decode(event.tag, event.at, &event.body, self.options.dimension_count);
            state.apply(&event.expect("what was encoded can be decoded"));
        }
        state
    }

    fn record(&mut self, event: &Event) {
        let mut body = Vec::new();
        let tag = encode(event, self.options.dimension_count, &mut body);
        let found = decode(tag, self.now, &body, self.options.dimension_count);
        assert_eq!(found.as_ref(), Ok(event), "an event comes back as it was");
        self.live.apply(event);
        if let Some(twin) = &mut self.twin {
            twin.apply(event);
        }
        match event {
            Event::PoolCreated(event) => {
                self.pools.push(event.pool);
                self.pools.drain(..self.pools.len().saturating_sub(POOL_COUNT_MAX));
            }
            Event::Reserved(event) => {
                self.reservations.push(event.reservation);
                self.reservations
                    .drain(..self.reservations.len().saturating_sub(RESERVATION_COUNT_MAX));
            }
            _ => {}
        }
        self.events.push(Recorded {
            tag,
            at: self.now,
            body,
        });
    }

    fn command(&mut self, command: &Command) {
        let decision = self.live.decide(command, self.now);
        if let Some(twin) = &self.twin {
            assert_eq!(decision, twin.decide(command, self.now), "{command:?}");
        }
        if let Ok(Decision::Change(event)) = decision {
            self.record(&event);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 | 1 => self.put(input),
            2..=5 => self.reserve(input),
            6 => {
                let reservation = self.reservation(input);
                self.command(&Command::Confirm(Confirm {
                    reservation,
                    occurred_at: Timestamp::ABSENT,
                }));
            }
            7 => {
                let reservation = self.reservation(input);
                self.command(&Command::Release(Release {
                    reservation,
                    occurred_at: Timestamp(5),
                }));
            }
            8 => self.resize(input),
            9 | 10 => {
                // From a quarter of a millisecond to half a year.
                let micros = i64::from(input.u8()) + 1;
                self.now = self.now.plus_micros(micros << input.below(37));
            }
            11 => self.keep_house(input),
            12 => self.turn_away(input),
            13 => {
                // A crash: what the events make takes over, and a snapshot that was being taken is gone.
                let replayed = self.replayed();
                assert_same(&self.live, &replayed, self.now);
                self.live = replayed;
                self.taking = None;
            }
            14 => self.begin_snapshot(),
            _ => self.copy_snapshot(input),
        }
    }

    fn put(&mut self, input: &mut Input<'_>) {
        let mut units = |choices: &[u32]| {
            let values: Vec<_> = (0..self.options.dimension_count).map(|_| input.pick(choices)).collect();
            Units::from_slice(&values)
        };
        let limits = units(&[10, 0, 1, 3, 100, UNITS_MAX]);
        let overbook = units(&[0, 0, 1, UNITS_MAX]);
        let mut time = |choices: &[i64]| match input.pick(choices) {
            0 => Timestamp(0),
            i64::MAX => Timestamp::NEVER,
            micros => self.now.plus_micros(micros),
        };
        let starts_at = time(&[0, -1_000_000, 1_000_000]);
        let ends_at = time(&[1_000_000, -1_000, 86_400_000_000]).max(starts_at);
        let opens_at = time(&[0, 0, 0, 1_000_000]);
        let closes_at = time(&[i64::MAX, i64::MAX, 0, 1_000_000, 86_400_000_000]);
        let coverage = (0..input.below(4)).map(|n| n.to_string().into()).collect();
        let definition = PoolDefinition {
            name: names()[input.below(6)].as_str().into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at,
            ends_at,
            opens_at,
            closes_at,
            coverage,
            closed: input.once_in(16),
            shadow: input.once_in(4),
            limits,
            overbook,
        };
        definition.check().expect("the definition keeps the rules");
        let expected_version = input.pick(&[None, None, Some(1), Some(2), Some(PutPool::MUST_NOT_EXIST)]);
        let put = PutPool {
            definition,
            expected_version,
        };
        let outcome = self.live.decide_put(&put, self.now);
        if let Some(twin) = &self.twin {
            assert_eq!(outcome, twin.decide_put(&put, self.now));
        }
        match outcome {
            Ok(PutOutcome::Created(event)) => self.record(&Event::PoolCreated(event)),
            Ok(PutOutcome::Changed(event)) => self.record(&Event::PoolChanged(event)),
            Ok(PutOutcome::Unchanged { .. }) | Err(_) => {}
        }
    }

    fn pool(&self, input: &mut Input<'_>) -> PoolId {
        let choice = input.u8();
        match self.pools.len() {
            0 => PoolId(u64::from(choice)),
            count => {
                let pool = self.pools[usize::from(choice) % count];
                // A forged one now and then.
                PoolId(if choice > 250 {
                    pool.0 ^ 1 << input.below(64)
                } else {
                    pool.0
                })
            }
        }
    }

    fn reservation(&self, input: &mut Input<'_>) -> ReservationId {
        let choice = input.u8();
        match self.reservations.len() {
            0 => ReservationId(u128::from(choice)),
            count => {
                let id = self.reservations[usize::from(choice) % count];
                ReservationId(if choice > 250 {
                    id.0 ^ 1 << input.below(128)
                } else {
                    id.0
                })
            }
        }
    }

    fn units(&self, input: &mut Input<'_>, choices: &[u32]) -> Units {
        let values: Vec<_> = (0..self.options.dimension_count).map(|_| input.pick(choices)).collect();
        Units::from_slice(&values)
    }

    fn reserve(&mut self, input: &mut Input<'_>) {
        let mut units = self.units(input, &[1, 0, 2, 3, 7, UNITS_MAX]);
        if units.is_zero() {
            units.0[0] = 1;
        }
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let reserve = Reserve {
            pool: self.pool(input),
            key: Key(u128::from(input.u8() % 64)),
            units,
            hold_seconds: input.pick(&[0, 1, 60, 86_400]),
            occurred_at: Timestamp::ABSENT,
            random: self.random,
            reference: input
                .pick(&[None, None, Some("order-1"), Some("order-2")])
                .map(Into::into),
        };
        self.command(&Command::Reserve(reserve));
    }

    fn resize(&mut self, input: &mut Input<'_>) {
        let resize = Resize {
            reservation: self.reservation(input),
            expected_version: input.pick(&[None, None, Some(0), Some(1)]),
            units: self.units(input, &[Resize::UNCHANGED, 0, 1, 2, 5, UNITS_MAX]),
            hold_seconds: input.pick(&[0, 0, 30, 86_400]),
            occurred_at: Timestamp::ABSENT,
        };
        self.command(&Command::Resize(resize));
    }

    fn keep_house(&mut self, input: &mut Input<'_>) {
        let (kind, count) = (input.below(5), 1 + input.below(8));
        for _ in 0..count {
            let now = self.now;
            // The wheel of a twin may give out holds that are due together in another order, and its queue of pools look at other ones
            // first; a sweep is the same everywhere.
            let event = match kind {
                0 | 1 => self.live.next_expiry(now),
                2 => self.live.next_retirement(now),
                3 => self.live.next_extension(now, now.plus_seconds(30)),
                _ => {
                    let sweep = self.live.next_sweep(now);
                    if let Some(twin) = &self.twin {
                        assert_eq!(sweep, twin.next_sweep(now));
                    }
                    sweep
                }
            };
            let Some(event) = event else { break };
            self.record(&event);
        }
    }

    fn turn_away(&mut self, input: &mut Input<'_>) {
        let pool = self.pool(input);
        let mut units = [0; 8];
        units[..self.options.dimension_count].fill(input.pick(&[0, 1, u64::MAX]));
        if let Some(event) = self
            .live
            .turned_away(pool, START, self.now, u64::from(input.u8()), units)
        {
            self.record(&event);
        }
    }

    fn begin_snapshot(&mut self) {
        if self.taking.is_none() {
            self.live.begin_snapshot();
            self.taking = Some(Taking {
                pieces: Vec::new(),
                event_count: self.events.len(),
                digest: self.live.digest(self.now),
                at: self.now,
            });
        }
    }

    /// Copies some of the snapshot. Once it is whole, what it makes is the state of its moment, and with the events since then the twin.
    fn copy_snapshot(&mut self, input: &mut Input<'_>) {
        let Some(taking) = &mut self.taking else { return };
        let byte_count = 64 << input.below(16);
        if !self.live.copy_snapshot(byte_count, &mut taking.pieces) {
            return;
        }
        let taking = self.taking.take().expect("it was there right before");
        let pieces = encoded(&taking.pieces, self.options.dimension_count);
        let state = restored(&pieces, self.options).expect("a snapshot of a state makes a state");
        state.assert_counters();
        assert_eq!(state.digest(taking.at), taking.digest, "a snapshot is of its moment");
        let twin = self.replayed_from(&pieces, taking.event_count);
        assert_same(&self.live, &twin, self.now);
        self.twin = Some(twin);
    }
}

fn assert_same(one: &State, other: &State, now: Timestamp) {
    assert_eq!(one.digest(now), other.digest(now), "both show the same");
    assert_eq!(one.held_count(), other.held_count());
    assert_eq!(one.pool_count(), other.pool_count());
    assert_eq!(one.reservation_slot_count(), other.reservation_slot_count());
    other.assert_counters();
}

/// Options that make everything happen soon.
fn options(input: &mut Input<'_>) -> StateOptions {
    let key_retention_micros = input.pick(&[1_000_000, 0, 1_000, 86_400_000_000]);
    StateOptions {
        key_retention_micros,
        retire_after_micros: key_retention_micros + input.pick(&[0, 1_000_000, 35 * 86_400_000_000]),
        reservation_count_max: input.pick(&[1_000, 4, 70]),
        pool_count_max: input.pick(&[100, 3]),
        hash_seed: u64::from(input.u8()),
        ..StateOptions::new(input.pick(&DIMENSION_COUNTS))
    }
}

/// # Panics
/// When a promise of the domain does not hold.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = options(&mut input);
    Machine::new(options).run(&mut input);
}

/// A repeatable stream of bytes.
pub(crate) fn bytes_from(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A state in which something of everything happened, for other targets.
pub(crate) fn sample(dimension: usize, seed: u64, size: usize) -> (State, StateOptions) {
    let options = StateOptions {
        key_retention_micros: 1_000_000,
        retire_after_micros: 1_000_000,
        ..StateOptions::new(DIMENSION_COUNTS[dimension])
    };
    let mut machine = Machine::new(options);
    let bytes = bytes_from(seed, size);
    machine.run(&mut Input::new(&bytes));
    (machine.live, options)
}

/// The events of such a state, each as tag, time and body.
pub(crate) fn sample_events(dimension: usize, seed: u64, size: usize) -> Vec<(RecordTag, i64, Vec<u8>)> {
    let mut machine = Machine::new(StateOptions::new(DIMENSION_COUNTS[dimension]));
    let bytes = bytes_from(seed, size);
    machine.run(&mut Input::new(&bytes));
    machine
        .events
        .into_iter()
        .map(|event| (event.tag, event.at.0, event.body))
        .collect()
}

/// Streams of different lengths and options.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    (0..16)
        .map(|seed| (format!("stream-{seed}"), bytes_from(seed, 40 << (seed % 5))))
        .collect()
}
