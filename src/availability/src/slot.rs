//! The numbers of one pool: written in place by one thread, read by any, never torn and never another pool's.
//!
//! A slot is a few words: a version, the pool that it belongs to (0: none), and two copies of the numbers.
//!
//! - Version `v` means that copy `v mod 2` is current. The writer fills the other copy, then stores `v + 1`; so a reader never
//!   waits for a writer that is interrupted half-way.
//! - A reader reads a torn copy only when the version moved on meanwhile, which it sees; it then reads again.
//! - Before a slot goes to another pool its owner is stored as none, and the version moves on. A reader that looks for the
//!   former pool therefore finds none, however late it comes, or sees the version move.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{Counters, PoolId};

use crate::limits::SLOT_CHUNK_SIZE;

const VERSION: usize = 0;
const OWNER: usize = 1;
const NUMBERS: usize = 2;
/// No pool has this id.
const NO_POOL: u64 = 0;
const WORDS_PER_LINE: usize = 8;

/// A word that threads share. A trait, so that the model checker runs the same protocol on its own words.
trait Word {
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, value: u64, ordering: Ordering);
    fn fence(ordering: Ordering);
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        self.load(ordering)
    }

    #[inline]
    fn store(&self, value: u64, ordering: Ordering) {
        self.store(value, ordering);
    }

    #[inline]
    fn fence(ordering: Ordering) {
        fence(ordering);
    }
}

/// The words of one slot, by position.
trait Words {
    type Word: Word;

    fn word(&self, index: usize) -> &Self::Word;
}

/// Where the copy begins that is current at a version.
#[inline]
fn copy_of(version: u64, dimension_count: usize) -> usize {
    NUMBERS + (version % 2) as usize * dimension_count
}

#[inline]
fn write<W: Words>(words: &W, numbers: &[i64]) {
    let version = words.word(VERSION).load(Ordering::Relaxed);
    let copy = copy_of(version + 1, numbers.len());
    // The current version was stored before any word of the other copy changes: a reader that sees such a word sees that
    // version too, and so knows that the copy which it reads is no longer the current one.
    W::Word::fence(Ordering::Release);
    for (index, number) in numbers.iter().enumerate() {
        words.word(copy + index).store(*number as u64, Ordering::Relaxed);
    }
    words.word(VERSION).store(version + 1, Ordering::Release);
}

#[inline]
fn read<W: Words>(words: &W, pool: u64, numbers: &mut [i64]) -> bool {
    loop {
        let version = words.word(VERSION).load(Ordering::Acquire);
        if words.word(OWNER).load(Ordering::Relaxed) != pool {
            return false;
        }
        let copy = copy_of(version, numbers.len());
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = words.word(copy + index).load(Ordering::Relaxed) as i64;
        }
        // Pairs with the fence of the writer: what was read above was stored before the version that is read below.
        W::Word::fence(Ordering::Acquire);
        if words.word(VERSION).load(Ordering::Relaxed) == version {
            return true;
        }
        hint::spin_loop();
    }
}

fn assign<W: Words>(words: &W, pool: u64, numbers: &[i64]) {
    write(words, numbers);
    words.word(OWNER).store(pool, Ordering::Release);
}

fn vacate<W: Words>(words: &W) {
    // Seen by whoever sees the version that the next write stores.
    words.word(OWNER).store(NO_POOL, Ordering::Relaxed);
}

/// A cache line, so that slots do not slow each other down.
#[repr(align(64))]
struct Line([AtomicU64; WORDS_PER_LINE]);

/// The lines of one slot.
struct Lines<'a>(&'a [Line]);

impl Words for Lines<'_> {
    type Word = AtomicU64;

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0[index / WORDS_PER_LINE].0[index % WORDS_PER_LINE]
    }
}

/// A place for the numbers of one pool, in a chunk that never moves and that stays while anyone knows a slot of it.
#[derive(Clone)]
pub(crate) struct Slot {
    chunk: Arc<[Line]>,
    /// Index into the chunk.
    line: u32,
    dimension_count: u8,
}

impl Slot {
    #[inline]
    fn lines(&self) -> Lines<'_> {
        let begin = self.line as usize;
        Lines(&self.chunk[begin..begin + line_count(self.dimension_count.into())])
    }

    /// Replaces the numbers.
    #[inline]
    pub(crate) fn write(&self, numbers: &Counters) {
        write(&self.lines(), &numbers.0[..self.dimension_count.into()]);
    }

    /// The numbers, all of one write; none when the slot is no longer this pool's.
    #[inline]
    pub(crate) fn read(&self, pool: PoolId) -> Option<Counters> {
        let mut numbers = Counters::default();
        let wanted = &mut numbers.0[..self.dimension_count.into()];
        read(&self.lines(), pool.0, wanted).then_some(numbers)
    }
}

/// How many lines a slot takes: version, owner, and two copies of the numbers.
const fn line_count(dimension_count: usize) -> usize {
    (NUMBERS + 2 * dimension_count).div_ceil(WORDS_PER_LINE)
}

/// The slots of one part: hands them out, and takes them back for other pools.
pub(crate) struct Slots {
    dimension_count: u8,
    free: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new(dimension_count: usize) -> Slots {
        assert!(
            (1..=DIMENSION_COUNT_MAX).contains(&dimension_count),
            "{dimension_count} dimensions"
        );
        Slots {
            dimension_count: dimension_count as u8,
            free: Vec::new(),
        }
    }

    /// A slot for a pool, with nothing reserved.
    pub(crate) fn take(&mut self, pool: PoolId) -> Slot {
        assert_ne!(pool.0, NO_POOL, "no pool has this id");
        if self.free.is_empty() {
            self.grow();
        }
        let slot = self.free.pop().expect("slots were added when there were none");
        assign(
            &slot.lines(),
            pool.0,
            &Counters::default().0[..self.dimension_count.into()],
        );
        slot
    }

    /// Takes a slot back; readers find nothing in it any more.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        vacate(&slot.lines());
        self.free.push(slot);
    }

    fn grow(&mut self) {
        let lines_per_slot = line_count(self.dimension_count.into());
        let slot_count = SLOT_CHUNK_SIZE / (size_of::<Line>() * lines_per_slot);
        let lines = || Line(std::array::from_fn(|_| AtomicU64::new(0)));
        let chunk: Arc<[Line]> = std::iter::repeat_with(lines)
            .take(slot_count * lines_per_slot)
            .collect();
        self.free.reserve_exact(slot_count);
        // The last is handed out first: in the order in which they lie.
        for index in (0..slot_count).rev() {
            self.free.push(Slot {
                chunk: Arc::clone(&chunk),
                line: (index * lines_per_slot) as u32,
                dimension_count: self.dimension_count,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc as Shared;
    use loom::sync::atomic as model;

    use super::*;

    impl Word for model::AtomicU64 {
        fn load(&self, ordering: Ordering) -> u64 {
            self.load(ordering)
        }

        fn store(&self, value: u64, ordering: Ordering) {
            self.store(value, ordering);
        }

        fn fence(ordering: Ordering) {
            model::fence(ordering);
        }
    }

    const DIMENSION_COUNT: usize = 2;

    /// A slot of the model checker, which tries every order of the threads and every value that a load may see.
    struct ModelSlot([model::AtomicU64; NUMBERS + 2 * DIMENSION_COUNT]);

    impl ModelSlot {
        fn new() -> ModelSlot {
            ModelSlot(std::array::from_fn(|_| model::AtomicU64::new(0)))
        }
    }

    impl Words for ModelSlot {
        type Word = model::AtomicU64;

        fn word(&self, index: usize) -> &model::AtomicU64 {
            &self.0[index]
        }
    }

    const FIRST: u64 = 7;
    const SECOND: u64 = 8;

    /// Runs a writer against a reader in every possible order.
    fn check(writer: fn(&ModelSlot), reader: fn(&ModelSlot)) {
        loom::model(move || {
            let slot = Shared::new(ModelSlot::new());
            assign(&*slot, FIRST, &[1, 1]);
            let shared = Shared::clone(&slot);
            let writing = loom::thread::spawn(move || writer(&shared));
            reader(&slot);
            writing.join().expect("the writer ends");
        });
    }

    fn write_twice(slot: &ModelSlot) {
        write(slot, &[2, 2]);
        write(slot, &[3, 3]);
    }

    #[test]
    fn numbers_are_never_torn_and_never_go_back() {
        check(write_twice, |slot| {
            let mut numbers = [0; DIMENSION_COUNT];
            let mut before = 0;
            for _ in 0..2 {
                assert!(read(slot, FIRST, &mut numbers), "the slot stays the pool's");
                assert_eq!(numbers[0], numbers[1], "torn");
                assert!(numbers[0] >= before, "{} after {before}", numbers[0]);
                before = numbers[0];
            }
        });
    }

    #[test]
    fn a_slot_in_other_hands_shows_nothing() {
        let hand_over = |slot: &ModelSlot| {
            vacate(slot);
            assign(slot, SECOND, &[0, 0]);
            write(slot, &[9, 9]);
        };
        check(hand_over, |slot| {
            let mut numbers = [0; DIMENSION_COUNT];
            if read(slot, FIRST, &mut numbers) {
                assert_eq!(numbers, [1, 1], "another pool's numbers");
            }
        });
        check(hand_over, |slot| {
            let mut numbers = [0; DIMENSION_COUNT];
            if read(slot, SECOND, &mut numbers) {
                assert!(
                    numbers == [0, 0] || numbers == [9, 9],
                    "{numbers:?} were never the pool's"
                );
            }
        });
    }

    /// The canary: a reader that does not look at the version again. It must be caught.
    #[test]
    #[should_panic = "torn"]
    fn a_reader_without_the_check_is_caught() {
        check(write_twice, |slot| {
            let version = slot.word(VERSION).load(Ordering::Acquire);
            let copy = copy_of(version, DIMENSION_COUNT);
            let numbers = [0, 1].map(|index| slot.word(copy + index).load(Ordering::Relaxed));
            assert_eq!(numbers[0], numbers[1], "torn");
        });
    }

    #[test]
    fn slots_take_as_few_lines_as_they_can() {
        let lines: Vec<usize> = (1..=DIMENSION_COUNT_MAX).map(line_count).collect();
        assert_eq!(lines, [1, 1, 1, 2, 2, 2, 2, 3]);
    }
}
