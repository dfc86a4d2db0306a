//! What the host must grant: checked and explained before anything else happens, and open to whoever looks at a host without starting a server.
#![allow(unsafe_code)]

mod control_group;
mod files;

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use control_group::ControlGroup;
pub use files::{HostFiles, numbers_in};

use crate::fatal::Fatal;
use crate::limits::{CONNECTION_COUNT_MAX, RESERVATION_SIZE, RESERVED_FILE_COUNT, RESERVED_FILE_COUNT_PER_CORE};
pub use crate::listen::BACKLOG;
use crate::options::Cores;
use crate::patience::try_patiently;

/// What the rings of one executor lock, in bytes: with less the runtime refuses to start, for root too (measured).
pub const LOCKED_MEMORY_PER_CORE: u64 = 512 * 1024;
/// What a server of another user than root should be allowed to lock for each executor, in bytes: its buffers are then pinned, also when it starts right after
/// another of the same user has ended (`tuning/README.md`).
pub const LOCKED_MEMORY_ADVISED_PER_CORE: u64 = 8 << 20;

/// What counts as a large buffer, in bytes: the value that glibc starts with. Setting it keeps it there.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: i32 = 128 * 1024;

/// Checks that an executor can be started at all.
pub(crate) fn check() -> Result<(), Fatal> {
    check_locked_memory(1)?;
    // No memory: what the rings of a killed process had locked counts for its user a little longer.
    let is_memory = |error: &io::Error| error.raw_os_error() == Some(libc::ENOMEM);
    try_patiently(make_ring, is_memory).map_err(|source| match is_memory(&source) {
        true => Fatal::LockedMemory {
            found: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
            needed: LOCKED_MEMORY_PER_CORE,
            cores: 1,
        },
        false => Fatal::IoUringRefused { source },
    })
}

/// Large buffers go back to the kernel when they are freed. Left to itself, glibc keeps ever larger ones once some were freed, up to 32 MiB each, and a
/// burst of clients would be paid for until the next restart.
pub(crate) fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call sets a number of the allocator, and is defined for this parameter.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}

/// Makes a ring of io_uring and closes it. The runtime would panic, or end the process without a word, where io_uring is refused.
///
/// # Errors
/// The kernel's answer: `EPERM` from a setting or a filter, `ENOSYS` from a kernel or a filter that does not know the call, `ENOMEM` when too much memory is
/// locked, which may pass when a process has just ended.
pub fn make_ring() -> io::Result<()> {
    // 120 bytes of struct io_uring_params, all zero: no flags.
    let mut parameters = [0_u64; 15];
    // SAFETY: the kernel reads and writes a struct io_uring_params, which is 120 bytes long and aligned to 8, and keeps no pointer to it.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_u32, parameters.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a descriptor that nobody else knows.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(result as i32) });
    Ok(())
}

/// Checks that the rings of so many executors may be locked.
pub(crate) fn check_locked_memory(core_count: usize) -> Result<(), Fatal> {
    let needed = LOCKED_MEMORY_PER_CORE * core_count as u64;
    let limit = getrlimit(Resource::Memlock);
    let suffices = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if suffices(limit.current) {
        return Ok(());
    }
    // A process may raise its own limit up to the hard one.
    if suffices(limit.maximum)
        && setrlimit(
            Resource::Memlock,
            Rlimit {
                current: Some(needed),
                maximum: limit.maximum,
            },
        )
        .is_ok()
    {
        return Ok(());
    }
    Err(Fatal::LockedMemory {
        found: limit.current.unwrap_or(u64::MAX),
        needed,
        cores: core_count,
    })
}

/// Raises the limit of open files as far as it goes, and returns how many connections the server may have below it: a server that cannot open its
/// journal any more, because clients have taken every descriptor, would have to stop.
pub(crate) fn connection_count_max(core_count: usize, asked: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    let files = if is_raised { limit.maximum } else { limit.current };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let possible = files
        .saturating_sub(reserved_file_count(core_count))
        .clamp(1, core_count * CONNECTION_COUNT_MAX);
    let count = asked.unwrap_or(possible);
    if count > possible {
        tracing::warn!(
            asked = count,
            possible,
            files,
            "fewer connections than asked for: raise the limit of open files"
        );
    }
    count.min(possible)
}

/// How many descriptors are kept for journals and the runtime; connections get the rest.
#[must_use]
pub fn reserved_file_count(core_count: usize) -> usize {
    RESERVED_FILE_COUNT + core_count * RESERVED_FILE_COUNT_PER_CORE
}

/// How many reservations each core may keep: they may take half of the memory that this process may use.
pub(crate) fn reservation_count_max(core_count: usize) -> usize {
    let size = memory_size(&HostFiles::below("/")).unwrap_or(u64::MAX);
    usize::try_from(size / 2 / RESERVATION_SIZE / core_count as u64).unwrap_or(usize::MAX)
}

/// The memory that this process may use, in bytes: the machine's, or less where a control group grants less. `None` where neither can be read.
#[must_use]
pub fn memory_size(files: &HostFiles) -> Option<u64> {
    let text = files.text("/proc/meminfo").unwrap_or_default();
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total = kibibytes.and_then(|number| number.parse::<u64>().ok()?.checked_mul(1024));
    total.into_iter().chain(ControlGroup::read(files).memory).min()
}

/// The processors that this process may run on, in the order of their numbers; never none.
#[must_use]
pub fn allowed_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|processor| set.is_set(*processor))
            .collect(),
        Err(_) => vec![0],
    }
}

/// The processors that the executors are pinned to, among those that this process may run on, of which there is at least one. `journal_count` is `None` for a
/// new directory.
///
/// # Errors
/// [`Fatal::TooManyCores`] and [`Fatal::Processor`], when others are asked for.
///
/// # Panics
/// Without any allowed processor.
pub fn processors(cores: &Cores, journal_count: Option<usize>, allowed: Vec<usize>) -> Result<Vec<usize>, Fatal> {
    let chosen = match cores {
        // A directory that was made on a larger host still starts: several executors then share a processor.
        Cores::Auto => (0..journal_count.unwrap_or(allowed.len()))
            .map(|core| allowed[core % allowed.len()])
            .collect(),
        Cores::Count(count) => match allowed.get(..*count) {
            Some(chosen) => chosen.to_vec(),
            None => {
                return Err(Fatal::TooManyCores {
                    asked: *count,
                    allowed: allowed.len(),
                });
            }
        },
        Cores::List(list) => {
            if let Some(asked) = list.iter().find(|asked| !allowed.contains(asked)) {
                return Err(Fatal::Processor { asked: *asked, allowed });
            }
            list.clone()
        }
    };
    Ok(chosen)
}
