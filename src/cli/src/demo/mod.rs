//! `plimsoll demo`: an engine in this process, example pools, example traffic, and figures once a second.

mod pools;
mod screen;
mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_client::{Client, Options, Pool};
use plimsoll_server::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DemoArguments;
use crate::connection::{block_on, failure_of};
use crate::failure::Failure;
use crate::output::Output;
use crate::serve;
use screen::Screen;
use traffic::{SHOPPER_COUNT, Tally, Traffic};

/// The demo ends its reservations by the thousand; there is no use in keeping them.
const KEY_RETENTION: Duration = Duration::from_secs(5);

const SEGMENT_SIZE: u64 = 64 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let directory = tempfile::Builder::new()
        .prefix("plimsoll-demo-")
        .tempdir()
        .map_err(|error| Failure::failed("cannot make a temporary directory").because(error))?;
    let server = Server::start(&plimsoll_server::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        data: directory.path().join("data"),
        cores: arguments.cores.clone(),
        dimensions: Some(pools::DIMENSIONS.map(str::to_owned).into()),
        drain_timeout: DRAIN_TIMEOUT,
        key_retention: KEY_RETENTION,
        segment_size: SEGMENT_SIZE,
        insecure_listen: false,
    })
    .map_err(serve::failure_of)?;
    let address = server.address().to_string();
    let handle = server.handle();

    let limit = arguments
        .seconds
        .map(|seconds| Duration::from_secs(seconds.get().into()));
    let shown = block_on(show(&address, limit));
    handle.shutdown();
    let stopped = server.wait().map_err(serve::failure_of);
    let removed = directory
        .close()
        .map_err(|error| Failure::failed("cannot remove the temporary directory").because(error));
    shown.and(stopped).and(removed)
}

/// Shows traffic until the limit or a signal, then checks the sums.
async fn show(address: &str, limit: Option<Duration>) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::failed("cannot listen for signals").because(error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let engine_error = |error| failure_of(error, address);
    let client = Client::connect(address, Options::default())
        .await
        .map_err(engine_error)?;

    let definitions = pools::definitions();
    let results = client.put_pools(&definitions, false).await.map_err(engine_error)?;
    if let Some(refused) = results.iter().find(|result| !result.status.is_ok()) {
        return Err(Failure::failed(format!(
            "the engine does not take the example pools: {}",
            refused.status
        )));
    }
    let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
    let ids = client.resolve(&names).await.map_err(engine_error)?;
    let ids: Arc<[_]> = ids.into_iter().flatten().collect();
    if ids.len() != names.len() {
        return Err(Failure::failed("the engine does not know the pools that it just took"));
    }

    let mut screen = Screen::new();
    screen.line(&format!(
        "engine on {address}, {} pools of {}, {SHOPPER_COUNT} shoppers; Ctrl-C ends it",
        names.len(),
        pools::DIMENSIONS.join(" and ")
    ))?;
    let (traffic, shoppers) = Traffic::start(&client, &ids);
    let begun = Instant::now();
    let mut total = Tally::new();
    let mut ticks = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_secs(1),
        Duration::from_secs(1),
    );
    let outcome = loop {
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(begun.elapsed()));
        tokio::select! {
            biased;
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            _ = ticks.tick() => {
                let recent = traffic.take_recent();
                total.add(&recent);
                let fullest = match client.all_pools().collect().await {
                    Ok(pools) => pools,
                    Err(error) => break Err(engine_error(error)),
                };
                if let Err(failure) = screen.figures(begun.elapsed(), &recent, &total, &fullest) {
                    break Err(failure);
                }
            }
            () = tokio::time::sleep(left), if limit.is_some() => break Ok(()),
        }
    };
    traffic.stop();
    for shopper in shoppers {
        shopper
            .await
            .map_err(|error| Failure::failed("a shopper failed").because(error))?;
    }
    total.add(&traffic.take_recent());
    outcome?;
    let pools = client.all_pools().collect().await.map_err(engine_error)?;
    summary(&total, begun.elapsed(), &traffic, &names, &pools)
}

/// Prints what was done, and holds it against what the pools say.
fn summary(total: &Tally, took: Duration, traffic: &Traffic, names: &[&str], pools: &[Pool]) -> Result<(), Failure> {
    let mut output = Output::new();
    let latency = |quantile: f64| screen::milliseconds(total.latency.value_at_quantile(quantile));
    output.line(format_args!(
        "in {:.1} s: {} reserved, {} released, {} refused as full; latency p50 {}, p99 {}, p99.9 {}, max {}",
        took.as_secs_f64(),
        total.reserved,
        total.released,
        total.refused,
        latency(0.5),
        latency(0.99),
        latency(0.999),
        screen::milliseconds(total.latency.max()),
    ))?;
    if total.failed > 0 {
        output.line(format_args!("{} commands had no effect", total.failed))?;
    }
    if total.unknown > 0 {
        output.line(format_args!(
            "the outcome of {} commands is unknown, so the sums cannot be checked",
            total.unknown
        ))?;
        return output.finish();
    }
    let (reserved, released) = traffic.sums();
    let wrong = wrong_pools(names, pools, &reserved, &released);
    if let Some((name, expected, used)) = wrong.first() {
        output.finish()?;
        return Err(Failure::failed(format!(
            "the sums do not agree in {} pools: {name} says that {used:?} are used, the shoppers have {expected:?}",
            wrong.len()
        )));
    }
    for (dimension, name) in pools::DIMENSIONS.iter().enumerate() {
        let sum = |amounts: &[traffic::Amounts]| amounts.iter().map(|amount| amount[dimension]).sum::<i64>();
        let (reserved, released) = (sum(&reserved), sum(&released));
        output.line(format_args!(
            "{name}: {reserved} reserved - {released} released = {} used, as the pools say",
            reserved - released
        ))?;
    }
    output.finish()
}

/// A pool, what the shoppers have of it, and what it says is used.
type WrongPool<'a> = (&'a str, Vec<i64>, Vec<i64>);

/// The pools whose figures are not those of the shoppers.
fn wrong_pools<'a>(
    names: &[&'a str],
    pools: &[Pool],
    reserved: &[traffic::Amounts],
    released: &[traffic::Amounts],
) -> Vec<WrongPool<'a>> {
    let mut wrong = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let expected: Vec<i64> = reserved[index]
            .iter()
            .zip(released[index])
            .map(|(more, less)| more - less)
            .collect();
        let used = pools
            .iter()
            .find(|pool| pool.definition.name == *name)
            .map_or_else(Vec::new, |pool| {
                pool.held
                    .iter()
                    .zip(&pool.confirmed)
                    .map(|(held, confirmed)| held + confirmed)
                    .collect()
            });
        if used != expected {
            wrong.push((*name, expected, used));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    #[test]
    fn a_unit_that_is_missing_is_noticed() {
        let pool = |confirmed| Pool {
            id: PoolId(1),
            definition: PoolDefinition::new("a", vec![9, 9]),
            held: vec![0, 0],
            confirmed,
        };
        let (reserved, released) = ([[3, 9]], [[1, 4]]);
        assert_eq!(wrong_pools(&["a"], &[pool(vec![2, 5])], &reserved, &released).len(), 0);
        assert_eq!(wrong_pools(&["a"], &[pool(vec![2, 4])], &reserved, &released).len(), 1);
        assert_eq!(wrong_pools(&["a"], &[], &reserved, &released).len(), 1);
    }
}
