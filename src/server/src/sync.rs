//! Syncing a core's tickets, oldest first. One sync at a time: while it is on its way, what arrives gathers for the next.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use plimsoll_journal::{SegmentNumber, Ticket};

use crate::core::Core;
use crate::fatal::{Fatal, stop_process};
use crate::runtime::SyncFile;

/// Opened segments that are kept for the next sync: the active one, and those of tickets that span a roll.
const OPEN_FILE_COUNT_MAX: usize = 4;

/// Syncs tickets until the core ends. A sync that fails ends the process: what the disk holds is unknown.
pub(crate) async fn run(core: Rc<Core>, journal: PathBuf) {
    let mut files = Files {
        open: VecDeque::new(),
        control: None,
    };
    loop {
        let tickets = core.take_tickets();
        if tickets.is_empty() {
            core.unsynced.wait().await;
            continue;
        }
        if let Err(source) = files.sync(&core, &tickets).await {
            core.with(|inner| inner.engine.sync_failed());
            stop_process(&Fatal::SyncFailed { path: journal, source });
        }
        let upto: Vec<_> = tickets.iter().map(|ticket| ticket.upto).collect();
        core.durable(&upto);
    }
}

struct Files {
    open: VecDeque<(SegmentNumber, SyncFile)>,
    control: Option<SyncFile>,
}

impl Files {
    async fn sync(&mut self, core: &Core, tickets: &[Ticket]) -> std::io::Result<()> {
        let first = tickets.iter().map(|ticket| ticket.first_segment.0).min().unwrap_or(0);
        let last = tickets.iter().map(|ticket| ticket.last_segment.0).max().unwrap_or(0);
        for number in (first..=last).map(SegmentNumber) {
            self.segment(core, number).await?.sync().await?;
        }
        // A new segment counts as durable, and the control page says so, before anything in it is acknowledged.
        if let Some(opened) = tickets.iter().filter_map(|ticket| ticket.opened).next_back() {
            core.segment_synced(opened);
            if self.control.is_none() {
                self.control =
                    Some(SyncFile::open(&core.with(|inner| inner.engine.journal().storage().control_path())).await?);
            }
            if let Some(control) = &self.control {
                control.sync().await?;
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
