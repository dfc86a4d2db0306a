//! A peer's server: its process, its directory, and what it uses.
//!
//! - The process ends with this value, however the run ends, and its directory is removed after it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::limits::{PEER_POLL, PEER_STOP_TIMEOUT, READY_TIMEOUT, STOP_TIMEOUT};
use crate::usage::Usage;

/// The kernel's unit of processor time, as in `usage`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server.
#[derive(Debug)]
pub(super) struct PeerProcess {
    child: Child,
    signals: Signals,
    directory: TempDir,
}

/// How a server is asked to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals {
    /// In order.
    pub(super) stop: Signal,
    /// At once, when the run is given up.
    pub(super) abort: Signal,
}

/// The file in its directory that a server's output goes to.
const LOG: &str = "log";
/// How often the processes of a server are counted until none of them ended meanwhile.
const ATTEMPTS: usize = 100;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(2);

/// An address on the loopback whose port was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

impl PeerProcess {
    /// Starts a server, whose output goes to a file in its directory.
    pub(super) fn start(command: &mut Command, signals: Signals, directory: TempDir) -> Result<Self> {
        let log = File::create(directory.path().join(LOG)).context("cannot make a file for its output")?;
        let child = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            child,
            signals,
            directory,
        })
    }

    /// Tries to connect until that succeeds.
    pub(super) async fn until_ready<C>(&mut self, mut connect: impl AsyncFnMut() -> Result<C>) -> Result<C> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let error = match connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait().context("cannot wait for the server")? {
                bail!("the server ended with {status}; it said:\n{}", self.last_words());
            }
            if Instant::now() >= deadline {
                return Err(error.context(format!("the server was not ready within {READY_TIMEOUT:?}")));
            }
            tokio::time::sleep(PEER_POLL).await;
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// What the server and its children have used.
    pub(super) fn usage(&self) -> Result<Usage> {
        usage_of_tree(self.child.id()).context("the server is gone")
    }

    /// Memory of the server and its children, what they share counted once.
    pub(super) fn memory_bytes(&self) -> u64 {
        let root = self.child.id();
        let children = children(root).unwrap_or_default();
        std::iter::once(root).chain(children).map(memory_bytes).sum()
    }

    /// Asks it to stop and waits for it.
    pub(super) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), self.signals.stop).context("cannot send a signal to the server")?;
        match self.wait(STOP_TIMEOUT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the server ended with {status}; it said:\n{}", self.last_words()),
            None => bail!("the server did not stop within {STOP_TIMEOUT:?}"),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<std::process::ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait().context("cannot wait for the server")? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() >= deadline => return Ok(None),
                None => thread::sleep(PEER_POLL),
            }
        }
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // One that has ended and been waited for has no number any more that could be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            // A server with children ends them itself: SIGKILL to it alone would leave them, and its shared memory, behind.
            let _ = kill_process(Pid::from_child(&self.child), self.signals.abort);
            if !matches!(self.wait(PEER_STOP_TIMEOUT), Ok(Some(_))) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// What a process and its children have used since they began. What children had used that have ended is the process's own.
fn usage_of_tree(root: u32) -> Result<Usage> {
    let ended = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{root}/stat"))?;
        ended_children_seconds(&stat).context("/proc/PID/stat has another form")
    };
    for _ in 0..ATTEMPTS {
        let ended_before = ended()?;
        let mut total = Usage::of(&root.to_string())?;
        total.cpu_seconds += ended_before;
        let mut are_all_read = true;
        for child in children(root)? {
            match Usage::of(&child.to_string()) {
                Ok(used) => {
                    total.cpu_seconds += used.cpu_seconds;
                    total.rss_bytes += used.rss_bytes;
                    total.written_bytes += used.written_bytes;
                }
                Err(_) => are_all_read = false,
            }
        }
        // A child that ends meanwhile would count twice, or not at all.
        if are_all_read && ended()? == ended_before {
            return Ok(total);
        }
        thread::sleep(BETWEEN_ATTEMPTS);
    }
    bail!("its processes come and go too quickly to be counted")
}

/// The processes that this one has started.
fn children(root: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if parent(&stat) == Some(root) {
            found.push(process);
        }
    }
    Ok(found)
}

/// A field of `/proc/PID/stat` by its number, from the third on: the second, the program's name, may hold spaces and
/// parentheses itself.
fn field<N: std::str::FromStr>(stat: &str, number: usize) -> Option<N> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields
        .split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn parent(stat: &str) -> Option<u32> {
    field(stat, 4)
}

/// User and kernel time of the children that have ended and been waited for.
fn ended_children_seconds(stat: &str) -> Option<f64> {
    let ticks: u64 = field::<u64>(stat, 16)? + field::<u64>(stat, 17)?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// A process's share of memory: of what several share, its part. Where the kernel does not tell, all that is resident.
fn memory_bytes(process: u32) -> u64 {
    let share = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
        .ok()
        .and_then(|rollup| proportional_bytes(&rollup));
    share.unwrap_or_else(|| Usage::of(&process.to_string()).map_or(0, |used| used.rss_bytes))
}

fn proportional_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Runs a program to its end; the error holds what it said.
pub(super) fn run_to_end(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(anyhow!("{program} ended with {}; it said:\n{said}", output.status))
}

/// The numbers of a user and its group, from the text of `/etc/passwd`.
pub(super) fn user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next().is_some_and(|found| found == name))?;
    let mut numbers = line.split(':').skip(2);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether every user may pass through a directory and all above it. The error names the one that bars the way.
pub(super) fn check_passable(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory
        .canonicalize()
        .with_context(|| format!("cannot find {}", directory.display()))?;
    for above in directory.ancestors() {
        let mode = fs::metadata(above)?.permissions().mode();
        if mode & 0o001 == 0 {
            bail!(
                "only its owner may enter {}, and PostgreSQL does not run as root: choose another --data DIR",
                above.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "77 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 5 0 100 1000 200";

    #[test]
    fn fields_behind_the_name() {
        assert_eq!(parent(STAT), Some(1));
        assert_eq!(ended_children_seconds(STAT), Some(0.15));
        assert_eq!((parent("77"), ended_children_seconds("77 (a) S 1")), (None, None));
    }

    #[test]
    fn memory_that_is_shared() {
        let rollup = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:      900 kB\nPss:      120 kB\nPss_Anon:  7 kB\n";
        assert_eq!(proportional_bytes(rollup), Some(120 * 1024));
        assert_eq!(proportional_bytes(""), None);
    }

    #[test]
    fn users() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:a,b:/var/lib:/bin/sh\nbroken:x\n";
        assert_eq!(user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(user(passwd, "broken"), None);
        assert_eq!(user(passwd, "post"), None);
    }

    #[test]
    fn a_child_is_found_and_counted() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
        let found = children(std::process::id()).expect("/proc is there");
        let used = usage_of_tree(std::process::id());
        child.kill().expect("it runs");
        child.wait().expect("it was killed");
        assert!(found.contains(&child.id()), "{found:?}");
        assert!(used.expect("/proc is there").rss_bytes > 0);
    }

    #[test]
    fn a_server_that_ends_says_why() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck; exit 3"]);
        let signals = Signals {
            stop: Signal::TERM,
            abort: Signal::KILL,
        };
        let mut process = PeerProcess::start(&mut command, signals, directory).expect("sh is everywhere");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime for the test");
        let ready: Result<()> = runtime.block_on(process.until_ready(async || bail!("not yet")));
        let error = ready.expect_err("it never gets ready").to_string();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
    }
}
