//! Any subset of the unsynced pages survives a crash, at any moment, recovery included.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::framing::{CrcFraming, Framing};
use crate::identifier::{JournalId, Lsn, SegmentNumber, Tag};
use crate::journal::{Journal, Priority, Ticket};
use crate::recovery::{RecoveryError, RecoveryStart};
use crate::tests::disk::{Dice, SIZE, SimStorage};
use crate::tests::{Kept, append, copied, durable_batch, finish, recover, recover_from, recover_with};

#[derive(Clone, Debug)]
enum Step {
    Append {
        size: usize,
        is_essential: bool,
    },
    Commit,
    /// The oldest ticket's sync finishes.
    Finish,
    /// The kernel writes pages on its own.
    WriteBack,
    Idle,
    /// More segments are prepared.
    Refill,
    /// A sync fails, the process stops, the machine runs on.
    FailSync,
    /// The machine loses power, and again during so many recoveries, after so many operations each.
    Crash {
        survivors: Survivors,
        fuels: Vec<usize>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Survivors {
    None,
    All,
    Half,
    Most,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let survivors = prop_oneof![
        Just(Survivors::None),
        Just(Survivors::All),
        Just(Survivors::Half),
        Just(Survivors::Most)
    ];
    let step = prop_oneof![
        12 => (0usize..200, any::<bool>()).prop_map(|(size, is_essential)| Step::Append { size, is_essential }),
        6 => (0usize..20_000, any::<bool>()).prop_map(|(size, is_essential)| Step::Append { size, is_essential }),
        8 => Just(Step::Commit),
        5 => Just(Step::Finish),
        2 => Just(Step::WriteBack),
        1 => Just(Step::Idle),
        3 => Just(Step::Refill),
        1 => Just(Step::FailSync),
        3 => (survivors, prop::collection::vec(0usize..12, 0..3))
            .prop_map(|(survivors, fuels)| Step::Crash { survivors, fuels }),
    ];
    prop::collection::vec(step, 1..120)
}

/// What a journal must give back.
#[derive(Default)]
struct Model {
    batches: Vec<(Lsn, Vec<Kept>)>,
    open: Vec<Kept>,
    durable: Lsn,
    /// Where a snapshot could end: durable batches, and the segments that they lie in.
    starts: Vec<RecoveryStart>,
}

impl Model {
    fn close(&mut self, upto: Lsn) {
        self.batches.push((upto, std::mem::take(&mut self.open)));
    }

    /// Checks that these are the records of a prefix of whole batches with all that are durable, and forgets the rest.
    fn check(&mut self, last: Lsn, records: &[Kept]) -> Result<(), &'static str> {
        if last < self.durable {
            return Err("durable batches are lost");
        }
        let count = self.batches.iter().filter(|(upto, _)| *upto <= last).count();
        self.batches.truncate(count);
        self.open.clear();
        if self.batches.last().map_or(Lsn(0), |(upto, _)| *upto) != last {
            return Err("no end of a batch");
        }
        if self.batches.iter().flat_map(|(_, records)| records).ne(records) {
            return Err("other records");
        }
        self.durable = last;
        Ok(())
    }
}

/// Runs the steps; an error says how the journal broke its promise.
fn run<F: Framing>(steps: &[Step], seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let storage = SimStorage::new();
    let mut incarnation = 0;
    let mut model = Model::default();
    let mut journal: Journal<SimStorage, F> = restart(&storage, &mut model, &mut incarnation)?;
    let mut tickets: VecDeque<Ticket> = VecDeque::new();
    let mut now = 0;
    for step in steps {
        now += 1;
        match step {
            Step::Append { size, is_essential } => {
                let priority = if *is_essential {
                    Priority::Essential
                } else {
                    Priority::Normal
                };
                let tag = Tag {
                    kind: (dice.roll() % 0xFF00) as u16,
                    partition: dice.roll() as u16,
                    detail: dice.roll() as u32,
                };
                let body: Vec<u8> = (0..*size).map(|_| dice.roll() as u8).collect();
                let time = journal.begin(now);
                let before = journal.last_lsn();
                let result = journal.append(priority, tag, &body);
                if journal.last_lsn() != before {
                    model.close(journal.last_lsn());
                }
                if let Ok(lsn) = result {
                    model.open.push(Kept { lsn, time, tag, body });
                }
            }
            Step::Commit => {
                if let Some(ticket) = journal.commit() {
                    model.close(ticket.upto);
                    tickets.push_back(ticket);
                }
            }
            Step::Finish => {
                if let Some(ticket) = tickets.pop_front() {
                    finish(&mut journal, ticket);
                    model.durable = ticket.upto;
                    model.starts.push(RecoveryStart {
                        lsn: ticket.upto,
                        segment: ticket.last_segment,
                        time: 0,
                    });
                }
            }
            Step::WriteBack => {
                journal.segment().flush();
                storage.write_back(|| dice.is_one_in(3));
            }
            Step::Idle => {
                if let Some(ticket) = journal.idle_commit(now) {
                    model.close(ticket.upto);
                    tickets.push_back(ticket);
                }
            }
            Step::Refill => storage.disk.borrow_mut().ring = 3,
            Step::FailSync => {
                drop(journal);
                tickets.clear();
                storage.fail_sync();
                journal = restart(&storage, &mut model, &mut incarnation)?;
            }
            Step::Crash { survivors, fuels } => {
                drop(journal);
                tickets.clear();
                crash(&storage, *survivors, &mut dice);
                for fuel in fuels {
                    storage.disk.borrow_mut().fuel = Some(*fuel);
                    incarnation += 1000;
                    match recover_with::<F>(&storage, incarnation) {
                        Err(RecoveryError::Storage(_)) => {}
                        Err(error) => return Err(format!("{error}")),
                        Ok((_, summary, records)) => model.check(summary.last_lsn, &records)?,
                    }
                    crash(&storage, *survivors, &mut dice);
                }
                journal = restart(&storage, &mut model, &mut incarnation)?;
            }
        }
    }
    drop(journal);
    crash(&storage, Survivors::Half, &mut dice);
    restart::<F>(&storage, &mut model, &mut incarnation)?;
    Ok(())
}

fn crash(storage: &SimStorage, survivors: Survivors, dice: &mut Dice) {
    storage.crash(|| match survivors {
        Survivors::None => false,
        Survivors::All => true,
        Survivors::Half => dice.is_one_in(2),
        Survivors::Most => !dice.is_one_in(8),
    });
}

fn restart<F: Framing>(
    storage: &SimStorage,
    model: &mut Model,
    incarnation: &mut u64,
) -> Result<Journal<SimStorage, F>, String> {
    *incarnation += 1000;
    let partial = copied(storage);
    let (journal, summary, records) = recover_with::<F>(storage, *incarnation).map_err(|error| format!("{error}"))?;
    model.check(summary.last_lsn, &records)?;
    // From a snapshot it is the same journal, without the segments before it.
    if !model.starts.is_empty() {
        let start = model.starts[*incarnation as usize / 1000 % model.starts.len()];
        partial
            .disk
            .borrow_mut()
            .files
            .retain(|number, _| *number >= start.segment);
        let (_, part, rest) =
            recover_from::<F>(&partial, start, *incarnation).map_err(|error| format!("from {start:?}: {error}"))?;
        if part.last_lsn != summary.last_lsn || !records.iter().filter(|record| record.lsn > start.lsn).eq(&rest) {
            return Err(format!("from {start:?}: another journal"));
        }
    }
    Ok(journal)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_crash_leaves_whole_batches_and_all_durable_ones(steps in steps(), seed in any::<u64>()) {
        if let Err(error) = run::<CrcFraming>(&steps, seed) {
            prop_assert!(false, "{}", error);
        }
    }
}

/// A planted bug: leftovers of an earlier use of a segment number pass for records.
struct SeedWithoutIncarnation;

impl Framing for SeedWithoutIncarnation {
    fn seed(journal: JournalId, _incarnation: u64, number: SegmentNumber) -> u32 {
        CrcFraming::seed(journal, 0, number)
    }

    fn checksum(seed: u32, bytes: &[u8]) -> u32 {
        CrcFraming::checksum(seed, bytes)
    }
}

#[test]
fn leftovers_of_an_earlier_use_do_not_count() {
    /// Loses all of segment 1 but what was stale before, then writes one batch over it: behind it lies the second batch of the first try.
    fn records_after<F: Framing>() -> Vec<Kept> {
        let storage = SimStorage::new();
        let (mut journal, ..) = recover_with::<F>(&storage, 0).expect("an empty journal");
        append(&mut journal, b"first try, one");
        journal.commit();
        append(&mut journal, b"first try, two");
        journal.commit();
        drop(journal);
        // Nothing survives but the second page, with the records; recovery removes the file, and its bytes come back as leftovers.
        let (mut journal, ..) = {
            storage
                .disk
                .borrow_mut()
                .files
                .get_mut(&SegmentNumber(1))
                .expect("there")
                .cached[..4096]
                .fill(0);
            recover_with::<F>(&storage, 10).expect("nothing durable")
        };
        durable_batch(&mut journal, b"second try one");
        drop(journal);
        storage.crash(|| true);
        recover_with::<F>(&storage, 20).expect("a whole journal").2
    }
    assert_eq!(records_after::<CrcFraming>().len(), 1);
    assert_eq!(
        records_after::<SeedWithoutIncarnation>().len(),
        2,
        "the check above can fail"
    );
}

#[test]
fn what_recovery_gave_out_is_durable_even_after_a_failed_sync() {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    durable_batch(&mut journal, b"durable");
    for _ in 0..20 {
        append(&mut journal, &[1; 1000]);
        journal.commit().expect("one record");
    }
    drop(journal);
    storage.fail_sync();
    let (journal, _, records) = recover(&storage, 10).expect("all is in the cache");
    assert_eq!(records.len(), 21);
    drop(journal);
    storage.crash(|| false);
    assert_eq!(recover(&storage, 20).expect("all is on the disk").2.len(), 21);
}

#[test]
fn a_batch_torn_at_any_byte_is_gone() {
    for stale in [0x00, 0xFF] {
        let storage = SimStorage::new();
        storage
            .disk
            .borrow_mut()
            .stale
            .insert(SegmentNumber(1), vec![stale; SIZE]);
        let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
        durable_batch(&mut journal, b"kept");
        let start = 4096 + 40 + 56;
        append(&mut journal, &[2; 50]);
        append(&mut journal, &[3; 21]);
        journal.commit().expect("two records");
        let end = start + 88 + 56 + 56;
        drop(journal);
        storage.crash(|| true);
        let whole = storage.disk.borrow().files[&SegmentNumber(1)].durable.clone();
        for cut in start..=end {
            storage.damage(SegmentNumber(1), |bytes| {
                bytes[..cut].copy_from_slice(&whole[..cut]);
                bytes[cut..].fill(stale);
            });
            // Bytes that happen to be what the leftovers were do not show.
            let is_whole = storage.disk.borrow().files[&SegmentNumber(1)].durable == whole;
            let (_, summary, records) = recover(&storage, 10).expect("torn");
            assert_eq!(records.len(), if is_whole { 3 } else { 1 }, "cut at {cut}");
            assert_eq!(summary.last_lsn, Lsn(if is_whole { 5 } else { 2 }));
            storage.disk.borrow_mut().files.remove(&SegmentNumber(2));
            storage.disk.borrow_mut().control = SimStorage::new().disk.borrow().control.clone();
        }
    }
}
