//! What is wrong with a text.

use std::fmt;

/// Why a text is not the value it should be; the text itself is named by whoever reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(String);

impl ValueError {
    /// An error with the rule that the text breaks.
    pub fn new(rule: impl Into<String>) -> ValueError {
        ValueError(rule.into())
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}
