//! How far an order file is, on standard error: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::notice;

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) enum Meter {
    Bar(ProgressBar),
    Lines {
        total: u64,
        start: u64,
        started: Instant,
        said: Instant,
    },
}

impl Meter {
    /// `start` of `total` lines are done already.
    pub(crate) fn new(total: usize, start: usize) -> Meter {
        let (total, start) = (total as u64, start as u64);
        if !io::stderr().is_terminal() {
            let now = Instant::now();
            return Meter::Lines {
                total,
                start,
                started: now,
                said: now,
            };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_position(start);
        let style = "{bar:30} {human_pos} of {human_len} lines, {per_sec}, {eta} left {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.reset_eta();
        Meter::Bar(bar)
    }

    pub(crate) fn set(&mut self, position: usize) {
        let position = position as u64;
        match self {
            Meter::Bar(bar) => bar.set_position(position),
            Meter::Lines {
                total,
                start,
                started,
                said,
            } => {
                if said.elapsed() >= LINE_INTERVAL {
                    *said = Instant::now();
                    let rate = (position - *start) as f64 / started.elapsed().as_secs_f64();
                    let left = if rate > 0.0 {
                        format!("{:.0} s left", (*total - position) as f64 / rate)
                    } else {
                        "stalled".to_owned()
                    };
                    notice(format_args!("{position} of {total} lines, {rate:.0}/s, {left}"));
                }
            }
        }
    }

    /// A line that stays, above the bar.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Meter::Bar(bar) => bar.suspend(|| notice(line)),
            Meter::Lines { .. } => notice(line),
        }
    }

    pub(crate) fn finish(&self) {
        if let Meter::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
