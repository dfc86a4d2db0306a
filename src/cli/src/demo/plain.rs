//! A line a second, for logs and for terminals without the means.

use std::time::Duration;

use super::figures::{Figures, SaleFigures};
use super::format::{grouped, milliseconds};
use super::tally::Call;

/// `   3 s  queries 612/s  reserves 166/s ...`
pub(super) fn line(figures: &Figures) -> String {
    let second = &figures.second;
    let mut text = format!("{:>4} s", figures.uptime.as_secs());
    for call in Call::ALL {
        text.push_str(&format!("  {} {}/s", call.name(), grouped(second.of(call).done)));
    }
    text.push_str(&format!(
        "  full {}/s  expired {}/s",
        grouped(second.full),
        grouped(second.expired)
    ));
    let reserves = &figures.window.of(Call::Reserve).latency;
    text.push_str(&format!(
        "  reserve p50 {} p99 {} ms",
        milliseconds(reserves.value_at_quantile(0.5)),
        milliseconds(reserves.value_at_quantile(0.99))
    ));
    let slowest = figures.cores.iter().map(|core| core.sync_micros_p99).max().unwrap_or(0);
    text.push_str(&format!("  sync p99 {} ms", milliseconds(slowest)));
    let live = |count: i64| grouped(u64::try_from(count).unwrap_or(0));
    text.push_str(&format!(
        "  live {} confirmed {} held",
        live(figures.confirmed),
        live(figures.held)
    ));
    let failed = second.failed + second.unknown;
    if failed > 0 {
        text.push_str(&format!("  failed {failed}/s"));
    }
    if let Some(sale) = figures.sale.as_ref().filter(|sale| !sale.is_over) {
        text.push_str(&format!("  sale {}", sale_text(sale)));
    }
    text
}

/// `centre:delivery:2026-12-24T20 61/80, 12 turned away`
fn sale_text(sale: &SaleFigures) -> String {
    if sale.opens_in > Duration::ZERO {
        return format!("{} opens in {:.1} s", sale.name, sale.opens_in.as_secs_f64());
    }
    match &sale.fill {
        Some(fill) => format!(
            "{} {}/{}, {} turned away",
            sale.name,
            fill.used(),
            fill.ceiling,
            sale.turned_away
        ),
        None => sale.name.clone(),
    }
}
