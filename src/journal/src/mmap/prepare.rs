//! Preparing segments ahead, on a thread of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags, RenameFlags, fallocate, fcntl_getfl, fcntl_setfl, renameat_with};
use rustix::io::{Errno, pwritev};
use rustix::process::getpid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::error::{Action, StorageError, is_out_of_space};
use crate::identifier::SegmentNumber;
use crate::limits::PAGE_SIZE;
use crate::mmap::ring::{Attempt, SegmentFiles};
use crate::mmap::{AppendedSegment, Ring, new_path, segment_path, sync_directory};

/// Until a failed preparation is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// So much is written between two syncs: a sync of the whole segment at once would make the journal's own syncs wait for it.
const SYNC_INTERVAL_BYTES: usize = 4 * 1024 * 1024;
/// So much is written, or read, between two pauses: 64 MiB take about a second then.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// The pause. The thread has the priority of the others: where all of them share one processor, the lowest one would get next to nothing of it, and the core
/// would refuse what needs a segment for seconds.
const PAUSE: Duration = Duration::from_millis(3);

const _: () = assert!(PIECE_BYTES.is_multiple_of(PAGE_SIZE) && SYNC_INTERVAL_BYTES.is_multiple_of(PIECE_BYTES));

/// What the journal tells the thread.
enum Notice {
    /// A prepared segment was taken.
    Taken,
    /// Segments below this are not needed any more.
    GivenUp(SegmentNumber),
    /// There will be no more.
    Stop,
}

#[derive(Debug, Default)]
struct Shared {
    prepared_count: AtomicUsize,
    file_count: AtomicUsize,
    is_full: AtomicBool,
    is_at_end: AtomicBool,
    is_stopping: AtomicBool,
}

/// Tells a journal's storage which segments are not needed any more, from any thread.
#[derive(Clone, Debug)]
pub struct Recycler {
    shared: Arc<Shared>,
    notices: Sender<Notice>,
}

/// How a journal's files stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStatus {
    /// Segments and prepared files on the disk.
    pub files: usize,
    /// Segments that are prepared ahead.
    pub prepared: usize,
    /// The disk or the quota is full.
    pub is_full: bool,
    /// There are as many files as the ring allows, and none of them can be used again yet.
    pub is_at_end: bool,
}

impl Recycler {
    /// Segments below this number may be used again, as soon as nobody leases them. The caller has seen that each of them is archived and that no snapshot
    /// which the manifest names needs it ([`crate::ManifestWriter::needed_from`]). A segment without an archive is kept all the same, and so is what is
    /// not sealed yet.
    ///
    /// Returns at once. That the segments are given up is durable before the first of them goes. After a start it is said again.
    pub fn give_up(&self, below: SegmentNumber) {
        // A storage that is gone gives nothing up.
        let _ = self.notices.send(Notice::GivenUp(below));
    }

    /// How the files stand.
    pub fn status(&self) -> RingStatus {
        RingStatus {
            files: self.shared.file_count.load(Ordering::Acquire),
            prepared: self.shared.prepared_count.load(Ordering::Acquire),
            is_full: self.shared.is_full.load(Ordering::Acquire),
            is_at_end: self.shared.is_at_end.load(Ordering::Acquire),
        }
    }
}

/// The journal's end of the thread.
#[derive(Debug)]
pub(super) struct Preparer {
    shared: Arc<Shared>,
    prepared: Receiver<AppendedSegment>,
    notices: Sender<Notice>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    pub(super) fn start(files: SegmentFiles, first: SegmentNumber, ring: Ring) -> Result<Preparer, StorageError> {
        let shared = Arc::new(Shared::default());
        shared.file_count.store(files.files.len(), Ordering::Release);
        let directory = files.directory.clone();
        let (prepared_sender, prepared) = sync_channel(ring.segment_count());
        let (notices, notice_receiver) = channel();
        let worker = Worker {
            files,
            next: first,
            ring,
            shared: Arc::clone(&shared),
            prepared: prepared_sender,
            notices: notice_receiver,
        };
        let thread = std::thread::Builder::new()
            .name("plimsoll-prepare".to_owned())
            .spawn(move || worker.run())
            .map_err(StorageError::io(Action::Spawn, &directory))?;
        Ok(Preparer {
            shared,
            prepared,
            notices,
            thread: Some(thread),
        })
    }

    pub(super) fn take(&mut self, number: SegmentNumber) -> Option<AppendedSegment> {
        let segment = self.prepared.try_recv().ok()?;
        assert_eq!(segment.number(), number, "segments are prepared in order");
        self.shared.prepared_count.fetch_sub(1, Ordering::Release);
        self.notify(Notice::Taken);
        Some(segment)
    }

    pub(super) fn prepared_count(&self) -> usize {
        self.shared.prepared_count.load(Ordering::Acquire)
    }

    pub(super) fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Acquire)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.is_full() || self.shared.is_at_end.load(Ordering::Acquire)
    }

    pub(super) fn recycler(&self) -> Recycler {
        Recycler {
            shared: Arc::clone(&self.shared),
            notices: self.notices.clone(),
        }
    }

    /// A thread that is gone is noticed by the ring running empty.
    fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.notify(Notice::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares segments has panicked");
        }
    }
}

/// The thread's end.
struct Worker {
    files: SegmentFiles,
    next: SegmentNumber,
    ring: Ring,
    shared: Arc<Shared>,
    prepared: SyncSender<AppendedSegment>,
    notices: Receiver<Notice>,
}

impl Worker {
    fn run(mut self) {
        unpin();
        loop {
            let pause = self.fill();
            let notice = match pause {
                Some(pause) => self.notices.recv_timeout(pause),
                None => self.notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match notice {
                Ok(Notice::GivenUp(below)) => {
                    // What is still written to is needed, whatever was said: followers read up to here.
                    let below = below.min(self.newest_sealed().next());
                    self.files.needed_from = self.files.needed_from.max(below);
                }
                Ok(Notice::Taken) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The newest segment that is not written to any more: behind it are the active one and the prepared ones.
    fn newest_sealed(&self) -> SegmentNumber {
        let behind = 2 + self.shared.prepared_count.load(Ordering::Acquire) as u64;
        SegmentNumber(self.next.0.saturating_sub(behind))
    }

    /// Prepares segments until there are enough. Returns how long to wait after a failure.
    fn fill(&mut self) -> Option<Duration> {
        while self.shared.prepared_count.load(Ordering::Acquire) < self.ring.segment_count() {
            let newest_sealed = self.newest_sealed();
            let is_stopping = || {
                let prepared = self.shared.prepared_count.load(Ordering::Acquire);
                // Without pauses when the journal could soon be without a segment.
                if prepared * 2 >= self.ring.segment_count() {
                    std::thread::sleep(PAUSE);
                }
                self.shared.is_stopping.load(Ordering::Acquire)
            };
            let attempt = self.files.attempt(self.next, newest_sealed, &is_stopping);
            self.shared.file_count.store(self.files.files.len(), Ordering::Release);
            match attempt {
                Ok(Attempt::Prepared(segment)) => {
                    self.next = self.next.next();
                    let directory = &self.files.directory;
                    if self.shared.is_full.swap(false, Ordering::AcqRel) {
                        tracing::info!(directory = %directory.display(), "there is room for segments again");
                    }
                    if self.shared.is_at_end.swap(false, Ordering::AcqRel) {
                        tracing::info!(directory = %directory.display(), "segments can be used again");
                    }
                    // Counted first, so that the count never falls below what has been taken.
                    self.shared.prepared_count.fetch_add(1, Ordering::Release);
                    if self.prepared.send(segment).is_err() {
                        return None;
                    }
                }
                Ok(Attempt::Stopped) => return None,
                Ok(Attempt::AtEnd { is_leased }) => {
                    if !self.shared.is_at_end.swap(true, Ordering::AcqRel) {
                        let directory = &self.files.directory;
                        tracing::warn!(directory = %directory.display(), is_leased, "no segment can be used again yet");
                    }
                    return is_leased.then_some(RETRY_PAUSE);
                }
                Err(error) => {
                    let is_full = error.is_out_of_space();
                    let was_full = self.shared.is_full.swap(is_full, Ordering::AcqRel);
                    if !(is_full && was_full) {
                        let segment = self.next.0;
                        tracing::error!(
                            segment,
                            error = &error as &dyn std::error::Error,
                            "cannot prepare a segment"
                        );
                    }
                    return Some(RETRY_PAUSE);
                }
            }
        }
        if let Err(error) = self.files.trim(self.newest_sealed()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove a segment that is given up"
            );
        }
        self.shared.file_count.store(self.files.files.len(), Ordering::Release);
        None
    }
}

/// On any processor that the process may use: a thread inherits the pinning of the core that starts it.
fn unpin() {
    if let Err(error) = sched_getaffinity(Some(getpid())).and_then(|all| sched_setaffinity(None, &all)) {
        tracing::warn!(%error, "cannot unpin the thread that prepares segments");
    }
}

/// Makes a segment's file of zeros. Nothing when it is to stop before that is done, which it is asked between pieces.
pub(crate) fn prepare_segment(
    directory: &Path,
    number: SegmentNumber,
    segment_size: usize,
    is_stopping: &dyn Fn() -> bool,
) -> Result<Option<AppendedSegment>, StorageError> {
    let path = new_path(directory, number);
    let result = fill(directory, &path, number, segment_size, is_stopping);
    if !matches!(result, Ok(Some(_))) {
        // What is left of it would keep room that others need. It may not even be there.
        let _ = fs::remove_file(&path);
    }
    result
}

fn fill(
    directory: &Path,
    path: &Path,
    number: SegmentNumber,
    segment_size: usize,
    is_stopping: &dyn Fn() -> bool,
) -> Result<Option<AppendedSegment>, StorageError> {
    let failed = |action| {
        move |source: io::Error| {
            if is_out_of_space(&source) {
                StorageError::NoRoom {
                    path: path.to_owned(),
                    bytes_needed: segment_size as u64,
                    source,
                }
            } else {
                StorageError::Io {
                    action,
                    path: path.to_owned(),
                    source,
                }
            }
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(failed(Action::Create))?;
    // Finds out early whether there is room. Not every file system can; then writing the zeros finds out.
    match fallocate(&file, FallocateFlags::empty(), 0, segment_size as u64) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(error) => return Err(failed(Action::Write)(error.into())),
    }
    set_direct(&file, true).map_err(failed(Action::Write))?;
    for piece in 0..segment_size.div_ceil(PIECE_BYTES) {
        if is_stopping() {
            return Ok(None);
        }
        if piece > 0 && piece.is_multiple_of(SYNC_INTERVAL_BYTES / PIECE_BYTES) {
            file.sync_data().map_err(failed(Action::Sync))?;
        }
        let end = segment_size.min((piece + 1) * PIECE_BYTES);
        write_zeros(&file, piece * PIECE_BYTES..end).map_err(failed(Action::Write))?;
    }
    set_direct(&file, false).map_err(failed(Action::Write))?;
    file.sync_all().map_err(failed(Action::Sync))?;
    let named = segment_path(directory, number);
    rename_to_free_name(path, &named)?;
    if let Err(error) = sync_directory(directory) {
        // Otherwise the next attempt would find it in its way.
        let _ = fs::remove_file(&named);
        return Err(error);
    }
    Ok(Some(AppendedSegment::new(file, number, segment_size)))
}

#[repr(align(4096))]
struct Zeros([u8; PAGE_SIZE]);

/// A page of zeros, where the kernel can read it without copying.
static ZEROS: Zeros = Zeros([0; PAGE_SIZE]);

/// Whether what is written goes past the kernel's cache, if the file system can do that: zeros are not read before something is written over them, and
/// to pass them through the cache takes five times as long.
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    let wanted = if is_direct {
        flags | OFlags::DIRECT
    } else {
        flags - OFlags::DIRECT
    };
    match fcntl_setfl(file, wanted) {
        Err(Errno::INVAL) if is_direct => Ok(()),
        result => Ok(result?),
    }
}

/// Writes whole pages of zeros.
fn write_zeros(file: &File, range: Range<usize>) -> io::Result<()> {
    let pages = [IoSlice::new(&ZEROS.0); PIECE_BYTES / PAGE_SIZE];
    let mut is_direct = fcntl_getfl(file)?.contains(OFlags::DIRECT);
    let mut at = range.start;
    while at < range.end {
        // Through the cache page by page: the kernel keeps what one large write brought in as one large piece, and would later write the whole piece
        // for each record in it.
        let count = if is_direct { (range.end - at) / PAGE_SIZE } else { 1 };
        match pwritev(file, &pages[..count], at as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written / PAGE_SIZE * PAGE_SIZE,
            Err(Errno::INTR) => {}
            // A file system that wants larger pieces, or only said that it can.
            Err(Errno::INVAL) if is_direct => {
                set_direct(file, false)?;
                is_direct = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Never over a file that is there: it could hold records.
pub(super) fn rename_to_free_name(from: &Path, to: &Path) -> Result<(), StorageError> {
    let cwd = rustix::fs::CWD;
    match renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(StorageError::InTheWay { path: to.to_owned() }),
        // A file system that does not know the flag. The lock of the data directory keeps others from making the file meanwhile.
        Err(Errno::INVAL | Errno::NOSYS) => match to.try_exists() {
            Ok(true) => Err(StorageError::InTheWay { path: to.to_owned() }),
            Ok(false) => fs::rename(from, to).map_err(StorageError::io(Action::Rename, from)),
            Err(error) => Err(StorageError::io(Action::Rename, from)(error)),
        },
        Err(error) => Err(StorageError::io(Action::Rename, from)(error.into())),
    }
}
