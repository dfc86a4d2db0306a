//! The pieces of a snapshot to bytes and back.
//!
//! The bytes are described in `ARCHITECTURE.md` (Snapshot pieces). Like a record, a piece may lie at any address; nothing here panics because of
//! what stands in a file, and what is allocated is at most a few times the size of the bytes.

use std::sync::Arc;

use plimsoll_domain::limits::{
    DIMENSION_COUNT_MAX, HOLD_SECONDS_MAX, PARTITION_COUNT, POOLS_PER_PARTITION_MAX, REFERENCE_SIZE_MAX,
    RESERVATIONS_PER_PARTITION_MAX, UNITS_MAX,
};
use plimsoll_domain::{
    Counters, Key, MovedPage, MovedReservation, PartitionId, PartitionImage, PoolId, PoolImage, PoolPage,
    ReservationEnds, ReservationPage, SnapshotPiece, StoredReservation, Sweep, Timestamp, Units,
};

use crate::decode::{definition, pool_table, units_from_bytes};
use crate::{DecodeError, KIND_POOL_CREATED, encode};

const PIECE_PARTITION: u16 = 1;
const PIECE_POOLS: u16 = 2;
const PIECE_RESERVATIONS: u16 = 3;
const PIECE_MOVED: u16 = 4;

/// All kinds of pieces that this version knows; the kind stands at offset 4 of a piece, behind its size.
pub const PIECE_KINDS: [u16; 4] = [PIECE_PARTITION, PIECE_POOLS, PIECE_RESERVATIONS, PIECE_MOVED];

const POOL_FREE: u32 = 0;
const POOL_RETIRED: u32 = 1;
const POOL_USED: u32 = 2;

/// The most pools of a page.
const PAGE_POOL_COUNT_MAX: usize = 16;
/// The most reservations of a page.
const PAGE_RESERVATION_COUNT_MAX: usize = 64;
/// The fewest bytes that a pool's slot takes.
const POOL_SIZE_MIN: usize = 12;
/// The bytes that a reservation takes that lies in another slot than its id says.
const MOVED_SIZE: usize = 12;
/// The bytes that a reservation takes without its further units.
const RESERVATION_SIZE: usize = 64;

/// What a free slot has in place of a reservation's random bits.
const RANDOM_OF_FREE: u64 = u64::MAX;
/// Random bits of a reservation's id.
const RANDOM_BIT_COUNT: u32 = 56;
/// Bits of a reservation: 0 to 16 the hold that was asked for first, 17 to 19 the state (1 to 4), 20 to 23 flags.
const HOLD_SECONDS_MASK: u32 = (1 << 17) - 1;
const STATE_SHIFT: u32 = 17;
const STATE_MASK: u32 = 0b111;
const KNOWN_BITS: u32 = (1 << 24) - 1;

/// Sequences and versions are counted up by one: from here on is no event's number but damage, and what goes on counting would overflow.
const COUNT_LIMIT: u64 = 1 << 63;

/// Why bytes are not pieces of a snapshot. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes end within a piece, or a piece is longer than what it holds.
    #[error("a piece at offset {offset} is too short, or longer than what it holds")]
    Size {
        /// Where the piece begins.
        offset: usize,
    },
    /// A piece of a kind that this version does not know.
    #[error("a piece of unknown kind {kind} at offset {offset}")]
    UnknownKind {
        /// Where the piece begins.
        offset: usize,
        /// Its kind.
        kind: u16,
    },
    /// A value that no snapshot has.
    #[error("{what} is out of range in the piece at offset {offset}")]
    OutOfRange {
        /// Where the piece begins.
        offset: usize,
        /// Which value.
        what: &'static str,
    },
    /// A pool's definition.
    #[error("the definition of a pool in the piece at offset {offset}")]
    Definition {
        /// Where the piece begins.
        offset: usize,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
}

/// Appends the piece, with its size in front.
///
/// # Panics
/// When the piece breaks the bounds of the domain, see [`plimsoll_domain::limits`].
pub fn encode_piece(piece: &SnapshotPiece, dimension_count: usize, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    put_u32(bytes, 0);
    let partition = piece.partition().0;
    match piece {
        SnapshotPiece::Partition(image) => {
            head(bytes, PIECE_PARTITION, partition, image.retired.len(), 0);
            put_u64(bytes, image.sequence);
            put_u64(bytes, image.sweep.began_at);
            for value in [
                image.sweep.next,
                image.pool_slot_count,
                image.first_free_pool,
                image.reservation_slot_count,
                image.ends.oldest_ended,
                image.ends.newest_ended,
                image.ends.first_free,
            ] {
                put_u32(bytes, value);
            }
            for slot in &image.retired {
                put_u32(bytes, *slot);
            }
        }
        SnapshotPiece::Pools(_, page) => {
            head(bytes, PIECE_POOLS, partition, page.images.len(), page.first_slot);
            for (offset, image) in page.images.iter().enumerate() {
                pool(
                    image,
                    partition,
                    page.first_slot + offset as u32,
                    dimension_count,
                    bytes,
                );
            }
        }
        SnapshotPiece::Reservations(_, page) => {
            head(
                bytes,
                PIECE_RESERVATIONS,
                partition,
                page.entries.len(),
                page.first_slot,
            );
            for entry in &page.entries {
                reservation(entry, bytes);
            }
            for units in &page.more_units {
                for unit in &units[..dimension_count - 2] {
                    put_u32(bytes, *unit);
                }
            }
            put_u32(bytes, page.references.len() as u32);
            for (slot, text) in &page.references {
                put_u32(bytes, *slot);
                put_u32(bytes, text.len() as u32);
                bytes.extend_from_slice(text.as_bytes());
            }
            put_u32(bytes, page.first_requests.len() as u32);
            for (slot, units) in &page.first_requests {
                put_u32(bytes, *slot);
                for unit in &units.0[..dimension_count] {
                    put_u32(bytes, *unit);
                }
            }
        }
        SnapshotPiece::Moved(_, page) => {
            head(bytes, PIECE_MOVED, partition, page.moved.len(), page.first_slot);
            for moved in &page.moved {
                put_u32(bytes, moved.slot);
                put_u32(bytes, moved.id_slot);
                put_u32(bytes, u32::from(moved.id_generation));
            }
        }
    }
    let size = (bytes.len() - start - 4) as u32;
    bytes[start..start + 4].copy_from_slice(&size.to_le_bytes());
}

fn head(bytes: &mut Vec<u8>, kind: u16, partition: u16, count: usize, first_slot: u32) {
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&partition.to_le_bytes());
    put_u32(bytes, count as u32);
    put_u32(bytes, first_slot);
}

fn pool(image: &PoolImage, partition: u16, slot: u32, dimension_count: usize, bytes: &mut Vec<u8>) {
    match image {
        PoolImage::Free { generation, next } => {
            put_u32(bytes, POOL_FREE);
            put_u32(bytes, *generation);
            put_u32(bytes, *next);
        }
        PoolImage::Retired { generation, sequence } => {
            put_u32(bytes, POOL_RETIRED);
            put_u32(bytes, *generation);
            put_u64(bytes, *sequence);
        }
        PoolImage::Used {
            generation,
            version,
            definition,
            held,
            confirmed,
            last_event,
        } => {
            put_u32(bytes, POOL_USED);
            put_u32(bytes, *generation);
            put_u64(bytes, last_event.0 as u64);
            for counter in held.0[..dimension_count].iter().chain(&confirmed.0[..dimension_count]) {
                put_u64(bytes, *counter as u64);
            }
            let start = bytes.len();
            put_u32(bytes, 0);
            let id = PoolId(u64::from(partition) << 48 | u64::from(slot) << 24 | u64::from(*generation));
            encode::definition(0, id, *version, definition, dimension_count, bytes);
            let size = (bytes.len() - start - 4) as u32;
            bytes[start..start + 4].copy_from_slice(&size.to_le_bytes());
        }
    }
}

fn reservation(entry: &StoredReservation, bytes: &mut Vec<u8>) {
    put_u64(bytes, (entry.key.0 >> 64) as u64);
    put_u64(bytes, entry.key.0 as u64);
    put_u64(bytes, entry.created_at.0 as u64);
    put_u64(bytes, entry.moment.0 as u64);
    put_u64(bytes, entry.random);
    put_u32(bytes, entry.first_units[0]);
    put_u32(bytes, entry.first_units[1]);
    put_u32(bytes, entry.pool_slot);
    put_u32(bytes, entry.bits);
    put_u32(bytes, entry.link);
    bytes.extend_from_slice(&entry.generation.to_le_bytes());
    bytes.extend_from_slice(&entry.version.to_le_bytes());
}

fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// Hands each piece of the bytes, as [`encode_piece`] has put them one behind the other, to `take`.
///
/// # Errors
/// [`SnapshotError`], in its `E`, or the first error of `take`.
pub fn decode_pieces<E: From<SnapshotError>>(
    bytes: &[u8],
    dimension_count: usize,
    mut take: impl FnMut(SnapshotPiece) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset = 0;
    while offset < bytes.len() {
        let piece = bytes[offset..]
            .split_first_chunk::<4>()
            .and_then(|(size, rest)| rest.get(..u32::from_le_bytes(*size) as usize))
            .ok_or(SnapshotError::Size { offset })?;
        take(decode_piece(piece, offset, dimension_count)?)?;
        offset += 4 + piece.len();
    }
    Ok(())
}

/// What is left of a piece.
struct Reader<'bytes> {
    rest: &'bytes [u8],
    /// Where the piece begins.
    offset: usize,
}

impl<'bytes> Reader<'bytes> {
    fn take(&mut self, size: usize) -> Result<&'bytes [u8], SnapshotError> {
        let offset = self.offset;
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(SnapshotError::Size { offset })?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], SnapshotError> {
        let offset = self.offset;
        let (chunk, rest) = self
            .rest
            .split_first_chunk::<SIZE>()
            .ok_or(SnapshotError::Size { offset })?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.chunk().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, SnapshotError> {
        self.chunk().map(i64::from_le_bytes).map(Timestamp)
    }

    fn counters(&mut self, dimension_count: usize) -> Result<Counters, SnapshotError> {
        let mut counters = Counters::default();
        for counter in &mut counters.0[..dimension_count] {
            *counter = self.chunk().map(i64::from_le_bytes)?;
        }
        Ok(counters)
    }

    fn out_of_range(&self, what: &'static str) -> SnapshotError {
        SnapshotError::OutOfRange {
            offset: self.offset,
            what,
        }
    }

    /// The count of a page's entries, which begin with this slot.
    fn check_page(
        &self,
        count: u32,
        count_max: usize,
        first_slot: u32,
        slot_count_max: usize,
    ) -> Result<u32, SnapshotError> {
        if count as usize > count_max {
            return Err(self.out_of_range("the size of a page"));
        }
        if first_slot as usize + count as usize > slot_count_max {
            return Err(self.out_of_range("the first slot of a page"));
        }
        Ok(count)
    }

    /// A count of things that take at least this many bytes each.
    fn check_count(&self, count: u32, size: usize) -> Result<usize, SnapshotError> {
        let count = count as usize;
        if count > self.rest.len() / size {
            return Err(SnapshotError::Size { offset: self.offset });
        }
        Ok(count)
    }
}

fn decode_piece(piece: &[u8], offset: usize, dimension_count: usize) -> Result<SnapshotPiece, SnapshotError> {
    assert!(
        (1..=DIMENSION_COUNT_MAX).contains(&dimension_count),
        "{dimension_count} dimensions"
    );
    let mut reader = Reader { rest: piece, offset };
    let kind = reader.u16()?;
    let partition = PartitionId(reader.u16()?);
    if partition.index() >= PARTITION_COUNT {
        return Err(reader.out_of_range("the partition"));
    }
    let (count, first_slot) = (reader.u32()?, reader.u32()?);
    let piece = match kind {
        PIECE_PARTITION => {
            let (sequence, began_at) = (reader.u64()?, reader.u64()?);
            if sequence >= COUNT_LIMIT {
                return Err(reader.out_of_range("the sequence of a partition"));
            }
            let mut values = [0; 7];
            for value in &mut values {
                *value = reader.u32()?;
            }
            let [
                next,
                pool_slot_count,
                first_free_pool,
                reservation_slot_count,
                oldest_ended,
                newest_ended,
                first_free,
            ] = values;
            if pool_slot_count as usize > POOLS_PER_PARTITION_MAX {
                return Err(reader.out_of_range("the number of pools"));
            }
            let count = reader.check_count(count, 4)?;
            SnapshotPiece::Partition(PartitionImage {
                partition,
                sequence,
                pool_slot_count,
                first_free_pool,
                retired: (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?,
                reservation_slot_count,
                ends: ReservationEnds {
                    oldest_ended,
                    newest_ended,
                    first_free,
                },
                sweep: Sweep { next, began_at },
            })
        }
        PIECE_POOLS => {
            let count = reader.check_page(count, PAGE_POOL_COUNT_MAX, first_slot, POOLS_PER_PARTITION_MAX)?;
            let mut images = Vec::with_capacity(reader.check_count(count, POOL_SIZE_MIN)?);
            for _ in 0..count {
                images.push(read_pool(&mut reader, dimension_count)?);
            }
            SnapshotPiece::Pools(partition, PoolPage { first_slot, images })
        }
        PIECE_RESERVATIONS => {
            let slot_count_max = RESERVATIONS_PER_PARTITION_MAX;
            let count = reader.check_page(count, PAGE_RESERVATION_COUNT_MAX, first_slot, slot_count_max)?;
            let page = read_reservations(&mut reader, first_slot, count, dimension_count)?;
            SnapshotPiece::Reservations(partition, page)
        }
        PIECE_MOVED => {
            let slot_count_max = RESERVATIONS_PER_PARTITION_MAX;
            let count = reader.check_page(count, PAGE_RESERVATION_COUNT_MAX, first_slot, slot_count_max)?;
            let mut moved = Vec::with_capacity(reader.check_count(count, MOVED_SIZE)?);
            for _ in 0..count {
                let (slot, id_slot) = (reader.u32()?, reader.u32()?);
                let id_generation = u16::try_from(reader.u32()?);
                moved.push(MovedReservation {
                    slot,
                    id_slot,
                    id_generation: id_generation.map_err(|_| reader.out_of_range("the generation of a reservation"))?,
                });
            }
            SnapshotPiece::Moved(partition, MovedPage { first_slot, moved })
        }
        kind => return Err(SnapshotError::UnknownKind { offset, kind }),
    };
    if !reader.rest.is_empty() {
        return Err(SnapshotError::Size { offset });
    }
    Ok(piece)
}

fn read_pool(reader: &mut Reader<'_>, dimension_count: usize) -> Result<PoolImage, SnapshotError> {
    let (kind, generation) = (reader.u32()?, reader.u32()?);
    if generation >= 1 << 24 {
        return Err(reader.out_of_range("the generation of a pool"));
    }
    match kind {
        POOL_FREE => Ok(PoolImage::Free {
            generation,
            next: reader.u32()?,
        }),
        POOL_RETIRED => Ok(PoolImage::Retired {
            generation,
            sequence: reader.u64()?,
        }),
        POOL_USED => {
            let last_event = reader.time()?;
            let (held, confirmed) = (reader.counters(dimension_count)?, reader.counters(dimension_count)?);
            let size = reader.u32()? as usize;
            let body = reader.take(size)?;
            let offset = reader.offset;
            let failed = |source| SnapshotError::Definition { offset, source };
            let table = pool_table(KIND_POOL_CREATED, body).map_err(failed)?;
            if table.version() >= COUNT_LIMIT {
                return Err(reader.out_of_range("the version of a pool"));
            }
            Ok(PoolImage::Used {
                generation,
                version: table.version(),
                definition: Arc::new(definition(&table, dimension_count).map_err(failed)?),
                held,
                confirmed,
                last_event,
            })
        }
        _ => Err(reader.out_of_range("the kind of a pool's slot")),
    }
}

fn read_reservations(
    reader: &mut Reader<'_>,
    first_slot: u32,
    count: u32,
    dimension_count: usize,
) -> Result<ReservationPage, SnapshotError> {
    let offset = reader.offset;
    let failed = |source| SnapshotError::Definition { offset, source };
    let mut entries = Vec::with_capacity(reader.check_count(count, RESERVATION_SIZE)?);
    for _ in 0..count {
        entries.push(read_reservation(reader, dimension_count)?);
    }
    let mut more_units = Vec::new();
    if let Some(more_count) = dimension_count.checked_sub(2).filter(|more| *more > 0) {
        more_units.reserve_exact(reader.check_count(count, more_count * 4)?);
        for _ in 0..count {
            let units = units_from_bytes(reader.take(more_count * 4)?).map_err(failed)?;
            let mut more = [0; DIMENSION_COUNT_MAX - 2];
            more.copy_from_slice(&units.0[..DIMENSION_COUNT_MAX - 2]);
            more_units.push(more);
        }
    }
    let reference_count = reader.u32()?;
    if reference_count > count {
        return Err(reader.out_of_range("the number of references"));
    }
    let mut references = Vec::with_capacity(reader.check_count(reference_count, 8)?);
    for _ in 0..reference_count {
        let (slot, size) = (reader.u32()?, reader.u32()? as usize);
        if size > REFERENCE_SIZE_MAX {
            return Err(reader.out_of_range("the size of a reference"));
        }
        let text = std::str::from_utf8(reader.take(size)?).map_err(|_| reader.out_of_range("a reference"))?;
        references.push((slot, Arc::from(text)));
    }
    let request_count = reader.u32()?;
    if request_count > count {
        return Err(reader.out_of_range("the number of first requests"));
    }
    let mut first_requests = Vec::with_capacity(reader.check_count(request_count, 8)?);
    for _ in 0..request_count {
        let slot = reader.u32()?;
        let units: Units = units_from_bytes(reader.take(dimension_count * 4)?).map_err(failed)?;
        first_requests.push((slot, units));
    }
    Ok(ReservationPage {
        first_slot,
        entries,
        more_units,
        references,
        first_requests,
    })
}

fn read_reservation(reader: &mut Reader<'_>, dimension_count: usize) -> Result<StoredReservation, SnapshotError> {
    let (high, low) = (reader.u64()?, reader.u64()?);
    let entry = StoredReservation {
        key: Key(u128::from(high) << 64 | u128::from(low)),
        created_at: reader.time()?,
        moment: reader.time()?,
        random: reader.u64()?,
        first_units: [reader.u32()?, reader.u32()?],
        pool_slot: reader.u32()?,
        bits: reader.u32()?,
        link: reader.u32()?,
        generation: reader.u16()?,
        version: reader.u16()?,
    };
    let units_max = [UNITS_MAX, if dimension_count > 1 { UNITS_MAX } else { 0 }];
    if entry.first_units.iter().zip(units_max).any(|(unit, most)| *unit > most) {
        return Err(reader.out_of_range("the units of a reservation"));
    }
    if entry.random == RANDOM_OF_FREE {
        return Ok(entry);
    }
    let state = entry.bits >> STATE_SHIFT & STATE_MASK;
    if entry.random >> RANDOM_BIT_COUNT != 0
        || entry.bits & !KNOWN_BITS != 0
        || entry.bits & HOLD_SECONDS_MASK > HOLD_SECONDS_MAX
        || !(1..=4).contains(&state)
    {
        return Err(reader.out_of_range("the id, the hold or the state of a reservation"));
    }
    Ok(entry)
}
