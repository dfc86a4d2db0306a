//! Where in a directory's journals reading has come to.

use plimsoll_journal::Lsn;

use crate::error::ReplayError;
use crate::history::History;

/// An LSN for each journal that there ever was, by its index in the manifest's list. Journals are only ever added to that list, so positions stay valid
/// over restarts and over other numbers of cores; journals that were added later are missing from older ones.
///
/// Reading forwards, it is the LSN to go on with, and [`Positions::ALL_READ`] where nothing is left; reading backwards, that of the record before which
/// to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(pub Vec<Lsn>);

impl Positions {
    /// The position of a journal that is read to its end, and will never have more.
    pub const ALL_READ: Lsn = Lsn(u64::MAX);

    /// The position of the journal; before its first record if it is missing.
    pub fn of(&self, journal: usize) -> Lsn {
        self.0.get(journal).copied().unwrap_or(Lsn(1))
    }

    /// Sets the position of a journal.
    pub fn set(&mut self, journal: usize, position: Lsn) {
        if self.0.len() <= journal {
            self.0.resize(journal + 1, Lsn(1));
        }
        self.0[journal] = position;
    }
}

impl History {
    /// Before the first record of every journal.
    pub fn beginning(&self) -> Positions {
        Positions(vec![Lsn(1); self.view().journals().len()])
    }

    /// Behind everything that is durable now.
    ///
    /// # Errors
    /// When a control page is damaged or cannot be read.
    pub fn end(&self) -> Result<Positions, ReplayError> {
        let journals = 0..self.view().journals().len();
        let ends = journals.map(|journal| Ok(Lsn(self.view().durable(journal)?.0.0 + 1)));
        Ok(Positions(ends.collect::<Result<_, ReplayError>>()?))
    }
}
