//! Layers of options: command line over environment over settings file.
//!
//! The command line and the environment are clap's own. A settings file is brought in as *default values*: an option whose
//! environment variable is `PLIMSOLL_SERVE_DRAIN_TIMEOUT` takes `drain_timeout` of the table `[serve]` for its default. So there is
//! one list of options, one place that parses their values, and one order of precedence.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::args::Arguments;
use crate::failure::Failure;

/// Tables of commands that a later release brings. They may stand in a file that several releases share, and are not looked into.
const RESERVED_TABLES: [&str; 1] = ["export"];

/// The tables that hold options of this release.
const TABLES: [&str; 3] = ["serve", "http", "client"];

/// An option that a settings file may hold.
struct Setting {
    table: String,
    key: String,
    arg: Arg,
}

/// One `key = value` of a settings file, checked.
#[derive(Debug, PartialEq, Eq)]
struct Assignment {
    table: String,
    key: String,
    value: String,
}

/// What a command line, the environment and a settings file come to.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Arguments>),
    /// Wrong usage, or a text that was asked for (`--help`, `--version`).
    Say(clap::Error),
}

/// Parses a command line, its first element being the program's name.
pub(crate) fn parse(command: Command, line: &[OsString]) -> Result<Parsed, Failure> {
    // The first pass, without the file, finds wrong usage and the file's name. It cannot miss anything that the file would bring,
    // since no option that a file may hold is required.
    let matches = match command.clone().try_get_matches_from(line) {
        Ok(matches) => matches,
        Err(error) => return Ok(Parsed::Say(error)),
    };
    let path = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => match arguments.config {
            None => return Ok(Parsed::Run(Box::new(arguments))),
            Some(path) => path,
        },
        Err(error) => return Ok(Parsed::Say(error)),
    };

    let assignments = read(&path, &command)?;
    let matches = with_defaults(command, &assignments).try_get_matches_from(line);
    match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => Ok(Parsed::Run(Box::new(arguments))),
        Err(error) => Ok(Parsed::Say(error)),
    }
}

/// The definition of the command line.
pub(crate) fn command() -> Command {
    // The server's own list, so that the help cannot drift from it.
    Arguments::command().mut_subcommand("serve", |serve| {
        let help = serve.get_after_help().map(ToString::to_string).unwrap_or_default();
        serve.after_help(format!("{help}\n\n{}", crate::serve::exit_codes()))
    })
}

fn read(path: &Path, command: &Command) -> Result<Vec<Assignment>, Failure> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {shown}")).because(error))?;
    assignments(&text, command).map_err(|problem| match problem {
        Problem::Syntax(error) => Failure::usage(format!("{shown}: {}", error.to_string().trim_end())),
        Problem::Entry { place, what, help } => {
            let failure = Failure::usage(format!("{shown}: {place}: {what}"));
            match help {
                Some(help) => failure.help(help),
                None => failure,
            }
        }
    })
}

/// What is wrong with a settings file.
#[derive(Debug)]
enum Problem {
    Syntax(toml::de::Error),
    Entry {
        place: String,
        what: String,
        help: Option<String>,
    },
}

fn assignments(text: &str, command: &Command) -> Result<Vec<Assignment>, Problem> {
    let settings = settings(command);
    let file: toml::Table = text.parse().map_err(Problem::Syntax)?;
    let mut found = Vec::new();
    for (table, content) in &file {
        let place = format!("[{table}]");
        if RESERVED_TABLES.contains(&table.as_str()) {
            continue;
        }
        if !TABLES.contains(&table.as_str()) {
            let near = nearest(table, TABLES.into_iter().chain(RESERVED_TABLES));
            return Err(match content {
                toml::Value::Table(_) => unknown(place, "unknown table", near.map(|near| format!("[{near}]"))),
                _ => Problem::Entry {
                    place: table.clone(),
                    what: "stands outside any table".to_owned(),
                    help: Some("put it under [serve], [http] or [client]".to_owned()),
                },
            });
        }
        let toml::Value::Table(content) = content else {
            let what = format!("expected a table, found {}", content.type_str());
            return Err(Problem::Entry {
                place,
                what,
                help: None,
            });
        };
        for (key, value) in content {
            found.push(assignment(&settings, table, key, value)?);
        }
    }
    Ok(found)
}

fn assignment(settings: &[Setting], table: &str, key: &str, value: &toml::Value) -> Result<Assignment, Problem> {
    let place = format!("[{table}] {key}");
    let of_table = || settings.iter().filter(|setting| setting.table == table);
    let Some(setting) = of_table().find(|setting| setting.key == key) else {
        let near = nearest(key, of_table().map(|setting| setting.key.as_str()));
        return Err(unknown(place, "unknown key", near));
    };
    let wrong = |what: String| Problem::Entry {
        place: place.clone(),
        what,
        help: None,
    };
    let is_flag = matches!(setting.arg.get_action(), ArgAction::SetTrue);
    let value = match value {
        toml::Value::Boolean(value) if is_flag => value.to_string(),
        _ if is_flag => return Err(wrong(format!("expected true or false, found {}", value.type_str()))),
        toml::Value::String(value) => value.clone(),
        toml::Value::Integer(value) => value.to_string(),
        toml::Value::Array(items) => {
            list(items).ok_or_else(|| wrong("expected a list of texts or of numbers".to_owned()))?
        }
        other => {
            return Err(wrong(format!(
                "expected a text or a number, found {}",
                other.type_str()
            )));
        }
    };
    if !is_flag {
        check_value(&setting.arg, &value).map_err(wrong)?;
    }
    Ok(Assignment {
        table: table.to_owned(),
        key: key.to_owned(),
        value,
    })
}

/// A list stands for its items separated by commas.
fn list(items: &[toml::Value]) -> Option<String> {
    let texts: Option<Vec<String>> = items
        .iter()
        .map(|item| match item {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Integer(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    texts.map(|texts| texts.join(","))
}

/// Runs the option's own parser over the value, whether or not the command at hand has the option.
fn check_value(arg: &Arg, value: &str) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    // Without its variable and its default, so that nothing but the value is judged.
    let arg = Arg::new(arg.get_id().clone())
        .long(long.to_owned())
        .value_parser(arg.get_value_parser().clone())
        .action(arg.get_action().clone());
    let outcome = Command::new("check")
        .arg(arg)
        .try_get_matches_from(["check".to_owned(), format!("--{long}={value}")]);
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(match std::error::Error::source(&error) {
            Some(source) => format!("invalid value {value:?}: {source}"),
            None => format!("invalid value {value:?}"),
        }),
    }
}

fn unknown(place: String, what: &str, near: Option<String>) -> Problem {
    let help = near.map(|near| format!("the nearest that exists is {near}"));
    Problem::Entry {
        place,
        what: what.to_owned(),
        help,
    }
}

/// The name most like this one, by clap's own measure.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let mut command = Command::new("nearest").disable_help_flag(true);
    for long in known.clone() {
        command = command.arg(
            Arg::new(long.to_owned())
                .long(long.to_owned())
                .action(ArgAction::SetTrue),
        );
    }
    let error = command
        .try_get_matches_from(["nearest".to_owned(), format!("--{name}")])
        .err()?;
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let suggested = match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(text) => text.trim_start_matches('-').to_owned(),
        _ => return None,
    };
    known.into_iter().find(|known| *known == suggested).map(str::to_owned)
}

/// Every option of the command line that a file may hold; the same option of several commands counts once.
fn settings(command: &Command) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut open = vec![command];
    while let Some(next) = open.pop() {
        open.extend(next.get_subcommands());
        for arg in next.get_arguments() {
            if let Some((table, key)) = place_of(arg)
                && !settings.iter().any(|known| known.table == table && known.key == key)
            {
                settings.push(Setting {
                    table,
                    key,
                    arg: arg.clone(),
                });
            }
        }
    }
    settings
}

/// Table and key of an option, read from the name of its environment variable.
fn place_of(arg: &Arg) -> Option<(String, String)> {
    let variable = arg.get_env()?.to_str()?.strip_prefix("PLIMSOLL_")?.to_ascii_lowercase();
    let (table, key) = variable.split_once('_')?;
    TABLES.contains(&table).then(|| (table.to_owned(), key.to_owned()))
}

fn with_defaults(command: Command, assignments: &[Assignment]) -> Command {
    let command = command.mut_args(|arg| {
        let assigned = place_of(&arg).and_then(|(table, key)| {
            // The last one counts; TOML has no repeated keys, so there is one.
            assignments
                .iter()
                .find(|assignment| assignment.table == table && assignment.key == key)
        });
        match assigned {
            Some(assignment) => arg.default_value(assignment.value.clone()),
            None => arg,
        }
    });
    command.mut_subcommands(|subcommand| with_defaults(subcommand, assignments))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::args;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn keys_are_the_long_options() {
        let settings = settings(&command());
        assert!(settings.len() >= 10, "{}", settings.len());
        for setting in settings {
            assert_eq!(
                setting.arg.get_long().map(|long| long.replace('-', "_")).as_deref(),
                Some(setting.key.as_str())
            );
            assert!(
                !setting.arg.is_required_set(),
                "{}: a file cannot bring a required option",
                setting.key
            );
        }
    }

    /// The command line without its environment, so that the tests depend on none.
    fn command_without_environment() -> Command {
        command()
    }

    fn serve(file: &str, line: &[&str]) -> Result<args::ServeArguments, String> {
        let mut settings = tempfile::NamedTempFile::new().unwrap();
        settings.write_all(file.as_bytes()).unwrap();
        let mut words: Vec<OsString> = vec![
            "plimsoll".into(),
            "serve".into(),
            "--config".into(),
            settings.path().into(),
        ];
        words.extend(line.iter().map(|word| OsString::from(*word)));
        match parse(command_without_environment(), &words) {
            Ok(Parsed::Run(arguments)) => match arguments.command {
                args::Command::Serve(serve) => Ok(serve),
                other => panic!("{other:?}"),
            },
            Ok(Parsed::Say(error)) => Err(error.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn a_file_is_below_the_command_line_and_above_the_defaults() {
        let file = "[serve]\nlisten = '127.0.0.1:1'\ndrain_timeout = '3s'\ndimensions = ['a', 'b']\ninsecure_listen = true\ncores = 1\n";
        let arguments = serve(file, &["--listen", "127.0.0.1:2"]).unwrap();
        assert_eq!(arguments.listen.port(), 2);
        assert_eq!(arguments.drain_timeout, Duration::from_secs(3));
        assert_eq!(arguments.dimensions.unwrap().0, ["a", "b"]);
        assert_eq!(arguments.key_retention, Duration::from_secs(86_400));
        assert_eq!(arguments.cores, plimsoll_server::Cores::Count(1));
        assert!(arguments.insecure_listen);
    }

    #[test]
    fn other_tables_are_checked_but_not_taken() {
        let file = "[client]\nengine = 'far:1'\n[http]\nlisten = '127.0.0.1:9'\n[export]\nto = 1\n";
        assert_eq!(serve(file, &[]).unwrap().listen.port(), 7440);
    }

    fn check_refused(file: &str, expected: &[&str]) {
        let error = serve(file, &[]).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }

    #[test]
    fn what_is_not_known_is_named_with_the_nearest_that_is() {
        check_refused(
            "[serve]\ndrain_timout = '3s'",
            &[
                "[serve] drain_timout: unknown key",
                "help: the nearest that exists is drain_timeout",
            ],
        );
        check_refused("[client]\nlisten = '3s'", &["[client] listen: unknown key"]);
        check_refused("[sevre]\nlisten = '3s'", &["[sevre]: unknown table", "[serve]"]);
        check_refused("listen = '3s'", &["listen: stands outside any table"]);
        check_refused("serve = 1", &["[serve]: expected a table"]);
        check_refused("[serve\n", &["TOML parse error"]);
    }

    #[test]
    fn a_bad_value_is_found_also_where_it_is_not_used() {
        check_refused(
            "[serve]\ndrain_timeout = 'soon'",
            &["[serve] drain_timeout: invalid value \"soon\"", "10s"],
        );
        check_refused("[http]\nlisten = 'x'", &["[http] listen: invalid value \"x\""]);
        check_refused("[client]\ntimeout = 10", &["[client] timeout: invalid value \"10\""]);
        check_refused("[client]\nwindow = 0", &["[client] window: invalid value \"0\""]);
        check_refused(
            "[serve]\ninsecure_listen = 'yes'",
            &["[serve] insecure_listen: expected true or false"],
        );
        check_refused(
            "[serve]\nlisten = 1.5",
            &["[serve] listen: expected a text or a number, found float"],
        );
        check_refused("[serve]\ndimensions = [true]", &["[serve] dimensions: expected a list"]);
    }

    proptest! {
        #[test]
        fn any_file_is_settings_or_an_error(text in any::<String>(), key in "[a-z_-]{1,12}") {
            let command = command();
            let _ = assignments(&text, &command);
            let _ = assignments(&format!("[serve]\n{key} = 1"), &command);
            let _ = assignments(&format!("[{key}]\nlisten = 1"), &command);
        }
    }
}
