//! The figures that the demo shows: rates, latencies, the cores' syncs, the fullest pools, the sale.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plimsoll_client::Pool;
use plimsoll_server::{CoreStats, Stats};

use super::pools::DIMENSIONS;
use super::sale::Sale;
use super::tally::{Call, Tally};

/// What the sparklines show.
pub(super) const HISTORY_SECONDS: usize = 60;
/// What the percentiles are of.
pub(super) const WINDOW_SECONDS: usize = 10;

/// What does not change while the demo runs.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) address: String,
    /// Where the planner's page is, if it is served.
    pub(super) page: Option<String>,
    pub(super) pool_count: usize,
    pub(super) core_count: usize,
    pub(super) seed: u64,
}

/// Everything that is shown.
pub(super) struct Figures {
    pub(super) setting: Setting,
    pub(super) uptime: Duration,
    pub(super) rate: u32,
    pub(super) is_paused: bool,
    /// Calls done in each second, the newest first.
    pub(super) history: [VecDeque<u64>; Call::ALL.len()],
    /// What the last second brought.
    pub(super) second: Tally,
    /// What the last ten seconds brought.
    pub(super) window: Tally,
    pub(super) total: Tally,
    pub(super) cores: Vec<CoreFigures>,
    /// Orders in all pools.
    pub(super) held: i64,
    pub(super) confirmed: i64,
    /// All pools, the fullest first.
    pub(super) fills: Vec<Fill>,
    pub(super) sale: Option<SaleFigures>,
    /// Sales that are over, the newest first.
    pub(super) past_sales: Vec<SaleFigures>,
}

/// What a core did, over the last ten seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct CoreFigures {
    pub(super) syncs_per_second: u64,
    pub(super) sync_micros_p50: u64,
    pub(super) sync_micros_p99: u64,
    pub(super) records_p50: u64,
    pub(super) records_p99: u64,
    pub(super) commands_per_second: u64,
    pub(super) journal_bytes_per_second: u64,
    /// Commands in the engine now: not decided, or not durable yet.
    pub(super) waiting: u64,
    pub(super) connections: u64,
    /// Commands refused as overloaded, since the start.
    pub(super) overloaded: u64,
}

/// How full a pool is, in its tightest dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) name: String,
    pub(super) dimension: &'static str,
    pub(super) confirmed: i64,
    pub(super) held: i64,
    /// Limit plus overbooking allowance.
    pub(super) ceiling: i64,
    pub(super) overbook: i64,
    pub(super) is_shadow: bool,
    pub(super) is_closed: bool,
}

impl Fill {
    pub(super) fn of(pool: &Pool) -> Fill {
        let at = |values: &[i64], dimension: usize| values.get(dimension).copied().unwrap_or(0);
        let in_dimension = |dimension: usize| {
            let limit = pool.definition.limits.get(dimension).copied().unwrap_or(0);
            let overbook = pool.definition.overbook.get(dimension).copied().unwrap_or(0);
            Fill {
                name: pool.definition.name.clone(),
                dimension: DIMENSIONS[dimension],
                confirmed: at(&pool.confirmed, dimension),
                held: at(&pool.held, dimension),
                ceiling: i64::from(limit) + i64::from(overbook),
                overbook: i64::from(overbook),
                is_shadow: pool.definition.shadow,
                is_closed: pool.definition.closed,
            }
        };
        let first = in_dimension(0);
        (1..DIMENSIONS.len()).map(in_dimension).fold(first, |tightest, next| {
            if next.share() > tightest.share() {
                next
            } else {
                tightest
            }
        })
    }

    pub(super) fn used(&self) -> i64 {
        self.held + self.confirmed
    }

    /// 1.0 is full.
    pub(super) fn share(&self) -> f64 {
        self.used() as f64 / self.ceiling.max(1) as f64
    }
}

/// A sale, and how full its pool is.
#[derive(Clone, Debug)]
pub(super) struct SaleFigures {
    pub(super) name: String,
    pub(super) crowd_count: usize,
    /// Until it opens; zero once it has.
    pub(super) opens_in: Duration,
    pub(super) turned_away: u64,
    pub(super) sold_out_after: Option<Duration>,
    pub(super) is_over: bool,
    pub(super) fill: Option<Fill>,
}

impl SaleFigures {
    pub(super) fn of(sale: &Sale, fill: Option<Fill>) -> SaleFigures {
        SaleFigures {
            name: sale.name.clone(),
            crowd_count: sale.crowd_count,
            opens_in: sale.opens_at.saturating_duration_since(Instant::now()),
            turned_away: sale.turned_away.load(Ordering::Relaxed),
            sold_out_after: sale.sold_out_after(),
            is_over: sale.is_over(),
            fill,
        }
    }
}

/// Turns counts into figures, second by second.
pub(super) struct Recorder {
    pub(super) figures: Figures,
    begun: Instant,
    seconds: VecDeque<Tally>,
    readings: VecDeque<(Instant, Stats)>,
}

impl Recorder {
    pub(super) fn new(setting: Setting, stats: Stats) -> Recorder {
        let figures = Figures {
            setting,
            uptime: Duration::ZERO,
            rate: 0,
            is_paused: false,
            history: std::array::from_fn(|_| VecDeque::with_capacity(HISTORY_SECONDS + 1)),
            second: Tally::new(),
            window: Tally::new(),
            total: Tally::new(),
            cores: vec![CoreFigures::default(); stats.cores.len()],
            held: 0,
            confirmed: 0,
            fills: Vec::new(),
            sale: None,
            past_sales: Vec::new(),
        };
        Recorder {
            figures,
            begun: Instant::now(),
            seconds: VecDeque::with_capacity(WINDOW_SECONDS + 1),
            readings: VecDeque::from([(Instant::now(), stats)]),
        }
    }

    /// What changes from one look to the next.
    pub(super) fn look(&mut self, rate: u32, is_paused: bool, sale: Option<SaleFigures>) {
        self.figures.uptime = self.begun.elapsed();
        self.figures.rate = rate;
        self.figures.is_paused = is_paused;
        self.figures.sale = sale;
    }

    /// A second has passed.
    pub(super) fn second(&mut self, recent: Tally, stats: Stats) {
        let figures = &mut self.figures;
        for (history, call) in figures.history.iter_mut().zip(Call::ALL) {
            history.push_front(recent.of(call).done);
            history.truncate(HISTORY_SECONDS);
        }
        figures.total.add(&recent);
        figures.second = recent.clone();
        self.seconds.push_front(recent);
        self.seconds.truncate(WINDOW_SECONDS);
        figures.window = Tally::new();
        for second in &self.seconds {
            figures.window.add(second);
        }
        let now = Instant::now();
        if let Some((then, earlier)) = self.readings.back() {
            let took = now.duration_since(*then);
            let pairs = stats.cores.iter().zip(&earlier.cores);
            figures.cores = pairs.map(|(core, before)| core_figures(core, before, took)).collect();
        }
        self.readings.push_front((now, stats));
        self.readings.truncate(WINDOW_SECONDS);
    }

    /// All pools as they are now.
    pub(super) fn pools(&mut self, pools: &[Pool]) {
        let orders =
            |values: fn(&Pool) -> &[i64]| -> i64 { pools.iter().filter_map(|pool| values(pool).first()).sum() };
        self.figures.held = orders(|pool| &pool.held);
        self.figures.confirmed = orders(|pool| &pool.confirmed);
        let mut fills: Vec<Fill> = pools.iter().map(Fill::of).filter(|fill| fill.used() > 0).collect();
        // Among the full ones those where something happens come first.
        fills.sort_by(|left, right| {
            let by_share = right.share().total_cmp(&left.share());
            by_share
                .then_with(|| right.held.cmp(&left.held))
                .then_with(|| left.name.cmp(&right.name))
        });
        self.figures.fills = fills;
    }
}

fn core_figures(now: &CoreStats, before: &CoreStats, took: Duration) -> CoreFigures {
    let per_second = |now: u64, before: u64| (now.saturating_sub(before) as f64 / took.as_secs_f64().max(1e-3)) as u64;
    let sync_micros = now.sync_micros.since(&before.sync_micros);
    let records = now.records_per_sync.since(&before.records_per_sync);
    CoreFigures {
        syncs_per_second: per_second(now.syncs_total, before.syncs_total),
        sync_micros_p50: sync_micros.quantile(0.5),
        sync_micros_p99: sync_micros.quantile(0.99),
        records_p50: records.quantile(0.5),
        records_p99: records.quantile(0.99),
        commands_per_second: per_second(now.commands_decided_total, before.commands_decided_total),
        journal_bytes_per_second: per_second(now.journal_bytes_total, before.journal_bytes_total),
        waiting: now.commands_in_engine(),
        connections: now.connections,
        overloaded: now.commands_overloaded_total,
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    fn pool(name: &str, held: Vec<i64>, confirmed: Vec<i64>) -> Pool {
        Pool {
            id: PoolId(1),
            definition: PoolDefinition::new(name, vec![10, 100]),
            held,
            confirmed,
        }
    }

    #[test]
    fn the_fullest_come_first_in_their_tightest_dimension() {
        let setting = Setting {
            address: String::new(),
            page: None,
            pool_count: 3,
            core_count: 0,
            seed: 0,
        };
        let mut recorder = Recorder::new(setting, Stats::default());
        recorder.pools(&[
            pool("a", vec![0, 0], vec![1, 50]),
            pool("b", vec![2, 2], vec![7, 10]),
            pool("c", vec![0, 0], vec![0, 0]),
        ]);
        let fills = &recorder.figures.fills;
        let names: Vec<&str> = fills.iter().map(|fill| fill.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!((fills[0].dimension, fills[1].dimension), ("orders", "items"));
        assert_eq!((recorder.figures.held, recorder.figures.confirmed), (2, 8));
    }

    #[test]
    fn seconds_become_rates_and_a_history() {
        let setting = Setting {
            address: String::new(),
            page: None,
            pool_count: 0,
            core_count: 0,
            seed: 0,
        };
        let mut recorder = Recorder::new(setting, Stats::default());
        for count in 1..=70 {
            let mut recent = Tally::new();
            (0..count).for_each(|_| recent.done(Call::Query));
            recorder.second(recent, Stats::default());
        }
        let history = &recorder.figures.history[Call::Query as usize];
        assert_eq!(
            (history.len(), history.front(), history.back()),
            (60, Some(&70), Some(&11))
        );
        assert_eq!(recorder.figures.window.of(Call::Query).done, (61..=70).sum::<u64>());
        assert_eq!(recorder.figures.total.of(Call::Query).done, (1..=70).sum::<u64>());
    }
}
