//! The files in which the kernel tells of the host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::limits::HOST_FILE_SIZE_MAX;

/// Files of `/proc` and `/sys`, or of a tree that stands for them.
#[derive(Clone, Debug)]
pub struct HostFiles {
    root: PathBuf,
}

impl HostFiles {
    /// The files below this directory: `/` for those of this host.
    pub fn below(root: impl Into<PathBuf>) -> HostFiles {
        HostFiles { root: root.into() }
    }

    /// The content of a file without white space at its ends; `path` begins with `/`. Of a longer file only the first 4 MiB are read, and what is no UTF-8 is
    /// replaced.
    ///
    /// # Errors
    /// The file is not there, or cannot be read: common in containers and on virtual machines.
    pub fn text(&self, path: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.place(path))?
            .take(HOST_FILE_SIZE_MAX)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number that stands alone in a file; `None` when the file cannot be read, or holds something else.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path).ok()?.parse().ok()
    }

    /// The names in a directory, sorted; none when it cannot be read.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Joining an absolute path would leave the root.
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path.trim_start_matches('/')))
    }
}

/// The numbers in a list of the kernel's such as `0-3,8`, in the order in which they stand there. What is not understood is left out.
#[must_use]
pub fn numbers_in(list: &str) -> Vec<usize> {
    /// More processors than the kernel can be built for: bounds what a list that is none can bring.
    const NUMBER_MAX: usize = 8192;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?.min(NUMBER_MAX))
    };
    list.split(',').filter_map(range).flatten().take(NUMBER_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        let check = |list: &str, expected: &[usize]| assert_eq!(numbers_in(list), expected, "{list:?}");
        check("", &[]);
        check("0", &[0]);
        check("0-3,8\n", &[0, 1, 2, 3, 8]);
        check("2,(null),1", &[2, 1]);
        check("3-1", &[]);
        assert_eq!(numbers_in("0-99999999,0-99999999").len(), 8192);
    }

    #[test]
    fn files_are_read_below_the_root_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/vm")).unwrap();
        fs::write(root.path().join("proc/sys/vm/swappiness"), "60\n").unwrap();
        let files = HostFiles::below(root.path());
        assert_eq!(files.number("/proc/sys/vm/swappiness"), Some(60));
        assert_eq!(files.names("/proc/sys"), ["vm"]);
        assert_eq!(
            files.text("/proc/self/status").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(files.names("/proc/self"), Vec::<String>::new());
    }
}
