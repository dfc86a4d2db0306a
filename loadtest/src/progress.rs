//! A line of progress each second, on standard error.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows lines: in place on a terminal, one below the other elsewhere.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    pub(crate) fn show(&self, line: String) {
        match &self.0 {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            // A run is not worth less without it.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
