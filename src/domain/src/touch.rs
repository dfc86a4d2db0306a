//! Reading ahead what commands will read.
//!
//! With a million reservations nearly every command finds its reservation and its key outside of the cache, one after
//! the other. Read for a few commands at once, before they are decided, these reads overlap. Nothing is decided here,
//! and the results only keep the compiler from leaving the reads out.

use crate::{Command, State};

impl State {
    /// Reads where the command's key or reservation stands, and the reservation whose slot it may use.
    #[inline]
    pub fn touch(&self, command: &Command) -> u64 {
        match command {
            Command::Reserve(reserve) => {
                let Some(partition) = self.partition(reserve.pool.partition()) else {
                    return 0;
                };
                let oldest = partition.reservations.oldest_ended().map_or(0, |oldest| oldest.random);
                oldest ^ u64::from(partition.keys.touch(reserve.key))
            }
            Command::Confirm(_) | Command::Release(_) | Command::Resize(_) => {
                let parts = match command {
                    Command::Confirm(confirm) => confirm.reservation.parts(),
                    Command::Release(release) => release.reservation.parts(),
                    Command::Resize(resize) => resize.reservation.parts(),
                    Command::Reserve(_) => return 0,
                };
                let Some(partition) = self.partition(parts.partition) else {
                    return 0;
                };
                partition.reservations.find(&parts).map_or(0, |(_, entry)| entry.random)
            }
        }
    }

    /// Reads where the key of the reservation stands whose slot the command may use; after [`State::touch`] of all of
    /// them.
    #[inline]
    pub fn touch_forgotten(&self, command: &Command) -> u64 {
        let Command::Reserve(reserve) = command else { return 0 };
        let Some(partition) = self.partition(reserve.pool.partition()) else {
            return 0;
        };
        partition
            .reservations
            .oldest_ended()
            .map_or(0, |oldest| u64::from(partition.keys.touch(oldest.key)))
    }
}
