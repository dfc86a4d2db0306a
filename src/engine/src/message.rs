//! What reaches an engine and what leaves it. A message comes back to its sender with the outcomes in it, so that its memory is used again.

use std::sync::Arc;

use plimsoll_domain::{
    Command, Counters, PoolDefinition, PoolId, PutPool, ReservationId, ReservationView, ResetChange, ResetTarget,
    Timestamp,
};
use plimsoll_protocol::{Status, wire};

/// A message to an engine, and the same message on its way back.
#[derive(Debug)]
pub enum Message {
    /// Commands on reservations.
    Commands(Box<Batch>),
    /// Anything else.
    Request(Box<Request>),
}

impl Message {
    /// The core that sent it, and that it goes back to.
    pub fn sender(&self) -> usize {
        match self {
            Message::Commands(batch) => batch.sender,
            Message::Request(request) => request.sender,
        }
    }

    /// Whether its first command belongs to the same frame as the last one of the sender's message before.
    pub(crate) fn continues(&self) -> bool {
        matches!(self, Message::Commands(batch) if batch.continues)
    }

    /// Answers all of it with this status.
    pub fn refuse(&mut self, status: Status) {
        match self {
            Message::Commands(batch) => batch.refuse_all(status),
            Message::Request(request) => request.answer = Answer::Refused(status),
        }
    }
}

/// One command and where its outcome goes.
#[derive(Debug)]
pub struct Entry {
    /// The sender's own name for the frame that the command came in. The engine only compares it.
    pub frame: u32,
    /// The command's place in that frame.
    pub index: u32,
    /// What is asked for.
    pub command: Command,
}

/// Commands for one owner, gathered by one sender.
#[derive(Debug, Default)]
pub struct Batch {
    /// The core that sent it, and that it goes back to.
    pub sender: usize,
    /// The first command belongs to the same frame as the last one of the sender's message before.
    pub continues: bool,
    /// The commands.
    pub entries: Vec<Entry>,
    /// On the way back: an outcome for each command, in order.
    pub outcomes: Vec<wire::Outcome>,
    /// On the way back: what remains in each dimension of the directory, for each outcome that is `insufficient_capacity`, in order.
    pub remaining: Vec<i64>,
}

impl Batch {
    /// Empties the message, keeping its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.outcomes.clear();
        self.remaining.clear();
    }

    /// Answers every command with this status.
    pub fn refuse_all(&mut self, status: Status) {
        self.outcomes.clear();
        self.remaining.clear();
        self.outcomes
            .extend(self.entries.iter().map(|_| wire::Outcome::refused(status)));
    }
}

/// A call of another sort, for one owner.
#[derive(Debug)]
pub struct Request {
    /// The core that sent it, and that it goes back to.
    pub sender: usize,
    /// The sender's own name for what the answer belongs to.
    pub origin: u32,
    /// The sender's own name for the part of it that this is.
    pub part: u32,
    /// What is asked for.
    pub call: Call,
    /// On the way back: the answer.
    pub answer: Answer,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Call {
    /// The ids of pools by name.
    ResolvePools(Vec<Box<str>>),
    /// Create or change pools.
    PutPools {
        /// The definitions, whose values have been checked.
        puts: Vec<PutPool>,
        /// Change nothing.
        dry_run: bool,
    },
    /// Pools by name.
    GetPools(Vec<Box<str>>),
    /// Pools by the order of their names.
    ListPools {
        /// Only names after this one.
        after: Box<str>,
        /// At most this many.
        limit: usize,
    },
    /// Reservations by id.
    GetReservations(Vec<ReservationId>),
    /// Take a pool back to an earlier moment. What has changed is compared in the turn itself; all of it takes effect or
    /// nothing.
    ResetPool {
        /// The pool's name.
        pool: Box<str>,
        /// What it was, as its history tells.
        target: Arc<ResetTarget>,
        /// The [`ResetReport::version`] that the target was looked at with; `None`: any.
        expected_version: Option<u64>,
        /// Change nothing.
        dry_run: bool,
    },
}

/// The answer to a [`Call`], in the order of what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// None yet.
    Pending,
    /// Not done at all.
    Refused(Status),
    /// The ids, where there is such a pool.
    ResolvedPools(Vec<Option<PoolId>>),
    /// What became of each definition.
    PutPools(Vec<PutResult>),
    /// The pools, where they exist.
    Pools(Vec<PoolReport>),
    /// The reservations, where they exist.
    Reservations(Vec<Option<ReservationReport>>),
    /// What a reset does or did.
    Reset(Box<ResetReport>),
}

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutResult {
    /// Ok or the refusal.
    pub status: Status,
    /// What changed.
    pub change: wire::Change,
    /// The pool; 0 when refused.
    pub pool: u64,
    /// The version that stands; 0 when refused.
    pub version: u64,
}

/// A pool and what is reserved of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolReport {
    /// Its id.
    pub id: PoolId,
    /// Its definition.
    pub definition: Arc<PoolDefinition>,
    /// Counts the definitions.
    pub version: u64,
    /// Units that wait for confirmation.
    pub held: Counters,
    /// Confirmed units.
    pub confirmed: Counters,
}

impl PoolReport {
    /// At least as many bytes as the pool takes in an answer: the fixed parts of its tables are below 1 KiB, those of each prefix below 16 bytes.
    pub fn size_in_answer(&self) -> usize {
        1024 + self
            .definition
            .coverage
            .iter()
            .map(|prefix| prefix.len() + 16)
            .sum::<usize>()
    }
}

/// What a reset of a pool does, or would do. Pairs are of before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct ResetReport {
    /// The pool.
    pub pool: PoolId,
    /// A digest of the pool and what lived in it before: equal for equal definitions and reservations.
    pub version: u64,
    /// Whether it took effect: false of a dry run.
    pub is_done: bool,
    /// The definitions, the same one twice unless it changes.
    pub definition: (Arc<PoolDefinition>, Arc<PoolDefinition>),
    /// What happens to reservations, in the order of the events; none when the pool is what it was.
    pub changes: Vec<ResetChange>,
    /// Units that wait for their confirmation.
    pub held: (Counters, Counters),
    /// Confirmed units.
    pub confirmed: (Counters, Counters),
}

/// A reservation with the texts that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReservationReport {
    /// The reservation.
    pub view: ReservationView,
    /// Its pool's name.
    pub pool_name: Box<str>,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}

/// The wire's form of a time that may be absent: 0.
pub(crate) fn micros_or_zero(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| time.0)
}
