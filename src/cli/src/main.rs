//! The binary `plimsoll`.

mod args;
mod availability;
mod backup;
mod completions;
mod config;
mod confirm;
mod connection;
mod demo;
mod failure;
mod find;
mod http;
mod input;
mod listing;
mod logging;
mod orders;
mod output;
mod pool;
mod pool_events;
mod pool_export;
mod pool_form;
mod pool_set;
mod release;
mod replay;
mod reservation_form;
mod reserve;
mod resize;
mod serve;
mod show;
mod tune;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use args::{Arguments, Command, PoolCommand};
use config::Parsed;
use failure::Failure;

fn main() -> ExitCode {
    completions::complete();
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
    let quiet = if matches!(arguments.command, Command::Serve(_) | Command::Http(_)) {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    logging::start(quiet, arguments.verbose);
    match arguments.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Http(http) => http::run(&http),
        Command::Demo(demo) => demo::run(&demo),
        Command::Pool { command } => match command {
            PoolCommand::Import(import) => pool::import(&import),
            PoolCommand::Export(export) => pool_export::run(&export),
            PoolCommand::List(list) => pool::list(&list),
            PoolCommand::Get(get) => pool::get(&get),
            PoolCommand::Events(events) => pool_events::run(&events),
            PoolCommand::Set(set) => pool_set::set(&set),
            PoolCommand::Close(close) => pool_set::close(&close),
            PoolCommand::Open(open) => pool_set::open(&open),
        },
        Command::Availability(availability) => availability::run(&availability),
        Command::Reserve(reserve) => reserve::run(&reserve),
        Command::Confirm(confirm) => confirm::run(&confirm),
        Command::Resize(resize) => resize::run(&resize),
        Command::Release(release) => release::run(&release),
        Command::Show(show) => show::run(&show),
        Command::Find(find) => find::run(&find),
        Command::Orders(orders) => orders::run(&orders),
        Command::Replay { command } => replay::run(&command),
        Command::Backup(backup) => backup::run(&backup),
        Command::Tune(tune) => tune::run(&tune),
        Command::Completions(completions) => completions::run(&completions),
    }
}
