//! The binary `plimsoll-loadtest`: drives a server with a stated load, measures it, and checks that the sums are right.
//!
//! How the figures come about is written in `README.md` beside this crate.

mod args;
mod floors;
mod keys;
mod ledger;
mod limits;
mod pools;
mod preset;
mod progress;
mod recovery;
mod report;
mod requirement;
mod run;
mod server_log;
mod server_process;
mod usage;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let Command::Preset(arguments) = Arguments::parse().command;
    match run::run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nothing is left to be done when even this cannot be written.
            let _ = writeln!(std::io::stderr(), "plimsoll-loadtest: {error:#}");
            ExitCode::from(1)
        }
    }
}
