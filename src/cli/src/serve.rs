//! `plimsoll serve`: the engine in the foreground.

use plimsoll_server::{Fatal, Options, Server};

use crate::args::ServeArguments;
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(arguments: ServeArguments) -> Result<(), Failure> {
    let server = Server::start(&options_of(arguments)).map_err(failure_of)?;
    server
        .stop_on_signals()
        .map_err(|error| Failure::failed("cannot listen for signals").because(error))?;
    if let Err(failure) = say_ready(&server) {
        // Whoever waits for the line will not learn the address; but one who closed the pipe on purpose wants the server to run.
        if failure.exit != Exit::Quiet {
            server.handle().shutdown();
            server.wait().map_err(failure_of)?;
            return Err(failure);
        }
    }
    server.wait().map_err(failure_of)
}

fn say_ready(server: &Server) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(format_args!("ready engine={} http=off", server.address()))?;
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
        segment_size: arguments.segment_size,
        insecure_listen: arguments.insecure_listen,
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
