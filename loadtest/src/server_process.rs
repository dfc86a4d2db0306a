//! A server of the harness's own, on a fresh directory.
//!
//! - The directory and the process end with this value, however the run ends.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::limits::{READY_TIMEOUT, STOP_TIMEOUT};

/// What the server is started with.
#[derive(Debug)]
pub(crate) struct ServerOptions<'run> {
    pub(crate) program: Option<&'run Path>,
    pub(crate) directory: &'run Path,
    pub(crate) cores: u32,
    pub(crate) key_retention: &'run str,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: String,
    /// After the child, so that the directory is removed when the child has ended.
    _directory: TempDir,
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
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-loadtest-")
            .tempdir_in(options.directory)
            .with_context(|| format!("cannot make a directory in {}", options.directory.display()))?;
        let mut child = Command::new(&program)
            .arg("serve")
            .arg("--data")
            .arg(directory.path())
            .args(["--listen", "127.0.0.1:0", "--dimensions", "units"])
            .args([
                "--cores",
                &options.cores.to_string(),
                "--key-retention",
                options.key_retention,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        // From here on the value's drop ends the child.
        let mut server = Self {
            child,
            address: String::new(),
            _directory: directory,
        };
        server.address = wait_until_ready(stdout)?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
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

/// Waits for the line `ready engine=ADDR ..`; what follows it is read and dropped, so that the server never blocks on it.
fn wait_until_ready(stdout: ChildStdout) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // After the first answer nobody listens any more.
            let _ = address_of(&line).map(|address| sender.send(address));
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
            directory: Path::new("/nonexistent"),
            cores: 1,
            key_retention: "1s",
        };
        let error = ServerProcess::start(&options).expect_err("there is none");
        assert!(error.to_string().contains("cargo build --release"), "{error}");
    }
}
