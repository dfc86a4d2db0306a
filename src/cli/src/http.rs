//! `plimsoll http`, and what `serve` says of HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use plimsoll_server::Fatal;
use plimsoll_sidecar::{Bound, Options, Sidecar, StartError};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ENGINE, ServeArguments};
use crate::connection::block_on;
use crate::failure::Failure;
use crate::output::Output;
use crate::serve::{self, parse_timeout};
use crate::values::{ValueError, parse_duration};

/// Where HTTP is served, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpListen {
    Off,
    On(SocketAddr),
}

pub(crate) fn parse_http_listen(text: &str) -> Result<HttpListen, ValueError> {
    match text {
        "off" => Ok(HttpListen::Off),
        address => address
            .parse()
            .map(HttpListen::On)
            .map_err(|_| ValueError::new("expected an address such as 127.0.0.1:7480, or off")),
    }
}

/// How HTTP is served, inside `serve` and alone.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of HTTP")]
pub(crate) struct HttpOptions {
    /// Serve the planner's page, pools, exact numbers, events and metrics at this address instead
    #[arg(long, value_name = "ADDR", env = "PLIMSOLL_HTTP_ADMIN")]
    admin: Option<SocketAddr>,

    /// The time zone of the installation, in which the page shows times: a name of the IANA database
    #[arg(long, value_name = "NAME", default_value = "UTC", env = "PLIMSOLL_HTTP_TIME_ZONE")]
    time_zone: String,

    /// How long the engine may take to answer a request
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_timeout, env = "PLIMSOLL_HTTP_REQUEST_TIMEOUT")]
    request_timeout: Duration,

    /// Which requests are logged
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "errors",
        env = "PLIMSOLL_HTTP_ACCESS_LOG"
    )]
    access_log: AccessLog,

    /// Threads that serve HTTP
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=64), env = "PLIMSOLL_HTTP_HTTP_THREADS")]
    http_threads: u16,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AccessLog {
    /// None
    Off,
    /// Those with a status from 400 on, and slow ones
    Errors,
    /// All
    All,
}

#[derive(Debug, Args)]
#[command(after_help = "\
On standard output stands one line, once the engine has answered:
  ready engine=127.0.0.1:7440 http=127.0.0.1:7480
Until then, and whenever the engine is away, requests are answered with 503 and may be sent again. SIGTERM or Ctrl-C finishes
what was accepted and ends with 0.

Examples:
  plimsoll http --engine 10.0.0.7:7440
  plimsoll http --engine 10.0.0.7:7440 --listen 127.0.0.1:8080 --admin 127.0.0.1:8081")]
pub(crate) struct HttpArguments {
    /// The engine behind it
    #[arg(long, value_name = "ADDR", default_value = ENGINE, env = "PLIMSOLL_HTTP_ENGINE")]
    engine: String,

    /// Where HTTP is served; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7480",
        env = "PLIMSOLL_HTTP_LISTEN"
    )]
    listen: SocketAddr,

    /// How long a stop may take to finish what was accepted
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, env = "PLIMSOLL_HTTP_DRAIN_TIMEOUT")]
    drain_timeout: Duration,

    /// Accept an address other than loopback: whoever reaches it may do everything
    #[arg(long, env = "PLIMSOLL_HTTP_INSECURE_LISTEN")]
    insecure_listen: bool,

    #[command(flatten)]
    options: HttpOptions,
}

impl HttpOptions {
    /// With these addresses.
    fn at(&self, engine: &str, listen: SocketAddr) -> Options {
        Options {
            listen,
            admin: self.admin,
            time_zone: self.time_zone.clone(),
            request_timeout: self.request_timeout,
            threads: self.http_threads.into(),
            access_log: match self.access_log {
                AccessLog::Off => plimsoll_sidecar::AccessLog::Off,
                AccessLog::Errors => plimsoll_sidecar::AccessLog::Errors,
                AccessLog::All => plimsoll_sidecar::AccessLog::All,
            },
            ..Options::new(engine)
        }
    }
}

/// Takes the addresses that `serve` is to serve HTTP at, before the engine starts.
pub(crate) fn bind(arguments: &ServeArguments) -> Result<Option<Bound>, Failure> {
    let HttpListen::On(listen) = arguments.http else {
        return Ok(None);
    };
    let options = Options {
        insecure_listen: arguments.insecure_listen,
        drain_timeout: arguments.drain_timeout / 2,
        ..arguments.http_options.at("", listen)
    };
    Bound::new(options).map(Some).map_err(failure_of)
}

/// Where HTTP is served, as the ready line tells it.
pub(crate) fn addresses(sidecar: Option<&Sidecar>) -> String {
    let Some(sidecar) = sidecar else {
        return "http=off".to_owned();
    };
    match sidecar.admin_address() {
        Some(admin) => format!("http={} admin={admin}", sidecar.address()),
        None => format!("http={}", sidecar.address()),
    }
}

/// Serves HTTP for the demo; at a free port when the usual one is in use.
pub(crate) fn serve_demo(engine: &str, listen: HttpListen) -> Result<Option<Sidecar>, Failure> {
    let HttpListen::On(listen) = listen else {
        return Ok(None);
    };
    let options = |listen| Options {
        listen,
        ..Options::new(engine)
    };
    let bound = match Bound::new(options(listen)) {
        Err(StartError::Listen { address, .. }) => Bound::new(options(SocketAddr::new(address.ip(), 0))),
        bound => bound,
    };
    let sidecar = bound.and_then(|bound| bound.start(engine)).map_err(failure_of)?;
    // The engine is there, so that it is ready in a moment.
    let _ = sidecar.wait_until_ready();
    Ok(Some(sidecar))
}

pub(crate) fn run(arguments: &HttpArguments) -> Result<(), Failure> {
    let options = Options {
        insecure_listen: arguments.insecure_listen,
        drain_timeout: arguments.drain_timeout,
        ..arguments.options.at(&arguments.engine, arguments.listen)
    };
    let sidecar = Bound::new(options)
        .and_then(|bound| bound.start(arguments.engine.as_str()))
        .map_err(failure_of)?;
    let handle = sidecar.handle();
    let stopping = std::thread::Builder::new().name("signals".into()).spawn(move || {
        let waited = block_on(async {
            let listen =
                |kind| signal(kind).map_err(|error| Failure::failed("cannot listen for signals").because(error));
            let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(())
        });
        handle.stop();
        waited
    });
    let stopping = stopping.map_err(|error| Failure::failed("cannot start a thread").because(error))?;
    if sidecar.wait_until_ready() {
        let mut output = Output::new();
        let line = format_args!("ready engine={} {}", arguments.engine, addresses(Some(&sidecar)));
        output.line(line)?;
        output.finish()?;
    }
    sidecar.wait();
    stopping.join().unwrap_or(Ok(()))
}

/// What keeps HTTP from being served is fatal for a server, with the same exit codes.
pub(crate) fn failure_of(error: StartError) -> Failure {
    match error {
        StartError::Listen { address, source } => serve::failure_of(Fatal::Listen { address, source }),
        StartError::InsecureListen { address } => serve::failure_of(Fatal::InsecureListen { address }),
        StartError::TimeZone { .. } => Failure::usage(error.to_string())
            .help("name one such as Europe/Vienna; the database is looked for in /usr/share/zoneinfo"),
        error => Failure::failed("HTTP cannot be served").because(error),
    }
}
