//! Syncing a core's tickets, oldest first. One sync at a time: while it is on its way, what arrives gathers for the next.
//!
//! A sync of a few pages is called on the core's own thread. Handed to the kernel's workers it costs two wake-ups, of the worker and of the core, which take
//! longer than the sync itself where the disk is quick. A large sync, and any sync while the disk is slow, is handed over: the core
//! decides the next batch meanwhile.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_journal::{Segment, SegmentNumber, Ticket};

use crate::core::{BETWEEN_PASSES, Core};
use crate::fatal::{Fatal, stop_process};
use crate::limits::OWN_SYNCS_IN_A_ROW_MAX;
use crate::runtime::{self, SyncFile};
use crate::stats::Synced;

/// Opened segments that are kept for the next sync: the active one, and those of tickets that span a roll.
const OPEN_FILE_COUNT_MAX: usize = 4;

/// What is called on the core's own thread: up to 16 pages.
const OWN_SIZE_MAX: u64 = 64 * 1024;
/// Syncs that typically take longer show a slow disk, which must not hold up the core.
const OWN_TIME_MAX: Duration = Duration::from_micros(500);
/// How many syncs the typical time is smoothed over: one that waited for something else's writing does not make a disk slow, one that took
/// milliseconds does.
const SMOOTHED_OVER: u32 = 8;

/// Syncs tickets until the core ends. A sync that fails ends the process: what the disk holds is unknown.
pub(crate) async fn run(core: Rc<Core>, journal: PathBuf) {
    let mut files = Files {
        open: VecDeque::new(),
        control: None,
        is_own: false,
    };
    let mut synced_bytes = 0;
    let mut own_in_a_row = 0;
    let mut typical = Duration::ZERO;
    loop {
        let tickets = core.take_tickets();
        if tickets.is_empty() {
            if core.has_ended() {
                return;
            }
            own_in_a_row = 0;
            core.unsynced.wait().await;
            continue;
        }
        if own_in_a_row == OWN_SYNCS_IN_A_ROW_MAX {
            own_in_a_row = 0;
            runtime::sleep(BETWEEN_PASSES).await;
        }
        let appended_bytes = core.with(|inner| inner.engine.journal().bytes_appended());
        let begun = Instant::now();
        files.is_own = appended_bytes - synced_bytes <= OWN_SIZE_MAX && typical <= OWN_TIME_MAX;
        synced_bytes = appended_bytes;
        own_in_a_row += u32::from(files.is_own);
        if let Err(source) = files.sync(&core, &tickets).await {
            core.with(|inner| inner.engine.sync_failed());
            stop_process(&Fatal::SyncFailed { path: journal, source });
        }
        let took = begun.elapsed();
        typical = typical - typical / SMOOTHED_OVER + took / SMOOTHED_OVER;
        core.counters().synced(&Synced {
            took,
            upto: tickets.iter().map(|ticket| ticket.upto.0).max().unwrap_or(0),
            journal_bytes: appended_bytes,
        });
        core.durable(&tickets);
    }
}

struct Files {
    open: VecDeque<(SegmentNumber, SyncFile)>,
    control: Option<SyncFile>,
    /// Whether this sync is called on the core's own thread.
    is_own: bool,
}

impl Files {
    async fn sync(&mut self, core: &Core, tickets: &[Ticket]) -> std::io::Result<()> {
        let first = tickets.iter().map(|ticket| ticket.first_segment.0).min().unwrap_or(0);
        let last = tickets.iter().map(|ticket| ticket.last_segment.0).max().unwrap_or(0);
        let is_written_durably = core.with(|inner| {
            let is_active = inner.engine.journal().segment().number().0 == first;
            let opens_none = tickets.iter().all(|ticket| ticket.opened.is_none());
            let is_enough = self.is_own && first == last && is_active && opens_none;
            inner.engine.write_out(is_enough).map(|()| is_enough)
        });
        if is_written_durably.map_err(std::io::Error::other)? {
            return Ok(());
        }
        for number in (first..=last).map(SegmentNumber) {
            let is_own = self.is_own;
            sync_file(self.segment(core, number).await?, is_own).await?;
        }
        // A new segment counts as durable, and the control page says so, before anything in it is acknowledged.
        if let Some(opened) = tickets.iter().filter_map(|ticket| ticket.opened).next_back() {
            core.segment_synced(opened);
            if self.control.is_none() {
                self.control =
                    Some(SyncFile::open(&core.with(|inner| inner.engine.journal().storage().control_path())).await?);
            }
            if let Some(control) = &self.control {
                sync_file(control, self.is_own).await?;
            }
        }
        Ok(())
    }

    async fn segment(&mut self, core: &Core, number: SegmentNumber) -> std::io::Result<&SyncFile> {
        let position = match self.open.iter().position(|(open, _)| *open == number) {
            Some(position) => position,
            None => {
                let file =
                    SyncFile::open(&core.with(|inner| inner.engine.journal().storage().segment_path(number))).await?;
                if self.open.len() == OPEN_FILE_COUNT_MAX {
                    self.open.pop_front();
                }
                self.open.push_back((number, file));
                self.open.len() - 1
            }
        };
        Ok(&self.open[position].1)
    }
}

async fn sync_file(file: &SyncFile, is_own: bool) -> std::io::Result<()> {
    if is_own { file.sync_now() } else { file.sync().await }
}
