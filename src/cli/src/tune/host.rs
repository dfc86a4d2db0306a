//! The host as the checks see it: files below a root, and what a few calls told.

use std::io;
use std::path::{Path, PathBuf};

use plimsoll_journal::{DirectoryError, DirectoryView};
use plimsoll_server::host::{self, HostFiles};
use plimsoll_server::{Cores, Options};
use rustix::fs::{Access, access, statvfs};

/// The host as the checks see it.
pub(super) struct Host {
    /// `/proc` and `/sys`.
    pub(super) files: HostFiles,
    /// What the kernel answered when a ring was made.
    pub(super) ring: io::Result<()>,
    /// The processors that this process may run on.
    pub(super) allowed: Vec<usize>,
    /// Those that `serve` would pin its executors to; what is asked for may be refused.
    pub(super) cores: Result<Vec<usize>, String>,
    pub(super) data: Data,
}

/// The data directory, or the place where it would be made.
pub(super) struct Data {
    /// Absolute, with links resolved.
    pub(super) path: PathBuf,
    pub(super) state: DataState,
    /// Whether this user may write to it, or make it.
    pub(super) access: io::Result<()>,
    /// Bytes that this user may still write to its file system.
    pub(super) free: io::Result<u64>,
}

pub(super) enum DataState {
    /// There is none yet.
    New,
    Existing {
        /// Journals that have a core.
        journal_count: usize,
        /// Bytes that their segments take already.
        segments_size: u64,
    },
    /// There is something that `serve` would refuse, and why.
    Unusable(String),
}

impl Host {
    /// This host.
    pub(super) fn here(data: &Path, cores: &Cores) -> Host {
        let allowed = host::allowed_processors();
        let data = Data::at(data);
        Host {
            files: HostFiles::below("/"),
            ring: host::make_ring(),
            cores: cores_of(cores, &data, &allowed),
            allowed,
            data,
        }
    }

    /// The processors of the executors; when those asked for are refused, all that are allowed.
    pub(super) fn executors(&self) -> &[usize] {
        self.cores.as_deref().unwrap_or(&self.allowed)
    }

    /// Online processors that no executor is pinned to; `None` when it cannot be told.
    pub(super) fn spare_processors(&self) -> Option<Vec<usize>> {
        let online = self.files.text("/sys/devices/system/cpu/online").ok()?;
        let mut online = host::numbers_in(&online);
        online.retain(|processor| !self.executors().contains(processor));
        Some(online)
    }
}

/// What `serve` would choose, or why it would not start.
pub(super) fn cores_of(cores: &Cores, data: &Data, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let journal_count = match data.state {
        DataState::Existing { journal_count, .. } => Some(journal_count),
        DataState::New | DataState::Unusable(_) => None,
    };
    host::processors(cores, journal_count, allowed.to_vec()).map_err(|fatal| fatal.to_string())
}

impl Data {
    fn at(path: &Path) -> Data {
        let (path, existing) = resolved(path);
        let failed = |error: rustix::io::Errno| io::Error::from(error);
        Data {
            state: state_of(&path),
            access: access(&existing, Access::WRITE_OK | Access::EXEC_OK).map_err(failed),
            free: statvfs(&existing)
                .map(|space| space.f_bavail.saturating_mul(space.f_frsize))
                .map_err(failed),
            path,
        }
    }

    /// The size of a new directory's segments: the default, since `serve` alone is told another.
    pub(super) fn segment_size() -> u64 {
        Options::new(PathBuf::new()).segment_size
    }
}

/// The path without links, and the nearest place on the way to it that exists.
fn resolved(path: &Path) -> (PathBuf, PathBuf) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in absolute.ancestors() {
        if let Ok(canonical) = existing.canonicalize() {
            let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
            // Joining nothing would leave a slash behind.
            let whole = match rest.as_os_str().is_empty() {
                true => canonical.clone(),
                false => canonical.join(rest),
            };
            return (whole, canonical);
        }
    }
    (absolute.clone(), absolute)
}

fn state_of(path: &Path) -> DataState {
    match DirectoryView::read(path) {
        Ok(view) => {
            let journals = view.journals().iter().filter(|journal| journal.core.is_some());
            DataState::Existing {
                journal_count: journals.clone().count(),
                segments_size: journals.map(|journal| segments_size(&journal.directory)).sum(),
            }
        }
        Err(DirectoryError::NotFound { .. }) => DataState::New,
        Err(error) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            DataState::Unusable(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
        }
    }
}

/// What the segments of a journal take, those included that are being prepared.
fn segments_size(journal: &Path) -> u64 {
    let entries = std::fs::read_dir(journal).into_iter().flatten().flatten();
    let segments = entries.filter(|entry| entry.file_name().to_string_lossy().contains(".segment"));
    segments.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use plimsoll_journal::{Directory, NewDirectory};

    use super::*;

    #[test]
    fn a_place_that_is_not_there_yet() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let data = Data::at(&real.join("link/new/data"));
        assert_eq!(data.path, real.join("new/data"));
        assert!(matches!(data.state, DataState::New));
        assert!(data.access.is_ok() && data.free.is_ok());
        // What is there is no directory.
        std::fs::write(real.join("file"), "dear").unwrap();
        assert!(matches!(Data::at(&real.join("file")).state, DataState::Unusable(_)));
        assert!(matches!(
            Data::at(&real.join("file/data")).state,
            DataState::Unusable(_)
        ));
    }

    #[test]
    fn an_existing_directory_says_how_many_cores_it_has_and_what_they_take() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let new = NewDirectory {
            dimensions: vec!["rooms".to_owned()],
            journal_count: 3,
            segment_size: 64 * 1024,
        };
        let directory = Directory::create(&path, &new).unwrap();
        for journal in directory.journals() {
            std::fs::write(journal.directory.join("0000000001.segment"), [0; 1000]).unwrap();
            std::fs::write(journal.directory.join("0000000002.segment.new"), [0; 24]).unwrap();
        }
        let data = Data::at(&path);
        match &data.state {
            DataState::Existing {
                journal_count,
                segments_size,
            } => assert_eq!((*journal_count, *segments_size), (3, 3 * 1024)),
            _ => panic!("a data directory"),
        }
        // As many cores as it has, also where there are fewer processors; another number when that is asked for.
        assert_eq!(cores_of(&Cores::Auto, &data, &[4, 5]), Ok(vec![4, 5, 4]));
        assert_eq!(cores_of(&Cores::Count(1), &data, &[4, 5]), Ok(vec![4]));
        std::fs::write(path.join("MANIFEST"), "plimsoll-manifest 1 00000000 2\n{}").unwrap();
        assert!(matches!(Data::at(&path).state, DataState::Unusable(_)));
    }
}
