//! Faults of the harness's own server during a run: it is killed and started again, or it stands still for a while.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::requirement::parse_time;
use crate::server_process::{ServerOptions, ServerProcess};
use crate::usage::Usage;

/// What happens to the server, counted from the start of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; then it is started again on the same directory and address.
    Kill { at: Duration },
    /// SIGSTOP, and SIGCONT.
    Stop { from: Duration, to: Duration },
}

impl FromStr for Fault {
    type Err = String;

    /// Reads `kill@5s` and `stop@3s..4s`.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected kill@TIME or stop@TIME..TIME";
        match text.split_once('@') {
            Some(("kill", at)) => Ok(Self::Kill { at: parse_time(at)? }),
            Some(("stop", times)) => {
                let (from, to) = times.split_once("..").ok_or(EXPECTED)?;
                let (from, to) = (parse_time(from)?, parse_time(to)?);
                if from >= to {
                    return Err("a stop ends after it begins".to_owned());
                }
                Ok(Self::Stop { from, to })
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { at } => write!(f, "kill@{at:?}"),
            Self::Stop { from, to } => write!(f, "stop@{from:?}..{to:?}"),
        }
    }
}

impl serde::Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fault {
    /// When it is over.
    pub(crate) fn end(self) -> Duration {
        match self {
            Self::Kill { at } => at,
            Self::Stop { to, .. } => to,
        }
    }
}

/// What is done to the server at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Continue,
}

/// What is done, in the order of time. A server that is killed while it stands still is not continued.
fn actions(faults: &[Fault]) -> Vec<(Duration, Action)> {
    let mut actions: Vec<(Duration, Action)> = faults
        .iter()
        .flat_map(|fault| match *fault {
            Fault::Kill { at } => vec![(at, Action::Kill)],
            Fault::Stop { from, to } => vec![(from, Action::Stop), (to, Action::Continue)],
        })
        .collect();
    actions.sort_by_key(|(at, _)| *at);
    actions
}

/// The server process of the moment, and what those before it used.
#[derive(Debug, Default)]
pub(crate) struct Running {
    state: Mutex<(Option<String>, Usage)>,
}

impl Running {
    pub(crate) fn new(process: String) -> Self {
        Self {
            state: Mutex::new((Some(process), Usage::default())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Option<String>, Usage)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all of them have used together.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let (process, before) = &*self.lock();
        Ok(match process {
            Some(process) => Usage::of(process)?.after(before),
            None => *before,
        })
    }

    /// The process is about to be killed.
    fn ends(&self) -> Result<()> {
        let usage = self.usage()?;
        *self.lock() = (None, usage);
        Ok(())
    }

    fn begins(&self, process: String) {
        self.lock().0 = Some(process);
    }
}

/// Brings faults upon a server.
pub(crate) struct Faults<'run> {
    pub(crate) faults: &'run [Fault],
    pub(crate) server: &'run mut Option<ServerProcess>,
    /// What it is started with again; its address is that of before.
    pub(crate) options: ServerOptions<'run>,
    pub(crate) running: Arc<Running>,
}

impl Faults<'_> {
    /// Does what is to be done from `start` on.
    pub(crate) async fn run(self, start: Instant) -> Result<()> {
        for (at, action) in actions(self.faults) {
            tokio::time::sleep_until((start + at).into()).await;
            let server = self.server.as_ref().context("a fault needs a server")?;
            match action {
                Action::Stop => server.signal(Signal::STOP)?,
                Action::Continue => server.signal(Signal::CONT)?,
                Action::Kill => {
                    let address = server.address().to_owned();
                    self.running.ends()?;
                    if let Some(server) = self.server.take() {
                        server.kill()?;
                    }
                    let options = ServerOptions {
                        listen: &address,
                        ..self.options
                    };
                    let server = ServerProcess::start(&options).context("cannot start the server after its kill")?;
                    self.running.begins(server.process());
                    *self.server = Some(server);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<Fault>| assert_eq!(text.parse().ok(), expected, "{text}");
        let seconds = Duration::from_secs;
        check("kill@5s", Some(Fault::Kill { at: seconds(5) }));
        check(
            "stop@3s..4s",
            Some(Fault::Stop {
                from: seconds(3),
                to: seconds(4),
            }),
        );
        check(
            "stop@500ms..1s",
            Some(Fault::Stop {
                from: Duration::from_millis(500),
                to: seconds(1),
            }),
        );
        for text in [
            "",
            "kill",
            "kill@",
            "kill@5",
            "stop@3s",
            "stop@4s..3s",
            "stop@3s..3s",
            "burn@1s",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn actions_come_in_the_order_of_time() {
        let faults: Vec<Fault> = ["stop@3s..6s", "kill@5s"]
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        let found: Vec<(u64, Action)> = actions(&faults)
            .iter()
            .map(|(at, action)| (at.as_secs(), *action))
            .collect();
        assert_eq!(found, [(3, Action::Stop), (5, Action::Kill), (6, Action::Continue)]);
    }
}
