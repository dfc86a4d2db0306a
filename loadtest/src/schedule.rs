//! When commands are due in an open loop: by a clock, whether or not answers come.
//!
//! A process of one arrival for each unit of *work* is stretched to the rate: the work that has come up until a time is the
//! integral of the rate, and an arrival is due when its own work has come up.
//!
//! - Times are nanoseconds since the load began, and never go backwards.
//! - What the rate does (steps, ramp) is counted from the start of the window; before it, the rate is that of the start.

use std::time::Duration;

use clap::ValueEnum;
use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// How commands arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// With each answer the next command: the load adapts to the server
    Closed,
    /// At equal distances
    Constant,
    /// Independent of one another, as callers are
    Poisson,
    /// As in an on-sale: half of what comes in five seconds comes within the first half second
    Burst,
    /// Independent of one another, from one rate to another over the run
    Ramp,
}

/// Commands a second, at the start and at the end of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Rate {
    pub(crate) fn constant(rate: f64) -> Self {
        Self { from: rate, to: rate }
    }

    /// Commands a second over the whole window.
    pub(crate) fn mean(self) -> f64 {
        f64::midpoint(self.from, self.to)
    }
}

/// From burst to burst.
const BURST_PERIOD_SECONDS: f64 = 5.0;
/// How long a burst lasts.
const BURST_SECONDS: f64 = 0.5;
/// The rate within a burst, and outside, as multiples of the mean: half of all arrivals come within.
const BURST_FACTOR: f64 = 0.5 * BURST_PERIOD_SECONDS / BURST_SECONDS;
const CALM_FACTOR: f64 = 0.5 * BURST_PERIOD_SECONDS / (BURST_PERIOD_SECONDS - BURST_SECONDS);

/// The rate over time.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Even(f64),
    Bursts(f64),
    Ramp { rate: Rate, seconds: f64 },
}

impl Shape {
    /// Seconds from the start of the window until so much work has come up.
    fn time_of(self, work: f64) -> f64 {
        match self {
            Self::Even(rate) => work / rate,
            Self::Bursts(mean) => {
                let period_work = mean * BURST_PERIOD_SECONDS;
                let periods = (work / period_work).floor();
                let rest = work - periods * period_work;
                let burst_work = mean * BURST_FACTOR * BURST_SECONDS;
                let within = if rest < burst_work {
                    rest / (mean * BURST_FACTOR)
                } else {
                    BURST_SECONDS + (rest - burst_work) / (mean * CALM_FACTOR)
                };
                periods * BURST_PERIOD_SECONDS + within
            }
            Self::Ramp { rate, seconds } => {
                let whole = rate.mean() * seconds;
                if work >= whole {
                    return seconds + (work - whole) / rate.to;
                }
                // work = from * t + slope / 2 * t^2, solved in the form that is exact for a slope of 0 too.
                let slope = (rate.to - rate.from) / seconds;
                2.0 * work / (rate.from + (rate.from * rate.from + 2.0 * slope * work).max(0.0).sqrt())
            }
        }
    }

    /// The rate before the window starts.
    fn rate_before(self) -> f64 {
        match self {
            Self::Even(rate) => rate,
            Self::Bursts(mean) => mean * CALM_FACTOR,
            Self::Ramp { rate, .. } => rate.from,
        }
    }
}

/// What a schedule is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) arrivals: Arrivals,
    /// Of all parts together.
    pub(crate) rate: Rate,
    /// From the beginning of the load to the start of the window.
    pub(crate) warm_up: Duration,
    /// Length of the window.
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
}

/// One of the parts into which arrivals are dealt out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

/// The times at which commands are due.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    shape: Shape,
    warm_up: f64,
    /// Work of one arrival to the next, on average: there are other parts.
    step: f64,
    /// `None`: at equal distances.
    generator: Option<Pcg64Mcg>,
    /// How many have been taken, of those at equal distances.
    taken: u64,
    first: f64,
    /// Work from the beginning of the load until the next arrival.
    work: f64,
    due: u64,
}

impl Schedule {
    /// `None` for a closed loop.
    pub(crate) fn new(plan: &Plan, part: Part) -> Option<Self> {
        let shape = match plan.arrivals {
            Arrivals::Closed => return None,
            Arrivals::Constant | Arrivals::Poisson => Shape::Even(plan.rate.mean()),
            Arrivals::Burst => Shape::Bursts(plan.rate.mean()),
            Arrivals::Ramp => Shape::Ramp {
                rate: plan.rate,
                seconds: plan.seconds,
            },
        };
        let generator = (plan.arrivals != Arrivals::Constant).then(|| {
            // An odd state, and one that no sequence of keys has.
            let state = u128::from(plan.seed) << 64 | u128::from(!(part.index as u64)) << 1 | 1;
            let mut generator = Pcg64Mcg::new(state);
            for _ in 0..16 {
                generator.next_u64();
            }
            generator
        });
        let mut schedule = Self {
            shape,
            warm_up: plan.warm_up.as_secs_f64(),
            step: part.count as f64,
            generator,
            taken: 0,
            first: part.index as f64,
            work: 0.0,
            due: 0,
        };
        if schedule.generator.is_some() {
            schedule.advance();
        } else {
            schedule.work = schedule.first;
            schedule.due = schedule.due_now();
        }
        Some(schedule)
    }

    /// When the next command is due.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the next command.
    #[inline]
    pub(crate) fn advance(&mut self) {
        match &mut self.generator {
            Some(generator) => {
                // 53 bits, above 0 and up to 1.
                let uniform = ((generator.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                self.work -= self.step * uniform.ln();
            }
            None => {
                // Not added up, so that nothing drifts.
                self.taken += 1;
                self.work = self.first + self.step * self.taken as f64;
            }
        }
        self.due = self.due.max(self.due_now());
    }

    /// Leaves out what is due before a time, and says how many these were.
    pub(crate) fn skip_until(&mut self, time: u64) -> u64 {
        let mut skipped = 0;
        while self.due < time {
            self.advance();
            skipped += 1;
        }
        skipped
    }

    fn due_now(&self) -> u64 {
        let before = self.shape.rate_before();
        let warm_up_work = before * self.warm_up;
        let seconds = if self.work < warm_up_work {
            self.work / before
        } else {
            self.warm_up + self.shape.time_of(self.work - warm_up_work)
        };
        (seconds * 1e9) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn plan(arrivals: Arrivals, rate: Rate) -> Plan {
        Plan {
            arrivals,
            rate,
            warm_up: Duration::from_secs(1),
            seconds: 10.0,
            seed: 7,
        }
    }

    fn times(plan: &Plan, part: Part, until: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(plan, part).expect("the loop is open");
        let mut times = Vec::new();
        while schedule.due() < until {
            times.push(schedule.due());
            schedule.advance();
        }
        times
    }

    const ALONE: Part = Part { index: 0, count: 1 };

    fn count_between(times: &[u64], from: f64, to: f64) -> f64 {
        let range = (from * 1e9) as u64..(to * 1e9) as u64;
        times.iter().filter(|time| range.contains(time)).count() as f64
    }

    #[test]
    fn a_closed_loop_has_no_schedule() {
        assert!(Schedule::new(&plan(Arrivals::Closed, Rate::constant(1.0)), ALONE).is_none());
    }

    #[test]
    fn equal_distances_do_not_drift() {
        let plan = plan(Arrivals::Constant, Rate::constant(3.0));
        let times = times(&plan, ALONE, 100 * SECOND);
        assert_eq!(times.len(), 300);
        assert_eq!((times[0], times[3], times[299]), (0, SECOND, 99_666_666_666));
    }

    #[test]
    fn parts_of_equal_distances_interleave() {
        let plan = plan(Arrivals::Constant, Rate::constant(1000.0));
        let mut all: Vec<u64> = (0..3)
            .flat_map(|index| times(&plan, Part { index, count: 3 }, SECOND))
            .collect();
        all.sort_unstable();
        assert_eq!(all, times(&plan, ALONE, SECOND));
    }

    #[test]
    fn poisson_has_the_rate_and_the_spread() {
        let plan = plan(Arrivals::Poisson, Rate::constant(100_000.0));
        let mut all = Vec::new();
        for index in 0..2 {
            all.extend(times(&plan, Part { index, count: 2 }, 10 * SECOND));
        }
        all.sort_unstable();
        let expected = 1e6;
        assert!((all.len() as f64 - expected).abs() < 5.0 * 1000.0, "{}", all.len());
        // The distances are exponential: their deviation is as large as their mean, and e^-2 of them exceed twice the mean.
        let mean = 1e4;
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
        let long = gaps.iter().filter(|gap| **gap > 2.0 * mean).count() as f64 / gaps.len() as f64;
        assert!((long - (-2.0_f64).exp()).abs() < 0.005, "{long}");
    }

    #[test]
    fn one_seed_gives_one_schedule() {
        let mut one = plan(Arrivals::Poisson, Rate::constant(1000.0));
        assert_eq!(times(&one, ALONE, SECOND), times(&one, ALONE, SECOND));
        let first = times(&one, ALONE, SECOND);
        one.seed += 1;
        assert_ne!(first, times(&one, ALONE, SECOND));
    }

    #[test]
    fn half_of_a_period_comes_in_its_burst() {
        let times = times(&plan(Arrivals::Burst, Rate::constant(10_000.0)), ALONE, 11 * SECOND);
        let near = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 0.05, "{found}, expected {expected}");
        };
        near(count_between(&times, 1.0, 1.5), 25_000.0);
        near(count_between(&times, 1.5, 6.0), 25_000.0);
        near(count_between(&times, 1.5, 3.75), 12_500.0);
        near(count_between(&times, 6.0, 6.5), 25_000.0);
        near(count_between(&times, 1.0, 11.0), 100_000.0);
        near(count_between(&times, 0.0, 1.0), 10_000.0 * CALM_FACTOR);
    }

    #[test]
    fn a_ramp_goes_from_one_rate_to_the_other() {
        for (from, to) in [(1000.0, 9000.0), (9000.0, 1000.0), (5000.0, 5000.0)] {
            let times = times(&plan(Arrivals::Ramp, Rate { from, to }), ALONE, 13 * SECOND);
            assert!(times.is_sorted());
            let near = |found: f64, expected: f64| {
                assert!((found / expected - 1.0).abs() < 0.1, "{found}, expected {expected}");
            };
            near(count_between(&times, 0.0, 1.0), from);
            near(count_between(&times, 1.0, 11.0), 50_000.0);
            near(count_between(&times, 5.5, 6.5), 5000.0);
            near(count_between(&times, 11.0, 13.0), 2.0 * to);
        }
    }

    #[test]
    fn skipping_counts() {
        let plan = plan(Arrivals::Constant, Rate::constant(10.0));
        let mut schedule = Schedule::new(&plan, ALONE).expect("the loop is open");
        assert_eq!(schedule.skip_until(SECOND), 10);
        assert_eq!((schedule.due(), schedule.skip_until(SECOND)), (SECOND, 0));
    }
}
