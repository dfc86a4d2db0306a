//! The end: what was done, and whether the pools count what the shoppers were told.

use std::time::Duration;

use plimsoll_client::{Client, Error, Pool};
use plimsoll_server::Stats;

use super::figures::Figures;
use super::format::{bytes, grouped, milliseconds};
use super::ledger::Ledger;
use super::shopper::HOLD;
use super::tally::Call;
use super::traffic::{EXPIRY_MICROS_MAX, Traffic, now_micros};
use crate::failure::Failure;
use crate::output::Output;

/// Between two looks at pools of which some hold has just ended.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What may go wrong is told so often.
const TOLD_COUNT_MAX: usize = 10;

/// The pools as they are, with the holds settled in the ledger at the same moment.
///
/// Traffic has stopped, but holds still end. So their states are asked for before and after the pools: when nothing has
/// changed between, the pools are of that moment. When every hold has ended, nothing changes any more.
pub(super) async fn settle(traffic: &Traffic, client: &Client) -> Result<Vec<Pool>, Error> {
    let patience = HOLD + Duration::from_micros(EXPIRY_MICROS_MAX as u64);
    let mut looks_left = 1 + patience.as_millis() / LOOK_AGAIN_AFTER.as_millis();
    loop {
        let held = traffic.books().ledger.held_ids();
        let before = traffic.states(&held).await?;
        let pools = client.all_pools().collect().await?;
        let after = traffic.states(&held).await?;
        looks_left -= 1;
        if before == after || looks_left == 0 {
            traffic.books().ledger.settle(&after, now_micros());
            return Ok(pools);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Prints what was done.
pub(super) fn print(output: &mut Output, figures: &Figures, stats: &Stats) -> Result<(), Failure> {
    let total = &figures.total;
    output.line(format_args!(
        "ran {:.1} s with seed {}",
        figures.uptime.as_secs_f64(),
        figures.setting.seed
    ))?;
    for call in Call::ALL {
        let calls = total.of(call);
        let latency = |quantile: f64| milliseconds(calls.latency.value_at_quantile(quantile));
        output.line(format_args!(
            "{:<9} {:>9}  p50 {:>6}  p99 {:>6}  p99.9 {:>6}  max {:>6} ms",
            call.name(),
            grouped(calls.done),
            latency(0.5),
            latency(0.99),
            latency(0.999),
            milliseconds(if calls.latency.is_empty() {
                0
            } else {
                calls.latency.max()
            }),
        ))?;
    }
    output.line(format_args!(
        "refused   {} full, {} not on sale; {} holds expired, {} retries found the first",
        grouped(total.full),
        grouped(total.not_on_sale),
        grouped(total.expired),
        grouped(total.repeated),
    ))?;
    for (index, core) in stats.cores.iter().enumerate() {
        output.line(format_args!(
            "core {index:<4} {:>9} syncs  p50 {:>6}  p99 {:>6} ms  {} records, {}",
            grouped(core.syncs_total),
            milliseconds(core.sync_micros.quantile(0.5)),
            milliseconds(core.sync_micros.quantile(0.99)),
            grouped(core.records_total),
            bytes(core.journal_bytes_total),
        ))?;
    }
    if total.failed > 0 {
        output.line(format_args!(
            "{} calls had no effect, for other reasons",
            grouped(total.failed)
        ))?;
    }
    Ok(())
}

/// Holds the pools against the ledger, and says so in one line.
///
/// # Errors
/// When they differ, or when the engine contradicted itself.
pub(super) fn check(
    output: &mut Output,
    figures: &Figures,
    ledger: &Ledger,
    names: &[&str],
    pools: &[Pool],
) -> Result<(), Failure> {
    if figures.total.unknown > 0 {
        return output.line(format_args!(
            "check: not possible, since the outcome of {} calls is unknown",
            grouped(figures.total.unknown)
        ));
    }
    let (sum, is_complete) = ledger.sum();
    let mut wrong = ledger.contradictions.clone();
    wrong.extend(ledger.differences(names, pools));
    if !is_complete {
        wrong.push(sum.clone());
    }
    if wrong.is_empty() {
        return output.line(format_args!(
            "check: passed: {sum}; all {} pools count the same",
            grouped(names.len() as u64)
        ));
    }
    output.line(format_args!("check: FAILED in {} points: {sum}", wrong.len()))?;
    wrong.truncate(TOLD_COUNT_MAX);
    Err(Failure::failed("the pools do not count what the shoppers were told").details(wrong))
}
