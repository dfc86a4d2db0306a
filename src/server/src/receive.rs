//! What has arrived on one connection and is not taken yet.
//!
//! A core reads into one buffer that all its connections share, and takes whole frames from there. A connection keeps bytes of its own only for a
//! frame that has arrived in part, and for frames that it may not take yet. So a connection that rests holds nothing.

use crate::limits::{KEPT_SIZE_MIN, READ_SIZE_MAX};
use crate::memory::Holding;

/// What has arrived on one connection and is not taken yet.
#[derive(Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    /// Bytes of a refused frame that are still to come; they are dropped as they arrive.
    pub(crate) skip: usize,
    /// Size of the frame at the beginning, as far as it is known; more has to arrive before anything can be taken. 0: not looked at yet.
    pub(crate) wanted: usize,
}

impl Received {
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.filled
    }

    /// The size of the buffer, which a larger frame lets grow.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there may be whole frames here.
    pub(crate) fn is_unseen(&self) -> bool {
        !self.is_empty() && self.wanted == 0
    }

    /// A large frame is read into its place at once; everything else through the shared buffer.
    pub(crate) fn is_large(&self) -> bool {
        self.wanted > READ_SIZE_MAX || self.filled - self.start > READ_SIZE_MAX / 2
    }

    pub(crate) fn consume(&mut self, size: usize, holding: &Holding) {
        self.start += size;
        if self.start == self.filled {
            self.start = 0;
            self.filled = 0;
            if holding.memory().is_tight() {
                self.release(holding);
            }
        }
    }

    /// Keeps what could not be taken from the shared buffer.
    pub(crate) fn keep(&mut self, bytes: &[u8], holding: &Holding) {
        self.start = 0;
        self.filled = bytes.len();
        if bytes.len() > self.bytes.len() {
            self.grow(bytes.len().next_multiple_of(KEPT_SIZE_MIN), holding);
        }
        self.bytes[..bytes.len()].copy_from_slice(bytes);
    }

    /// Room for the rest of a large frame. It grows with what has arrived: one who sends only a header holds little.
    pub(crate) fn free(&mut self, holding: &Holding) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.filled == self.bytes.len() {
            let doubled = (2 * self.filled).max(READ_SIZE_MAX);
            self.grow(doubled.min(self.wanted.max(self.filled + KEPT_SIZE_MIN)), holding);
        }
        &mut self.bytes[self.filled..]
    }

    pub(crate) fn arrived(&mut self, size: usize) {
        self.filled += size;
        self.wanted = 0;
    }

    /// Copies what is here to the front of the shared buffer, and returns its size. It stays here too, until something has been read behind it.
    pub(crate) fn copy_to(&self, shared: &mut [u8]) -> usize {
        let filled = self.filled();
        shared[..filled.len()].copy_from_slice(filled);
        filled.len()
    }

    /// Gives the buffer up when nothing is in it.
    pub(crate) fn release(&mut self, holding: &Holding) {
        if self.is_empty() && !self.bytes.is_empty() {
            holding.give_back(self.bytes.len());
            self.bytes = Vec::new();
        }
    }

    /// Nothing more is taken from this connection.
    pub(crate) fn discard(&mut self, holding: &Holding) {
        self.start = self.filled;
        self.release(holding);
    }

    /// A new buffer instead of a longer one: it comes zeroed, page by page as it is used.
    fn grow(&mut self, size: usize, holding: &Holding) {
        holding.resize(self.bytes.len(), size);
        let mut bytes = vec![0; size];
        let kept = self.filled.min(self.bytes.len());
        bytes[..kept].copy_from_slice(&self.bytes[..kept]);
        self.bytes = bytes;
    }
}
