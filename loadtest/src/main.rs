//! The binary `plimsoll-loadtest`: drives a server with a stated load, measures it, and checks that the sums are right.
//!
//! How the figures come about is written in `README.md` beside this crate.

mod args;
mod faults;
mod figures;
mod floors;
mod hot;
mod html;
mod keys;
mod ledger;
mod limits;
mod load;
mod overload;
mod peers;
mod pools;
mod preset;
mod progress;
mod recovery;
mod report;
mod requirement;
mod run;
mod schedule;
mod series;
mod server_log;
mod server_process;
mod setup;
mod threads;
mod usage;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let passed = match Arguments::parse().command {
        Command::Preset(arguments) => run::run(&arguments),
        Command::Run(arguments) => run::run_free(&arguments),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nothing is left to be done when even this cannot be written.
            let _ = writeln!(std::io::stderr(), "plimsoll-loadtest: {error:#}");
            ExitCode::from(1)
        }
    }
}
