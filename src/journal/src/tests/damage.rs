//! Flipped bits in what was durable.

use crate::bytes::put;
use crate::control::ControlField;
use crate::framing::{CrcFraming, Framing};
use crate::identifier::{Lsn, SegmentNumber};
use crate::tests::disk::{JOURNAL, SIZE, SimStorage};
use crate::tests::{append, damage, durable_batch, recover};

#[test]
fn a_flipped_bit_in_the_durable_part_is_damage() {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    durable_batch(&mut journal, b"one");
    durable_batch(&mut journal, &[7; 77]);
    durable_batch(&mut journal, b"three");
    drop(journal);
    // The control page as it is when only what the journal itself syncs has reached the disk.
    storage.sync_the_control();
    storage.crash(|| false);
    let ends = [(4096 + 96, 1), (4096 + 96 + 168, 3), (4096 + 96 + 168 + 96, 5)];
    let whole = storage.disk.borrow().files[&SegmentNumber(1)].durable.clone();
    for offset in (0..128).chain(4096..ends[2].0) {
        storage.damage(SegmentNumber(1), |bytes| {
            bytes.copy_from_slice(&whole);
            bytes[offset] ^= 1 << (offset % 8);
        });
        let damage = damage(&storage);
        assert_eq!(damage.position.segment, SegmentNumber(1));
        let text = damage.to_string();
        assert!(text.contains("0000000001.segment"), "{text}");
        if offset < 128 {
            assert_eq!((damage.position.offset, damage.position.lsn), (0, Lsn(1)));
            continue;
        }
        // The place is within the batch that the bit belongs to.
        let (end, first_lsn) = *ends
            .iter()
            .find(|(end, _)| offset < *end)
            .expect("the offset is in a batch");
        assert!(
            (first_lsn..first_lsn + 2).contains(&damage.position.lsn.0),
            "offset {offset}: {text}"
        );
        assert!(damage.position.offset <= offset as u64 && damage.position.offset < end as u64);
        assert_eq!(damage.evidence, Lsn(6));
    }
}

#[test]
fn a_later_commit_record_proves_what_the_control_page_does_not() {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    durable_batch(&mut journal, b"one");
    durable_batch(&mut journal, b"two");
    append(&mut journal, b"three");
    journal.commit().expect("one record");
    drop(journal);
    storage.crash(|| true);
    storage.set_control(ControlField::DurableLsn, 2);
    storage.damage(SegmentNumber(1), |bytes| bytes[4096 + 96 + 40] ^= 1);
    let damage = damage(&storage);
    assert_eq!((damage.position.lsn, damage.evidence), (Lsn(4), Lsn(4)));
}

#[test]
fn what_lies_before_a_durable_segment_is_durable() {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    let body = vec![1; 40_000];
    append(&mut journal, &body);
    append(&mut journal, &body);
    let ticket = journal.commit().expect("two records");
    crate::tests::finish(&mut journal, ticket);
    drop(journal);
    // The sync of the control page came before it got the durable LSN.
    storage.crash(|| false);
    for segment in [1, 2] {
        let segment = SegmentNumber(segment);
        storage.damage(segment, |bytes| bytes[4096 + 50] ^= 1);
        assert_eq!(damage(&storage).position.segment, segment);
        storage.damage(segment, |bytes| bytes[4096 + 50] ^= 1);
    }
    assert_eq!(recover(&storage, 50).expect("whole").2.len(), 2);
}

#[test]
fn a_commit_record_must_speak_of_the_batch_before_it() {
    let storage = SimStorage::new();
    storage
        .disk
        .borrow_mut()
        .stale
        .insert(SegmentNumber(1), vec![0xFF; SIZE]);
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    append(&mut journal, b"one");
    journal.commit().expect("one record");
    drop(journal);
    storage.crash(|| true);
    // The incarnation of the first segment is 1.
    let seed = CrcFraming::seed(JOURNAL, 1, SegmentNumber(1));
    let whole = storage.disk.borrow().files[&SegmentNumber(1)].durable.clone();
    assert_eq!(
        whole[4096 + 35..4096 + 40],
        [0; 5],
        "padding is zeros whatever was there"
    );
    let control = storage.disk.borrow().control.clone();
    let commit = 4096 + 40;
    for (field, value, count) in [(32, 1, 1), (32, 0, 0), (32, 2, 0), (40, 0, 0), (40, 2, 0), (44, 1, 0)] {
        storage.damage(SegmentNumber(1), |bytes| {
            bytes.copy_from_slice(&whole);
            put(bytes, commit + field, &[value]);
            let crc = CrcFraming::checksum(seed, &bytes[commit + 4..commit + 56]);
            put(bytes, commit, &crc.to_le_bytes());
        });
        let (journal, _, records) = recover(&storage, 10).expect("nothing was durable");
        drop(journal);
        assert_eq!(records.len(), count, "byte {field} of the commit record is {value}");
        storage.disk.borrow_mut().control.clone_from(&control);
        storage.disk.borrow_mut().files.clear();
        storage.put_file(SegmentNumber(1), whole.clone());
    }
}
