//! Where the programs of the peers are.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where Debian puts the programs of each version of PostgreSQL.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// The programs of one version of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostgresPrograms {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl PostgresPrograms {
    /// The programs in a directory, if both are there.
    fn in_directory(directory: &Path) -> Option<Self> {
        let programs = Self {
            initdb: directory.join("initdb"),
            postgres: directory.join("postgres"),
        };
        (programs.initdb.is_file() && programs.postgres.is_file()).then_some(programs)
    }
}

/// `named` is what the command line says.
pub(super) fn find_redis(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) if path.is_file() => Ok(path.to_owned()),
        Some(path) => bail!("redis: there is no program at {} (--redis-server)", path.display()),
        None => match in_path("redis-server", env::var_os("PATH").as_deref()) {
            Some(path) => Ok(path),
            None => bail!(
                "redis: there is no redis-server in PATH: install it (Debian: `apt-get install redis-server`), or name \
                 it by --redis-server PATH"
            ),
        },
    }
}

/// `named` is the directory that the command line says.
pub(super) fn find_postgres(named: Option<&Path>) -> Result<PostgresPrograms> {
    if let Some(directory) = named {
        return match PostgresPrograms::in_directory(directory) {
            Some(programs) => Ok(programs),
            None => bail!(
                "postgres: the programs postgres and initdb are not both in {} (--postgres-bin)",
                directory.display()
            ),
        };
    }
    let search = env::var_os("PATH");
    let in_path = in_path("postgres", search.as_deref())
        .and_then(|program| program.parent().and_then(PostgresPrograms::in_directory));
    match in_path.or_else(|| newest_version(Path::new(POSTGRES_VERSIONS))) {
        Some(programs) => Ok(programs),
        None => bail!(
            "postgres: the programs postgres and initdb are neither in PATH nor in {POSTGRES_VERSIONS}/*/bin: install \
             them (Debian: `apt-get install postgresql`), or name their directory by --postgres-bin DIR"
        ),
    }
}

fn in_path(program: &str, search: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(search?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn newest_version(versions: &Path) -> Option<PostgresPrograms> {
    fs::read_dir(versions)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, PostgresPrograms::in_directory(&path.join("bin"))?))
        })
        .max_by_key(|(version, _)| *version)
        .map(|(_, programs)| programs)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all};

    use super::*;

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        let check = |error: anyhow::Error, part: &str| assert!(error.to_string().contains(part), "{error}");
        let nowhere = Path::new("/nonexistent");
        check(find_redis(Some(nowhere)).expect_err("there is none"), "--redis-server");
        check(
            find_postgres(Some(nowhere)).expect_err("there is none"),
            "--postgres-bin",
        );
        assert_eq!(in_path("redis-server", Some(OsStr::new("/nonexistent:"))), None);
        assert_eq!(in_path("redis-server", None), None);
    }

    #[test]
    fn the_newest_complete_version_is_taken() {
        let versions = tempfile::tempdir().expect("a directory for the test");
        for (version, programs) in [
            ("9", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("17", &["postgres"]),
            ("other", &["initdb", "postgres"]),
        ] {
            let directory = versions.path().join(version).join("bin");
            create_dir_all(&directory).expect("it can be made");
            for program in programs {
                File::create(directory.join(program)).expect("it can be made");
            }
        }
        let found = newest_version(versions.path()).expect("two are complete");
        assert_eq!(found.postgres, versions.path().join("15/bin/postgres"));
    }
}
