use plimsoll_client::ReservationId;
use proptest::prelude::*;

use super::*;

fn run() -> Run {
    Run {
        input: "ab12".into(),
        directory: "cd34".into(),
        dimensions: "rooms,guests".into(),
        hold_seconds: 0,
        is_rebuild: false,
    }
}

fn some_outcomes() -> Vec<(u64, Outcome)> {
    vec![
        (2, Outcome::Accepted(ReservationId(7))),
        (9, Outcome::Rejected(18)),
        (4, Outcome::Released),
    ]
}

/// A progress file with these outcomes, one batch each.
fn write(path: &Path, outcomes: &[(u64, Outcome)]) {
    let (mut progress, known) = Progress::open(path, &run()).unwrap();
    assert_eq!(known, Known::default());
    for (line, outcome) in outcomes {
        progress.add(*line, *outcome);
        progress.write().unwrap();
    }
}

fn known_at(path: &Path) -> Known {
    Progress::open(path, &run()).unwrap().1
}

#[test]
fn what_was_written_is_known_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    write(&path, &some_outcomes());
    assert_eq!(known_at(&path).outcomes, some_outcomes().into_iter().collect());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "plimsoll-orders 1 input=ab12 directory=cd34 dimensions=rooms,guests\n\
         2 A 00000000000000000000000007\n9 R 18\n4 L\n"
    );
}

#[test]
fn expired_holds_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    let run = Run {
        hold_seconds: 30,
        ..run()
    };
    let (mut progress, _) = Progress::open(&path, &run).unwrap();
    progress.add_expired(4, 1);
    progress.add_expired(9, 1);
    progress.add_expired(4, 2);
    progress.add(9, Outcome::Rejected(18));
    progress.write().unwrap();
    drop(progress);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "plimsoll-orders 1 input=ab12 directory=cd34 dimensions=rooms,guests hold=30\n4 E 1\n9 E 1\n4 E 2\n9 R 18\n"
    );
    let known = Progress::open(&path, &run).unwrap().1;
    assert_eq!(known.expired, [(4, 2), (9, 1)].into());
    assert_eq!(known.outcomes, [(9, Outcome::Rejected(18))].into());
}

#[test]
fn what_pools_had_is_known_until_it_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    let run = Run {
        is_rebuild: true,
        ..run()
    };
    let earlier = Selling {
        shadow: false,
        closed: true,
        opens_at: 5,
        closes_at: 9,
    };
    let (mut progress, _) = Progress::open(&path, &run).unwrap();
    progress.add_earlier(
        "a:1",
        Selling {
            closes_at: 7,
            ..earlier
        },
    );
    progress.add_earlier("a:1", earlier);
    progress.add_earlier("b", Selling::LIFTED);
    progress.add(2, Outcome::Released);
    progress.write().unwrap();
    drop(progress);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "plimsoll-orders 1 input=ab12 directory=cd34 dimensions=rooms,guests rebuild\nP a:1 enforce closed 5 7\n\
         P a:1 enforce closed 5 9\nP b shadow open 0 9223372036854775807\n2 L\n"
    );
    let (mut progress, known) = Progress::open(&path, &run).unwrap();
    let expected = [("a:1".to_owned(), earlier), ("b".to_owned(), Selling::LIFTED)];
    assert_eq!(known.earlier, expected.into());
    assert_eq!(known.outcomes, [(2, Outcome::Released)].into());
    progress.add_restored();
    progress.add_earlier("b", earlier);
    progress.write().unwrap();
    drop(progress);
    let known = Progress::open(&path, &run).unwrap().1;
    assert_eq!(known.earlier, [("b".to_owned(), earlier)].into());
}

#[test]
fn wherever_it_is_torn_whole_lines_are_kept_and_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    write(&path, &some_outcomes());
    let whole = std::fs::read(&path).unwrap();
    for size in 0..=whole.len() {
        for zeros in [0, 5] {
            let mut torn = whole[..size].to_vec();
            torn.resize(size + zeros, 0);
            std::fs::write(&path, &torn).unwrap();
            let (mut progress, known) = Progress::open(&path, &run()).unwrap();
            let lines = whole[..size].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(known.outcomes.len(), lines.saturating_sub(1), "cut at {size}");
            progress.add(100, Outcome::Released);
            progress.write().unwrap();
            drop(progress);
            assert_eq!(
                known_at(&path).outcomes.len(),
                known.outcomes.len() + 1,
                "cut at {size}"
            );
        }
    }
}

#[test]
fn a_file_of_another_run_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    write(&path, &some_outcomes());
    let before = std::fs::read(&path).unwrap();
    for (other, what) in [
        (
            Run {
                input: "x".into(),
                ..run()
            },
            "another input: ab12, not x",
        ),
        (
            Run {
                directory: "x".into(),
                ..run()
            },
            "another engine: cd34, not x",
        ),
        (
            Run {
                dimensions: "rooms".into(),
                ..run()
            },
            "another choice of dimensions: rooms,guests, not rooms",
        ),
        (
            Run {
                hold_seconds: 30,
                ..run()
            },
            "another --hold: none, not 30s",
        ),
        (
            Run {
                is_rebuild: true,
                ..run()
            },
            "another choice of --rebuild: without it, not with it",
        ),
    ] {
        let error = Progress::open(&path, &other).unwrap_err().to_string();
        assert!(error.ends_with(what), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_no_progress_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    for text in ["at,op\n1,2\n", "notes", "plimsoll-orders 2 input=ab12\n", "\u{1}\n"] {
        std::fs::write(&path, text).unwrap();
        assert!(
            matches!(Progress::open(&path, &run()), Err(ProgressError::Foreign)),
            "{text:?}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_device_is_no_progress_file() {
    assert!(matches!(
        Progress::open(Path::new("/dev/zero"), &run()),
        Err(ProgressError::Foreign)
    ));
}

#[test]
fn damage_in_the_middle_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    for bad in [
        "2 A",
        "2 X",
        "2 E",
        "2 E 1\n2 E 1",
        "P a",
        "P a ajar open 0 0",
        "P a shadow open 0 0 0",
        "A",
        "2 L L",
        "x L",
        "1 L\n1 L",
    ] {
        std::fs::write(&path, format!("{}\n{bad}\n3 L\n", run().header())).unwrap();
        assert!(
            matches!(Progress::open(&path, &run()), Err(ProgressError::Damaged { .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn two_runs_do_not_share_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.progress");
    let first = Progress::open(&path, &run()).unwrap();
    assert!(matches!(Progress::open(&path, &run()), Err(ProgressError::InUse)));
    drop(first);
    assert!(Progress::open(&path, &run()).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_progress_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &run());
        let content = [format!("{}\n", run().header()).as_bytes(), &bytes].concat();
        let _ = parse(&content, &run());
    }
}
