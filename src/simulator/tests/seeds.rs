//! Seeds that hold, that are one with themselves, and that catch what is planted.

use std::collections::BTreeMap;

use plimsoll_simulator::{FaultKind, Faults, Options, Plant, Promise, run, shrink};

/// Runs without a bug: nothing is found.
fn holds(options: &Options) -> plimsoll_simulator::Outcome {
    run(options).unwrap_or_else(|failure| panic!("{}broken: {}", failure.report, failure.violation))
}

#[test]
fn seeds_hold_and_every_fault_strikes() {
    let mut happened = BTreeMap::new();
    for seed in 1..=60 {
        for (what, times) in holds(&Options::new(seed)).happened {
            *happened.entry(what).or_insert(0) += times;
        }
    }
    // A fault that never strikes tests nothing.
    for what in [
        "bit flips",
        "clock jumps",
        "confirmed",
        "connection lost",
        "crash in recovery",
        "crash in the turn",
        "deadline moved",
        "disk full",
        "effect stands",
        "flood",
        "hold expires",
        "hold_expired",
        "insufficient capacity",
        "key_reused",
        "kill",
        "no room to start",
        "pause",
        "pool retires",
        "power loss",
        "reset",
        "reset looked at",
        "resized",
        "restored",
        "restored elsewhere",
        "restored in place",
        "restored without its key",
        "ring exhausted",
        "shadow reserve",
        "slot used again",
        "snapshot counts",
        "snapshot lost",
        "snapshot used",
        "storage full",
        "sweep",
        "sync fails",
        "time passes",
        "turned away",
    ] {
        assert!(happened.contains_key(what), "{what} never happened: {happened:?}");
    }
}

#[test]
fn one_seed_gives_one_digest() {
    for seed in [7, 8, 9, u64::MAX] {
        let options = Options {
            steps: 1_000,
            ..Options::new(seed)
        };
        let digest = holds(&options).digest;
        assert_eq!(digest, holds(&options).digest, "seed {seed}");
        assert_ne!(
            digest,
            holds(&Options {
                seed: seed ^ 1 << 40,
                ..options
            })
            .digest,
            "seed {seed} and another one"
        );
    }
}

/// Expects the planted bug to be caught within the first seeds, by one of these checkers.
fn check(plant: Plant, seed_count: u64, promises: &[Promise]) {
    assert!(
        seed_count <= plant.seed_count_max(),
        "the program promises to find it sooner"
    );
    for seed in 1..=seed_count {
        if let Err(failure) = run(&Options {
            plant: Some(plant),
            ..Options::new(seed)
        }) {
            assert!(
                promises.contains(&failure.violation.promise),
                "caught by {}",
                failure.violation
            );
            assert!(
                failure.report.contains(&format!("--seed {seed} ")),
                "{}",
                failure.report
            );
            // The canary: it is the bug that was found.
            holds(&Options::new(seed));
            return;
        }
    }
    panic!("{} is not caught by {seed_count} seeds", plant.name());
}

#[test]
fn ack_before_sync() {
    check(Plant::AckBeforeSync, 20, &[Promise::Durable, Promise::BadDisk]);
}

#[test]
fn checksum_without_length() {
    check(Plant::ChecksumWithoutLength, 150, &[Promise::BadDisk]);
}

#[test]
fn seed_without_incarnation() {
    check(
        Plant::SeedWithoutIncarnation,
        100,
        &[Promise::Forgotten, Promise::Durable, Promise::BadDisk],
    );
}

#[test]
fn incarnation_reused() {
    check(
        Plant::IncarnationReused,
        100,
        &[Promise::Forgotten, Promise::Durable, Promise::BadDisk],
    );
}

#[test]
fn sync_skips_last_segment() {
    check(Plant::SyncSkipsLastSegment, 150, &[Promise::Durable, Promise::BadDisk]);
}

#[test]
fn sync_loses_page() {
    check(Plant::SyncLosesPage, 30, &[Promise::Durable, Promise::BadDisk]);
}

#[test]
fn control_before_segment() {
    check(Plant::ControlBeforeSegment, 30, &[Promise::BadDisk]);
}

#[test]
fn control_not_synced() {
    check(Plant::ControlNotSynced, 150, &[Promise::Durable]);
}

#[test]
fn tickets_out_of_order() {
    check(Plant::TicketsOutOfOrder, 20, &[Promise::Assertion]);
}

#[test]
fn failed_sync_retried() {
    check(Plant::FailedSyncRetried, 100, &[Promise::Durable, Promise::BadDisk]);
}

#[test]
fn reply_lost_key_changed() {
    check(Plant::ReplyLostKeyChanged, 20, &[Promise::OneEffect]);
}

#[test]
fn recovery_without_rewrite() {
    check(
        Plant::RecoveryWithoutRewrite,
        100,
        &[Promise::Durable, Promise::BadDisk],
    );
}

#[test]
fn replies_out_of_order() {
    check(Plant::RepliesOutOfOrder, 20, &[Promise::Order]);
}

#[test]
fn frame_forgotten() {
    check(Plant::FrameForgotten, 200, &[Promise::Order]);
}

#[test]
fn publish_before_sync() {
    check(Plant::PublishBeforeSync, 30, &[Promise::Durable]);
}

#[test]
fn reply_before_publication() {
    check(Plant::ReplyBeforePublication, 5, &[Promise::Fresh]);
}

#[test]
fn publication_lost() {
    check(Plant::PublicationLost, 10, &[Promise::Fresh]);
}

#[test]
fn age_not_told() {
    check(Plant::AgeNotTold, 5, &[Promise::Fresh]);
}

#[test]
fn deadline_not_checked() {
    check(Plant::DeadlineNotChecked, 30, &[Promise::Answer]);
}

#[test]
fn expires_early() {
    check(Plant::ExpiresEarly, 30, &[Promise::Time]);
}

#[test]
fn expiry_forgotten() {
    check(
        Plant::ExpiryForgotten,
        10,
        &[Promise::Time, Promise::Order, Promise::Forgotten],
    );
}

#[test]
fn grace_forgotten() {
    check(Plant::GraceForgotten, 40, &[Promise::Time]);
}

#[test]
fn jump_not_told() {
    check(Plant::JumpNotTold, 100, &[Promise::Time]);
}

#[test]
fn key_retention_short() {
    check(
        Plant::KeyRetentionShort,
        20,
        &[Promise::Forgotten, Promise::OneEffect, Promise::Answer],
    );
}

#[test]
fn retires_early() {
    check(Plant::RetiresEarly, 60, &[Promise::Time]);
}

#[test]
fn version_not_checked() {
    check(Plant::VersionNotChecked, 30, &[Promise::Answer]);
}

#[test]
fn lost_demand_twice() {
    check(Plant::LostDemandTwice, 10, &[Promise::LostDemand]);
}

#[test]
fn snapshot_without_copies() {
    check(Plant::SnapshotWithoutCopies, 20, &[Promise::Snapshot]);
}

#[test]
fn snapshot_before_durable() {
    check(
        Plant::SnapshotBeforeDurable,
        100,
        &[Promise::Snapshot, Promise::BadDisk],
    );
}

#[test]
fn snapshot_loses_key() {
    check(Plant::SnapshotLosesKey, 20, &[Promise::Snapshot]);
}

#[test]
fn snapshot_loses_request() {
    // A reset finds that the reservation is another one than history says, and does nothing.
    check(
        Plant::SnapshotLosesRequest,
        40,
        &[Promise::OneEffect, Promise::Answer, Promise::BadDisk],
    );
}

#[test]
fn snapshot_loses_deadline() {
    check(
        Plant::SnapshotLosesDeadline,
        30,
        &[Promise::Snapshot, Promise::Assertion],
    );
}

#[test]
fn snapshot_loses_counter() {
    check(Plant::SnapshotLosesCounter, 30, &[Promise::Snapshot]);
}

#[test]
fn snapshot_loses_last_event() {
    check(Plant::SnapshotLosesLastEvent, 200, &[Promise::Time]);
}

#[test]
fn snapshot_tail_skipped() {
    check(
        Plant::SnapshotTailSkipped,
        20,
        &[Promise::BadDisk, Promise::Assertion, Promise::Forgotten],
    );
}

#[test]
fn reset_split() {
    check(Plant::ResetSplit, 20, &[Promise::Forgotten]);
}

#[test]
fn revived_without_key() {
    check(Plant::RevivedWithoutKey, 20, &[Promise::Answer, Promise::BadDisk]);
}

#[test]
fn snapshot_loses_moved() {
    check(Plant::SnapshotLosesMoved, 60, &[Promise::Snapshot]);
}

#[test]
fn a_failure_is_made_smaller() {
    let fails = |options: &Options| run(options).is_err();
    let options = Options {
        plant: Some(Plant::ControlBeforeSegment),
        ..Options::new(3)
    };
    assert!(fails(&options), "seed 3 catches it");
    let smallest = shrink(&options, fails);
    assert!(fails(&smallest), "{}", smallest.command_line());
    assert!(
        smallest.steps < options.steps && smallest.faults.kinds().count() < 6,
        "{}",
        smallest.command_line()
    );
}

#[test]
fn faults_are_read_as_they_are_written() {
    for faults in [
        Faults::ALL,
        Faults::NONE,
        Faults::ALL.without(FaultKind::Kill).without(FaultKind::Flood),
    ] {
        assert_eq!(faults.to_string().parse(), Ok(faults));
    }
    assert!(
        "power-loss,kill"
            .parse::<Faults>()
            .is_ok_and(|faults| faults.kinds().count() == 2)
    );
    assert!("power-loss,rain".parse::<Faults>().is_err());
}

#[test]
fn plants_are_found_by_name() {
    for plant in Plant::ALL {
        assert_eq!(Plant::from_name(plant.name()), Some(plant));
    }
}
