//! `plimsoll pool`: imports and shows pools.

use std::time::{Duration, Instant};

use plimsoll_client::{Change, Client, PastQuery, PoolDefinition, PutResult, Status};
use plimsoll_form::{FileErrors, PoolForm, PoolRow, read_pools, wire_form};
use serde::Serialize;

use crate::args::{ClientArguments, GetArguments, ImportArguments, ListArguments};
use crate::connection::{block_on, connect, failure_of, read_failure, refused};
use crate::failure::Failure;
use crate::input::{Input, failure_of_file};
use crate::output::{Output, Table, notice};
use crate::pool_form::{TABLE_TEXT_COLUMNS, lines, table_head, table_row, used_line};

/// Pools in a page of a past state; the engine gives no more.
const PAST_PAGE: u32 = 1000;

/// Between two attempts at what an engine was too busy for.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// What an import did, or would do.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Imported {
    created: u64,
    changed: u64,
    unchanged: u64,
}

pub(crate) fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    let input = Input::read(&arguments.file)?;
    let imported = block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let rows = read_pools(input.form, &input.content, &dimensions)
            .map_err(|errors| failure_of_file(errors, &input.path))?;
        let definitions: Vec<PoolDefinition> = rows
            .iter()
            .map(|row| wire_form(&row.definition, dimensions.len()))
            .collect();
        // All or nothing: everything is checked before anything is changed.
        let mut results = put(&client, &definitions, true, arguments).await?;
        judge(&rows, &results, &input)?;
        if !arguments.dry_run {
            results = put(&client, &definitions, false, arguments).await?;
            put_again(&client, &definitions, &mut results, arguments).await?;
            judge(&rows, &results, &input).map_err(|failure| {
                failure.help("the engine changed its mind after the check; mend the cause and import the file again")
            })?;
        }
        Ok(count(&results))
    })?;
    let mut output = Output::new();
    if arguments.client.json {
        output.json(&imported)?;
    } else {
        for (name, number) in [
            ("created", imported.created),
            ("changed", imported.changed),
            ("unchanged", imported.unchanged),
        ] {
            output.line(format_args!("{name:<9} {number:>10}"))?;
        }
    }
    output.finish()?;
    if arguments.dry_run {
        notice("note: a dry run, nothing was changed");
    }
    Ok(())
}

/// Puts those again that an engine was too busy for, for as long as an answer may take: the rest has taken effect already.
async fn put_again(
    client: &Client,
    definitions: &[PoolDefinition],
    results: &mut [PutResult],
    arguments: &ImportArguments,
) -> Result<(), Failure> {
    let until = Instant::now() + arguments.client.timeout;
    loop {
        let left: Vec<usize> = (0..results.len())
            .filter(|place| results[*place].status.known().is_some_and(Status::retryable))
            .collect();
        if left.is_empty() || Instant::now() >= until {
            return Ok(());
        }
        tokio::time::sleep(AGAIN_PAUSE).await;
        let definitions: Vec<_> = left.iter().map(|place| definitions[*place].clone()).collect();
        let again = put(client, &definitions, false, arguments).await?;
        for (place, result) in left.into_iter().zip(again) {
            results[place] = result;
        }
    }
}

async fn put(
    client: &Client,
    definitions: &[PoolDefinition],
    dry_run: bool,
    arguments: &ImportArguments,
) -> Result<Vec<PutResult>, Failure> {
    client.put_pools(definitions, dry_run).await.map_err(|error| {
        if dry_run {
            read_failure(error, &arguments.client.engine)
        } else {
            failure_of(error, &arguments.client.engine)
                .help("import the file again: what is done already stays as it is")
        }
    })
}

/// What the engine refuses, by the lines of the file.
fn judge(rows: &[PoolRow], results: &[PutResult], input: &Input) -> Result<(), Failure> {
    let mut errors = FileErrors::default();
    for (row, result) in rows.iter().zip(results).filter(|(_, result)| !result.status.is_ok()) {
        let why = match result.status.known() {
            Some(status) => format!("the engine answers {status}: {}", status.meaning()),
            None => format!("the engine answers {}", result.status),
        };
        errors.add(row.line, "name", why);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(failure_of_file(errors, &input.path))
    }
}

fn count(results: &[PutResult]) -> Imported {
    let mut imported = Imported::default();
    for result in results {
        match result.change {
            Change::Created => imported.created += 1,
            Change::Changed => imported.changed += 1,
            _ => imported.unchanged += 1,
        }
    }
    imported
}

pub(crate) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let places = match &arguments.dimensions {
            Some(names) => names
                .places(&dimensions)
                .map_err(|error| Failure::usage(format!("--dimensions: {error}")))?,
            None => (0..dimensions.len()).collect(),
        };
        let mut output = Output::new();
        let mut table = Table::new(table_head(&dimensions), TABLE_TEXT_COLUMNS);
        let mut after = None::<String>;
        loop {
            let page = match arguments.as_of {
                None => client.pools(after.as_deref(), 0).await,
                Some(at) => {
                    let query = PastQuery {
                        at,
                        after: after.as_deref(),
                        limit: PAST_PAGE,
                        ..PastQuery::default()
                    };
                    client.past_pools(&query).await
                }
            };
            let page = page.map_err(|error| read_failure(error, &arguments.client.engine))?;
            for pool in &page.pools {
                if arguments.used {
                    output.line(used_line(pool, &places))?;
                } else if arguments.client.json {
                    output.json(&PoolForm::new(pool, &dimensions))?;
                } else {
                    table.row(table_row(pool));
                }
            }
            match page.pools.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.definition.name),
                _ => break,
            }
        }
        if !arguments.used && !arguments.client.json {
            for line in table.lines() {
                output.line(line)?;
            }
        }
        output.finish()
    })
}

pub(crate) fn get(arguments: &GetArguments) -> Result<(), Failure> {
    let GetArguments {
        name,
        client: ClientArguments { json, engine, .. },
    } = arguments;
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let Some(pool) = client.pool(name).await.map_err(|error| read_failure(error, engine))? else {
            return Err(refused(&plimsoll_client::Refusal::new(
                plimsoll_client::Status::PoolNotFound,
            )));
        };
        let form = PoolForm::new(&pool, &dimensions);
        let mut output = Output::new();
        if *json {
            output.json(&form)?;
        } else {
            output.fields(&lines(&form))?;
        }
        output.finish()
    })
}
