//! Bugs that a run can be given, without touching production code: in the roles that the simulator plays, and in type parameters.

use std::sync::Arc;

use plimsoll_domain::{Command, Event, Moved};
use plimsoll_engine::{Call, EngineOptions, Message};
use plimsoll_journal::{CrcFraming, Framing, JournalId, SegmentNumber};
use plimsoll_protocol::{Applies, Status, wire};

use crate::disk::DiskPlants;
use crate::log::Happened;

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
    /// A batch is published when it is closed.
    PublishBeforeSync,
    /// Replies leave before the publication of their batch.
    ReplyBeforePublication,
    /// Some publications reach no reader.
    PublicationLost,
    /// Readers are told that everything is as of now.
    AgeNotTold,
    /// A hold past its deadline is confirmed.
    DeadlineNotChecked,
    /// Holds expire before their deadline.
    ExpiresEarly,
    /// Holds never expire.
    ExpiryForgotten,
    /// Deadlines that passed while the server was down are not moved.
    GraceForgotten,
    /// The clock is set ahead, and the engine is not told.
    JumpNotTold,
    /// Keys are forgotten early.
    KeyRetentionShort,
    /// Pools retire early.
    RetiresEarly,
    /// A resize is taken from any version.
    VersionNotChecked,
    /// Lost demand is counted twice.
    LostDemandTwice,
    /// Pages are written to before a snapshot has them.
    SnapshotWithoutCopies,
    /// A snapshot counts although the journal is not durable up to it.
    SnapshotBeforeDurable,
    /// A key is lost on the way into a snapshot.
    SnapshotLosesKey,
    /// What was asked for first is lost on the way into a snapshot.
    SnapshotLosesRequest,
    /// Deadlines are lost on the way into a snapshot.
    SnapshotLosesDeadline,
    /// Counters are lost on the way into a snapshot.
    SnapshotLosesCounter,
    /// The time of a pool's last event is lost on the way into a snapshot.
    SnapshotLosesLastEvent,
    /// Recovery skips an event behind the snapshot.
    SnapshotTailSkipped,
    /// The events of a reset are two batches.
    ResetSplit,
    /// What a reset brings back does not get its key.
    RevivedWithoutKey,
    /// Where restored reservations lie is lost on the way into a snapshot.
    SnapshotLosesMoved,
}

impl Plant {
    /// All bugs.
    pub const ALL: [Plant; 38] = [
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
        Plant::PublishBeforeSync,
        Plant::ReplyBeforePublication,
        Plant::PublicationLost,
        Plant::AgeNotTold,
        Plant::DeadlineNotChecked,
        Plant::ExpiresEarly,
        Plant::ExpiryForgotten,
        Plant::GraceForgotten,
        Plant::JumpNotTold,
        Plant::KeyRetentionShort,
        Plant::RetiresEarly,
        Plant::VersionNotChecked,
        Plant::LostDemandTwice,
        Plant::SnapshotWithoutCopies,
        Plant::SnapshotBeforeDurable,
        Plant::SnapshotLosesKey,
        Plant::SnapshotLosesRequest,
        Plant::SnapshotLosesDeadline,
        Plant::SnapshotLosesCounter,
        Plant::SnapshotLosesLastEvent,
        Plant::SnapshotTailSkipped,
        Plant::ResetSplit,
        Plant::RevivedWithoutKey,
        Plant::SnapshotLosesMoved,
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
            Plant::PublishBeforeSync => "publish-before-sync",
            Plant::ReplyBeforePublication => "reply-before-publication",
            Plant::PublicationLost => "publication-lost",
            Plant::AgeNotTold => "age-not-told",
            Plant::DeadlineNotChecked => "deadline-not-checked",
            Plant::ExpiresEarly => "expires-early",
            Plant::ExpiryForgotten => "expiry-forgotten",
            Plant::GraceForgotten => "grace-forgotten",
            Plant::JumpNotTold => "jump-not-told",
            Plant::KeyRetentionShort => "key-retention-short",
            Plant::RetiresEarly => "retires-early",
            Plant::VersionNotChecked => "version-not-checked",
            Plant::LostDemandTwice => "lost-demand-twice",
            Plant::SnapshotWithoutCopies => "snapshot-without-copies",
            Plant::SnapshotBeforeDurable => "snapshot-before-durable",
            Plant::SnapshotLosesKey => "snapshot-loses-key",
            Plant::SnapshotLosesRequest => "snapshot-loses-request",
            Plant::SnapshotLosesDeadline => "snapshot-loses-deadline",
            Plant::SnapshotLosesCounter => "snapshot-loses-counter",
            Plant::SnapshotLosesLastEvent => "snapshot-loses-last-event",
            Plant::SnapshotTailSkipped => "snapshot-tail-skipped",
            Plant::ResetSplit => "reset-split",
            Plant::RevivedWithoutKey => "revived-without-key",
            Plant::SnapshotLosesMoved => "snapshot-loses-moved",
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
            Plant::PublishBeforeSync => "publishes what a batch changed before the batch is durable",
            Plant::ReplyBeforePublication => "sends the replies of a batch before its publication",
            Plant::PublicationLost => "drops a publication now and then",
            Plant::AgeNotTold => "tells readers that everything is as of now, whatever waits for its sync",
            Plant::DeadlineNotChecked => "answers a confirmation of an expired hold as if there were no deadline",
            Plant::ExpiresEarly => "holds expire as soon as they could be released: releases are taken for expiries",
            Plant::ExpiryForgotten => "an engine whose timer wheel forgets: what expires is not seen by anybody",
            Plant::GraceForgotten => "an engine without a grace for holds after a start",
            Plant::JumpNotTold => "sets the clock ahead without telling the engine",
            Plant::KeyRetentionShort => "an engine that forgets keys after half of the retention",
            Plant::RetiresEarly => "an engine that retires pools as soon as their end is over",
            Plant::VersionNotChecked => "takes a resize whatever version it was made from",
            Plant::LostDemandTwice => "tells twice as many refusals as there were",
            Plant::SnapshotWithoutCopies => "a snapshot that has pages as they are when it gets to them",
            Plant::SnapshotBeforeDurable => "uses a snapshot before the journal is durable up to its LSN",
            Plant::SnapshotLosesKey => "writes wrong keys into snapshots",
            Plant::SnapshotLosesRequest => "leaves out of snapshots what was asked for before a resize",
            Plant::SnapshotLosesDeadline => {
                "writes no deadlines into snapshots, so that nothing expires after a restore"
            }
            Plant::SnapshotLosesCounter => "writes pools into snapshots as if nothing were held",
            Plant::SnapshotLosesLastEvent => "writes pools into snapshots as if nothing had happened in them for long",
            Plant::SnapshotTailSkipped => "a recovery that takes a snapshot for later than it is",
            Plant::ResetSplit => "a journal whose batch ends within the events of a reset",
            Plant::RevivedWithoutKey => "brings reservations back under keys that are not theirs",
            Plant::SnapshotLosesMoved => "leaves out of snapshots which reservations lie elsewhere than their ids say",
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

    /// What the engine is told in place of its options.
    pub(crate) fn options(self, options: &mut EngineOptions) {
        match self {
            Plant::GraceForgotten => options.hold_grace_micros = 0,
            Plant::KeyRetentionShort => options.state.key_retention_micros /= 2,
            Plant::RetiresEarly => options.state.retire_after_micros = 0,
            _ => {}
        }
    }

    /// What the engine takes in place of a message.
    pub(crate) fn message(self, message: &mut Message) {
        if let (Plant::RevivedWithoutKey, Message::Request(request)) = (self, &mut *message)
            && let Call::ResetPool { target, .. } = &mut request.call
        {
            for past in &mut Arc::make_mut(target).reservations {
                past.key.0 ^= 1;
            }
        }
        if let (Plant::VersionNotChecked, Message::Commands(batch)) = (self, message) {
            for entry in &mut batch.entries {
                if let Command::Resize(resize) = &mut entry.command {
                    resize.expected_version = None;
                }
            }
        }
    }

    /// What a turn seems to have written.
    pub(crate) fn events(self, events: &mut Vec<Happened>) {
        for happened in &mut *events {
            match (&mut happened.event, self) {
                (Event::Released(event), Plant::ExpiresEarly) if !event.was_confirmed => {
                    happened.event = Event::Expired(Moved {
                        sequence: event.sequence,
                        at: event.at,
                        reservation: event.reservation,
                        pool: event.pool,
                        units: event.units,
                        occurred_at: event.occurred_at,
                    });
                }
                (Event::TurnedAway(event), Plant::LostDemandTwice) => event.refusals *= 2,
                _ => {}
            }
        }
        if self == Plant::ExpiryForgotten {
            events.retain(|happened| !matches!(happened.event, Event::Expired(_)));
        }
    }

    /// What a message says when it comes back.
    pub(crate) fn reply(self, message: &mut Message) {
        if let (Plant::DeadlineNotChecked, Message::Commands(batch)) = (self, message) {
            for (entry, outcome) in batch.entries.iter().zip(&mut batch.outcomes) {
                if let Command::Confirm(confirm) = &entry.command
                    && outcome.status() == Status::HoldExpired.number()
                {
                    let applies = Applies {
                        reservation: plimsoll_protocol::ReservationId(confirm.reservation.0),
                        state: wire::State::confirmed,
                        version: 0,
                        created_at: 0,
                        expires_at: 0,
                        repeated: false,
                        would_refuse: false,
                    };
                    *outcome = wire::Outcome::about(Status::Ok, &applies);
                }
            }
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
