//! The manifest: what a data directory consists of.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::identifier::{JournalId, Lsn, SegmentNumber, push_hex};
use crate::limits::{
    DIMENSION_COUNT_MAX, DIMENSION_NAME_SIZE_MAX, JOURNAL_COUNT_MAX, PARTITION_COUNT, SNAPSHOT_COUNT_MAX,
    is_segment_size,
};
use crate::snapshot;

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
    /// A journal that has a core has an end, or an end lies before the first segment.
    #[error("journal {index} is in use and has an end, or its end is in no segment")]
    End {
        /// Which journal, from 0.
        index: usize,
    },
    /// A snapshot of no journal, with another file's name, in no segment, not older than the one before it in the list, or one too many.
    #[error("snapshot {index} is of no journal in use, misnamed, out of order, or one too many")]
    Snapshot {
        /// Which snapshot, from 0.
        index: usize,
    },
}

/// One journal of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestJournal {
    pub(crate) id: JournalId,
    pub(crate) core: Option<u16>,
    pub(crate) end: Option<JournalEnd>,
}

/// Where a journal ends that is only history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEnd {
    /// Its last LSN, that of a commit record; 0 if it never had a record.
    pub lsn: Lsn,
    /// The segment that it lies in; 0 if it never had a record.
    pub segment: SegmentNumber,
}

/// A snapshot of a manifest. Those of a journal follow each other, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestSnapshot {
    /// An index of the journals.
    pub(crate) journal: u16,
    pub(crate) lsn: Lsn,
    pub(crate) segment: SegmentNumber,
    pub(crate) size: u64,
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
    pub(crate) snapshots: Vec<ManifestSnapshot>,
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
    snapshots: Vec<JsonSnapshot>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonSnapshot {
    journal: u16,
    lsn: u64,
    segment: u64,
    file: String,
    size: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonJournal {
    id: String,
    #[serde(deserialize_with = "core_that_is_there")]
    core: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<JsonEnd>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct JsonEnd {
    lsn: u64,
    segment: u64,
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
                    end: journal.end.map(|end| JsonEnd {
                        lsn: end.lsn.0,
                        segment: end.segment.0,
                    }),
                })
                .collect(),
            owners: self.owners.to_vec(),
            snapshots: self
                .snapshots
                .iter()
                .map(|snapshot| JsonSnapshot {
                    journal: snapshot.journal,
                    lsn: snapshot.lsn.0,
                    segment: snapshot.segment.0,
                    file: self.snapshot_file_name(snapshot),
                    size: snapshot.size,
                })
                .collect(),
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
                        end: journal.end.as_ref().map(|end| JournalEnd {
                            lsn: Lsn(end.lsn),
                            segment: SegmentNumber(end.segment),
                        }),
                    })
                })
                .collect::<Result<_, ManifestError>>()?,
            owners: json
                .owners
                .try_into()
                .map_err(|_| ManifestError::OwnerCount { count })?,
            snapshots: json
                .snapshots
                .iter()
                .map(|snapshot| ManifestSnapshot {
                    journal: snapshot.journal,
                    lsn: Lsn(snapshot.lsn),
                    segment: SegmentNumber(snapshot.segment),
                    size: snapshot.size,
                })
                .collect(),
        };
        manifest.check()?;
        for (index, (found, snapshot)) in json.snapshots.iter().zip(&manifest.snapshots).enumerate() {
            if found.file != manifest.snapshot_file_name(snapshot) {
                return Err(ManifestError::Snapshot { index });
            }
        }
        Ok(manifest)
    }

    /// The name of a snapshot's file. Its journal is one of the manifest's.
    pub(crate) fn snapshot_file_name(&self, snapshot: &ManifestSnapshot) -> String {
        snapshot::file_name(self.journals[usize::from(snapshot.journal)].id, snapshot.lsn)
    }

    /// Puts the snapshot before the others of its journal. Returns those that are one too many now.
    pub(crate) fn add_snapshot(&mut self, snapshot: ManifestSnapshot) -> Vec<ManifestSnapshot> {
        let first = self
            .snapshots
            .iter()
            .position(|other| other.journal == snapshot.journal);
        self.snapshots.insert(first.unwrap_or(self.snapshots.len()), snapshot);
        let mut count = 0;
        let is_dropped = |other: &mut ManifestSnapshot| {
            count += usize::from(other.journal == snapshot.journal);
            other.journal == snapshot.journal && count > SNAPSHOT_COUNT_MAX
        };
        self.snapshots.extract_if(.., is_dropped).collect()
    }

    /// A journal's snapshots, the newest first.
    pub(crate) fn snapshots_of(&self, journal: usize) -> impl Iterator<Item = &ManifestSnapshot> {
        self.snapshots
            .iter()
            .filter(move |snapshot| usize::from(snapshot.journal) == journal)
    }

    pub(crate) fn check(&self) -> Result<(), ManifestError> {
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
            let is_valid_end = |end: JournalEnd| journal.core.is_none() && (end.lsn.0 == 0) == (end.segment.0 == 0);
            if !journal.end.is_none_or(is_valid_end) {
                return Err(ManifestError::End { index });
            }
        }
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            let is_in_use = self
                .journals
                .get(usize::from(snapshot.journal))
                .is_some_and(|journal| journal.core.is_some());
            let earlier: Vec<_> = self.snapshots[..index]
                .iter()
                .filter(|other| other.journal == snapshot.journal)
                .collect();
            let is_in_order = earlier
                .last()
                .is_none_or(|newer| newer.lsn > snapshot.lsn && newer.segment >= snapshot.segment);
            let is_in_segment = snapshot.segment.0 > 0 && (snapshot.lsn.0 > 0 || snapshot.segment.0 == 1);
            if !is_in_use || !is_in_order || !is_in_segment || earlier.len() >= SNAPSHOT_COUNT_MAX {
                return Err(ManifestError::Snapshot { index });
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
                    end: None,
                },
                ManifestJournal {
                    id: JournalId([3; 16]),
                    core: None,
                    end: Some(JournalEnd {
                        lsn: Lsn(812),
                        segment: SegmentNumber(6),
                    }),
                },
            ],
            owners: [0; PARTITION_COUNT],
            snapshots: vec![snapshot(900, 9), snapshot(70, 2)],
        }
    }

    fn snapshot(lsn: u64, segment: u64) -> ManifestSnapshot {
        ManifestSnapshot {
            journal: 0,
            lsn: Lsn(lsn),
            segment: SegmentNumber(segment),
            size: 4128,
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
        for (from, to) in [
            ("\"lsn\":900", "\"lsn\":901"),
            ("\"lsn\":900,\"segment\":9", "\"lsn\":900,\"segment\":1"),
            ("\"lsn\":70,\"segment\":2", "\"lsn\":70,\"segment\":0"),
            ("{\"journal\":0", "{\"journal\":1"),
            ("{\"journal\":0", "{\"journal\":2"),
            ("00000000070.snapshot", "00000000071.snapshot"),
        ] {
            assert!(matches!(check(from, to), ManifestError::Snapshot { .. }), "{from} {to}");
        }
        for (from, to) in [
            ("\"core\":0}", "\"core\":0,\"end\":{\"lsn\":1,\"segment\":1}}"),
            ("\"segment\":6", "\"segment\":0"),
            ("\"lsn\":812", "\"lsn\":0"),
        ] {
            assert!(matches!(check(from, to), ManifestError::End { .. }), "{from} {to}");
        }
        assert!(matches!(check(",\"size\":4128", ""), ManifestError::Json(_)));
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

    #[test]
    fn keeps_two_snapshots_of_each_journal() {
        let mut manifest = manifest();
        manifest.journals[1] = ManifestJournal {
            id: JournalId([3; 16]),
            core: Some(1),
            end: None,
        };
        let of = |journal, lsn| ManifestSnapshot {
            journal,
            ..snapshot(lsn, 9)
        };
        assert_eq!(manifest.add_snapshot(of(1, 5)), []);
        assert_eq!(manifest.add_snapshot(of(0, 950)), [snapshot(70, 2)]);
        assert_eq!(manifest.add_snapshot(of(1, 6)), []);
        assert_eq!(manifest.add_snapshot(of(1, 7)), [of(1, 5)]);
        assert_eq!(
            manifest.snapshots_of(1).copied().collect::<Vec<_>>(),
            [of(1, 7), of(1, 6)]
        );
        assert_eq!(
            Manifest::decode(&manifest.encode()).expect("a valid manifest"),
            manifest
        );
        manifest.snapshots.push(of(1, 1));
        assert!(matches!(
            Manifest::decode(&manifest.encode()),
            Err(ManifestError::Snapshot { index: 4 })
        ));
    }

    #[test]
    fn opens_what_was_written_before_there_were_snapshots() {
        let json = format!(
            "{{\"directory_id\":\"{}\",\"dimensions\":[\"units\"],\"generation\":1,\"segment_size\":65536,\
             \"journals\":[{{\"id\":\"{}\",\"core\":0}}],\"owners\":[{}],\"snapshots\":[]}}",
            "01".repeat(16),
            "02".repeat(16),
            ["0"; PARTITION_COUNT].join(",")
        );
        let old = Manifest::decode(&framed(&json)).expect("a manifest of the first version");
        assert_eq!((old.snapshots, old.journals[0].end), (Vec::new(), None));
    }
}
