//! Files of pools and orders: their form, their bytes, and what is wrong with them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use plimsoll_form::{FileErrors, FileForm, without_byte_order_mark};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The largest file that is read, in bytes after decompression: it is held in memory.
const INPUT_SIZE_BYTES_MAX: u64 = 4 << 30;
/// The most errors of a file that are shown; the others are counted.
const ERROR_COUNT_SHOWN_MAX: usize = 100;

/// A file, decompressed.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) form: FileForm,
    /// Without a byte order mark.
    pub(crate) content: Vec<u8>,
    /// SHA-256 of the decompressed bytes as they are in the file.
    pub(crate) digest: [u8; 32],
}

impl Input {
    pub(crate) fn read(path: &Path) -> Result<Input, Failure> {
        let (form, compressed) = form_of(path).ok_or_else(|| {
            Failure::usage(format!("{}: the ending says neither CSV nor NDJSON", path.display()))
                .help("name the file .csv or .ndjson, with .gz when it is compressed")
        })?;
        let unreadable = |error| Failure::failed(format!("cannot read {}", path.display())).because(error);
        let file = File::open(path).map_err(unreadable)?;
        let content = if compressed {
            read_bounded(MultiGzDecoder::new(file))
        } else {
            read_bounded(file)
        };
        Ok(Input::new(path, form, content.map_err(unreadable)?))
    }

    pub(crate) fn new(path: &Path, form: FileForm, content: Vec<u8>) -> Input {
        let digest = Sha256::digest(&content).into();
        Input {
            path: path.to_owned(),
            form,
            content: without_byte_order_mark(content),
            digest,
        }
    }
}

pub(crate) fn form_of(path: &Path) -> Option<(FileForm, bool)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (name, compressed) = match name.strip_suffix(".gz") {
        Some(inner) => (inner, true),
        None => (name.as_str(), false),
    };
    match Path::new(name).extension()?.to_str()? {
        "csv" => Some((FileForm::Csv, compressed)),
        "ndjson" => Some((FileForm::Ndjson, compressed)),
        _ => None,
    }
}

fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.take(INPUT_SIZE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > INPUT_SIZE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {INPUT_SIZE_BYTES_MAX} bytes after decompression; split the file"),
        ));
    }
    Ok(content)
}

/// The end of a command whose file is not right.
pub(crate) fn failure_of_file(errors: FileErrors, path: &Path) -> Failure {
    let count = errors.count();
    let kept = errors.into_kept();
    let shown = kept.iter().take(ERROR_COUNT_SHOWN_MAX);
    let mut details: Vec<String> = shown.map(ToString::to_string).collect();
    if count > details.len() {
        details.push(format!("and {} more", count - details.len()));
    }
    let errors = if count == 1 {
        "1 error".to_owned()
    } else {
        format!("{count} errors")
    };
    Failure::failed(format!("{}: {errors}; nothing was sent", path.display())).details(details)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn the_ending_says_the_form() {
        let check = |name: &str, expected| assert_eq!(form_of(Path::new(name)), expected, "{name}");
        check("a.csv", Some((FileForm::Csv, false)));
        check("dir.d/A.CSV.GZ", Some((FileForm::Csv, true)));
        check("a.ndjson", Some((FileForm::Ndjson, false)));
        check("a.b.ndjson.gz", Some((FileForm::Ndjson, true)));
        for wrong in ["a", "csv", "a.json", "a.gz", "a.csv.bz2", ""] {
            check(wrong, None);
        }
    }

    #[test]
    fn compressed_files_have_the_digest_of_their_content() {
        let directory = tempfile::tempdir().unwrap();
        let text = b"\xef\xbb\xbfat,op\n1,2\n";
        let plain = directory.path().join("a.csv");
        std::fs::write(&plain, text).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        let packed = directory.path().join("a.csv.gz");
        std::fs::write(&packed, encoder.finish().unwrap()).unwrap();

        let (plain, packed) = (Input::read(&plain).unwrap(), Input::read(&packed).unwrap());
        assert_eq!(plain.digest, packed.digest);
        assert_eq!(plain.content, packed.content);
        assert_eq!(plain.content, b"at,op\n1,2\n");
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv.gz");
        std::fs::write(&path, b"no archive").unwrap();
        assert!(
            Input::read(&path)
                .unwrap_err()
                .to_string()
                .starts_with("error: cannot read")
        );
    }

    #[test]
    fn errors_are_counted_past_those_shown() {
        let mut errors = FileErrors::default();
        for line in 1..=130 {
            errors.add(line, "name", "wrong");
        }
        let text = failure_of_file(errors, Path::new("p.csv")).to_string();
        assert!(
            text.starts_with("error: p.csv: 130 errors; nothing was sent\n  line 1, name: wrong\n"),
            "{text}"
        );
        assert!(text.ends_with("  line 100, name: wrong\n  and 30 more\n"), "{text}");
    }
}
