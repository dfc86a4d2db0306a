//! `plimsoll serve`: the engine in the foreground.

use std::num::NonZeroUsize;
use std::time::Duration;

use plimsoll_server::{ConnectionOptions, Fatal, Options, Server};

use crate::args::ServeArguments;
use crate::failure::{Exit, Failure};
use crate::http;
use crate::output::Output;
use crate::values::{ValueError, parse_duration, parse_size};

/// Less would not let a request of the largest frame and its answer through.
const CONNECTION_MEMORY_MIN: u64 = 32 << 20;

pub(crate) fn run(arguments: ServeArguments) -> Result<(), Failure> {
    let bound = http::bind(&arguments)?;
    let mut options = options_of(arguments);
    if bound.is_some() {
        // The other half is for what HTTP has accepted.
        options.drain_timeout /= 2;
    }
    let server = Server::start(&options).map_err(failure_of)?;
    let started = bound.map(|bound| bound.start(server.address().to_string())).transpose();
    let sidecar = match started {
        Ok(sidecar) => sidecar,
        Err(error) => {
            server.handle().shutdown();
            server.wait().map_err(failure_of)?;
            return Err(http::failure_of(error));
        }
    };
    let addresses = http::addresses(sidecar.as_ref());
    if let Some(sidecar) = &sidecar {
        // The engine is there, so that it is ready in a moment.
        let _ = sidecar.wait_until_ready();
    }
    server
        .stop_on_signals(move || {
            if let Some(sidecar) = &sidecar {
                sidecar.stop();
            }
        })
        .map_err(|error| Failure::failed("cannot listen for signals").because(error))?;
    if let Err(failure) = say_ready(&server, &addresses) {
        // Whoever waits for the line will not learn the address; but one who closed the pipe on purpose wants the server to run.
        if failure.exit != Exit::Quiet {
            server.handle().shutdown();
            server.wait().map_err(failure_of)?;
            return Err(failure);
        }
    }
    server.wait().map_err(failure_of)
}

fn say_ready(server: &Server, http: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(format_args!("ready engine={} {http}", server.address()))?;
    output.finish()
}

fn options_of(arguments: ServeArguments) -> Options {
    Options {
        listen: arguments.listen,
        data: arguments.data,
        cores: arguments.cores,
        dimensions: arguments.dimensions.map(|names| names.0),
        drain_timeout: arguments.drain_timeout,
        key_retention: arguments.key_retention,
        retire_after: arguments.retire_after,
        hold_grace: arguments.hold_grace,
        stands_still: false,
        segment_size: arguments.segment_size,
        snapshot_after: arguments.snapshot_after,
        journal_space: arguments.journal_space,
        connections: ConnectionOptions {
            count_max: arguments.connections.map(NonZeroUsize::get),
            memory_per_core: arguments.connection_memory,
            handshake_timeout: arguments.handshake_timeout,
            frame_timeout: arguments.frame_timeout,
            write_timeout: arguments.write_timeout,
            idle_timeout: arguments.idle_timeout,
        },
        insecure_listen: arguments.insecure_listen,
    }
}

/// A size that is enough for the connections of a core.
pub(crate) fn parse_connection_memory(text: &str) -> Result<usize, ValueError> {
    match parse_size(text)? {
        size if size < CONNECTION_MEMORY_MIN => Err(ValueError::new("expected at least 32MiB")),
        size => usize::try_from(size).map_err(|_| ValueError::new("expected less")),
    }
}

/// A duration above 0: with none, everybody would be late at once.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, ValueError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(ValueError::new("expected a duration above 0")),
        duration => Ok(duration),
    }
}

/// A reason of the server's closed list, with its exit code and what to do.
pub(crate) fn failure_of(fatal: Fatal) -> Failure {
    let remedy = fatal.remedy();
    let code = fatal.exit_code();
    Failure::new(Exit::Fatal(code), "the server cannot run")
        .because(fatal)
        .help(remedy)
}

/// The exit codes of [`Fatal`], for the help text.
pub(crate) fn exit_codes() -> String {
    let mut text = String::from("Fatal exit codes, and what to do:\n");
    for entry in Fatal::catalogue() {
        text.push_str(&format!("  {}  {}: {}\n", entry.exit_code, entry.meaning, entry.remedy));
    }
    text
}
