//! Files of pools and orders: their form, their bytes, and what is wrong with them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder, Trim};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The largest file that is read, in bytes after decompression: it is held in memory.
const INPUT_SIZE_BYTES_MAX: u64 = 4 << 30;
/// The most errors of a file that are shown; the others are counted.
const ERROR_COUNT_SHOWN_MAX: usize = 100;
/// The most columns of a file.
const COLUMN_COUNT_MAX: usize = 1024;

/// How a file is written, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Csv,
    Ndjson,
}

/// A file, decompressed.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) form: Form,
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

    pub(crate) fn new(path: &Path, form: Form, mut content: Vec<u8>) -> Input {
        let digest = Sha256::digest(&content).into();
        if content.starts_with(b"\xef\xbb\xbf") {
            content.drain(..3);
        }
        Input {
            path: path.to_owned(),
            form,
            content,
            digest,
        }
    }
}

pub(crate) fn form_of(path: &Path) -> Option<(Form, bool)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (name, compressed) = match name.strip_suffix(".gz") {
        Some(inner) => (inner, true),
        None => (name.as_str(), false),
    };
    match Path::new(name).extension()?.to_str()? {
        "csv" => Some((Form::Csv, compressed)),
        "ndjson" => Some((Form::Ndjson, compressed)),
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

/// What is wrong in a file. All errors are counted, the first are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileErrors {
    shown: Vec<FileError>,
    count: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct FileError {
    line: u64,
    column: String,
    detail: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.detail),
            column => write!(f, "line {}, {column}: {}", self.line, self.detail),
        }
    }
}

impl FileErrors {
    /// An error in the column of this name; without a name, in the line as a whole.
    pub(crate) fn add(&mut self, line: u64, column: &str, detail: impl Into<String>) {
        self.count += 1;
        if self.shown.len() < ERROR_COUNT_SHOWN_MAX {
            self.shown.push(FileError {
                line,
                column: column.to_owned(),
                detail: detail.into(),
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn into_failure(mut self, path: &Path) -> Failure {
        self.shown.sort_by_key(|error| error.line);
        let mut details: Vec<String> = self.shown.iter().map(ToString::to_string).collect();
        if self.count > self.shown.len() {
            details.push(format!("and {} more", self.count - self.shown.len()));
        }
        let errors = if self.count == 1 {
            "1 error".to_owned()
        } else {
            format!("{} errors", self.count)
        };
        Failure::failed(format!("{}: {errors}; nothing was sent", path.display())).details(details)
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shown.iter().map(ToString::to_string).collect()
    }
}

/// The rows of a CSV file, as texts.
pub(crate) struct CsvRows<'a> {
    reader: csv::Reader<&'a [u8]>,
    pub(crate) header: Vec<String>,
    record: ByteRecord,
    lines: LineCount<'a>,
}

impl<'a> CsvRows<'a> {
    /// Reads the header; `None` when there is none that can be used, which is then among the errors.
    pub(crate) fn new(content: &'a [u8], errors: &mut FileErrors) -> Option<CsvRows<'a>> {
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter_of(content))
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(content);
        let mut record = ByteRecord::new();
        if !matches!(reader.read_byte_record(&mut record), Ok(true)) {
            errors.add(1, "", "there is no header");
            return None;
        }
        let before = errors.count();
        if record.len() > COLUMN_COUNT_MAX {
            errors.add(1, "", format!("more than {COLUMN_COUNT_MAX} columns"));
            return None;
        }
        let mut header: Vec<String> = Vec::with_capacity(record.len());
        for (index, cell) in record.iter().enumerate() {
            match std::str::from_utf8(cell) {
                Ok(name) if header.iter().any(|known| known == name) && !name.is_empty() => {
                    errors.add(1, name, "the column is there twice");
                }
                Ok(name) => header.push(name.to_owned()),
                Err(_) => errors.add(1, &format!("column {}", index + 1), "the header is not UTF-8"),
            }
        }
        let lines = LineCount {
            content,
            offset: 0,
            line: 1,
        };
        (errors.count() == before).then_some(CsvRows {
            reader,
            header,
            record,
            lines,
        })
    }

    /// The next row that has a cell for each column; what is wrong with those between goes to the errors.
    pub(crate) fn next(&mut self, errors: &mut FileErrors) -> Option<CsvRow<'_>> {
        let mut line;
        loop {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    errors.add(self.reader.position().line(), "", error.to_string());
                    return None;
                }
            }
            line = self.lines.line_of(&self.record);
            if self.record.len() != self.header.len() {
                let detail = format!("{} cells under a header of {}", self.record.len(), self.header.len());
                errors.add(line, "", detail);
                continue;
            }
            let bad = self.record.iter().position(|cell| std::str::from_utf8(cell).is_err());
            if let Some(column) = bad {
                errors.add(line, &self.header[column], "is not UTF-8");
                continue;
            }
            break;
        }
        Some(CsvRow {
            line,
            record: &self.record,
        })
    }
}

/// Counts lines. The reader's own count stands before the blank lines that it skips.
struct LineCount<'a> {
    content: &'a [u8],
    /// Up to here, lines are counted.
    offset: usize,
    /// The line in which `offset` stands, from 1.
    line: u64,
}

impl LineCount<'_> {
    /// The line on which a record begins; records come in the order of the file.
    fn line_of(&mut self, record: &ByteRecord) -> u64 {
        let position = record.position().map_or(0, csv::Position::byte);
        let mut start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .clamp(self.offset, self.content.len());
        while matches!(self.content.get(start), Some(b'\r' | b'\n')) {
            start += 1;
        }
        let passed = &self.content[self.offset..start];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.offset = start;
        self.line
    }
}

/// One row of a CSV file.
pub(crate) struct CsvRow<'a> {
    /// The line on which it begins, from 1.
    pub(crate) line: u64,
    record: &'a ByteRecord,
}

impl CsvRow<'_> {
    /// The text in the column with this index.
    pub(crate) fn cell(&self, column: usize) -> &str {
        // Checked to be UTF-8 when the row was read.
        std::str::from_utf8(&self.record[column]).unwrap_or_default()
    }
}

/// `;` when the first line has more of them than `,`.
fn delimiter_of(content: &[u8]) -> u8 {
    let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| first.iter().filter(|byte| **byte == wanted).count();
    if count(b';') > count(b',') { b';' } else { b',' }
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
        check("a.csv", Some((Form::Csv, false)));
        check("dir.d/A.CSV.GZ", Some((Form::Csv, true)));
        check("a.ndjson", Some((Form::Ndjson, false)));
        check("a.b.ndjson.gz", Some((Form::Ndjson, true)));
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

    fn rows(content: &[u8]) -> (Vec<(u64, String)>, Vec<String>) {
        let mut errors = FileErrors::default();
        let mut found = Vec::new();
        if let Some(mut rows) = CsvRows::new(content, &mut errors) {
            let last = rows.header.len() - 1;
            while let Some(row) = rows.next(&mut errors) {
                found.push((row.line, format!("{}|{}", row.cell(0), row.cell(last))));
            }
        }
        (found, errors.lines())
    }

    #[test]
    fn rows_know_their_line() {
        let expected = vec![(2, "1|2".to_owned()), (4, "3|4".to_owned())];
        assert_eq!(rows(b"a,b\n1,2\n\n3,4"), (expected.clone(), vec![]));
        assert_eq!(rows(b"a;b\r\n1;2\r\n\r\n3; 4\r\n"), (expected, vec![]));
        let expected = vec![(2, "x\ny|2".to_owned()), (4, "3|4".to_owned())];
        assert_eq!(rows(b"a,b\n\"x\ny\",2\n3,4\n"), (expected, vec![]));
    }

    #[test]
    fn rows_that_cannot_be_read_are_named() {
        let (found, errors) = rows(b"a,b\n1\n\xff,2\n3,4\n5,6,7\n");
        assert_eq!(found, [(4, "3|4".to_owned())]);
        assert_eq!(
            errors,
            [
                "line 2: 1 cells under a header of 2",
                "line 3, a: is not UTF-8",
                "line 5: 3 cells under a header of 2"
            ]
        );
        assert_eq!(rows(b"").1, ["line 1: there is no header"]);
        assert_eq!(rows(b"a,b,a\n").1, ["line 1, a: the column is there twice"]);
    }

    #[test]
    fn errors_are_counted_past_those_shown() {
        let mut errors = FileErrors::default();
        for line in 1..=130 {
            errors.add(line, "name", "wrong");
        }
        let text = errors.into_failure(Path::new("p.csv")).to_string();
        assert!(
            text.starts_with("error: p.csv: 130 errors; nothing was sent\n  line 1, name: wrong\n"),
            "{text}"
        );
        assert!(text.ends_with("  line 100, name: wrong\n  and 30 more\n"), "{text}");
    }
}
