//! A thread that looks at the host's memory and disk, which may block, so that no core has to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::background;
use crate::shared::Shared;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it looks whether the server has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// What it has seen last; 0 where it could not be told.
#[derive(Default)]
pub(crate) struct HostFigures {
    memory_bytes: AtomicU64,
    disk_size_bytes: AtomicU64,
    disk_free_bytes: AtomicU64,
}

impl HostFigures {
    /// What the process has in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Size of the data directory's file system.
    pub(crate) fn disk_size_bytes(&self) -> u64 {
        self.disk_size_bytes.load(Ordering::Relaxed)
    }

    /// What is free of it for this user.
    pub(crate) fn disk_free_bytes(&self) -> u64 {
        self.disk_free_bytes.load(Ordering::Relaxed)
    }

    fn look(&self, data: &Path) {
        self.memory_bytes.store(memory_bytes().unwrap_or(0), Ordering::Relaxed);
        let (size, free) = disk_bytes(data).unwrap_or((0, 0));
        self.disk_size_bytes.store(size, Ordering::Relaxed);
        self.disk_free_bytes.store(free, Ordering::Relaxed);
    }
}

/// Starts the thread; it ends when every executor has.
pub(crate) fn start(shared: Arc<Shared>, data: PathBuf) -> std::io::Result<JoinHandle<()>> {
    shared.host.look(&data);
    background::spawn("host-watch", move || {
        let mut looked_at = Instant::now();
        while !shared.is_finished() {
            std::thread::sleep(PAUSE);
            if looked_at.elapsed() >= INTERVAL {
                looked_at = Instant::now();
                shared.host.look(&data);
            }
        }
    })
}

/// The resident pages of this process.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn disk_bytes(data: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(data).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_blocks), bytes(found.f_bavail)))
}
