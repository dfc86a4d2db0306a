//! Identifiers and their texts.

use std::fmt;
use std::str::FromStr;

/// Names a pool on the wire. Learnt by resolving the pool's name; never 0.
///
/// It stays valid until the pool is retired; afterwards it is answered with `pool_not_found`. Its text is 16 hexadecimal
/// digits, for logs only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PoolId(pub u64);

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names a reservation for ever, in every interface.
///
/// The text is 26 characters of Crockford's base32, most significant first, upper case, the first character `0` to `7`.
/// Lower case is accepted; the look-alikes `I`, `L`, `O` and hyphens, which Crockford allows, are not, so that there is
/// one text for one id.
///
/// ```
/// use plimsoll_protocol::ReservationId;
///
/// let id: ReservationId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?;
/// assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
/// # Ok::<(), plimsoll_protocol::IdentifierError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ReservationId(pub u128);

/// Length of a reservation id's text.
const TEXT_SIZE: usize = 26;

/// Crockford's digits by value.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Marks a byte that is no digit.
const NO_DIGIT: u8 = 0xFF;

/// The value of each byte as a digit, in either case.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        let digit = DIGITS[value];
        values[digit as usize] = value as u8;
        values[digit.to_ascii_lowercase() as usize] = value as u8;
        value += 1;
    }
    values
};

impl ReservationId {
    /// From the two halves that wire structs carry.
    #[must_use]
    pub const fn from_halves(halves: Halves) -> Self {
        Self(halves.join())
    }

    /// The two halves that wire structs carry.
    #[must_use]
    pub const fn halves(self) -> Halves {
        Halves::split(self.0)
    }

    /// The text, without an allocation: ASCII.
    #[must_use]
    pub const fn to_text(self) -> [u8; TEXT_SIZE] {
        let mut text = [b'0'; TEXT_SIZE];
        let mut index = 0;
        while index < TEXT_SIZE {
            let shift = 5 * (TEXT_SIZE - 1 - index) as u32;
            text[index] = DIGITS[(self.0 >> shift) as usize & 31];
            index += 1;
        }
        text
    }
}

/// The halves of a 128-bit identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// The more significant 64 bits.
    pub high: u64,
    /// The less significant 64 bits.
    pub low: u64,
}

impl Halves {
    const fn join(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    const fn split(value: u128) -> Self {
        Self {
            high: (value >> 64) as u64,
            low: value as u64,
        }
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_text();
        f.pad(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Why a text is no reservation id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Not 26 bytes long.
    #[error("a reservation id has 26 characters, found {found} bytes")]
    Length {
        /// The text's length in bytes.
        found: usize,
    },
    /// A character that is no digit of Crockford's base32.
    #[error("expected a digit of Crockford's base32 at offset {offset}, found {found:?}")]
    Digit {
        /// Where, in bytes.
        offset: usize,
        /// What stands there.
        found: char,
    },
    /// The first character is above `7`: more than 128 bits.
    #[error("expected 0 to 7 at offset 0, found {found:?}")]
    Range {
        /// The first character.
        found: char,
    },
}

impl FromStr for ReservationId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != TEXT_SIZE {
            return Err(IdentifierError::Length { found: text.len() });
        }
        let mut value = 0_u128;
        for (offset, found) in text.char_indices() {
            let digit = u8::try_from(found).map_or(NO_DIGIT, |byte| VALUES[usize::from(byte)]);
            if digit == NO_DIGIT {
                return Err(IdentifierError::Digit { offset, found });
            }
            if offset == 0 && digit > 7 {
                return Err(IdentifierError::Range { found });
            }
            value = value << 5 | u128::from(digit);
        }
        Ok(Self(value))
    }
}

/// The caller's idempotency key of a reserve, 128 bits.
///
/// Valid within the partition of the pool that the command names, while the reservation lives and for the key retention
/// after it ended. The text is the UUID of these bits, lower case with hyphens, and that text leads back to the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Key(pub u128);

impl Key {
    /// From 16 bytes, the first the most significant: a UUID's bytes, or the first 16 of a SHA-256.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// From the two halves that wire structs carry.
    #[must_use]
    pub const fn from_halves(halves: Halves) -> Self {
        Self(halves.join())
    }

    /// The two halves that wire structs carry.
    #[must_use]
    pub const fn halves(self) -> Halves {
        Halves::split(self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            bits >> 80 & 0xFFFF,
            bits >> 64 & 0xFFFF,
            bits >> 48 & 0xFFFF,
            bits & 0xFFFF_FFFF_FFFF
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<u128, IdentifierError>) {
        assert_eq!(text.parse::<ReservationId>().map(|id| id.0), expected, "{text}");
    }

    #[test]
    fn texts_of_reservation_ids() {
        check("00000000000000000000000000", Ok(0));
        check("00000000000000000000000001", Ok(1));
        check(
            "00000000000400000000000002",
            Ok(0x0000_0000_0000_0100_0000_0000_0000_0002),
        );
        check("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", Ok(u128::MAX));
        check("7zzzzzzzzzzzzzzzzzzzzzzzzz", Ok(u128::MAX));
        check(
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Ok(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B),
        );
        check("", Err(IdentifierError::Length { found: 0 }));
        check("0000000000000000000000000", Err(IdentifierError::Length { found: 25 }));
        check(
            "000000000000000000000000000",
            Err(IdentifierError::Length { found: 27 }),
        );
        check("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", Err(IdentifierError::Range { found: '8' }));
        check("z0000000000000000000000000", Err(IdentifierError::Range { found: 'z' }));
        check(
            "I0000000000000000000000000",
            Err(IdentifierError::Digit { offset: 0, found: 'I' }),
        );
        for found in ['i', 'L', 'o', 'U', '-', ' ', '\u{7f}'] {
            check(
                &format!("000000{found}0000000000000000000"),
                Err(IdentifierError::Digit { offset: 6, found }),
            );
        }
        check(
            "000000é000000000000000000",
            Err(IdentifierError::Digit { offset: 6, found: 'é' }),
        );
        check(
            "000000\u{130}000000000000000000",
            Err(IdentifierError::Digit {
                offset: 6,
                found: '\u{130}',
            }),
        );
    }

    #[test]
    fn text_of_a_key_is_its_uuid() {
        let key = Key::from_bytes([
            0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00,
        ]);
        assert_eq!(key.to_string(), "123e4567-e89b-12d3-a456-426614174000");
        assert_eq!(Key::from_halves(key.halves()), key);
        assert_eq!(key.halves().high, 0x123e_4567_e89b_12d3);
    }
}
