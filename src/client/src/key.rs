//! Making keys.

use plimsoll_protocol::Key;
use sha2::{Digest, Sha256};

use crate::limits::KEY_TEXT_SIZE_MAX;

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 1 to 255 characters, without quotes around them.
    #[error("a key has 1 to 255 characters, found {found}")]
    Length {
        /// How many bytes the text has.
        found: usize,
    },
    /// A character that is not visible ASCII.
    #[error("a key has visible ASCII characters, found {found:?} at offset {offset}")]
    Character {
        /// Where, in bytes, without quotes.
        offset: usize,
        /// What stands there.
        found: char,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random(#[source] getrandom::Error),
}

/// Where keys come from: chance, or the caller's own text.
///
/// A key names one attempt of a caller to reserve something. Whoever sends the same reserve again uses the same key; a new
/// reserve gets a new one, also after a refusal that is meant to be tried again later.
///
/// ```
/// use plimsoll_client::{Key, KeySource};
///
/// // A UUID is its bits, in either case and with quotes around it as well.
/// let uuid = Key::from_text("123e4567-e89b-12d3-a456-426614174000")?;
/// assert_eq!(uuid.0, 0x123e4567_e89b_12d3_a456_426614174000);
/// assert_eq!(uuid, Key::from_text("\"123E4567-E89B-12D3-A456-426614174000\"")?);
/// // Anything else is hashed.
/// assert_ne!(Key::from_text("order-1")?, Key::from_text("order-2")?);
/// // The text of a key leads back to it.
/// let random = Key::random()?;
/// assert_eq!(Key::from_text(&random.to_string())?, random);
/// # Ok::<(), plimsoll_client::KeyError>(())
/// ```
pub trait KeySource: Sized {
    /// A key that nobody has used: a random UUID (version 4), from the operating system.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`] when there is no random source.
    fn random() -> Result<Self, KeyError>;

    /// The key of a text of 1 to 255 visible ASCII characters, bare or in one pair of double quotes. A UUID (8-4-4-4-12
    /// hexadecimal digits, in either case) is its bits; any other text is the first 16 bytes of its SHA-256.
    ///
    /// # Errors
    ///
    /// [`KeyError::Length`], [`KeyError::Character`].
    fn from_text(text: &str) -> Result<Self, KeyError>;
}

impl KeySource for Key {
    fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
        Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid().as_u128()))
    }

    fn from_text(text: &str) -> Result<Self, KeyError> {
        let bare = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(text);
        if bare.is_empty() || bare.len() > KEY_TEXT_SIZE_MAX {
            return Err(KeyError::Length { found: bare.len() });
        }
        if let Some((offset, found)) = bare.char_indices().find(|(_, found)| !found.is_ascii_graphic()) {
            return Err(KeyError::Character { offset, found });
        }
        // The other texts that the UUID library reads (without hyphens, in braces, as a URN) are not UUIDs here.
        if bare.len() == uuid::fmt::Hyphenated::LENGTH
            && let Ok(uuid) = uuid::Uuid::try_parse(bare)
        {
            return Ok(Self(uuid.as_u128()));
        }
        let hash = Sha256::digest(bare.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Ok(Self::from_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<u128, KeyError>) {
        assert_eq!(Key::from_text(text), expected.map(Key), "{text}");
    }

    #[test]
    fn texts() {
        check("a", Ok(0xca97_8112_ca1b_bdca_fac2_31b3_9a23_dc4d));
        check("\"a\"", Ok(0xca97_8112_ca1b_bdca_fac2_31b3_9a23_dc4d));
        check("00000000-0000-0000-0000-000000000001", Ok(1));
        check("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", Ok(u128::MAX));
        check("", Err(KeyError::Length { found: 0 }));
        check("\"\"", Err(KeyError::Length { found: 0 }));
        check(&"x".repeat(256), Err(KeyError::Length { found: 256 }));
        check("a b", Err(KeyError::Character { offset: 1, found: ' ' }));
        check("é", Err(KeyError::Character { offset: 0, found: 'é' }));
        assert!(Key::from_text(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn texts_that_only_look_like_a_uuid_are_hashed() {
        for text in [
            "123e4567e89b12d3a456426614174000",
            "{123e4567-e89b-12d3-a456-426614174000}",
        ] {
            assert_ne!(
                Key::from_text(text).map(|key| key.0),
                Ok(0x123e4567_e89b_12d3_a456_426614174000)
            );
        }
        let misplaced = "123e45678-e89-12d3-a456-426614174000";
        assert_eq!(misplaced.len(), 36);
        assert!(Key::from_text(misplaced).is_ok());
    }
}
