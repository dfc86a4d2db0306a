//! Events, pools and moments are found again, wherever they lie.

use std::ops::ControlFlow;

use plimsoll_domain::{Event, Timestamp};
use plimsoll_journal::Lsn;
use plimsoll_replay::{After, Catalog, History, Moment, PoolLedger, Replayer, Selection, keys_of_reference, kind_of};

use crate::written::{BEGIN, STEP, Written};

fn history(written: &Written) -> History {
    History::read(written.path()).unwrap()
}

fn kinds(history: &History, selection: Selection) -> Vec<&'static str> {
    let mut events = history.events(selection).unwrap();
    let mut kinds = Vec::new();
    while let Some(recorded) = events.next(history).unwrap() {
        kinds.push(kind_of(&recorded.event));
    }
    kinds
}

/// Two pools, one of them with a history that reaches over several segments.
fn busy() -> (Written, plimsoll_domain::PoolId, plimsoll_domain::PoolId) {
    let mut written = Written::new();
    let quiet = written.put("quiet", 5);
    let busy = written.put("busy", 100_000);
    written.reserve(quiet, 2, 0, "the needle");
    written.fill(busy, 1_500);
    written.put("quiet", 7);
    let held = written.reserve(quiet, 1, 600, "held");
    written.fill(busy, 500);
    written.confirm(held);
    (written, quiet, busy)
}

#[test]
fn all_events_come_in_order_from_archives_and_segments() {
    let (written, ..) = busy();
    let check = |history: &History| {
        let mut events = history.events(Selection::ALL).unwrap();
        let mut last = Lsn(0);
        let mut count = 0;
        while let Some(recorded) = events.next(history).unwrap() {
            assert!(recorded.lsn > last);
            last = recorded.lsn;
            count += 1;
        }
        assert_eq!(count, 2_006);
    };
    check(&history(&written));
    written.archive();
    check(&history(&written));
}

#[test]
fn a_range_of_times_is_read_alone() {
    let (written, ..) = busy();
    written.archive();
    let at = |step: i64| Timestamp(BEGIN + step * STEP);
    let selection = Selection {
        times: at(1_503)..=at(1_504),
        ..Selection::ALL
    };
    assert_eq!(kinds(&history(&written), selection), ["pool_changed", "reserved"]);
}

#[test]
fn a_pools_history_has_the_counters_after_each_event() {
    let (written, quiet, _) = busy();
    written.archive();
    let history = history(&written);
    assert_eq!(history.pools_named("quiet").unwrap(), [quiet]);
    assert_eq!(history.pools_named("nobody").unwrap(), []);
    let mut seen = Vec::new();
    let mut ledger = PoolLedger::new(quiet);
    ledger
        .follow(&history, Timestamp(i64::MAX), |recorded, reference, ledger| {
            let After {
                limits,
                held,
                confirmed,
            } = ledger.after();
            let reference = reference.unwrap_or("-").to_owned();
            seen.push((
                kind_of(&recorded.event),
                reference,
                limits.0[0],
                held.0[0],
                confirmed.0[0],
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut count = 0;
    let broken_off = PoolLedger::new(quiet).follow(&history, Timestamp(i64::MAX), |_, _, _| {
        count += 1;
        if count == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    broken_off.unwrap();
    assert_eq!(count, 2);
    let expected = [
        ("pool_created", "-", 5, 0, 0),
        ("reserved", "the needle", 5, 0, 2),
        ("pool_changed", "-", 7, 0, 2),
        ("reserved", "held", 7, 1, 2),
        ("confirmed", "held", 7, 0, 3),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(kind, reference, limit, held, confirmed)| (kind, reference.to_owned(), limit, held, confirmed))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(ledger.reservations.len(), 2);
}

#[test]
fn a_reference_is_found_by_its_key() {
    let (written, ..) = busy();
    written.archive();
    let selection = Selection {
        keys: Some(keys_of_reference("the needle")),
        ..Selection::ALL
    };
    let history = history(&written);
    let mut events = history.events(selection).unwrap();
    let (mut found, mut read) = (0, 0);
    while let Some(recorded) = events.next(&history).unwrap() {
        read += 1;
        if let Event::Reserved(reserved) = &recorded.event {
            found += u32::from(reserved.reference.as_deref() == Some("the needle"));
        }
    }
    assert_eq!(found, 1);
    // The archives that cannot hold it are passed over.
    assert!(read < 1_500, "{read} events were read");
}

#[test]
fn the_state_at_a_moment_is_the_state_that_was() {
    let mut written = Written::new();
    let pool = written.put("slot", 100_000);
    let made = written.fill(pool, 700);
    let (then, digest) = (written.now, written.state.digest(Timestamp(0)));
    written.snapshot();
    for id in &made[..300] {
        written.release(*id);
    }
    let lsn_then = 2 * 701;
    let history = history(&written);
    // What is not later than the moment, and nothing else.
    let before = Timestamp(then.0 - 1);
    for moment in [
        Moment::Time(before),
        Moment::Lsn {
            core: 0,
            lsn: Lsn(lsn_then),
        },
    ] {
        for mut replayer in [
            Replayer::new(&history).unwrap(),
            Replayer::near(&history, moment).unwrap(),
        ] {
            replayer.advance(moment, |_, _| ()).unwrap();
            assert_eq!(replayer.state().digest(Timestamp(0)), digest, "{moment:?}");
            // And further.
            replayer.advance(Moment::Time(Timestamp(i64::MAX)), |_, _| ()).unwrap();
            assert_eq!(
                replayer.state().digest(Timestamp(0)),
                written.state.digest(Timestamp(0))
            );
        }
    }
}

#[test]
fn the_catalog_knows_pools_by_their_ids() {
    let (written, quiet, busy) = busy();
    written.archive();
    let catalog = Catalog::before(&history(&written), Timestamp(i64::MAX)).unwrap();
    assert_eq!(&*catalog.get(quiet).unwrap().name, "quiet");
    assert_eq!(catalog.get(quiet).unwrap().limits.0[0], 7);
    assert_eq!(&*catalog.get(busy).unwrap().name, "busy");
    assert_eq!(catalog.len(), 2);
}

#[test]
fn nothing_beyond_the_durable_lsn_is_read() {
    let (mut written, quiet, _) = busy();
    let history = history(&written);
    let count = kinds(&history, Selection::ALL).len();
    written.reserve(quiet, 1, 0, "later");
    assert_eq!(kinds(&history, Selection::ALL).len(), count + 1);
    // The control page is what says how far the journal is durable.
    let control = written.journal_directory().join("control");
    let mut page = std::fs::read(&control).unwrap();
    let durable = u64::from_le_bytes(page[64..72].try_into().unwrap());
    page[64..72].copy_from_slice(&(durable - 2).to_le_bytes());
    let copy = tempfile::tempdir().unwrap();
    plimsoll_journal::backup(written.path(), &copy.path().join("copy"), |_| ()).unwrap();
    let copied = History::read(&copy.path().join("copy")).unwrap();
    let journal = &copied.view().journals()[0].directory;
    std::fs::write(journal.join("control"), page).unwrap();
    assert_eq!(kinds(&copied, Selection::ALL).len(), count);
}

#[test]
fn what_was_applied_is_not_taken_back() {
    let mut written = Written::new();
    let pool = written.put("slot", 100);
    written.fill(pool, 20);
    let of = |lsn| plimsoll_replay::Moment::Lsn {
        core: 0,
        lsn: plimsoll_journal::Lsn(lsn),
    };
    let time = plimsoll_replay::Moment::Time(plimsoll_domain::Timestamp(crate::written::BEGIN + crate::written::STEP));
    for has_snapshot in [false, true] {
        if has_snapshot {
            written.snapshot();
            written.fill(pool, 20);
        }
        let history = plimsoll_replay::History::read(written.path()).unwrap();
        let mut replayer = plimsoll_replay::Replayer::near(&history, of(43))
            .unwrap_or_else(|_| plimsoll_replay::Replayer::new(&history).unwrap());
        let last = if has_snapshot { 43 } else { 41 };
        replayer.advance(of(last), |_, _| ()).unwrap();
        for earlier in [of(11), time] {
            let result = replayer.advance(earlier, |_, _| panic!("nothing is given"));
            assert!(matches!(result, Err(plimsoll_replay::ReplayError::Backwards)));
        }
        // Nothing lies between a record and its commit record.
        replayer.advance(of(last), |_, _| panic!("nothing is left")).unwrap();
    }
}
