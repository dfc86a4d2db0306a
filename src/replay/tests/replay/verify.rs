//! What is whole is found whole; each kind of damage is named.

use plimsoll_domain::{Event, PoolReset, PoolRetired, ReservationParts, Timestamp};
use plimsoll_journal::{ControlField, HEADER_SIZE, Tag};
use plimsoll_replay::{History, ReplayError, VerifyReport, verify};

use crate::written::{Written, flip};

fn verified(written: &Written) -> Result<VerifyReport, ReplayError> {
    verify(&History::read(written.path()).unwrap(), |_| ())
}

/// Verification must fail and say this.
fn names(written: &Written, expected: &str) {
    let mut text = String::new();
    let mut error: &dyn std::error::Error = &verified(written).unwrap_err();
    loop {
        text.push_str(&error.to_string());
        text.push('\n');
        match error.source() {
            Some(source) => error = source,
            None => break,
        }
    }
    assert!(text.contains(expected), "{expected:?} is not in {text}");
}

#[test]
fn what_is_whole_is_counted() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    let made = written.fill(pool, 2_000);
    let snapshot = written.snapshot();
    assert!(snapshot.exists());
    for id in &made[..500] {
        written.release(*id);
    }
    written.archive();
    let report = verified(&written).unwrap();
    assert_eq!((report.pools, report.live_reservations), (1, 1_500));
    let core = &report.cores[0];
    assert_eq!(core.records, 2_501);
    assert_eq!(core.snapshots.len(), 1);
    assert!(core.files.archives >= 2 && core.files.segments >= 1, "{:?}", core.files);
}

#[test]
fn an_empty_directory_is_whole() {
    let report = verified(&Written::new()).unwrap();
    assert_eq!((report.pools, report.cores[0].records), (0, 0));
}

#[test]
fn damage_in_an_archive_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    let archive = written.archive();
    flip(&archive, 200);
    names(&written, "0000000001.archive is damaged at offset 128");
}

#[test]
fn damage_in_a_sealed_segment_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    flip(&written.journal_directory().join("0000000002.segment"), 4096 + 40);
    names(&written, "0000000002.segment is damaged at offset 4096");
}

#[test]
fn damage_in_the_newest_segment_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 10);
    flip(&written.journal_directory().join("0000000001.segment"), 4096 + 500);
    names(&written, "0000000001.segment is damaged at offset");
}

#[test]
fn a_missing_segment_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    std::fs::remove_file(written.journal_directory().join("0000000002.segment")).unwrap();
    names(
        &written,
        "0000000002.segment is damaged at offset 0: the file is missing",
    );
}

#[test]
fn a_damaged_snapshot_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 10);
    let snapshot = written.snapshot();
    flip(&snapshot, HEADER_SIZE + 4096);
    names(&written, ".snapshot is damaged at offset 4096");
}

#[test]
fn a_snapshot_of_another_state_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    let made = written.fill(pool, 10);
    // The journal never says so.
    let event = written.state.decide(
        &plimsoll_domain::Command::Release(plimsoll_domain::Release {
            reservation: made[3],
            occurred_at: Timestamp::ABSENT,
        }),
        written.now,
    );
    let Ok(plimsoll_domain::Decision::Change(event)) = event else {
        panic!("{event:?}");
    };
    written.state.apply(&event);
    written.snapshot();
    names(&written, "is not as the journal up to LSN");
}

#[test]
fn an_event_that_oversells_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 1);
    let first = written.reserve(pool, 1, 0, "first");
    let Event::Reserved(mut event) = reserved_again(&mut written, first) else {
        panic!("a reserve");
    };
    event.would_refuse = false;
    let lsn = written.write(&Event::Reserved(event));
    names(&written, &format!("the record with LSN {lsn} in"));
    names(&written, "the pool would be oversold");
}

/// The reserve that a second caller would get if the pool were not full.
fn reserved_again(written: &mut Written, first: plimsoll_domain::ReservationId) -> Event {
    let parts = first.parts();
    let view = written.state.reservation(first, written.now).unwrap();
    Event::Reserved(plimsoll_domain::Reserved {
        sequence: 3,
        at: written.now,
        key: plimsoll_domain::Key(99),
        reservation: plimsoll_domain::ReservationId::new(ReservationParts {
            slot: parts.slot + 1,
            generation: 0,
            random: 99,
            ..parts
        }),
        pool: view.pool,
        units: view.units,
        hold_seconds: 0,
        occurred_at: Timestamp::ABSENT,
        would_refuse: true,
        reference: None,
    })
}

#[test]
fn a_gap_in_a_partitions_sequence_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 1);
    let event = Event::PoolRetired(PoolRetired { sequence: 3, pool });
    written.write(&event);
    names(&written, "its sequence does not follow the last one of its partition");
}

#[test]
fn a_reset_in_two_batches_is_named() {
    for is_cut in [false, true] {
        let mut written = Written::new();
        let pool = written.put("slot", 10);
        let reservation = written.reserve(pool, 1, 0, "first");
        let reset = PoolReset {
            sequence: 3,
            at: written.now,
            pool,
            to: written.now,
            change_count: 1,
            released_count: 1,
            restored_count: 0,
        };
        written.happen(&Event::PoolReset(reset));
        if !is_cut {
            written.release(reservation);
        }
        names(&written, "stands where an event of the reset before it belongs");
    }
}

#[test]
fn an_unknown_kind_is_named() {
    let mut written = Written::new();
    written.put("slot", 1);
    let tag = Tag {
        kind: 77,
        partition: 5,
        detail: 0,
    };
    written.write_record(tag, &[0; 16]);
    names(&written, "is not one that this program knows");
}

#[test]
fn a_time_that_goes_back_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 10);
    written.reserve(pool, 1, 0, "first");
    // The journal never lets it happen: its times stay where they were.
    written.now = Timestamp(0);
    written.reserve(pool, 1, 0, "second");
    assert!(verified(&written).is_ok());
}

/// Replaces a field of the control page.
fn set_control(written: &Written, field: ControlField, value: u64) {
    let path = written.journal_directory().join("control");
    let mut page = std::fs::read(&path).unwrap();
    page[field.offset()..][..8].copy_from_slice(&value.to_le_bytes());
    std::fs::write(&path, &page).unwrap();
}

#[test]
fn a_control_page_that_says_less_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    assert!(verified(&written).is_ok());
    let path = written.journal_directory().join("control");
    let whole = std::fs::read(&path).unwrap();
    set_control(&written, ControlField::DurableLsn, 2_950);
    names(
        &written,
        "control is damaged at offset 64: the journal goes on behind what it says",
    );
    set_control(&written, ControlField::DurableLsn, 0);
    set_control(&written, ControlField::NewestDurableSegment, 0);
    names(&written, "control is damaged at offset 64");
    std::fs::write(&path, &whole).unwrap();
    set_control(&written, ControlField::NewestDurableSegment, 2);
    names(&written, "control is damaged at offset 136");
}

#[test]
fn an_archive_behind_the_end_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    let archive = written.archive();
    std::fs::copy(&archive, archive.with_file_name("0000000099.archive")).unwrap();
    names(
        &written,
        "0000000099.archive is damaged at offset 0: the journal ends before it",
    );
}

#[test]
fn an_index_that_leads_nowhere_is_named() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    written.archive_with(|event, keys| {
        plimsoll_replay::put_keys(event, keys);
        keys.retain(|key| *key != pool.0 || !matches!(event, Event::Reserved(_)));
    });
    names(&written, "is not where the archive's index leads");
}

#[test]
fn snapshots_that_a_server_replaces_meanwhile_are_no_damage() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    written.fill(pool, 1_500);
    let path = written.snapshot();
    written.archive();
    // Gone when their turn comes.
    let history = History::read(written.path()).unwrap();
    let report = verify(&history, |_| drop(std::fs::remove_file(&path))).unwrap();
    assert!(!path.exists());
    assert_eq!(report.cores[0].snapshots.len(), 1);
    // Gone before the first record: damage as long as the manifest names it.
    names(&written, ".snapshot");
    for _ in 0..2 {
        written.fill(pool, 10);
        written.snapshot();
    }
    assert!(verify(&history, |_| ()).unwrap().cores[0].snapshots.is_empty());
    assert_eq!(verified(&written).unwrap().cores[0].snapshots.len(), 2);
}
