//! `plimsoll orders --rebuild`: records a whole file, whatever enforcement would have refused, and says which limits it passed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use plimsoll_client::{Pool, PoolDefinition, PoolId};
use serde::Serialize;

use super::account::{Account, Difference, Violation};
use super::drive::{Keys, interruption};
use super::keeper::{Keeper, shortened};
use super::plan::{Figures, Plan};
use super::progress::Progress;
use super::selling::Selling;
use super::{Job, Left, figure_lines, key_of_order, pools_named, print_figures, say_skipped};
use crate::failure::Failure;
use crate::output::{Output, notice};

/// An engine that did not answer for `--patience` is not waited for as long a second time.
const PATIENCE_AFTER_FAILURE_MAX: Duration = Duration::from_secs(10);

/// What a rebuild came to.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    figures: Figures,
    would_refuse: u64,
    outside_times: u64,
    violations: Vec<Violation>,
    differences: Vec<Difference>,
}

/// Pools that an earlier run left changed are given back what they had; nothing else is done.
pub(super) async fn restore(
    job: &Job<'_>,
    progress: &mut Progress,
    earlier: HashMap<String, Selling>,
) -> Result<(), Failure> {
    let mut keeper = keeper_of(job, HashMap::new(), earlier);
    let count = keeper.changed_count();
    give_back(job, &mut keeper, progress, job.arguments.patience).await?;
    if job.arguments.client.json {
        let mut output = Output::new();
        output.json(&serde_json::json!({ "restored": count }))?;
        return output.finish();
    }
    notice(format_args!("{count} pools were given back what they had"));
    Ok(())
}

pub(super) async fn run(
    job: &Job<'_>,
    progress: &mut Progress,
    mut plan: Plan<'_>,
    left: Left,
    earlier: HashMap<String, Selling>,
) -> Result<(), Failure> {
    let dimensions = &job.dimensions;
    let named = pools_named(&job.file);
    let places: HashMap<&str, usize> = named.iter().map(|place| (&*job.file.pools[*place], *place)).collect();
    let mut keeper = keeper_of(job, places, earlier);
    if keeper.changed_count() > 0 {
        notice(format_args!(
            "note: an earlier run left {} pools in shadow mode, open, or without times ({}); they are given back what they had",
            keeper.changed_count(),
            keeper.changed_names()
        ));
    }
    let outcome = record(job, &mut keeper, progress, &mut plan, left, &named).await;
    let patience = if outcome.is_ok() {
        job.arguments.patience
    } else {
        job.arguments.patience.min(PATIENCE_AFTER_FAILURE_MAX)
    };
    let given_back = give_back(job, &mut keeper, progress, patience).await;
    let (account, definitions) = match (outcome, given_back) {
        (Err(failure), Err(_)) => return Err(failure.details(vec![left_changed(&keeper)])),
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => return Err(failure),
        (Ok(recorded), Ok(())) => recorded,
    };

    let mut differences = Vec::new();
    let now = keeper.read().await?;
    check_complete(job, &named, &now)?;
    for (place, pool) in &now {
        differences.append(&mut account.differences(*place, pool, dimensions));
    }
    say_skipped(&plan, &job.file);
    say_differences(&differences);
    let report = Report {
        figures: plan.figures(),
        would_refuse: account.would_refuse,
        outside_times: account.outside_times,
        violations: account.violations(dimensions, &definitions),
        differences,
    };
    print(&report, job.arguments.client.json)
}

fn keeper_of<'a>(job: &'a Job<'_>, places: HashMap<&'a str, usize>, earlier: HashMap<String, Selling>) -> Keeper<'a> {
    Keeper::new(
        &job.client,
        &job.arguments.client.engine,
        &job.directory,
        places,
        earlier,
    )
}

/// Lets the pools take every order, and sends what is left. What the file comes to, and the definitions of its pools.
async fn record(
    job: &Job<'_>,
    keeper: &mut Keeper<'_>,
    progress: &mut Progress,
    plan: &mut Plan<'_>,
    left: Left,
    named: &[usize],
) -> Result<(Account, Vec<Option<PoolDefinition>>), Failure> {
    let found = keeper.read().await?;
    check_complete(job, named, &found)?;
    let mut definitions: Vec<Option<PoolDefinition>> = vec![None; job.file.pools.len()];
    let mut pools: Vec<Option<PoolId>> = vec![None; job.file.pools.len()];
    for (place, pool) in found {
        let Some(place) = place else { continue };
        definitions[place] = Some(pool.definition);
        pools[place] = Some(pool.id);
    }
    let account = Account::new(&job.file, job.dimensions.len(), &definitions);
    check_keys(&job.file.orders, account.counts())?;
    if plan.is_finished() {
        return Ok((account, definitions));
    }
    tokio::select! {
        biased;
        () = interruption()? => return Err(Failure::failed("stopped before a line was sent")),
        lifted = keeper.lift(progress, job.arguments.patience) => lifted?,
    }
    if keeper.changed_count() > 0 {
        notice(format_args!(
            "note: until the end, {} pools are open and take every order",
            keeper.changed_count()
        ));
    }
    job.drive(plan, progress, left, &pools, Keys::OfOrders(&account))
        .await?;
    Ok((account, definitions))
}

async fn give_back(
    job: &Job<'_>,
    keeper: &mut Keeper<'_>,
    progress: &mut Progress,
    patience: Duration,
) -> Result<(), Failure> {
    let outcome = tokio::select! {
        outcome = keeper.give_back(progress, patience) => outcome,
        () = interruption()? => Err(Failure::failed("stopped")),
    };
    outcome.map_err(|failure| {
        failure.details(vec![left_changed(keeper)]).help(format!(
            "when the engine answers, run the same command again, with --restore-only to do nothing else; {} knows what they had",
            job.progress_path.display()
        ))
    })
}

fn left_changed(keeper: &Keeper<'_>) -> String {
    format!(
        "up to {} pools are left in shadow mode, open, or without times: {}",
        keeper.changed_count(),
        keeper.changed_names()
    )
}

/// In a rebuild an order for a pool that does not exist is no order that was refused: the file and the engine do not fit.
fn check_complete(job: &Job<'_>, named: &[usize], found: &[(Option<usize>, Pool)]) -> Result<(), Failure> {
    let known: HashSet<usize> = found.iter().filter_map(|(place, _)| *place).collect();
    let missing = named.iter().filter(|place| !known.contains(place));
    let missing: Vec<&str> = missing.map(|place| &*job.file.pools[*place]).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the engine lacks {} of the {} pools that the file names: {}",
        missing.len(),
        named.len(),
        shortened(&missing)
    ))
    .help("import them first: plimsoll pool import FILE"))
}

/// The key of an order's second reservation can be another order's name: one of them would be taken for the other.
fn check_keys(orders: &[Box<str>], counts: &[u32]) -> Result<(), Failure> {
    let mut owners: HashMap<u128, usize> = HashMap::with_capacity(orders.len());
    for (order, count) in counts.iter().enumerate() {
        for earlier_count in 0..*count {
            let key = key_of_order(&orders[order], earlier_count);
            if let Some(other) = owners.insert(key.0, order) {
                return Err(Failure::failed(format!(
                    "the orders {:?} and {:?} come to the same key",
                    orders[other], orders[order]
                ))
                .help(
                    "the key of an order is its name, NAME#2 for its second reservation, and so on; a UUID is the same in any form: \
                     give one of them another name",
                ));
            }
        }
    }
    Ok(())
}

fn say_differences(differences: &[Difference]) {
    let Some(first) = differences.first() else { return };
    notice(format_args!(
        "warning: the engine does not hold what the file says, {} times; first {}: {} {} in the file, {} in the engine",
        differences.len(),
        first.pool,
        first.file,
        first.dimension,
        first.engine
    ));
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    if json {
        output.json(report)?;
        return output.finish();
    }
    // Names of pools and dimensions need no quotes.
    if !report.violations.is_empty() {
        output.line("pool,dimension,limit,overbook,highest,first_at,orders,at_end")?;
        for found in &report.violations {
            output.line(format_args!(
                "{},{},{},{},{},{},{},{}",
                found.pool,
                found.dimension,
                found.limit,
                found.overbook,
                found.highest,
                found.first_at,
                found.orders,
                found.at_end
            ))?;
        }
        output.line("")?;
    }
    if !report.differences.is_empty() {
        output.line("pool,dimension,file,engine")?;
        for found in &report.differences {
            output.line(format_args!(
                "{},{},{},{}",
                found.pool, found.dimension, found.file, found.engine
            ))?;
        }
        output.line("")?;
    }
    let mut lines = figure_lines(report.figures);
    lines.push(("would_refuse", report.would_refuse));
    lines.push(("outside_times", report.outside_times));
    print_figures(&mut output, &lines)?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_orders_share_a_key() {
        let check = |orders: &[(&str, u32)]| {
            let (names, counts): (Vec<Box<str>>, Vec<u32>) =
                orders.iter().map(|(name, count)| (Box::from(*name), *count)).unzip();
            check_keys(&names, &counts).map_err(|failure| failure.to_string())
        };
        assert_eq!(check(&[("a", 3), ("b", 1), ("b#3", 1), ("a#2", 0), ("a#1", 1)]), Ok(()));
        let error = check(&[("a#2", 1), ("b", 1), ("a", 2)]).unwrap_err();
        assert!(error.contains("\"a#2\" and \"a\" come to the same key"), "{error}");
        let uuid = "123e4567-e89b-12d3-a456-426614174000";
        check(&[(uuid, 1), (&uuid.to_uppercase(), 1)]).unwrap_err();
    }
}
