//! The way to the engine, shared by the client commands.

use std::future::Future;
use std::time::Duration;

use plimsoll_client::{Client, Error, Options, Refusal, Status, Unknown};

use crate::args::ClientArguments;
use crate::failure::{Exit, Failure};

/// Runs a client command to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start the runtime").because(error))?;
    let outcome = runtime.block_on(work);
    // Nothing that is still under way concerns the outcome.
    runtime.shutdown_background();
    outcome
}

/// How long an engine may take to answer at all, whatever it is asked for then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn connect(arguments: &ClientArguments) -> Result<Client, Failure> {
    connect_within(&arguments.engine, arguments.timeout, arguments.timeout).await
}

/// For work that may take its time on an engine that is there.
pub(crate) async fn connect_patiently(engine: &str, request_timeout: Duration) -> Result<Client, Failure> {
    connect_within(engine, CONNECT_TIMEOUT, request_timeout).await
}

async fn connect_within(engine: &str, connect_timeout: Duration, request_timeout: Duration) -> Result<Client, Failure> {
    let options = Options {
        connect_timeout,
        request_timeout,
        name: concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Options::default()
    };
    Client::connect(engine, options)
        .await
        .map_err(|error| failure_of(error, engine))
}

/// What an error of the client means for a command.
pub(crate) fn failure_of(error: Error, engine: &str) -> Failure {
    match error {
        Error::NotConnected { .. } | Error::NotSent { .. } => Failure::failed(format!("no engine answers at {engine}"))
            .because(error)
            .help("start one with 'plimsoll serve', or say where it is with --engine"),
        Error::Refused(refusal) => refused(&refusal),
        Error::Unknown(unknown) => unknown_outcome(&unknown),
        Error::Invalid(invalid) => Failure::usage(invalid.to_string()),
        Error::QueueFull { .. } => Failure::failed("the engine is busy").because(error).help("try again"),
        other => Failure::failed("the command had no effect").because(other),
    }
}

/// What an error means for a call that only reads: without an answer nothing is unknown but what was asked for.
pub(crate) fn read_failure(error: Error, engine: &str) -> Failure {
    match error {
        Error::Unknown(unknown) => Failure::failed(format!("no answer from the engine at {engine}: {unknown}"))
            .help("run the same command again"),
        other => failure_of(other, engine),
    }
}

/// Nobody can tell whether the command took effect.
pub(crate) fn unknown_outcome(unknown: &Unknown) -> Failure {
    Failure::new(Exit::Unknown, format!("the outcome is unknown: {unknown}")).help("run the same command again")
}

/// The engine said no, and nothing changed.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    let exit = match refusal.status.known() {
        Some(
            Status::InsufficientCapacity
            | Status::PoolClosed
            | Status::PoolNotOpenYet
            | Status::PoolPastClosing
            | Status::ReservationEnded
            | Status::HoldExpired
            | Status::ChangedMeanwhile
            | Status::NotHeld,
        ) => Exit::Refused,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, refusal_text(refusal));
    match refusal.status.known() {
        Some(Status::PoolNotFound) => failure.help("'plimsoll pool list' shows the pools there are"),
        Some(Status::ChangedMeanwhile) => failure.help("look at what stands now, then change that"),
        Some(Status::KeyReused) => failure.help("use a new key for a new request"),
        Some(Status::HistoryDamaged) => failure.help(
            "on the server's machine, 'plimsoll replay verify' says what else is damaged, 'plimsoll replay repair --help' what can be done",
        ),
        _ if refusal.retryable() => failure.help("try again in a moment"),
        _ => failure,
    }
}

/// `insufficient_capacity: the units do not fit: rooms has 2 left`
fn refusal_text(refusal: &Refusal) -> String {
    let mut text = refusal.status.to_string();
    if let Some(status) = refusal.status.known() {
        text.push_str(": ");
        text.push_str(status.meaning());
    }
    for (index, short) in refusal.short.iter().enumerate() {
        text.push_str(if index == 0 { ": " } else { ", " });
        text.push_str(&format!("{} has {} left", short.dimension, short.remaining));
    }
    // Some details are the status in words.
    if let Some(detail) = refusal.detail.as_ref().filter(|detail| !text.contains(&***detail)) {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{Short, StatusNumber};

    use super::*;

    #[test]
    fn full_and_closed_are_refusals_for_scripts() {
        let check = |status: StatusNumber, exit| assert_eq!(refused(&Refusal::new(status)).exit, exit, "{status}");
        check(Status::InsufficientCapacity.into(), Exit::Refused);
        check(Status::PoolClosed.into(), Exit::Refused);
        check(Status::PoolPastClosing.into(), Exit::Refused);
        check(Status::ChangedMeanwhile.into(), Exit::Refused);
        check(Status::PoolNotFound.into(), Exit::Failed);
        check(Status::KeyReused.into(), Exit::Failed);
        check(Status::Overloaded.into(), Exit::Failed);
        check(StatusNumber(40), Exit::Failed);
    }

    #[test]
    fn a_refusal_says_what_is_short() {
        let short = |dimension: &str, remaining| Short {
            dimension: dimension.to_owned(),
            remaining,
        };
        let refusal = Refusal {
            short: vec![short("rooms", 2), short("guests", -1)],
            ..Refusal::new(Status::InsufficientCapacity)
        };
        assert_eq!(
            refused(&refusal).to_string(),
            "error: insufficient_capacity: the units do not fit: rooms has 2 left, guests has -1 left\n"
        );
        let twice = Refusal {
            detail: Some("the version that the change was made from is not current".into()),
            ..Refusal::new(Status::ChangedMeanwhile)
        };
        assert_eq!(refused(&twice).to_string().matches("not current").count(), 1);
    }
}
