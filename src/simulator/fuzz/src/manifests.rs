//! Manifests: whatever stands in the file, opening a data directory gives the directory or a typed error.
//!
//! The first byte tells whether the rest is the whole file, or JSON to which a first line with the right checksum is made.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use plimsoll_journal::{Directory, DirectoryError, NewDirectory, limits};
use tempfile::TempDir;

use crate::counting::within;
use crate::input::Input;

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| tempfile::tempdir().expect("a directory for the target"))
        .path()
}

/// # Panics
/// When opening takes memory without bound, or a manifest was accepted that breaks the rules.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_whole = input.u8() & 1 == 0;
    let rest = input.rest();
    let mut file = Vec::new();
    if !is_whole {
        file = format!("plimsoll-manifest 1 {:08x} {}\n", crc32c::crc32c(rest), rest.len()).into_bytes();
    }
    file.extend_from_slice(rest);
    let path = directory();
    fs::write(path.join("MANIFEST"), &file).expect("the target's own directory can be written to");
    let opened = match within(64 * file.len() + (1 << 18), || Directory::open(path)) {
        Ok(opened) => opened,
        Err(DirectoryError::Manifest { source, .. }) => {
            assert!(!source.to_string().is_empty());
            return;
        }
        Err(error) => panic!("neither a directory nor an error of the manifest: {error}"),
    };
    let count = opened.dimensions().len();
    assert!((1..=limits::DIMENSION_COUNT_MAX).contains(&count));
    assert_eq!(opened.dimensions().iter().collect::<HashSet<_>>().len(), count);
    assert!(limits::is_segment_size(opened.segment_size()));
    let journals = opened.journals();
    assert!((1..=limits::JOURNAL_COUNT_MAX).contains(&journals.len()));
    let places: HashSet<_> = journals.iter().map(|journal| &journal.directory).collect();
    assert_eq!(places.len(), journals.len(), "every journal has its own directory");
    for owner in opened.owners() {
        assert!(journals[usize::from(*owner)].core.is_some());
    }
    for journal in journals {
        assert!(
            journal.directory.starts_with(path),
            "{} leads out",
            journal.directory.display()
        );
    }
}

/// Manifests as they are written, with one journal and with several.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (journal_count, dimensions) in [(1, &["units"][..]), (3, &["orders", "kg"][..])] {
        let place = tempfile::tempdir().expect("a directory for the seeds");
        let new = NewDirectory {
            dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
            journal_count,
            segment_size: limits::SEGMENT_SIZE_MIN,
        };
        let path = place.path().join("data");
        drop(Directory::create(&path, &new).expect("a new directory"));
        let file = fs::read(path.join("MANIFEST")).expect("it was written");
        let line_end = file.iter().position(|byte| *byte == b'\n').expect("a first line");
        seeds.push((format!("journals-{journal_count}-file"), [&[0], &file[..]].concat()));
        seeds.push((
            format!("journals-{journal_count}-json"),
            [&[1], &file[line_end + 1..]].concat(),
        ));
    }
    seeds
}
