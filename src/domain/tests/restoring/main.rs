//! Pieces of a snapshot come from a file. Wrong ones give an error, never a panic and never a state that breaks later.

mod rich;

use std::sync::Arc;

use plimsoll_domain::{
    Command, Confirm, Event, Key, MovedPage, MovedReservation, PartitionImage, PoolId, PoolImage, PoolPage, Refusal,
    Release, ReservationId, ReservationPage, ResetTarget, Resize, Restoring, SnapshotPiece, State, StoredReservation,
    Timestamp, Units,
};

use crate::rich::{START, decide, names, options, put, reserve, reset, rich_state};

fn pieces_of(state: &mut State) -> Vec<SnapshotPiece> {
    let mut pieces = Vec::new();
    state.begin_snapshot();
    while !state.copy_snapshot(10_000, &mut pieces) {}
    pieces
}

fn restore(pieces: &[SnapshotPiece]) -> Result<State, &'static str> {
    let mut restoring = Restoring::new(options());
    for piece in pieces {
        restoring.take(piece).map_err(|error| error.reason)?;
    }
    restoring.finish().map_err(|error| error.reason)
}

type Change<Of> = fn(&mut Of);

/// A change of the pieces, and with what error it is met.
fn check(change: impl FnOnce(&mut Vec<SnapshotPiece>), expected: &str) {
    let mut pieces = pieces_of(&mut rich_state().0);
    change(&mut pieces);
    assert_eq!(restore(&pieces).err(), Some(expected));
}

fn image(pieces: &mut [SnapshotPiece]) -> &mut PartitionImage {
    let mut all = pieces.iter_mut();
    all.find_map(|piece| match piece {
        SnapshotPiece::Partition(image) => Some(image),
        _ => None,
    })
    .expect("there is one")
}

fn pool_page(pieces: &mut [SnapshotPiece], page: usize) -> &mut PoolPage {
    let mut pages = pieces.iter_mut().filter_map(|piece| match piece {
        SnapshotPiece::Pools(_, page) => Some(page),
        _ => None,
    });
    pages.nth(page).expect("there are several")
}

fn page(pieces: &mut [SnapshotPiece], page: usize) -> &mut ReservationPage {
    let mut pages = pieces.iter_mut().filter_map(|piece| match piece {
        SnapshotPiece::Reservations(_, page) => Some(page),
        _ => None,
    });
    pages.nth(page).expect("there are several")
}

fn state_of(bits: u32) -> u32 {
    bits >> 17 & 0b111
}

/// The place of the first entry of this state (0: free) in a page.
fn first(page: &ReservationPage, state: u32) -> usize {
    let found = page.entries.iter().position(|entry| match state {
        0 => entry.is_free(),
        state => !entry.is_free() && state_of(entry.bits) == state,
    });
    found.expect("there is one of each state")
}

fn entry(page: &mut ReservationPage, state: u32) -> &mut StoredReservation {
    let place = first(page, state);
    &mut page.entries[place]
}

#[test]
fn what_was_taken_comes_back_and_all_pools_are_touched_once() {
    let (mut state, now) = rich_state();
    let pieces = pieces_of(&mut state);
    let mut restored = restore(&pieces).expect("nothing is wrong with it");
    assert_eq!(restored.digest(Timestamp::ABSENT), state.digest(Timestamp::ABSENT));
    // An event after the snapshot does not count a pool twice.
    let (pool, _) = restored.pools_after("").next().expect("there are pools");
    decide(&mut restored, &reserve(pool, 1_000_000, 0), now).expect("there is room");
    let mut touched = Vec::new();
    restored.take_touched(&mut touched);
    touched.sort_unstable();
    let count = touched.len();
    touched.dedup();
    assert_eq!((count, touched.len()), (restored.pool_count(), restored.pool_count()));
}

#[test]
fn pages_come_once_each_and_all_of_them() {
    check(|pieces| drop(pieces.remove(1)), "pages are missing");
    check(|pieces| pieces.push(pieces[0].clone()), "it comes twice");
    check(|pieces| pieces.push(pieces[1].clone()), "a page comes twice");
    check(|pieces| pieces.swap(0, 1), "pages come before the partition");
    // As many as there should be, but one of them twice.
    let twice = |pieces: &mut Vec<SnapshotPiece>| {
        let last = pieces.len() - 1;
        pieces[last] = pieces[last - 1].clone();
    };
    check(twice, "a page comes twice");
    let empty = |pieces: &mut Vec<SnapshotPiece>| {
        let count = image(pieces).pool_slot_count;
        *pool_page(pieces, 0) = PoolPage {
            first_slot: count.next_multiple_of(16),
            images: Vec::new(),
        };
    };
    check(empty, "pools stand where there are none");
    check(
        |pieces| page(pieces, 0).first_slot = 1,
        "reservations stand where there are none",
    );
    check(
        |pieces| page(pieces, 0).first_slot = u32::MAX - 63,
        "reservations stand where there are none",
    );
    check(
        |pieces| page(pieces, 0).entries.truncate(63),
        "reservations stand where there are none",
    );
    check(
        |pieces| page(pieces, 0).more_units.truncate(63),
        "a page of reservations is not whole",
    );
}

/// No memory is asked for because of a count alone.
#[test]
fn counts_ask_for_no_memory() {
    let alone = |pieces: &mut Vec<SnapshotPiece>| {
        pieces.truncate(1);
        image(pieces).reservation_slot_count = u32::MAX;
    };
    check(alone, "pages are missing");
    check(|pieces| image(pieces).pool_slot_count = u32::MAX, "it counts too far");
    check(|pieces| image(pieces).sequence = u64::MAX, "it counts too far");
    check(
        |pieces| image(pieces).sweep.next = u32::MAX,
        "nothing can have been swept that far",
    );
    check(
        |pieces| image(pieces).sweep.began_at = u64::MAX,
        "nothing can have been swept that far",
    );
    let no_such_partition = |pieces: &mut Vec<SnapshotPiece>| image(pieces).partition.0 = 1_024;
    check(no_such_partition, "there is no such partition");
}

#[test]
fn lists_and_queues_end_and_name_all() {
    const QUEUE: &str = "the queue of ended reservations";
    let cases: Vec<(Change<Vec<SnapshotPiece>>, &str)> = vec![
        (
            |pieces| {
                let slot = image(pieces).ends.newest_ended as usize;
                let oldest = image(pieces).ends.oldest_ended;
                page(pieces, slot / 64).entries[slot % 64].link = oldest;
            },
            QUEUE,
        ),
        (|pieces| image(pieces).ends.oldest_ended = u32::MAX, QUEUE),
        (
            |pieces| image(pieces).ends.newest_ended = image(pieces).ends.oldest_ended,
            QUEUE,
        ),
        (
            |pieces| {
                let slot = image(pieces).ends.oldest_ended as usize;
                page(pieces, slot / 64).entries[slot % 64].moment = Timestamp::NEVER;
            },
            QUEUE,
        ),
        (
            |pieces| {
                let slot = image(pieces).ends.first_free as usize;
                page(pieces, slot / 64).entries[slot % 64].link = slot as u32;
            },
            "the list of free slots has no end",
        ),
        (
            |pieces| {
                let image = image(pieces);
                image.ends.first_free = image.ends.oldest_ended;
            },
            "the list of free slots names another one",
        ),
        (
            |pieces| image(pieces).first_free_pool = u32::MAX,
            "the list of free slots for pools",
        ),
        (
            |pieces| {
                let slot = image(pieces).first_free_pool;
                if let PoolImage::Free { next, .. } =
                    &mut pool_page(pieces, slot as usize / 16).images[slot as usize % 16]
                {
                    *next = slot;
                }
            },
            "the list of free slots for pools",
        ),
        (
            |pieces| image(pieces).retired.reverse(),
            "the queue of retired pools is not in their order",
        ),
        (
            |pieces| image(pieces).retired.truncate(5),
            "the queue of retired pools lacks one",
        ),
        (
            |pieces| {
                let last = *image(pieces).retired.last().expect("some are");
                image(pieces).retired.push(last);
            },
            "the queue of retired pools is not in their order",
        ),
        (
            |pieces| image(pieces).retired[0] = 0,
            "the queue of retired pools names another one",
        ),
        (
            |pieces| image(pieces).retired[0] = u32::MAX,
            "it names what does not exist",
        ),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut pieces = pieces_of(&mut rich_state().0);
        change(&mut pieces);
        let found = restore(&pieces).err().unwrap_or_default();
        assert!(
            found.starts_with(expected),
            "case {number}: {found:?} instead of {expected:?}"
        );
    }
}

fn moved_page(pieces: &mut [SnapshotPiece]) -> &mut MovedPage {
    let mut pages = pieces.iter_mut().filter_map(|piece| match piece {
        SnapshotPiece::Moved(_, page) => Some(page),
        _ => None,
    });
    pages.next().expect("some lie elsewhere")
}

#[test]
fn reservations_lie_where_their_ids_say_or_elsewhere() {
    let missing = |pieces: &mut Vec<SnapshotPiece>| pieces.retain(|piece| !matches!(piece, SnapshotPiece::Moved(..)));
    let no_origin = "a reservation lies elsewhere than its id says, and where it says is missing";
    check(missing, no_origin);
    let twice = |pieces: &mut Vec<SnapshotPiece>| {
        let page = moved_page(pieces).clone();
        pieces.push(SnapshotPiece::Moved(pieces[0].partition(), page));
    };
    check(twice, "a page comes twice");
    let nowhere = "reservations lie elsewhere where there are none";
    check(|pieces| moved_page(pieces).first_slot += 1, nowhere);
    check(|pieces| moved_page(pieces).moved.clear(), nowhere);
    check(|pieces| moved_page(pieces).moved[0].slot = u32::MAX, nowhere);
    let one_id = "two reservations have one id, or one has an id that none can have";
    check(|pieces| moved_page(pieces).moved[0].id_slot = u32::MAX, one_id);
    // Every id here has the same random bits.
    let another_id = |pieces: &mut Vec<SnapshotPiece>| {
        let place = first(page(pieces, 0), 1);
        let generation = page(pieces, 0).entries[place].generation;
        let moved = &mut moved_page(pieces).moved[0];
        (moved.id_slot, moved.id_generation) = (place as u32, generation);
    };
    check(another_id, one_id);
    let where_it_says = |pieces: &mut Vec<SnapshotPiece>| {
        let slot = first(page(pieces, 0), 1) as u32;
        let moved = MovedReservation {
            slot,
            id_slot: slot,
            id_generation: 9,
        };
        let page = MovedPage {
            first_slot: 0,
            moved: vec![moved],
        };
        if moved_page(pieces).first_slot > 0 {
            pieces.push(SnapshotPiece::Moved(pieces[0].partition(), page));
        }
    };
    check(where_it_says, "a reservation lies where its id says, and elsewhere");
}

#[test]
fn reservations_are_what_reservations_can_be() {
    const SOUND: &str = "a reservation cannot be like that";
    let cases: Vec<(Change<ReservationPage>, &str)> = vec![
        (|page| entry(page, 1).bits |= 1 << 31, SOUND),
        (|page| entry(page, 1).bits |= 0b111 << 17, SOUND),
        (|page| entry(page, 1).bits |= (1 << 17) - 1, SOUND),
        (|page| entry(page, 1).random = 1 << 56, SOUND),
        (|page| entry(page, 2).pool_slot = u32::MAX, SOUND),
        (|page| entry(page, 3).link = u32::MAX - 1, SOUND),
        (|page| entry(page, 2).first_units[0] = u32::MAX, SOUND),
        (
            |page| {
                let slot = first(page, 2);
                page.more_units[slot][5] = 1;
            },
            SOUND,
        ),
        (
            |page| {
                let slot = first(page, 2);
                (page.entries[slot].first_units, page.more_units[slot]) = ([0; 2], [0; 6]);
            },
            SOUND,
        ),
        (
            |page| entry(page, 2).first_units[0] += 1,
            "the counters of a pool are not the sum of its reservations",
        ),
        (
            |page| page.references.push((u32::MAX, Arc::from("order"))),
            "something belongs to a reservation that does not exist",
        ),
        (
            |page| page.references.push((page.first_slot + 1, Arc::from("x".repeat(65)))),
            "something belongs to a reservation that does not exist",
        ),
        (
            |page| page.first_requests.push((page.first_slot + 64, Units::default())),
            "something belongs to a reservation that does not exist",
        ),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut pieces = pieces_of(&mut rich_state().0);
        change(page(&mut pieces, 0));
        let found = restore(&pieces).err().unwrap_or_default();
        assert_eq!(found, expected, "case {number}");
    }
    // A reservation that names a free slot would pass to the next pool.
    let names_a_free_slot = |pieces: &mut Vec<SnapshotPiece>| {
        let slot = image(pieces).first_free_pool;
        let page = page(pieces, 0);
        let ended = first(page, 3);
        page.entries[ended].pool_slot = slot;
    };
    check(names_a_free_slot, "a reservation names a pool that is gone");
    let held_in_a_retired_pool = |pieces: &mut Vec<SnapshotPiece>| {
        let slot = image(pieces).retired[0];
        let page = page(pieces, 0);
        let held = first(page, 1);
        page.entries[held].pool_slot = slot;
    };
    check(held_in_a_retired_pool, "a reservation names a pool that is gone");
}

/// Random changes of random fields. Whatever is taken for a state goes on as one.
#[test]
fn whatever_is_accepted_goes_on() {
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let (mut state, now) = rich_state();
    let pieces = pieces_of(&mut state);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..1_000 {
        let mut pieces = pieces.clone();
        for _ in 0..=next(2) {
            let piece = next(pieces.len());
            change(&mut pieces[piece], &mut next);
        }
        match restore(&pieces) {
            Ok(state) => {
                go_on(state, now);
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 50 && refused > 300, "{accepted} accepted, {refused} refused");
}

fn change(piece: &mut SnapshotPiece, next: &mut impl FnMut(usize) -> usize) {
    let values = [0, 1, 2, 17, 63, 64, 100, u32::MAX - 1, u32::MAX];
    let value = values[next(values.len())];
    let times = [i64::MIN, -1, 0, START, START + 1_000_000, i64::MAX];
    let time = Timestamp(times[next(times.len())]);
    match piece {
        SnapshotPiece::Partition(image) => match next(9) {
            0 => image.sequence = u64::from(value),
            1 => image.pool_slot_count = value,
            2 => image.first_free_pool = value,
            3 => image.retired.push(value),
            4 => image.reservation_slot_count = value,
            5 => image.ends.oldest_ended = value,
            6 => image.ends.newest_ended = value,
            7 => image.ends.first_free = value,
            _ => image.sweep.next = value,
        },
        SnapshotPiece::Pools(_, page) => {
            let place = next(page.images.len());
            match &mut page.images[place] {
                PoolImage::Used {
                    generation,
                    version,
                    held,
                    confirmed,
                    last_event,
                    ..
                } => match next(5) {
                    0 => *generation = value,
                    1 => *version = u64::from(value),
                    2 => held.0[0] = time.0,
                    3 => confirmed.0[1] = time.0,
                    _ => *last_event = time,
                },
                PoolImage::Retired { generation, sequence } => match next(2) {
                    0 => *generation = value,
                    _ => *sequence = u64::from(value),
                },
                PoolImage::Free { generation, next: free } => match next(2) {
                    0 => *generation = value,
                    _ => *free = value,
                },
            }
        }
        SnapshotPiece::Reservations(_, page) => {
            let place = next(page.entries.len());
            let entry = &mut page.entries[place];
            match next(10) {
                0 => entry.key = Key(u128::from(value)),
                1 => entry.created_at = time,
                2 => entry.moment = time,
                3 => entry.random = u64::from(value) << next(33),
                4 => entry.first_units[0] = value,
                5 => entry.pool_slot = value,
                6 => entry.bits ^= 1 << next(32),
                7 => entry.link = value,
                8 => entry.generation = value as u16,
                _ => entry.version = value as u16,
            }
        }
        SnapshotPiece::Moved(_, page) => {
            let place = next(page.moved.len());
            let moved = &mut page.moved[place];
            match next(4) {
                0 => moved.slot = value,
                1 => moved.id_slot = value,
                2 => moved.id_generation = value as u16,
                _ => drop(page.moved.remove(place)),
            }
        }
    }
}

/// Everything that a state does by itself and what it is asked for; each loop has an end.
fn go_on(mut state: State, now: i64) {
    let time = Timestamp(now);
    let ids: Vec<ReservationId> = state.reservations(time).map(|view| view.id).collect();
    for reservation in ids {
        let confirm = Confirm {
            reservation,
            occurred_at: time,
        };
        decide(&mut state, &Command::Confirm(confirm), now);
        let resize = Resize {
            reservation,
            expected_version: None,
            units: Units::from_slice(&[3, 1, 1]),
            hold_seconds: 0,
            occurred_at: time,
        };
        decide(&mut state, &Command::Resize(resize), now);
    }
    for name in names() {
        put(&mut state, &name, now);
    }
    let pools: Vec<PoolId> = state.pools_after("").map(|(id, _)| id).collect();
    for (number, pool) in pools.into_iter().enumerate() {
        for key in 0..6 {
            let decision = decide(&mut state, &reserve(pool, (number as u128 + 50) * 100 + key, 60), now);
            let _: Option<ReservationId> = decision;
        }
    }
    let pools: Vec<PoolId> = state.pools_after("").map(|(id, _)| id).take(4).collect();
    for pool in pools {
        let target = ResetTarget {
            to: time,
            definition: None,
            reservations: Vec::new(),
        };
        reset(&mut state, pool, &target, now);
        assert_eq!(reset(&mut state, pool, &target, now), 0, "nothing is left to do");
    }
    state.assert_counters();
    let late = Timestamp(now + 100_000_000_000);
    let later = late.plus_seconds(1_000);
    drain(&mut state, |state| state.next_expiry(late));
    drain(&mut state, |state| state.next_retirement(later));
    drain(&mut state, |state| state.next_sweep(later));
    state.assert_counters();
    let unknown = Release {
        reservation: ReservationId(u128::MAX),
        occurred_at: time,
    };
    assert_eq!(
        state.decide(&Command::Release(unknown), later),
        Err(Refusal::ReservationNotFound)
    );
}

fn drain(state: &mut State, mut next: impl FnMut(&mut State) -> Option<Event>) {
    let mut count = 0;
    while let Some(event) = next(state) {
        state.apply(&event);
        count += 1;
        assert!(count < 10_000, "it has no end");
    }
}
