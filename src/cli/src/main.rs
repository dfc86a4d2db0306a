//! The binary `plimsoll`.

mod args;
mod completions;
mod config;
mod connection;
mod demo;
mod failure;
mod input;
mod json;
mod logging;
mod orders;
mod output;
mod pool;
mod pool_file;
mod pool_form;
mod release;
mod reservation_form;
mod reserve;
mod serve;
mod show;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use args::{Arguments, Command, PoolCommand};
use config::Parsed;
use failure::Failure;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    match config::parse(config::command(), &line) {
        Ok(Parsed::Run(arguments)) => match run(*arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        Ok(Parsed::Say(text)) => {
            // A help text that nobody reads to its end is no error.
            let _ = text.print();
            ExitCode::from(u8::try_from(text.exit_code()).unwrap_or(2))
        }
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    // The server has something to say in passing; the other commands only when something is wrong.
    let quiet = if matches!(arguments.command, Command::Serve(_)) {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    logging::start(quiet, arguments.verbose);
    match arguments.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Demo(demo) => demo::run(&demo),
        Command::Pool {
            command: PoolCommand::Import(import),
        } => pool::import(&import),
        Command::Pool {
            command: PoolCommand::List(list),
        } => pool::list(&list),
        Command::Pool {
            command: PoolCommand::Get(get),
        } => pool::get(&get),
        Command::Reserve(reserve) => reserve::run(&reserve),
        Command::Release(release) => release::run(&release),
        Command::Show(show) => show::run(&show),
        Command::Orders(orders) => orders::run(&orders),
        Command::Completions(completions) => completions::run(&completions),
    }
}
