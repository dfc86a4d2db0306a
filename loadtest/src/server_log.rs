//! What the harness reads in a server's log.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a server's log has said so far.
#[derive(Debug, Default)]
pub(crate) struct ServerLog {
    /// The core of each snapshot that was finished.
    snapshots: Mutex<Vec<u64>>,
    recoveries: Mutex<Vec<CoreRecovery>>,
}

/// How one core got its state back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreRecovery {
    pub(crate) core: u64,
    /// What the snapshot covers, 0 without one.
    pub(crate) from_lsn: u64,
    /// Events behind it.
    pub(crate) events: u64,
    /// Bytes of journal that were read.
    pub(crate) bytes: u64,
    /// How long the snapshot took.
    pub(crate) restored_in: Duration,
    /// How long snapshot and journal took.
    pub(crate) elapsed: Duration,
}

impl ServerLog {
    pub(crate) fn take(&self, line: &str) {
        if let Some(core) = snapshot_of(line) {
            lock(&self.snapshots).push(core);
        }
        if let Some(recovery) = recovery_of(line) {
            lock(&self.recoveries).push(recovery);
        }
    }

    /// Snapshots of single cores that were finished.
    pub(crate) fn snapshots(&self) -> u64 {
        lock(&self.snapshots).len() as u64
    }

    /// Cores of which a snapshot was finished.
    pub(crate) fn cores_with_snapshots(&self) -> usize {
        lock(&self.snapshots).iter().collect::<BTreeSet<_>>().len()
    }

    /// What each core says of its start, by core. The log may come later than the line `ready`.
    pub(crate) fn recoveries(&self, cores: usize, timeout: Duration) -> Result<Vec<CoreRecovery>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut found = lock(&self.recoveries).clone();
            if found.len() == cores {
                found.sort_by_key(|recovery| recovery.core);
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!(
                    "the server's log says of {} cores how they started, not of {cores}",
                    found.len()
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value behind a name.
fn field<'line>(fields: &'line str, name: &str) -> Option<&'line str> {
    let (_, value) = fields.split_once(name)?;
    value.split([' ', ',']).next()
}

/// Reads the core of `.. snapshot taken core=0 ..`.
fn snapshot_of(line: &str) -> Option<u64> {
    let (_, fields) = line.split_once(" snapshot taken ")?;
    field(fields, "core=")?.parse().ok()
}

/// Reads `.. state recovered core=0 from_lsn=1 restored_in=1ms summary=Summary { records: 2, .. } elapsed=3ms`.
fn recovery_of(line: &str) -> Option<CoreRecovery> {
    let (_, fields) = line.split_once(" state recovered ")?;
    let number = |name: &str| field(fields, name)?.parse().ok();
    Some(CoreRecovery {
        core: number("core=")?,
        from_lsn: number("from_lsn=")?,
        events: number(" records: ")?,
        bytes: number(" bytes: ")?,
        restored_in: duration(field(fields, "restored_in=")?)?,
        elapsed: duration(field(fields, " elapsed=")?)?,
    })
}

/// Reads a time as `Duration` shows it.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    let value: f64 = digits.parse().ok()?;
    Duration::try_from_secs_f64(value * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_are_shown() {
        for time in [0, 17, 1_500, 12_345_678, 3_000_000_000] {
            let time = Duration::from_nanos(time);
            assert_eq!(duration(&format!("{time:?}")), Some(time), "{time:?}");
        }
        assert_eq!(duration("5"), None);
        assert_eq!(duration("5h"), None);
    }

    #[test]
    fn lines_of_the_log() {
        let log = ServerLog::default();
        log.take("2026-11-01T10:00:00Z  INFO plimsoll_server::server: listening");
        log.take("2026-11-01T10:00:00Z  INFO plimsoll_server::snapshots: snapshot taken core=1 lsn=7 size=4096");
        for core in [1, 0] {
            log.take(&format!(
                "2026-11-01T10:00:00Z  INFO plimsoll_server::recovery: state recovered core={core} from_lsn=70 \
                 restored_in=1.5ms summary=Summary {{ records: 20, skipped: 3, batches: 4, bytes: 1920, segments: 1, \
                 cut: None, last_lsn: Lsn(94), last_time: 5 }} elapsed=2ms"
            ));
        }
        assert_eq!((log.snapshots(), log.cores_with_snapshots()), (1, 1));
        let found = log.recoveries(2, Duration::ZERO).expect("both cores are there");
        assert_eq!(
            found[1],
            CoreRecovery {
                core: 1,
                from_lsn: 70,
                events: 20,
                bytes: 1920,
                restored_in: Duration::from_micros(1500),
                elapsed: Duration::from_millis(2),
            }
        );
        assert_eq!(found[0].core, 0);
        assert!(log.recoveries(3, Duration::ZERO).is_err());
    }
}
