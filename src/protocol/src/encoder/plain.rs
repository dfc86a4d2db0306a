//! The two hot payloads, laid out by hand: vectors of structs behind a table whose shape never varies.
//!
//! The library's builder writes from the end towards the front into scratch memory and looks for vtables to share, which
//! costs a single-command frame more than everything else that is done to it. What is written here is the same
//! FlatBuffers table; a test reads both with the library's verifier and compares them.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | offset of the table: 16 |
//! | 4 | 8 | vtable: its size 8, the table's size 12, where fields 0 and 1 stand: 4 and 8, or 0 for none |
//! | 12 | 4 | zeros |
//! | 16 | 4 | the table: back to its vtable, 12 |
//! | 20 | 4 | field 0: offset of the structs, 8 |
//! | 24 | 4 | field 1: offset of the values |
//! | 28 | 4 | count of the structs |
//! | 32 | 40 each | the structs |
//! | | 0 or 4 | zeros, so that values of 8 bytes stand at multiples of 8 |
//! | | 4 | count of the values; absent with them |
//! | | 4 or 8 each | the values |

use super::{Commands, EncodeError, Outcomes, frame_header, frame_size};
use crate::frame::Head;
use crate::limits::{COMMAND_SIZE_BYTES, FRAME_HEADER_SIZE_BYTES, OUTCOME_SIZE_BYTES};

/// Size of a struct: command and outcome alike.
const STRUCT_SIZE: usize = COMMAND_SIZE_BYTES;

const _: () = assert!(OUTCOME_SIZE_BYTES == STRUCT_SIZE);

/// Where the structs begin.
const STRUCTS_AT: usize = 32;

/// Where field 1 of the table stands; offsets are relative to it.
const FIELD_1_AT: usize = 24;

/// Size of a vector's count.
const COUNT_SIZE: usize = size_of::<u32>();

/// Appends a frame of commands without references and trace context.
pub(super) fn commands(out: &mut Vec<u8>, head: Head, batch: &Commands<'_>, size_max: u32) -> Result<(), EncodeError> {
    let structs = batch.commands.iter().map(|command| &command.0);
    let values = batch.units.iter().map(|value| value.to_le_bytes());
    frame(out, head, size_max, structs, values)
}

/// Appends a frame of outcomes.
pub(super) fn outcomes(out: &mut Vec<u8>, head: Head, batch: &Outcomes<'_>, size_max: u32) -> Result<(), EncodeError> {
    let structs = batch.outcomes.iter().map(|outcome| &outcome.0);
    let values = batch.remaining.iter().map(|value| value.to_le_bytes());
    frame(out, head, size_max, structs, values)
}

fn frame<'structs, const VALUE_SIZE: usize>(
    out: &mut Vec<u8>,
    head: Head,
    size_max: u32,
    structs: impl ExactSizeIterator<Item = &'structs [u8; STRUCT_SIZE]>,
    values: impl ExactSizeIterator<Item = [u8; VALUE_SIZE]>,
) -> Result<(), EncodeError> {
    let structs_end = STRUCTS_AT + STRUCT_SIZE * structs.len();
    // Structs end at a multiple of 8; the count of values of 8 bytes stands 4 bytes further on.
    let count_at = structs_end + (VALUE_SIZE - COUNT_SIZE);
    let has_values = values.len() > 0;
    let payload_size = if has_values {
        count_at + COUNT_SIZE + VALUE_SIZE * values.len()
    } else {
        structs_end
    };
    let size = frame_size(payload_size);
    if size > size_max as usize {
        return Err(EncodeError::Size { size, size_max });
    }
    let start = out.len();
    out.resize(start + size, 0);
    let (header, payload) = out[start..].split_at_mut(FRAME_HEADER_SIZE_BYTES);
    // Sizes and counts are below 2^20, so that they fit.
    let field_1 = if has_values { 8 } else { 0 };
    let prefix: [u16; 6] = [16, 0, 8, 12, 4, field_1];
    for (place, value) in payload.as_chunks_mut().0.iter_mut().zip(prefix) {
        *place = value.to_le_bytes();
    }
    let mut put = |at: usize, value: usize| payload[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    put(16, 12);
    put(20, 8);
    put(28, structs.len());
    if has_values {
        put(FIELD_1_AT, count_at - FIELD_1_AT);
        put(count_at, values.len());
    }
    for (place, value) in payload[STRUCTS_AT..structs_end]
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(structs)
    {
        *place = *value;
    }
    if has_values {
        for (place, value) in payload[count_at + COUNT_SIZE..]
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(values)
        {
            *place = value;
        }
    }
    let encoded = frame_header(head, size as u32, payload).encode();
    header.copy_from_slice(&encoded);
    Ok(())
}

#[cfg(test)]
mod tests {
    use flatbuffers::FlatBufferBuilder;

    use super::*;
    use crate::payload;
    use crate::{CorrelationId, Encoder, Operation, ReservationId, Status, wire};

    /// What the library's builder makes of the same.
    fn built(commands: &[wire::Command], units: &[u32]) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let units = (!units.is_empty()).then(|| builder.create_vector(units));
        let commands = Some(builder.create_vector(commands));
        let args = wire::CommandsArgs {
            commands,
            units,
            ..Default::default()
        };
        let root = wire::Commands::create(&mut builder, &args);
        builder.finish_minimal(root);
        builder.finished_data().to_vec()
    }

    #[test]
    fn commands_are_what_the_library_would_have_written() {
        for count in 0..20_usize {
            for units_count in [0, 1, count, 3 * count] {
                let commands: Vec<wire::Command> = (0..count)
                    .map(|index| wire::Command::release(ReservationId(index as u128), None))
                    .collect();
                let units: Vec<u32> = (0..units_count as u32).collect();
                let mut bytes = Vec::new();
                let batch = Commands {
                    commands: &commands,
                    units: &units,
                    traceparent: None,
                };
                let none = std::iter::empty::<(u32, &str)>();
                Encoder::new()
                    .commands(&mut bytes, CorrelationId(1), batch, none)
                    .expect("it fits");
                assert_eq!(bytes.len() % 8, 0);
                let built = built(&commands, &units);
                let expected = payload::table::<wire::Commands>("Commands", &built).expect("it is valid");
                let found = payload::table::<wire::Commands>("Commands", &bytes[32..]).expect("it is valid");
                assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            }
        }
    }

    #[test]
    fn outcomes_stand_where_readers_in_place_need_them() {
        for count in 0..20_usize {
            for remaining_count in [0, 1, count, 8 * count] {
                let outcomes = vec![wire::Outcome::refused(Status::PoolClosed); count];
                let remaining: Vec<i64> = (0..remaining_count as i64).map(|value| -value).collect();
                let mut bytes = Vec::new();
                let batch = Outcomes {
                    outcomes: &outcomes,
                    remaining: &remaining,
                };
                Encoder::new()
                    .outcomes(&mut bytes, CorrelationId(1), batch)
                    .expect("it fits");
                let found = payload::table::<wire::Outcomes>("Outcomes", &bytes[32..]).expect("it is valid");
                assert_eq!(found.outcomes().len(), count);
                let values = found
                    .remaining()
                    .map(|values| values.iter().collect::<Vec<_>>())
                    .unwrap_or_default();
                assert_eq!(values, remaining);
                if let Some(values) = found.remaining() {
                    let at = values.bytes().as_ptr() as usize - bytes.as_ptr() as usize;
                    assert_eq!(at % 8, 0, "values of 8 bytes at offset {at}");
                }
            }
        }
        assert_eq!(Head::answer(Operation::Commands, CorrelationId(1)).flags, 1);
    }
}
