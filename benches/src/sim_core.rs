//! One core's engine on a journal in memory, driven as the server drives it, without sockets and without a disk.

use std::mem;

use plimsoll_domain::{
    Command, Confirm, Key, PoolId, PutPool, Release, ReservationId, Reserve, Resize, Restoring, SnapshotPiece,
    StateOptions, Timestamp, Units,
};
use plimsoll_engine::{Answer, Batch, Call, Effects, Engine, EngineOptions, Entry, Message, RecoveryBase, Request};
use plimsoll_journal::{RecoveryStart, Summary};
use plimsoll_protocol::Status;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::inventory::{DIMENSION_COUNT, KEY_RETENTION_MICROS, definition};
use crate::sim_storage::{FullSegments, SimDisk, SimStorage};
use crate::{InventorySize, SEED, sized};

/// Commands of one message, which are one turn and one batch: what a server under load gathers.
const COMMANDS_PER_TURN: usize = 1024;

/// The size of a segment: the server's.
fn segment_size() -> usize {
    sized(64 << 20, 64 << 10)
}

/// What a command on a reservation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make it last.
    Confirm,
    /// Take 2 units of the first dimension in place of 1.
    Resize,
    /// Give it back.
    Release,
}

/// Commands, in messages each of which is one turn.
pub struct Batches(#[expect(clippy::vec_box, reason = "it is the box that travels")] Vec<Box<Batch>>);

/// One core's engine with pools that never fill up, in two dimensions.
pub struct SimCore {
    engine: Engine<SimStorage>,
    pools: Vec<PoolId>,
    random: Pcg64,
    now: Timestamp,
    disk: SimDisk,
    snapshot: Option<Snapshot>,
}

/// A snapshot of the state, as the engine copied it.
struct Snapshot {
    start: RecoveryStart,
    pieces: Vec<SnapshotPiece>,
}

fn options() -> EngineOptions {
    EngineOptions {
        state: StateOptions {
            key_retention_micros: KEY_RETENTION_MICROS,
            hash_seed: SEED,
            ..StateOptions::new(DIMENSION_COUNT)
        },
        hold_grace_micros: 0,
    }
}

fn recover(
    disk: &SimDisk,
    full_segments: FullSegments,
    base: Option<RecoveryBase>,
    now: Timestamp,
) -> (Engine<SimStorage>, Summary) {
    let mut random = Pcg64::seed_from_u64(now.0 as u64);
    let incarnations = move || random.random_range(1..u64::MAX);
    let recovered = Engine::recover(disk.storage(full_segments), options(), base, now, incarnations);
    let recovered = recovered.unwrap_or_else(|error| panic!("a journal in memory is whole: {error}"));
    (recovered.engine, recovered.summary)
}

impl SimCore {
    /// The same for every call with one size. The live reservations are confirmed.
    pub fn new(size: InventorySize, full_segments: FullSegments) -> SimCore {
        let disk = SimDisk::new(segment_size());
        let now = Timestamp(1_700_000_000_000_000);
        let (engine, _) = recover(&disk, full_segments, None, now);
        let mut core = SimCore {
            engine,
            pools: Vec::new(),
            random: Pcg64::seed_from_u64(SEED),
            now,
            disk,
            snapshot: None,
        };
        core.put_pools(size.pool_count);
        let mut left = size.live_count;
        while left > 0 {
            let count = left.min(COMMANDS_PER_TURN);
            let mut batches = core.reserves(count, 0);
            core.run(&mut batches);
            core.made(&batches);
            left -= count;
        }
        core
    }

    fn put_pools(&mut self, count: usize) {
        let puts = (0..count).map(|number| PutPool {
            definition: definition(number),
            expected_version: None,
        });
        let request = Message::Request(Box::new(Request {
            sender: 0,
            origin: 0,
            part: 0,
            call: Call::PutPools {
                puts: puts.collect(),
                dry_run: false,
            },
            answer: Answer::Pending,
        }));
        let answer = match self.turn(request) {
            Message::Request(request) => request.answer,
            Message::Commands(_) => panic!("a request comes back as one"),
        };
        let Answer::PutPools(results) = answer else {
            panic!("a put was answered with {answer:?}");
        };
        self.pools = results.iter().map(|result| PoolId(result.pool)).collect();
    }

    /// One message through one turn and its sync.
    #[inline]
    fn turn(&mut self, message: Message) -> Message {
        let taken = self.engine.submit(message);
        assert!(taken.is_ok(), "an idle engine takes a message");
        let Effects { ticket, .. } = self.engine.turn(self.now);
        if let Some(ticket) = ticket {
            if let Some(opened) = ticket.opened {
                self.engine.segment_synced(opened);
            }
            self.engine.durable(ticket.upto);
        }
        while let Some(publication) = self.engine.next_publication() {
            self.engine.recycle(publication);
        }
        self.engine.next_reply().expect("all of it is durable")
    }

    /// Takes each batch through a turn of its own: decides, applies, appends, publishes, answers.
    pub fn run(&mut self, batches: &mut Batches) {
        for batch in &mut batches.0 {
            let message = Message::Commands(mem::take(batch));
            match self.turn(message) {
                Message::Commands(done) => *batch = done,
                Message::Request(_) => panic!("commands come back as such"),
            }
        }
    }

    /// The reservations that these batches were about, each of whose commands must have taken effect.
    pub fn made(&self, batches: &Batches) -> Vec<ReservationId> {
        let outcomes = batches.0.iter().flat_map(|batch| &batch.outcomes);
        outcomes
            .map(|outcome| {
                assert_eq!(outcome.status(), Status::Ok.number(), "{outcome:?}");
                assert!(!outcome.is_repeated(), "every key is new");
                ReservationId(outcome.reservation_id().0)
            })
            .collect()
    }

    /// So many reserves with new keys, of pools at random, held for so long or confirmed at once.
    pub fn reserves(&mut self, count: usize, hold_seconds: u32) -> Batches {
        let commands: Vec<Command> = (0..count)
            .map(|_| {
                let pool = self.random.random_range(0..self.pools.len());
                let key: u128 = self.random.random();
                Command::Reserve(Reserve {
                    pool: self.pools[pool],
                    key: Key(key),
                    units: Units::from_slice(&[1, key as u32 & 7]),
                    hold_seconds,
                    occurred_at: Timestamp::ABSENT,
                    random: key as u64 >> 8,
                    reference: None,
                })
            })
            .collect();
        batches(commands)
    }

    /// The same change of each of them, in another order.
    pub fn changes(&mut self, reservations: &mut [ReservationId], change: Change) -> Batches {
        for last in (1..reservations.len()).rev() {
            reservations.swap(last, self.random.random_range(0..=last));
        }
        let occurred_at = Timestamp::ABSENT;
        let command = |&reservation: &ReservationId| match change {
            Change::Confirm => Command::Confirm(Confirm {
                reservation,
                occurred_at,
            }),
            Change::Resize => Command::Resize(Resize {
                reservation,
                expected_version: None,
                units: Units::from_slice(&[2, Resize::UNCHANGED]),
                hold_seconds: 0,
                occurred_at,
            }),
            Change::Release => Command::Release(Release {
                reservation,
                occurred_at,
            }),
        };
        batches(reservations.iter().map(command).collect())
    }

    /// Lets so much time pass that what has ended is forgotten, and its slots are used again.
    pub fn forget_ended(&mut self) {
        self.now = self.now.plus_micros(KEY_RETENTION_MICROS + 1);
    }

    /// Takes a snapshot: the journal is replayed behind it. Something must have been decided, and everything be durable.
    pub fn take_snapshot(&mut self) {
        let moment = self.engine.begin_snapshot().expect("no snapshot is being taken");
        let mut pieces = Vec::new();
        while !self.engine.copy_snapshot(usize::MAX, &mut pieces) {}
        let start = RecoveryStart {
            lsn: moment.lsn,
            segment: moment.segment,
            time: moment.time,
        };
        self.snapshot = Some(Snapshot { start, pieces });
    }

    /// Ends the engine; its journal stays, and the last snapshot.
    pub fn into_journal(self) -> SimJournal {
        let digest = self.digest();
        let SimCore {
            engine,
            disk,
            now,
            snapshot,
            ..
        } = self;
        drop(engine);
        SimJournal {
            disk,
            now,
            digest,
            snapshot,
        }
    }

    /// A digest of everything that the state shows.
    pub fn digest(&self) -> u64 {
        self.engine.state().digest(self.now)
    }
}

fn batches(commands: Vec<Command>) -> Batches {
    let mut batches = Vec::with_capacity(commands.len().div_ceil(COMMANDS_PER_TURN));
    let mut commands = commands.into_iter().enumerate().peekable();
    while commands.peek().is_some() {
        let entries = commands.by_ref().take(COMMANDS_PER_TURN).map(|(index, command)| Entry {
            frame: 0,
            index: index as u32,
            command,
        });
        batches.push(Box::new(Batch {
            entries: entries.collect(),
            ..Batch::default()
        }));
    }
    Batches(batches)
}

/// A journal without an engine.
pub struct SimJournal {
    disk: SimDisk,
    now: Timestamp,
    digest: u64,
    snapshot: Option<Snapshot>,
}

impl SimJournal {
    /// What a replay begins with: the state of the snapshot, if one was taken.
    pub fn base(&self) -> Option<RecoveryBase> {
        let Snapshot { start, pieces } = self.snapshot.as_ref()?;
        let mut restoring = Restoring::new(options().state);
        for piece in pieces {
            restoring.take(piece).expect("it was copied from a state");
        }
        Some(RecoveryBase {
            state: restoring.before_replay().expect("all pieces were taken"),
            start: *start,
        })
    }

    /// Replays it from the first record on, or behind the snapshot that `base` has, and returns how many records that were. It
    /// can be replayed again.
    pub fn replay(&self, base: Option<RecoveryBase>) -> u64 {
        let (engine, summary) = recover(&self.disk, FullSegments::Stay, base, self.now);
        drop(engine);
        summary.records
    }

    /// Whether a replay leads to the state that the journal was written from.
    pub fn is_faithful(&self) -> bool {
        let (engine, _) = recover(&self.disk, FullSegments::Stay, self.base(), self.now);
        engine.state().digest(self.now) == self.digest
    }

    /// A digest of everything that the state showed.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}
