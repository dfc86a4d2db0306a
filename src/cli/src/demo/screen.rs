//! The figures of the demo: a block that is drawn anew on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use plimsoll_client::Pool;

use super::pools::DIMENSIONS;
use super::traffic::Tally;
use crate::failure::Failure;

/// How many of the fullest pools are named.
const FULLEST_COUNT: usize = 5;

pub(super) struct Screen {
    is_terminal: bool,
    /// Lines of the block that stands on the terminal.
    drawn: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen {
            is_terminal: io::stdout().is_terminal(),
            drawn: 0,
        }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        write(&format!("{line}\n"))
    }

    /// What the last second brought.
    pub(super) fn figures(
        &mut self,
        elapsed: Duration,
        recent: &Tally,
        total: &Tally,
        pools: &[Pool],
    ) -> Result<(), Failure> {
        let fullest = fullest(pools);
        if !self.is_terminal {
            let first = fullest
                .first()
                .map_or_else(String::new, |(share, name)| format!(", fullest {name} {share:.0} %"));
            return write(&format!("{:>4} s  {}{first}\n", elapsed.as_secs(), rates(recent)));
        }
        let mut lines = vec![
            format!("{:>4} s     {}", elapsed.as_secs(), rates(recent)),
            format!(
                "so far     {} reserved, {} released, {} refused as full",
                total.reserved, total.released, total.refused
            ),
        ];
        for (share, name) in fullest {
            let bar = "#".repeat((share / 5.0) as usize);
            lines.push(format!("{share:>6.1} %   [{bar:<20}] {name}"));
        }
        // Up to the block's first line, and clear all below.
        let up = if self.drawn > 0 {
            format!("\x1b[{}A\x1b[J", self.drawn)
        } else {
            String::new()
        };
        self.drawn = lines.len();
        write(&format!("{up}{}\n", lines.join("\n")))
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}

fn rates(recent: &Tally) -> String {
    let quantile = |quantile: f64| milliseconds(recent.latency.value_at_quantile(quantile));
    let mut text = format!(
        "{:>6} reserved, {:>6} released, {:>5} refused; p50 {}, p99 {}, p99.9 {}",
        recent.reserved,
        recent.released,
        recent.refused,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
    );
    if recent.failed + recent.unknown > 0 {
        text.push_str(&format!(
            "; {} without effect, {} unknown",
            recent.failed, recent.unknown
        ));
    }
    text
}

/// `0.42 ms`
pub(super) fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}

/// The fullest pools and how full they are in their tightest dimension, in hundredths.
fn fullest(pools: &[Pool]) -> Vec<(f64, &str)> {
    let mut shares: Vec<(f64, &str)> = pools
        .iter()
        .map(|pool| (share(pool), pool.definition.name.as_str()))
        .collect();
    shares.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(right.1)));
    shares.truncate(FULLEST_COUNT);
    shares
}

fn share(pool: &Pool) -> f64 {
    let of = |dimension: usize| {
        let used = pool.held[dimension] + pool.confirmed[dimension];
        100.0 * used as f64 / f64::from(pool.definition.limits[dimension].max(1))
    };
    (0..DIMENSIONS.len().min(pool.held.len())).map(of).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    #[test]
    fn the_fullest_come_first() {
        let pool = |name: &str, confirmed| Pool {
            id: PoolId(1),
            definition: PoolDefinition::new(name, vec![10, 100]),
            held: vec![0, 0],
            confirmed,
        };
        let pools = [pool("a", vec![1, 50]), pool("b", vec![9, 10]), pool("c", vec![0, 0])];
        let names: Vec<&str> = fullest(&pools).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["b", "a", "c"]);
        assert_eq!(fullest(&pools)[1].0, 50.0);
    }
}
