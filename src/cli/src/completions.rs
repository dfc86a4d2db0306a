//! `plimsoll completions`: a script that completes the command line.

use std::io::{self, Write};

use clap_complete::generate;

use crate::args::CompletionsArguments;
use crate::config;
use crate::failure::Failure;

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut config::command(), "plimsoll", &mut script);
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&script)
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}
