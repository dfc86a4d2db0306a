//! Bugs that a run can be given, without touching production code: in the roles that the simulator plays, and in type parameters.

use plimsoll_journal::{CrcFraming, Framing, JournalId, SegmentNumber};

use crate::disk::DiskPlants;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// `durable` is called before the pages are.
    AckBeforeSync,
    /// The checksum of a record leaves its length out.
    ChecksumWithoutLength,
    /// The checksum's seed ignores incarnation and number.
    SeedWithoutIncarnation,
    /// The incarnation is the same each time.
    IncarnationReused,
    /// A ticket that spans segments is synced without its last one.
    SyncSkipsLastSegment,
    /// A sync leaves a page out.
    SyncLosesPage,
    /// The newest durable segment is stored and synced before the segment is.
    ControlBeforeSegment,
    /// The control page is never synced.
    ControlNotSynced,
    /// Of two tickets the second one is finished first.
    TicketsOutOfOrder,
    /// A failed sync is tried again, and its success is believed.
    FailedSyncRetried,
    /// A client repeats a reserve whose answer was lost under another key.
    ReplyLostKeyChanged,
    /// Stores by recovery do not dirty their pages.
    RecoveryWithoutRewrite,
    /// Two answers of a core change places.
    RepliesOutOfOrder,
    /// A message never says that it continues a frame.
    FrameForgotten,
}

impl Plant {
    /// All bugs.
    pub const ALL: [Plant; 14] = [
        Plant::AckBeforeSync,
        Plant::ChecksumWithoutLength,
        Plant::SeedWithoutIncarnation,
        Plant::IncarnationReused,
        Plant::SyncSkipsLastSegment,
        Plant::SyncLosesPage,
        Plant::ControlBeforeSegment,
        Plant::ControlNotSynced,
        Plant::TicketsOutOfOrder,
        Plant::FailedSyncRetried,
        Plant::ReplyLostKeyChanged,
        Plant::RecoveryWithoutRewrite,
        Plant::RepliesOutOfOrder,
        Plant::FrameForgotten,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Plant::AckBeforeSync => "ack-before-sync",
            Plant::ChecksumWithoutLength => "checksum-without-length",
            Plant::SeedWithoutIncarnation => "seed-without-incarnation",
            Plant::IncarnationReused => "incarnation-reused",
            Plant::SyncSkipsLastSegment => "sync-skips-last-segment",
            Plant::SyncLosesPage => "sync-loses-page",
            Plant::ControlBeforeSegment => "control-before-segment",
            Plant::ControlNotSynced => "control-not-synced",
            Plant::TicketsOutOfOrder => "tickets-out-of-order",
            Plant::FailedSyncRetried => "failed-sync-retried",
            Plant::ReplyLostKeyChanged => "reply-lost-key-changed",
            Plant::RecoveryWithoutRewrite => "recovery-without-rewrite",
            Plant::RepliesOutOfOrder => "replies-out-of-order",
            Plant::FrameForgotten => "frame-forgotten",
        }
    }

    /// What is broken.
    pub fn description(self) -> &'static str {
        match self {
            Plant::AckBeforeSync => "tells the engine that a ticket is durable when its sync has only begun",
            Plant::ChecksumWithoutLength => "a framing whose checksum leaves out the bytes of the record's length",
            Plant::SeedWithoutIncarnation => {
                "a framing whose seed ignores incarnation and segment number, so that stale records pass"
            }
            Plant::IncarnationReused => "draws the same incarnation for every segment",
            Plant::SyncSkipsLastSegment => "syncs all segments of a ticket but the last, when there are several",
            Plant::SyncLosesPage => "a disk whose sync leaves out one page of several",
            Plant::ControlBeforeSegment => "stores and syncs the newest durable segment before that segment is synced",
            Plant::ControlNotSynced => {
                "acknowledges what lies in a new segment without syncing the control page that names it"
            }
            Plant::TicketsOutOfOrder => "finishes the second ticket in flight before the first",
            Plant::FailedSyncRetried => {
                "calls a failed sync once more and believes its success, which the kernel's clean pages fake"
            }
            Plant::ReplyLostKeyChanged => "a client that repeats a reserve without an answer under a new key",
            Plant::RecoveryWithoutRewrite => {
                "stores by recovery leave their pages clean, so that they never reach the disk"
            }
            Plant::RepliesOutOfOrder => "two answers of one core change places",
            Plant::FrameForgotten => "a message never says that it continues the frame of the one before",
        }
    }

    /// The seeds within which a run must have found it, from 1.
    pub const fn seed_count_max(self) -> u64 {
        300
    }

    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Plant> {
        Plant::ALL.into_iter().find(|plant| plant.name() == name)
    }

    pub(crate) fn disk(plant: Option<Plant>) -> DiskPlants {
        DiskPlants {
            rewrite_is_dropped: plant == Some(Plant::RecoveryWithoutRewrite),
            sync_loses_page: plant == Some(Plant::SyncLosesPage),
        }
    }
}

/// A checksum that leaves the length out: a record whose length has changed a little still passes.
pub(crate) struct LengthlessFraming;

impl Framing for LengthlessFraming {
    fn seed(journal: JournalId, incarnation: u64, number: SegmentNumber) -> u32 {
        CrcFraming::seed(journal, incarnation, number)
    }

    fn checksum(seed: u32, bytes: &[u8]) -> u32 {
        CrcFraming::checksum(seed, &bytes[4..])
    }
}

/// A seed that is the same for all segments of a journal.
pub(crate) struct SeedlessFraming;

impl Framing for SeedlessFraming {
    fn seed(journal: JournalId, _: u64, _: SegmentNumber) -> u32 {
        CrcFraming::seed(journal, 1, SegmentNumber(1))
    }

    fn checksum(seed: u32, bytes: &[u8]) -> u32 {
        CrcFraming::checksum(seed, bytes)
    }
}
