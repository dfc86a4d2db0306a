//! What all cores see. Nothing here is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use plimsoll_journal::Directory;

use crate::history::HistoryQueue;
use crate::host_watch::HostFigures;
use crate::mailbox::Mailbox;
use crate::runtime::Pulse;
use crate::snapshots::SnapshotQueue;
use crate::stats::CoreCounters;

/// What all cores see.
pub(crate) struct Shared {
    /// By core.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// By core: what wakes its executor.
    pub(crate) pulses: Vec<Arc<Pulse>>,
    /// By core: what it counts; written by it alone.
    pub(crate) counters: Vec<CoreCounters>,
    /// By core: its snapshots, on their way to the file.
    pub(crate) snapshots: Vec<SnapshotQueue>,
    /// Between the cores and the thread that reads history.
    pub(crate) history: HistoryQueue,
    /// The core that owns each partition.
    pub(crate) owners: Vec<u16>,
    /// Names of the dimensions.
    pub(crate) dimensions: Vec<String>,
    /// The most connections of the server.
    pub(crate) connection_count_max: usize,
    /// Connections of all cores.
    pub(crate) connection_count: Arc<AtomicUsize>,
    /// 32 hexadecimal digits.
    pub(crate) directory_id: String,
    /// Memory and disk, looked at beside the cores.
    pub(crate) host: HostFigures,
    /// When the server started, microseconds since 1970.
    pub(crate) started_at: i64,
    /// Grows with every read that brought something, so that the heartbeat knows that the server is in use.
    pub(crate) asked: AtomicU64,
    serving: AtomicBool,
    stopping: AtomicBool,
    /// The server did not come up: no core waits for the others.
    abandoned: AtomicBool,
    /// Cores that have answered all that they had accepted.
    drained: AtomicUsize,
    finished: AtomicBool,
    history_is_damaged: AtomicBool,
}

impl Shared {
    pub(crate) fn new(directory: &Directory, connection_count_max: usize) -> Shared {
        let core_of = |journal: u16| directory.journals()[usize::from(journal)].core;
        let core_count = directory
            .journals()
            .iter()
            .filter(|journal| journal.core.is_some())
            .count();
        Shared {
            mailboxes: (0..core_count).map(|_| Mailbox::new(core_count)).collect(),
            pulses: (0..core_count).map(|_| Arc::default()).collect(),
            counters: (0..core_count).map(|_| CoreCounters::default()).collect(),
            snapshots: (0..core_count).map(|_| SnapshotQueue::default()).collect(),
            history: HistoryQueue::new(core_count),
            owners: directory.owners().iter().filter_map(|owner| core_of(*owner)).collect(),
            dimensions: directory.dimensions().to_vec(),
            connection_count_max,
            connection_count: Arc::default(),
            directory_id: directory.id().iter().map(|byte| format!("{byte:02x}")).collect(),
            host: HostFigures::default(),
            started_at: crate::clock::Clock::new().now().0,
            asked: AtomicU64::new(0),
            serving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            drained: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            history_is_damaged: AtomicBool::new(false),
        }
    }

    pub(crate) fn core_count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Every core's state is back: connections are accepted from now on.
    pub(crate) fn serve(&self) {
        self.serving.store(true, Ordering::Release);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Asks every core to finish what it accepted and end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.notify_all();
        // Feeds wait no longer.
        self.history.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks every core that came up to end, whatever the others do.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.stop();
    }

    pub(crate) fn core_drained(&self) {
        self.drained.fetch_add(1, Ordering::AcqRel);
        self.notify_all();
    }

    pub(crate) fn all_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) == self.core_count() || self.abandoned.load(Ordering::Acquire)
    }

    /// Every executor has ended.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.history.wake();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// The check of what recovery did not read has found damage.
    pub(crate) fn history_is_damaged(&self) {
        self.history_is_damaged.store(true, Ordering::Release);
    }

    /// Whether archives and sealed segments are whole, as far as they have been checked.
    pub(crate) fn is_history_whole(&self) -> bool {
        !self.history_is_damaged.load(Ordering::Acquire)
    }

    fn notify_all(&self) {
        for mailbox in &self.mailboxes {
            mailbox.notify();
        }
    }
}
