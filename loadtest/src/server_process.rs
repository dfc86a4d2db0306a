//! A server of the harness's own.
//!
//! - The process ends with this value, however the run ends.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::limits::{READY_TIMEOUT, STOP_TIMEOUT};
use crate::server_log::ServerLog;

/// What the server is started with.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions<'run> {
    pub(crate) program: Option<&'run Path>,
    /// Its data directory.
    pub(crate) data: &'run Path,
    /// A count, or processors such as `0-0`.
    pub(crate) cores: &'run str,
    /// Their names, separated by commas.
    pub(crate) dimensions: &'run str,
    /// Where it listens; port 0 is any that is free.
    pub(crate) listen: &'run str,
    pub(crate) key_retention: &'run str,
    /// As the server's option says; `None`: what the server does by itself.
    pub(crate) snapshot_after: Option<&'run str>,
    pub(crate) journal_space: Option<&'run str>,
}

/// As [`ServerOptions::listen`]: any free port of the loopback.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A fresh directory in `parent`, which is removed with the value.
pub(crate) fn fresh_directory(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("plimsoll-loadtest-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: String,
    log: Arc<ServerLog>,
    ready_after: Duration,
}

impl ServerProcess {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(options: &ServerOptions<'_>) -> Result<Self> {
        let program = match options.program {
            Some(program) => program.to_owned(),
            None => beside_this_program()?,
        };
        if !program.is_file() {
            bail!(
                "there is no server at {}: build it by `cargo build --release`, or name it by --server PATH",
                program.display()
            );
        }
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--data")
            .arg(options.data)
            .args([
                "--listen",
                options.listen,
                "--http",
                "off",
                "--dimensions",
                options.dimensions,
            ])
            .args(["--cores", options.cores, "--key-retention", options.key_retention])
            // The log is read, whatever the caller wants to see of it.
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (option, value) in [
            ("--snapshot-after", options.snapshot_after),
            ("--journal-space", options.journal_space),
        ] {
            command.args(value.map(|value| [option, value]).into_iter().flatten());
        }
        let begun = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let stderr = child.stderr.take().context("the server has no standard error")?;
        let log = Arc::new(ServerLog::default());
        follow(stderr, Arc::clone(&log));
        // From here on the value's drop ends the child.
        let mut server = Self {
            child,
            address: String::new(),
            log,
            ready_after: Duration::ZERO,
        };
        let ready = wait_until_ready(stdout)?;
        server.address = ready.address;
        server.ready_after = ready.at - begun;
        Ok(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What its log has said.
    pub(crate) fn log(&self) -> &Arc<ServerLog> {
        &self.log
    }

    /// From starting the process to its line `ready`.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot send SIGKILL to the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot send a signal to the server")
    }

    /// Its number under `/proc`.
    pub(crate) fn process(&self) -> String {
        self.child.id().to_string()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot send SIGTERM to the server")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.child.try_wait().context("cannot wait for the server")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended with {status}"),
                None if Instant::now() >= deadline => bail!("the server did not stop within {STOP_TIMEOUT:?}"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // After an orderly stop both only say that there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program")?;
    Ok(own.with_file_name("plimsoll"))
}

/// Reads the log and passes it on.
fn follow(stderr: ChildStderr, log: Arc<ServerLog>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.take(&line);
            // A run is not worth less without it.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    });
}

/// What the line `ready` says, and when it came.
struct Ready {
    address: String,
    at: Instant,
}

/// Waits for the line `ready engine=ADDR ..`; what follows it is read and dropped, so that the server never blocks on it.
fn wait_until_ready(stdout: ChildStdout) -> Result<Ready> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let at = Instant::now();
            // After the first answer nobody listens any more.
            let _ = address_of(&line).map(|address| sender.send(Ready { address, at }));
        }
    });
    match receiver.recv_timeout(READY_TIMEOUT) {
        Ok(address) => Ok(address),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("the server was not ready within {READY_TIMEOUT:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the server ended before it was ready; its log says why"),
    }
}

fn address_of(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("ready") {
        return None;
    }
    words.find_map(|word| word.strip_prefix("engine=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line() {
        let check = |line: &str, expected: Option<&str>| assert_eq!(address_of(line).as_deref(), expected, "{line}");
        check("ready engine=127.0.0.1:40001 http=off", Some("127.0.0.1:40001"));
        check("ready http=127.0.0.1:7480 engine=[::1]:7440", Some("[::1]:7440"));
        check("ready", None);
        check("listening engine=127.0.0.1:1", None);
    }

    #[test]
    fn a_missing_server_says_what_to_do() {
        let options = ServerOptions {
            program: Some(Path::new("/nonexistent/plimsoll")),
            data: Path::new("/nonexistent"),
            cores: "1",
            dimensions: "units",
            listen: ANY_PORT,
            key_retention: "1s",
            snapshot_after: None,
            journal_space: None,
        };
        let error = ServerProcess::start(&options).expect_err("there is none");
        assert!(error.to_string().contains("cargo build --release"), "{error}");
    }
}
