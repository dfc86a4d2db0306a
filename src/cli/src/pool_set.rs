//! `plimsoll pool set`, `close` and `open`: changes some of a pool's definition. It is read, changed, and put under the
//! version that it was read at, so that a change that somebody else makes meanwhile is neither lost nor overwritten.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::protocol::CLOSES_AT_NEVER;
use plimsoll_client::{Change, Client, PoolDefinition, Refusal, Status};
use plimsoll_form::PoolForm;

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, failure_of, read_failure, refused};
use crate::failure::Failure;
use crate::output::Output;
use crate::values::{UnitsByName, ValueError, parse_amounts, parse_time};

#[derive(Debug, Args)]
#[command(after_help = "\
Only what is named changes. When somebody else changes the pool at the same time, nothing is changed (exit code 3). A limit
may be set below what is reserved: nothing is taken away, and nothing more is sold until enough was released.

Examples:
  plimsoll pool set zone-7:monday --limits orders=25
  plimsoll pool set zone-7:monday --overbook orders=2 --closes-at 2027-01-03T18:00:00Z
  plimsoll pool set zone-7:monday --coverage '101 102 10317' --state open --mode shadow
  plimsoll pool set zone-7:monday --coverage ''                  serves no location")]
pub(crate) struct SetArguments {
    /// The pool's name
    #[arg(add = ArgValueCompleter::new(pool_names))]
    name: String,

    #[command(flatten)]
    changes: Changes,

    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Clone, Debug, Default, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// The limit in each of these dimensions
    #[arg(long, value_name = "NAME=N[,NAME=N..]", value_parser = parse_amounts)]
    limits: Option<UnitsByName>,

    /// The overbooking allowance in each of these dimensions
    #[arg(long, value_name = "NAME=N[,NAME=N..]", value_parser = parse_amounts)]
    overbook: Option<UnitsByName>,

    /// Prefixes of the locations that it serves, separated by spaces; replaces those it has
    #[arg(long, value_name = "PREFIXES")]
    coverage: Option<String>,

    /// Where it applies
    #[arg(long)]
    zone: Option<String>,

    /// What sort of capacity it is
    #[arg(long)]
    kind: Option<String>,

    /// From when it is used: Unix seconds or RFC 3339 with an offset
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    starts_at: Option<i64>,

    /// Until when it is used
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    ends_at: Option<i64>,

    /// From when it sells; 0 for always
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    opens_at: Option<i64>,

    /// Until when it sells, or never
    #[arg(long, value_name = "TIME|never", value_parser = parse_closes_at)]
    closes_at: Option<i64>,

    /// Whether it sells
    #[arg(long)]
    state: Option<State>,

    /// Whether reserves past the ceiling are refused, or only marked
    #[arg(long)]
    mode: Option<Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Enforce,
    Shadow,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A closed pool refuses reserves. Nothing is cancelled: holds may be confirmed, and what is reserved can be released.
'plimsoll pool open NAME' lets it sell again, 'plimsoll pool close NAME' stops it.

Examples:
  plimsoll pool close zone-7:monday
  plimsoll pool open zone-7:monday")]
pub(crate) struct NameArguments {
    /// The pool's name
    #[arg(add = ArgValueCompleter::new(pool_names))]
    name: String,

    #[command(flatten)]
    client: ClientArguments,
}

fn parse_closes_at(text: &str) -> Result<i64, ValueError> {
    match text {
        "never" => Ok(CLOSES_AT_NEVER),
        time => parse_time(time),
    }
}

pub(crate) fn set(arguments: &SetArguments) -> Result<(), Failure> {
    change(&arguments.name, &arguments.changes, &arguments.client)
}

pub(crate) fn close(arguments: &NameArguments) -> Result<(), Failure> {
    change_state(arguments, State::Closed)
}

pub(crate) fn open(arguments: &NameArguments) -> Result<(), Failure> {
    change_state(arguments, State::Open)
}

fn change_state(arguments: &NameArguments, state: State) -> Result<(), Failure> {
    let changes = Changes {
        state: Some(state),
        ..Changes::default()
    };
    change(&arguments.name, &changes, &arguments.client)
}

fn change(name: &str, changes: &Changes, arguments: &ClientArguments) -> Result<(), Failure> {
    block_on(async {
        let client = connect(arguments).await?;
        let dimensions = client.dimensions();
        let found = client
            .pool(name)
            .await
            .map_err(|error| read_failure(error, &arguments.engine))?;
        let Some(mut pool) = found else {
            return Err(refused(&Refusal::new(Status::PoolNotFound)));
        };
        changes.apply(&mut pool.definition, &dimensions)?;
        pool.definition.version = put(&client, &pool.definition, arguments).await?;
        if !arguments.json {
            return Ok(());
        }
        let mut output = Output::new();
        output.json(&PoolForm::new(&pool, &dimensions))?;
        output.finish()
    })
}

/// Puts the definition under the version that it was read at, and gives the version that stands.
async fn put(client: &Client, definition: &PoolDefinition, arguments: &ClientArguments) -> Result<u64, Failure> {
    let results = client
        .put_pools(std::slice::from_ref(definition), false)
        .await
        .map_err(|error| {
            failure_of(error, &arguments.engine)
                .help(format!("'plimsoll pool get {}' says what stands", definition.name))
        })?;
    let Some(result) = results.first() else {
        return Err(Failure::failed("the engine says nothing of the pool"));
    };
    // It was there when it was read.
    debug_assert_ne!(result.change, Change::Created);
    if result.status.is_ok() {
        Ok(result.version)
    } else {
        Err(refused(&Refusal::new(result.status)))
    }
}

impl Changes {
    fn apply(&self, definition: &mut PoolDefinition, dimensions: &[String]) -> Result<(), Failure> {
        definition.overbook.resize(dimensions.len(), 0);
        for (option, changes, values) in [
            ("--limits", &self.limits, &mut definition.limits),
            ("--overbook", &self.overbook, &mut definition.overbook),
        ] {
            for (name, amount) in changes.iter().flat_map(UnitsByName::pairs) {
                let place = dimensions.iter().position(|dimension| dimension == name);
                match place.and_then(|place| values.get_mut(place)) {
                    Some(value) => *value = amount,
                    None => {
                        let known = dimensions.join(", ");
                        let text = format!("{option}: the engine has no dimension {name:?}, only {known}");
                        return Err(Failure::usage(text));
                    }
                }
            }
        }
        if let Some(coverage) = &self.coverage {
            definition.coverage = coverage.split_ascii_whitespace().map(str::to_owned).collect();
        }
        for (text, place) in [(&self.zone, &mut definition.zone), (&self.kind, &mut definition.kind)] {
            text.iter().for_each(|text| place.clone_from(text));
        }
        for (time, place) in [
            (self.starts_at, &mut definition.starts_at),
            (self.ends_at, &mut definition.ends_at),
            (self.opens_at, &mut definition.opens_at),
            (self.closes_at, &mut definition.closes_at),
        ] {
            *place = time.unwrap_or(*place);
        }
        if let Some(state) = self.state {
            definition.closed = state == State::Closed;
        }
        if let Some(mode) = self.mode {
            definition.shadow = mode == Mode::Shadow;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> PoolDefinition {
        PoolDefinition {
            zone: "z".into(),
            coverage: vec!["1".into()],
            version: 7,
            ..PoolDefinition::new("a", vec![5, 6])
        }
    }

    fn check(changes: &Changes, expected: &PoolDefinition) {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        let mut found = definition();
        changes.apply(&mut found, &dimensions).unwrap();
        assert_eq!(found, *expected);
    }

    #[test]
    fn only_what_is_named_changes() {
        let same = PoolDefinition {
            overbook: vec![0, 0],
            ..definition()
        };
        check(&Changes::default(), &same);
        let some = Changes {
            limits: Some(UnitsByName(vec![("guests".into(), 0)])),
            overbook: Some(UnitsByName(vec![("rooms".into(), 2)])),
            coverage: Some(" 10  2 ".into()),
            closes_at: Some(9),
            state: Some(State::Closed),
            mode: Some(Mode::Shadow),
            ..Changes::default()
        };
        let expected = PoolDefinition {
            limits: vec![5, 0],
            overbook: vec![2, 0],
            coverage: vec!["10".into(), "2".into()],
            closes_at: 9,
            closed: true,
            shadow: true,
            ..same
        };
        check(&some, &expected);
    }

    #[test]
    fn a_dimension_that_is_not_there_is_wrong_usage() {
        let changes = Changes {
            overbook: Some(UnitsByName(vec![("beds".into(), 2)])),
            ..Changes::default()
        };
        let failure = changes
            .apply(&mut definition(), &["rooms".to_owned(), "guests".to_owned()])
            .unwrap_err();
        assert_eq!(
            failure.to_string(),
            "error: --overbook: the engine has no dimension \"beds\", only rooms, guests\n"
        );
    }
}
