//! What is wrong in a file.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::limits::ERROR_COUNT_KEPT_MAX;

/// What is wrong in a file. All errors are counted, the first [`ERROR_COUNT_KEPT_MAX`] are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileErrors {
    kept: Vec<FileError>,
    count: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileError {
    /// The line, from 1.
    pub line: u64,
    /// The name of the column or field; empty: the line as a whole.
    pub column: String,
    /// What is wrong.
    pub detail: String,
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
    pub fn add(&mut self, line: u64, column: &str, detail: impl Into<String>) {
        self.count += 1;
        if self.kept.len() < ERROR_COUNT_KEPT_MAX {
            self.kept.push(FileError {
                line,
                column: column.to_owned(),
                detail: detail.into(),
            });
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are, those that are not kept included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Those that are kept, in the order of the lines.
    #[must_use]
    pub fn into_kept(mut self) -> Vec<FileError> {
        self.kept.sort_by_key(|error| error.line);
        self.kept
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        self.kept.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_past_those_kept() {
        let mut errors = FileErrors::default();
        let last = ERROR_COUNT_KEPT_MAX as u64 + 30;
        for line in (1..=last).rev() {
            errors.add(line, "name", "wrong");
        }
        assert_eq!(errors.count(), ERROR_COUNT_KEPT_MAX + 30);
        let kept = errors.into_kept();
        assert_eq!(kept.len(), ERROR_COUNT_KEPT_MAX);
        assert_eq!(kept[0].to_string(), "line 31, name: wrong");
    }
}
