//! The figures of a run as one page: no script, and nothing that is loaded from elsewhere.

mod chart;

use std::fmt::{self, Write};

use hdrhistogram::{Counter, Histogram};

use self::chart::{Axis, Chart, Line, Mark, Scale, Tick, escaped};
use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::load::mix::Operation;
use crate::report::{Report, grouped, time};
use crate::run::Measured;

const STYLE: &str = include_str!("html/style.css");

/// The colour of what is refused; operations have those of their index before it.
const REFUSED_COLOUR: usize = Operation::ALL.len();

/// A page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    title: String,
    command_line: String,
    /// The figures that are looked at first: names and values.
    tiles: Vec<(&'static str, String)>,
    charts: Vec<Chart>,
    /// Names and values; what belongs to the row above has no name.
    figures: Vec<(String, String)>,
    conditions: Vec<(String, String)>,
    /// What has another form than names and values.
    text: String,
}

impl Page {
    /// Of a report that has no latencies.
    pub(crate) fn of_text(title: &str, text: &str) -> Self {
        Self {
            title: title.to_owned(),
            command_line: crate::run::command_line(),
            text: text.to_owned(),
            ..Self::default()
        }
    }

    /// `text` stands below the figures.
    pub(crate) fn of_load(measured: &Measured, text: String) -> Self {
        let Measured { report, ledger } = measured;
        let figures = report.to_string();
        let mut lines = figures.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let conditions = serde_json::to_value(&report.conditions).ok();
        let conditions = conditions.as_ref().and_then(serde_json::Value::as_object);
        Self {
            title,
            command_line: report.conditions.command_line.clone(),
            tiles: tiles(report),
            charts: charts(report, ledger),
            figures: lines.map(figure).collect(),
            conditions: conditions
                .into_iter()
                .flatten()
                .filter(|(name, value)| !value.is_null() && *name != "command_line")
                .map(|(name, value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    (name.replace('_', " "), text)
                })
                .collect(),
            text,
        }
    }
}

/// A row of the report's table, whose names take 12 characters behind the indentation.
fn figure(line: &str) -> (String, String) {
    let line = line.trim_start();
    match line.split_once("  ") {
        Some((name, value)) if name.len() < 14 && !name.contains(',') => (name.to_owned(), value.trim().to_owned()),
        _ => match line.split_once(' ') {
            // A name that fills its column.
            Some((name, value)) if name.len() >= 11 && Operation::ALL.iter().any(|known| known.name() == name) => {
                (name.to_owned(), value.to_owned())
            }
            _ => (String::new(), line.to_owned()),
        },
    }
}

fn tiles(report: &Report) -> Vec<(&'static str, String)> {
    let mut tiles = vec![
        ("commands/s", grouped(report.rate)),
        ("p50", time(report.p50_us)),
        ("p99", time(report.p99_us)),
        ("p99.9", time(report.p999_us)),
        ("max", time(report.max_us)),
        ("errors", grouped(report.counts.errors as f64)),
    ];
    if report.counts.refused > 0 {
        tiles.push(("refused", grouped(report.counts.refused as f64)));
    }
    if let Some(account) = &report.extra.account {
        tiles.push(("missing", grouped(account.missing as f64)));
    }
    tiles
}

fn charts(report: &Report, ledger: &Ledger) -> Vec<Chart> {
    let mut charts = vec![percentiles(report, ledger)];
    charts.extend(over_time(report, ledger).into_iter().flatten());
    charts.retain(|chart| !chart.lines.is_empty());
    charts
}

/// Where latencies are counted from, for people.
fn counted_from(report: &Report) -> &'static str {
    if report.extra.open_loop.is_some() {
        "from when a command was due to its answer, log scale"
    } else {
        "from sending a command to its answer, log scale"
    }
}

/// The latency below which so many of a hundred lie.
fn percentiles(report: &Report, ledger: &Ledger) -> Chart {
    let mut lines = Vec::new();
    match &ledger.detail {
        Some(detail) => {
            for (operation, found) in Operation::ALL.into_iter().zip(&detail.operations) {
                lines.push(distribution(operation.name(), operation.index(), &found.latencies));
            }
            lines.push(distribution("refused", REFUSED_COLOUR, &detail.refused));
        }
        None => lines.push(distribution("all commands", 0, &ledger.latencies)),
    }
    lines.retain(|line| line.runs.iter().any(|run| !run.is_empty()));
    let y = latency_axis(&lines);
    let points = lines.iter().flat_map(|line| line.runs.iter().flatten());
    let most = points.map(|(x, ..)| *x).fold(10.0, f64::max);
    let ticks = [
        (1.0, "0"),
        (2.0, "50"),
        (10.0, "90"),
        (100.0, "99"),
        (1e3, "99.9"),
        (1e4, "99.99"),
        (1e5, "99.999"),
    ];
    Chart {
        title: "Latency by percentile".to_owned(),
        note: counted_from(report).to_owned(),
        x: Axis {
            scale: Scale::Log,
            from: 1.0,
            to: most,
            ticks: ticks
                .into_iter()
                .filter(|(at, _)| *at <= most)
                .map(|(at, text)| Tick {
                    at,
                    text: format!("{text}%"),
                })
                .collect(),
        },
        y,
        lines,
        marks: Vec::new(),
    }
}

/// A distribution as points: one over what is left above, and the latency in microseconds.
fn distribution<C: Counter>(name: &str, colour: usize, histogram: &Histogram<C>) -> Line {
    let mut points = Vec::new();
    let count = histogram.len() as f64;
    // Twenty points for each power of ten, up to the last command but one.
    for step in 0..=100 {
        let left_over = 10_f64.powf(f64::from(step) / 20.0);
        if count == 0.0 || left_over > count.max(10.0) {
            break;
        }
        let quantile = 1.0 - 1.0 / left_over;
        let us = (histogram.value_at_quantile(quantile) as f64 / 1e3).max(0.1);
        points.push((left_over, us, format!("{:.3}% within {}", quantile * 100.0, time(us))));
    }
    Line {
        name: name.to_owned(),
        colour,
        runs: vec![points],
    }
}

fn latency_axis(lines: &[Line]) -> Axis {
    let values = || {
        let points = lines.iter().flat_map(|line| line.runs.iter().flatten());
        points.map(|(_, us, _)| *us)
    };
    let (min, max) = (values().fold(f64::MAX, f64::min), values().fold(1.0, f64::max));
    Axis::decades(min.min(max), max, |us| match us {
        us if us < 1000.0 => format!("{us} µs"),
        us if us < 1e6 => format!("{} ms", us / 1e3),
        us => format!("{} s", us / 1e6),
    })
}

/// Latencies and rate, by interval.
fn over_time(report: &Report, ledger: &Ledger) -> Option<[Chart; 2]> {
    let series = ledger.series.as_ref()?;
    let interval = series.interval().as_secs_f64();
    let end = interval * series.points().len() as f64;
    let at = |index: usize| interval * (index as f64 + 0.5);
    let marks = || -> Vec<Mark> { report.extra.faults.iter().map(mark).collect() };
    let x = || Axis::within(end, |seconds| format!("{seconds} s"));
    let latency = |name: &str, colour: usize, of: &dyn Fn(&Histogram<u32>) -> u64| -> Line {
        let mut runs = vec![Vec::new()];
        for (index, point) in series.points().iter().enumerate() {
            match &point.latencies {
                Some(latencies) => {
                    let us = of(latencies) as f64 / 1e3;
                    let said = format!("{} at {:.1} s", time(us), at(index));
                    runs.last_mut()
                        .expect("there is always one")
                        .push((at(index), us.max(0.1), said));
                }
                None => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        Line {
            name: name.to_owned(),
            colour,
            runs,
        }
    };
    let lines = vec![
        latency("p50", 0, &|latencies| latencies.value_at_quantile(0.5)),
        latency("p99", 1, &|latencies| latencies.value_at_quantile(0.99)),
        latency("max", 2, &Histogram::max),
    ];
    let rates: Vec<(f64, f64, String)> = series
        .points()
        .iter()
        .enumerate()
        .map(|(index, point)| {
            let rate = point.applied as f64 / interval;
            (at(index), rate, format!("{}/s at {:.1} s", grouped(rate), at(index)))
        })
        .collect();
    let highest = rates.iter().map(|(_, rate, _)| *rate).fold(1.0, f64::max);
    Some([
        Chart {
            title: "Latency over time".to_owned(),
            note: counted_from(report).to_owned(),
            x: x(),
            y: latency_axis(&lines),
            lines: if lines.iter().all(|line| line.runs.is_empty()) {
                Vec::new()
            } else {
                lines
            },
            marks: marks(),
        },
        Chart {
            title: "Rate over time".to_owned(),
            note: "commands a second that took effect durably, and queries that were answered".to_owned(),
            x: x(),
            y: Axis::up_to(highest, grouped),
            lines: vec![Line {
                name: "rate".to_owned(),
                colour: 0,
                runs: vec![rates],
            }],
            marks: marks(),
        },
    ])
}

fn mark(fault: &Fault) -> Mark {
    let at = match fault {
        Fault::Kill { at } => *at,
        Fault::Stop { from, .. } => *from,
    };
    Mark {
        at: at.as_secs_f64(),
        name: fault.to_string(),
    }
}

fn write_rows(rows: &[(String, String)], out: &mut String) -> fmt::Result {
    out.push_str("<table>");
    for (name, value) in rows {
        write!(out, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    out.push_str("</table>\n");
    Ok(())
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = String::new();
        if !self.tiles.is_empty() {
            body.push_str("<ul class=\"tiles\">");
            for (name, value) in &self.tiles {
                write!(body, "<li><b>{}</b><span>{name}</span></li>", escaped(value))?;
            }
            body.push_str("</ul>\n");
        }
        for chart in &self.charts {
            chart.write(&mut body)?;
        }
        for (title, rows) in [("Figures", &self.figures), ("Conditions", &self.conditions)] {
            if !rows.is_empty() {
                write!(body, "<h2>{title}</h2>")?;
                write_rows(rows, &mut body)?;
            }
        }
        if !self.text.is_empty() {
            write!(body, "<pre>{}</pre>", escaped(&self.text))?;
        }
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\n<style>\n{STYLE}</style></head>\n\
             <body><main><h1>{title}</h1><p class=\"command\"><code>{}</code></p>\n{body}</main></body></html>\n",
            escaped(&self.command_line),
            title = escaped(&self.title),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_report() {
        let check = |line: &str, name: &str, value: &str| {
            assert_eq!(figure(line), (name.to_owned(), value.to_owned()), "{line}");
        };
        check("  rate       1,000/s took effect", "rate", "1,000/s took effect");
        check("             3 refused, 0 errors", "", "3 refused, 0 errors");
        check(
            "  connections  50 lost and made anew",
            "connections",
            "50 lost and made anew",
        );
        check(
            "  availability 7, 0 refused; p50 1 µs  p99 2 µs",
            "availability",
            "7, 0 refused; p50 1 µs  p99 2 µs",
        );
    }

    #[test]
    fn a_page_stands_alone() {
        let page = Page::of_text("recovery", "1 < 2\n").to_string();
        assert!(page.contains("<pre>1 &lt; 2\n</pre>"), "{page}");
        for part in ["http:", "https:", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(part), "{part}");
        }
    }
}
