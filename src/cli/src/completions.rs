//! `plimsoll completions`: a script that lets a shell ask this binary how a command line goes on; and the names of
//! pools, for which the binary asks the engine.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use plimsoll_client::{Client, Options};

use crate::args::CompletionsArguments;
use crate::config;
use crate::connection::block_on;
use crate::failure::Failure;

/// The variable by which the script says that the binary is to complete a command line.
const VARIABLE: &str = "PLIMSOLL_COMPLETE";

/// How long a key press may wait for the engine.
const PATIENCE: Duration = Duration::from_millis(500);

/// The most names that are offered at once.
const NAME_COUNT_MAX: u32 = 100;

/// Completes a command line and ends the process, when a script asks for that.
pub(crate) fn complete() {
    CompleteEnv::with_factory(config::command).var(VARIABLE).complete();
}

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let shell = arguments.shell.to_string();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell)
        .ok_or_else(|| Failure::usage(format!("{shell} is not supported")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "plimsoll", "plimsoll", "plimsoll", &mut script)
        .map_err(|error| Failure::failed("cannot write the script").because(error))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&script)
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}

/// Names of pools that begin like this, of the engine that the environment names. None when it does not answer at once.
pub(crate) fn pool_names(begin: &OsStr) -> Vec<CompletionCandidate> {
    let names = || {
        let begin = begin.to_str()?;
        let engine = std::env::var("PLIMSOLL_CLIENT_ENGINE").unwrap_or_else(|_| crate::args::ENGINE.to_owned());
        let options = Options {
            connect_timeout: PATIENCE,
            request_timeout: PATIENCE,
            ..Options::default()
        };
        let page = block_on(async {
            let failed = |error| Failure::failed("no names").because(error);
            let client = Client::connect(engine, options).await.map_err(failed)?;
            let after = before_all_of(begin);
            client.pools(after.as_deref(), NAME_COUNT_MAX).await.map_err(failed)
        });
        let pools = page.ok()?.pools.into_iter().map(|pool| pool.definition.name);
        let names = pools.take_while(|name| name.starts_with(begin));
        Some(names.map(CompletionCandidate::new).collect())
    };
    names().unwrap_or_default()
}

/// A text behind which every name that begins like this comes, with few others between.
fn before_all_of(begin: &str) -> Option<String> {
    let mut bytes = begin.as_bytes().to_vec();
    // Behind the last character of names, so that of the names with the character before only the longest come in
    // between.
    let last = bytes.pop()?;
    bytes.push(last.checked_sub(1)?);
    bytes.push(b'~');
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_from_just_before_what_was_typed() {
        assert_eq!(before_all_of(""), None);
        let before = before_all_of("zone-7").unwrap();
        assert!(before.as_str() < "zone-7" && before.as_str() > "zone-6" && before.as_str() > "zone-6:zzz");
    }
}
