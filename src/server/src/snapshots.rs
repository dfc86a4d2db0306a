//! Snapshots beside the traffic: a core copies a bounded part of its state between two turns, a thread of its own writes the file.
//!
//! What a core has copied waits in a bounded queue. While that is full the core copies nothing but what it is about to change.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use plimsoll_domain::SnapshotPiece;
use plimsoll_engine::{Engine, SnapshotMoment};
use plimsoll_journal::{JournalId, ManifestWriter, MmapStorage, Recycler, SegmentNumber, SnapshotHeader};

use crate::background::spawn;
use crate::shared::Shared;
use crate::snapshot_file::SnapshotFile;

/// About so many bytes a core copies between two turns: 20 microseconds' worth.
const COPIED_PER_TURN: usize = 128 * 1024;
/// So many copies wait for the writer.
const QUEUE_LENGTH: usize = 64;
/// How often the writer looks, when there is nothing to do and when there is.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// Of one core at once, so that the others have their turn.
const TOLD_PER_STEP_MAX: usize = QUEUE_LENGTH;
/// After a snapshot that failed, or while the ring is at its end, another one is tried so soon.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a core tells the writer.
enum Told {
    Begun(SnapshotMoment),
    Copied(Vec<SnapshotPiece>),
    Ended,
}

/// Between one core and the writer.
pub(crate) struct SnapshotQueue {
    told: ArrayQueue<Told>,
    /// The writer still has to do with the last one.
    is_writing: AtomicBool,
    /// The last one has failed.
    has_failed: AtomicBool,
    /// The first segment that recovery from the older of two snapshots needs; 0 until there are two.
    needed_from: AtomicU64,
}

impl Default for SnapshotQueue {
    fn default() -> SnapshotQueue {
        SnapshotQueue {
            told: ArrayQueue::new(QUEUE_LENGTH),
            is_writing: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            needed_from: AtomicU64::new(0),
        }
    }
}

impl SnapshotQueue {
    /// The caller has seen that there is room.
    fn tell(&self, told: Told) {
        let is_told = self.told.push(told).is_ok();
        debug_assert!(is_told, "the core alone fills its queue, and looks first");
    }

    /// Segments below this one are in no use for recovery.
    pub(crate) fn needed_from(&self) -> SegmentNumber {
        SegmentNumber(self.needed_from.load(Ordering::Acquire))
    }
}

/// A core's side.
pub(crate) struct Snapshots {
    /// A snapshot is taken after so many bytes of journal.
    after: u64,
    next_at: u64,
    begun_at: Option<Instant>,
    recycler: Option<Recycler>,
    copying: Copying,
}

enum Copying {
    Nothing,
    Some(SnapshotMoment),
    /// All is copied; it may be used once the journal is durable up to its moment.
    All(SnapshotMoment),
}

impl Snapshots {
    /// `tail` is what recovery has read behind the last snapshot, in bytes.
    pub(crate) fn new(after: u64, tail: u64, recycler: Option<Recycler>) -> Snapshots {
        Snapshots {
            after,
            next_at: after.saturating_sub(tail),
            begun_at: None,
            recycler,
            copying: Copying::Nothing,
        }
    }

    /// Goes on between two turns; true when there is more to copy.
    pub(crate) fn step(&mut self, engine: &mut Engine<MmapStorage>, queue: &SnapshotQueue) -> bool {
        let (copying, more) = match self.copying {
            Copying::Nothing => (self.begin(engine, queue), false),
            Copying::Some(moment) if queue.told.len() + 1 < QUEUE_LENGTH => {
                let mut pieces = Vec::new();
                let is_all = engine.copy_snapshot(COPIED_PER_TURN, &mut pieces);
                queue.tell(Told::Copied(pieces));
                match is_all {
                    true => (Copying::All(moment), false),
                    false => (Copying::Some(moment), true),
                }
            }
            Copying::All(moment) if engine.journal().durable_lsn() >= moment.lsn && !queue.told.is_full() => {
                queue.tell(Told::Ended);
                (Copying::Nothing, false)
            }
            Copying::Some(_) | Copying::All(_) => return false,
        };
        self.copying = copying;
        more
    }

    /// Whether one is wanted before its turn: the last has failed, or no segment can be used again without a newer one.
    fn is_pressed(&self, queue: &SnapshotQueue) -> bool {
        let is_early = self.begun_at.is_some_and(|begun_at| begun_at.elapsed() < RETRY_AFTER);
        let is_at_end = || {
            self.recycler
                .as_ref()
                .is_some_and(|recycler| recycler.status().is_at_end)
        };
        !is_early && (queue.has_failed.load(Ordering::Acquire) || is_at_end())
    }

    fn begin(&mut self, engine: &mut Engine<MmapStorage>, queue: &SnapshotQueue) -> Copying {
        let appended = engine.journal().bytes_appended();
        if queue.is_writing.load(Ordering::Acquire) || (appended < self.next_at && !self.is_pressed(queue)) {
            return Copying::Nothing;
        }
        let Some(moment) = engine.begin_snapshot() else {
            return Copying::Nothing;
        };
        self.next_at = appended + self.after;
        self.begun_at = Some(Instant::now());
        queue.is_writing.store(true, Ordering::Release);
        queue.tell(Told::Begun(moment));
        Copying::Some(moment)
    }
}

/// Starts the thread that writes the snapshots of all cores; it ends when the executors have.
pub(crate) fn start(
    shared: Arc<Shared>,
    manifest: ManifestWriter,
    data: PathBuf,
    journals: impl Iterator<Item = JournalId>,
) -> std::io::Result<JoinHandle<()>> {
    let cores = journals.map(|journal| CoreSnapshots {
        journal,
        writing: Writing::Nothing,
    });
    let mut writer = Writer {
        cores: cores.collect(),
        manifest,
        data,
        shared,
    };
    spawn("snapshots", move || {
        for core in 0..writer.cores.len() {
            writer.tell_needed(core);
        }
        while !writer.shared.is_finished() {
            let mut is_busy = false;
            for core in 0..writer.cores.len() {
                is_busy |= writer.step(core);
            }
            std::thread::sleep(if is_busy { BUSY_INTERVAL } else { IDLE_INTERVAL });
        }
    })
}

/// One core's snapshot, as far as it is written.
enum Writing {
    Nothing,
    Open(Box<SnapshotFile>),
    /// Something went wrong; what still comes is dropped.
    Failed,
}

struct CoreSnapshots {
    journal: JournalId,
    writing: Writing,
}

struct Writer {
    shared: Arc<Shared>,
    manifest: ManifestWriter,
    data: PathBuf,
    cores: Vec<CoreSnapshots>,
}

impl Writer {
    /// Takes what the core has told; true when its snapshot is not done yet.
    fn step(&mut self, core: usize) -> bool {
        let shared = Arc::clone(&self.shared);
        let queue = &shared.snapshots[core];
        for _ in 0..TOLD_PER_STEP_MAX {
            let Some(told) = queue.told.pop() else { break };
            let is_end = matches!(told, Told::Ended);
            if let Err(error) = self.take(core, told) {
                self.cores[core].writing = Writing::Failed;
                tracing::error!(
                    core,
                    error = &*error,
                    "a snapshot cannot be taken; another one is tried in its turn"
                );
            }
            if is_end {
                let has_failed = matches!(self.cores[core].writing, Writing::Failed);
                queue.has_failed.store(has_failed, Ordering::Release);
                self.cores[core].writing = Writing::Nothing;
                queue.is_writing.store(false, Ordering::Release);
            }
            if shared.is_finished() {
                return false;
            }
        }
        !matches!(self.cores[core].writing, Writing::Nothing)
    }

    fn take(&mut self, core: usize, told: Told) -> Result<(), Box<dyn std::error::Error + 'static>> {
        let writing = std::mem::replace(&mut self.cores[core].writing, Writing::Failed);
        self.cores[core].writing = match (writing, told) {
            (_, Told::Begun(moment)) => {
                let header = SnapshotHeader {
                    journal: self.cores[core].journal,
                    lsn: moment.lsn,
                    segment: moment.segment,
                    time: moment.time,
                };
                let dimension_count = self.shared.dimensions.len();
                Writing::Open(Box::new(SnapshotFile::create(&self.data, header, dimension_count)?))
            }
            (Writing::Open(mut file), Told::Copied(pieces)) => {
                for piece in &pieces {
                    file.put(piece)?;
                }
                Writing::Open(file)
            }
            (Writing::Open(file), Told::Ended) => {
                let snapshot = file.finish()?;
                let (lsn, size) = (snapshot.header().lsn.0, snapshot.size());
                self.manifest.add_snapshot(snapshot)?;
                tracing::info!(core, lsn, size, "snapshot taken");
                self.tell_needed(core);
                Writing::Nothing
            }
            (writing, Told::Copied(_) | Told::Ended) => writing,
        };
        Ok(())
    }

    fn tell_needed(&self, core: usize) {
        let journal = self.cores[core].journal;
        // With one alone there is nothing to fall back on.
        if self.manifest.snapshots(journal).len() < 2 {
            return;
        }
        if let Some(segment) = self.manifest.needed_from(journal) {
            self.shared.snapshots[core]
                .needed_from
                .store(segment.0, Ordering::Release);
        }
    }
}
