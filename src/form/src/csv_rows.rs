//! Rows of CSV files, with the lines on which they stand.

use csv::{ByteRecord, ReaderBuilder, Trim};

use crate::file_errors::FileErrors;
use crate::limits::COLUMN_COUNT_MAX;

/// The rows of a CSV file, as texts.
pub struct CsvRows<'a> {
    reader: csv::Reader<&'a [u8]>,
    /// The names of the columns.
    pub header: Vec<String>,
    record: ByteRecord,
    lines: LineCount<'a>,
}

impl<'a> CsvRows<'a> {
    /// Reads the header; `None` when there is none that can be used, which is then among the errors.
    pub fn new(content: &'a [u8], errors: &mut FileErrors) -> Option<CsvRows<'a>> {
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
    pub fn next(&mut self, errors: &mut FileErrors) -> Option<CsvRow<'_>> {
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
pub struct CsvRow<'a> {
    /// The line on which it begins, from 1.
    pub line: u64,
    record: &'a ByteRecord,
}

impl CsvRow<'_> {
    /// The text in the column with this index.
    pub fn cell(&self, column: usize) -> &str {
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
    use super::*;

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
}
