//! How a run went over time: latencies and what took effect, for each interval of the window.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::ledger::Window;
use crate::limits::{LATENCY_NS_MAX, LATENCY_NS_MIN, SERIES_POINTS_MAX};

/// One interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    /// Commands that took effect, or queries that were answered.
    pub(crate) applied: u64,
    /// Nanoseconds, to two digits; `None` when nothing was answered.
    pub(crate) latencies: Option<Histogram<u32>>,
}

/// The intervals of a window, in the order of time.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    start: Instant,
    interval: Duration,
    points: Vec<Point>,
    current: usize,
}

impl Series {
    /// `interval` grows with the window, so that the number of points is bounded.
    pub(crate) fn new(window: Window) -> Self {
        let length = window.end - window.start;
        let interval = window.interval.max(length / SERIES_POINTS_MAX);
        let count = length.as_nanos().div_ceil(interval.as_nanos().max(1));
        Self {
            start: window.start,
            interval,
            points: vec![Point::default(); count as usize],
            current: 0,
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// What follows belongs to this time of the window.
    #[inline]
    pub(crate) fn at(&mut self, now: Instant) {
        let index = (now - self.start).as_nanos() / self.interval.as_nanos();
        self.current = (index as usize).min(self.points.len() - 1);
    }

    #[inline]
    pub(crate) fn applied(&mut self) {
        self.points[self.current].applied += 1;
    }

    #[inline]
    pub(crate) fn latency(&mut self, nanos: u64, count: u64) {
        let point = &mut self.points[self.current];
        if let Some(latencies) = &mut point.latencies {
            latencies.saturating_record_n(nanos, count as u32);
        } else {
            point.begin(nanos, count);
        }
    }

    /// Takes in what another thread has seen in the same window.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        for (own, others) in self.points.iter_mut().zip(&other.points) {
            own.applied += others.applied;
            match (&mut own.latencies, &others.latencies) {
                (Some(own), Some(others)) => own.add(others)?,
                (own @ None, Some(others)) => *own = Some(others.clone()),
                (_, None) => {}
            }
        }
        Ok(())
    }
}

impl Point {
    #[cold]
    fn begin(&mut self, nanos: u64, count: u64) {
        // The bounds are sound: a test makes one.
        self.latencies = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 2).ok();
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record_n(nanos, count as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_two_threads() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let window = Window {
            start,
            end: start + 3 * second,
            interval: second,
        };
        let mut one = Series::new(window);
        one.at(start);
        one.applied();
        one.latency(1000, 1);
        let mut other = Series::new(window);
        other.at(start + second * 5 / 2);
        other.applied();
        other.applied();
        other.latency(5000, 2);
        one.merge(&other).expect("histograms of one shape add up");
        let applied: Vec<u64> = one.points().iter().map(|point| point.applied).collect();
        assert_eq!(applied, [1, 0, 2]);
        let latencies = one.points()[2].latencies.as_ref().expect("the bounds are sound");
        assert_eq!(latencies.len(), 2);
        assert!(one.points()[1].latencies.is_none());
    }

    #[test]
    fn a_long_window_has_longer_intervals() {
        let start = Instant::now();
        let series = Series::new(Window {
            start,
            end: start + Duration::from_secs(24 * 3600),
            interval: Duration::from_secs(1),
        });
        assert_eq!(series.points().len(), SERIES_POINTS_MAX as usize);
        assert_eq!(series.interval(), Duration::from_secs(144));
    }
}
