//! Lists that an engine tells in pages.

use crate::failure::Failure;
use crate::output::{Output, Table, notice};

/// How a list is printed.
pub(crate) struct Listing<'a> {
    /// At most so many items.
    pub(crate) limit: u32,
    /// JSON, or the table.
    pub(crate) json: bool,
    /// With its head.
    pub(crate) table: Table,
    /// Said when there is more than the limit.
    pub(crate) more: &'a str,
}

impl Listing<'_> {
    /// `page` gives items behind a cursor, at most so many, and the cursor behind them; `form` prints one as JSON, `row` is its row of the table.
    pub(crate) async fn print<T>(
        mut self,
        mut page: impl AsyncFnMut(Option<&str>, u32) -> Result<(Vec<T>, Option<String>), Failure>,
        form: impl Fn(&T, &mut Output) -> Result<(), Failure>,
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        let mut output = Output::new();
        let (mut left, mut cursor) = (self.limit, None::<String>);
        loop {
            let (items, next) = page(cursor.as_deref(), left).await?;
            for item in &items {
                match self.json {
                    true => form(item, &mut output)?,
                    false => self.table.row(row(item)),
                }
            }
            left = left.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            cursor = next;
            if left == 0 || cursor.is_none() {
                break;
            }
        }
        if !self.json {
            for line in self.table.lines() {
                output.line(line)?;
            }
        }
        output.finish()?;
        if cursor.is_some() && !self.json {
            notice(self.more);
        }
        Ok(())
    }
}
