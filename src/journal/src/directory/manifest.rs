//! The manifest: what a data directory consists of.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::identifier::{JournalId, push_hex};
use crate::limits::{
    DIMENSION_COUNT_MAX, DIMENSION_NAME_SIZE_MAX, JOURNAL_COUNT_MAX, PARTITION_COUNT, is_segment_size,
};

const MAGIC: &str = "plimsoll-manifest";
const VERSION: u32 = 1;

/// What is wrong with a manifest, or with what a new one was to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The first line is not that of a manifest.
    #[error("the first line is not `plimsoll-manifest <version> <checksum> <size>`")]
    FirstLine,
    /// A version that this program does not know.
    #[error("version {version} is unknown to this program")]
    UnknownVersion {
        /// The version.
        version: u32,
    },
    /// The rest is shorter or longer than the first line says.
    #[error("{found} bytes follow the first line, which speaks of {expected}")]
    Size {
        /// What the first line says.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// The checksum is wrong.
    #[error("the checksum is {found:08x}, the first line says {expected:08x}")]
    Checksum {
        /// What the first line says.
        expected: u32,
        /// That of the bytes.
        found: u32,
    },
    /// The JSON is not what a manifest holds.
    #[error("the content is not that of a manifest")]
    Json(#[source] serde_json::Error),
    /// An id is not 32 hexadecimal digits.
    #[error("an id is not 32 hexadecimal digits")]
    Id,
    /// No dimension, or too many.
    #[error("{count} dimensions, where 1 to 8 may be")]
    DimensionCount {
        /// How many.
        count: usize,
    },
    /// A dimension's name has other characters than it may have, or is there twice.
    #[error("the name of dimension {index} does not match [a-z][a-z0-9_]{{0,31}}, or is there twice")]
    DimensionName {
        /// Which dimension, from 0.
        index: usize,
    },
    /// The size of segments is out of range.
    #[error("segments of {bytes} bytes: the size must be a multiple of 4096 from 65536 to 1073741824")]
    SegmentSize {
        /// The size.
        bytes: u64,
    },
    /// No journal, or too many.
    #[error("{count} journals, where 1 to 1024 may be")]
    JournalCount {
        /// How many.
        count: usize,
    },
    /// Two journals have one id, one directory or one core.
    #[error("journal {index} has the id, the directory or the core of an earlier one")]
    JournalTwice {
        /// Which journal, from 0.
        index: usize,
    },
    /// The owners are not 1,024.
    #[error("{count} owners, where 1024 must be")]
    OwnerCount {
        /// How many.
        count: usize,
    },
    /// A partition's owner is no journal with a core.
    #[error("the owner of partition {partition} is no journal that has a core")]
    Owner {
        /// The partition.
        partition: usize,
    },
    /// Snapshots, which version 1 does not have.
    #[error("snapshots are unknown to this program")]
    Snapshots,
}

/// One journal of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestJournal {
    pub(crate) id: JournalId,
    pub(crate) core: Option<u16>,
}

/// A manifest that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) directory_id: [u8; 16],
    pub(crate) dimensions: Vec<String>,
    pub(crate) generation: u64,
    pub(crate) segment_size: usize,
    pub(crate) journals: Vec<ManifestJournal>,
    pub(crate) owners: [u16; PARTITION_COUNT],
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonManifest {
    directory_id: String,
    dimensions: Vec<String>,
    generation: u64,
    segment_size: u64,
    journals: Vec<JsonJournal>,
    owners: Vec<u16>,
    snapshots: Vec<serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonJournal {
    id: String,
    #[serde(deserialize_with = "core_that_is_there")]
    core: Option<u16>,
}

/// Without this, serde would take a missing `core` for `null`.
fn core_that_is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Option::deserialize(deserializer)
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let json = JsonManifest {
            directory_id: hex(&self.directory_id),
            dimensions: self.dimensions.clone(),
            generation: self.generation,
            segment_size: self.segment_size as u64,
            journals: self
                .journals
                .iter()
                .map(|journal| JsonJournal {
                    id: journal.id.to_string(),
                    core: journal.core,
                })
                .collect(),
            owners: self.owners.to_vec(),
            snapshots: Vec::new(),
        };
        let json = serde_json::to_string(&json).expect("the manifest has no keys but texts");
        let crc = crc32c::crc32c(json.as_bytes());
        format!("{MAGIC} {VERSION} {crc:08x} {}\n{json}", json.len()).into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let line_end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(ManifestError::FirstLine)?;
        let line = std::str::from_utf8(&bytes[..line_end]).map_err(|_| ManifestError::FirstLine)?;
        let (version, rest) = line
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(|rest| rest.split_once(' '))
            .ok_or(ManifestError::FirstLine)?;
        let version: u32 = version.parse().map_err(|_| ManifestError::FirstLine)?;
        if version != VERSION {
            return Err(ManifestError::UnknownVersion { version });
        }
        let (crc, size) = rest.split_once(' ').ok_or(ManifestError::FirstLine)?;
        if crc.len() != 8 {
            return Err(ManifestError::FirstLine);
        }
        let expected = u32::from_str_radix(crc, 16).map_err(|_| ManifestError::FirstLine)?;
        let size: usize = size.parse().map_err(|_| ManifestError::FirstLine)?;
        let json = &bytes[line_end + 1..];
        if json.len() != size {
            return Err(ManifestError::Size {
                expected: size,
                found: json.len(),
            });
        }
        let found = crc32c::crc32c(json);
        if found != expected {
            return Err(ManifestError::Checksum { expected, found });
        }
        let json: JsonManifest = serde_json::from_slice(json).map_err(ManifestError::Json)?;
        if !json.snapshots.is_empty() {
            return Err(ManifestError::Snapshots);
        }
        let count = json.owners.len();
        let manifest = Manifest {
            directory_id: parse_id(&json.directory_id)?,
            dimensions: json.dimensions,
            generation: json.generation,
            segment_size: usize::try_from(json.segment_size).map_err(|_| ManifestError::SegmentSize {
                bytes: json.segment_size,
            })?,
            journals: json
                .journals
                .iter()
                .map(|journal| {
                    Ok(ManifestJournal {
                        id: JournalId(parse_id(&journal.id)?),
                        core: journal.core,
                    })
                })
                .collect::<Result<_, ManifestError>>()?,
            owners: json
                .owners
                .try_into()
                .map_err(|_| ManifestError::OwnerCount { count })?,
        };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_dimensions(&self.dimensions)?;
        if !is_segment_size(self.segment_size) {
            return Err(ManifestError::SegmentSize {
                bytes: self.segment_size as u64,
            });
        }
        check_journal_count(self.journals.len())?;
        let mut names = HashSet::new();
        let mut cores = HashSet::new();
        for (index, journal) in self.journals.iter().enumerate() {
            let is_new = names.insert(journal.id.directory_name());
            if !is_new || journal.core.is_some_and(|core| !cores.insert(core)) {
                return Err(ManifestError::JournalTwice { index });
            }
        }
        for (partition, owner) in self.owners.iter().enumerate() {
            if self
                .journals
                .get(usize::from(*owner))
                .is_none_or(|journal| journal.core.is_none())
            {
                return Err(ManifestError::Owner { partition });
            }
        }
        Ok(())
    }
}

pub(crate) fn check_journal_count(count: usize) -> Result<(), ManifestError> {
    if (1..=JOURNAL_COUNT_MAX).contains(&count) {
        Ok(())
    } else {
        Err(ManifestError::JournalCount { count })
    }
}

pub(crate) fn check_dimensions(names: &[String]) -> Result<(), ManifestError> {
    let count = names.len();
    if !(1..=DIMENSION_COUNT_MAX).contains(&count) {
        return Err(ManifestError::DimensionCount { count });
    }
    for (index, name) in names.iter().enumerate() {
        let is_valid = name.len() <= DIMENSION_NAME_SIZE_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_valid || names[..index].contains(name) {
            return Err(ManifestError::DimensionName { index });
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

fn parse_id(text: &str) -> Result<[u8; 16], ManifestError> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ManifestError::Id);
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| ManifestError::Id)?;
    Ok(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            directory_id: [1; 16],
            dimensions: vec!["orders".to_owned(), "kg".to_owned()],
            generation: 1,
            segment_size: 65536,
            journals: vec![
                ManifestJournal {
                    id: JournalId([2; 16]),
                    core: Some(0),
                },
                ManifestJournal {
                    id: JournalId([3; 16]),
                    core: None,
                },
            ],
            owners: [0; PARTITION_COUNT],
        }
    }

    fn framed(json: &str) -> Vec<u8> {
        let crc = crc32c::crc32c(json.as_bytes());
        format!("plimsoll-manifest 1 {crc:08x} {}\n{json}", json.len()).into_bytes()
    }

    #[test]
    fn decodes_what_was_encoded() {
        assert_eq!(
            Manifest::decode(&manifest().encode()).expect("a valid manifest"),
            manifest()
        );
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let bytes = manifest().encode();
        for index in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut changed = bytes.clone();
                changed[index] ^= bit;
                assert!(Manifest::decode(&changed).is_err(), "byte {index}");
            }
            assert!(Manifest::decode(&bytes[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let text = String::from_utf8(manifest().encode()).expect("a manifest is text");
        let json = text.split_once('\n').expect("two parts").1;
        assert!(Manifest::decode(&framed(json)).is_ok());
        let check = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            let changed = framed(&json.replacen(from, to, 1));
            Manifest::decode(&changed).expect_err(to)
        };
        assert!(matches!(
            check("\"generation\"", "\"later\":0,\"generation\""),
            ManifestError::Json(_)
        ));
        assert!(matches!(
            check("\"core\":0", "\"core\":0,\"node\":1"),
            ManifestError::Json(_)
        ));
        assert!(matches!(check(",\"core\":null", ""), ManifestError::Json(_)));
        assert!(matches!(
            check("\"snapshots\":[]", "\"snapshots\":[{}]"),
            ManifestError::Snapshots
        ));
        assert!(matches!(
            check("\"kg\"", "\"orders\""),
            ManifestError::DimensionName { index: 1 }
        ));
        assert!(matches!(
            check("\"kg\"", "\"Kg\""),
            ManifestError::DimensionName { index: 1 }
        ));
        assert!(matches!(
            check("65536", "65537"),
            ManifestError::SegmentSize { bytes: 65537 }
        ));
        assert!(matches!(check("[0,", "[1,"), ManifestError::Owner { partition: 0 }));
        assert!(matches!(check("[0,", "[2,"), ManifestError::Owner { partition: 0 }));
        assert!(matches!(check("[0,", "["), ManifestError::OwnerCount { count: 1023 }));
        assert!(matches!(
            check("\"core\":null", "\"core\":0"),
            ManifestError::JournalTwice { index: 1 }
        ));
        assert!(matches!(check("0303", "030g"), ManifestError::Id));
        let other = text.replacen("plimsoll-manifest 1", "plimsoll-manifest 2", 1);
        assert!(matches!(
            Manifest::decode(other.as_bytes()),
            Err(ManifestError::UnknownVersion { version: 2 })
        ));
    }
}
