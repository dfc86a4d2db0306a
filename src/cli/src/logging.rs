//! Log lines on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable that decides what is logged, when it is set.
const VARIABLE: &str = "RUST_LOG";

/// Starts logging. `quiet` is the level without `-v`; each `-v` says more.
pub(crate) fn start(quiet: LevelFilter, verbose: u8) {
    let levels = [
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let first = levels.iter().position(|level| *level == quiet).unwrap_or(0);
    let level = levels[(first + usize::from(verbose)).min(levels.len() - 1)];
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        _ => EnvFilter::new(level.to_string()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
