mod backups;
mod crashes;
mod damage;
mod disk;
pub(crate) mod files;
mod histories;
mod mapped;
mod repairs;
mod ring;
mod running;
mod starts;
mod table;

use std::convert::Infallible;

use crate::framing::{CrcFraming, Framing};
use crate::identifier::{Lsn, Record, Tag};
use crate::journal::{Journal, Priority, Ticket};
use crate::recovery::{Damage, Recovered, RecoveryError, RecoveryStart, Summary};

use disk::SimStorage;

/// A record that a journal is to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    lsn: Lsn,
    time: i64,
    tag: Tag,
    body: Vec<u8>,
}

impl From<Record<'_>> for Kept {
    fn from(record: Record<'_>) -> Kept {
        Kept {
            lsn: record.lsn,
            time: record.time,
            tag: record.tag,
            body: record.body.to_vec(),
        }
    }
}

type Outcome<F> = Result<(Journal<SimStorage, F>, Summary, Vec<Kept>), RecoveryError<Infallible>>;

fn recover_with<F: Framing>(storage: &SimStorage, incarnation: u64) -> Outcome<F> {
    recover_from(storage, RecoveryStart::FIRST, incarnation)
}

fn recover_from<F: Framing>(storage: &SimStorage, start: RecoveryStart, mut incarnation: u64) -> Outcome<F> {
    let mut records = Vec::new();
    let incarnations = move || {
        incarnation += 1;
        incarnation
    };
    let recovered = Journal::recover(storage.reopened(), start, 0, incarnations, |record| {
        records.push(Kept::from(record));
        Ok(())
    })?;
    let Recovered { journal, summary } = recovered;
    Ok((journal, summary, records))
}

fn recover(storage: &SimStorage, incarnation: u64) -> Outcome<CrcFraming> {
    recover_with(storage, incarnation)
}

fn damage(storage: &SimStorage) -> Damage {
    let before = (storage.numbers(), storage.disk.borrow().removals.len());
    let error = recover(storage, 900).expect_err("damage");
    assert_eq!(
        before,
        (storage.numbers(), storage.disk.borrow().removals.len()),
        "damage changes nothing"
    );
    match error {
        RecoveryError::Damage(damage) => damage,
        other => panic!("{other}"),
    }
}

/// What the owner of a journal does with a ticket.
fn finish<F: Framing>(journal: &mut Journal<SimStorage, F>, ticket: Ticket) {
    journal.segment().flush();
    for number in ticket.segments() {
        journal.storage().sync(number);
    }
    if let Some(opened) = ticket.opened {
        journal.segment_synced(opened);
        journal.storage().sync_the_control();
    }
    journal.durable(ticket.upto);
}

fn append<F: Framing>(journal: &mut Journal<SimStorage, F>, body: &[u8]) -> Lsn {
    journal
        .append(
            Priority::Normal,
            Tag {
                kind: 16,
                partition: 3,
                detail: 7,
            },
            body,
        )
        .expect("there is room")
}

/// A batch of one record, durable.
fn durable_batch<F: Framing>(journal: &mut Journal<SimStorage, F>, body: &[u8]) -> Ticket {
    append(journal, body);
    let ticket = journal.commit().expect("something was appended");
    finish(journal, ticket);
    ticket
}

/// A copy of the disk, since recovery changes it.
fn copied(storage: &SimStorage) -> SimStorage {
    let copy = SimStorage::new();
    {
        let (mut to, from) = (copy.disk.borrow_mut(), storage.disk.borrow());
        to.files.clone_from(&from.files);
        to.control.clone_from(&from.control);
    }
    copy
}
