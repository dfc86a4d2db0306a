//! How often which value occurred: what a core counts, and what readers see of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values below this have a bucket of their own.
const EXACT_COUNT: usize = 8;
/// Buckets of each octave above: a quantile is at most an eighth too large.
const BUCKETS_PER_OCTAVE: usize = 8;
/// Octaves above the exact values; what is larger counts in the last bucket. In microseconds that is from 67 s on.
const OCTAVE_COUNT: usize = 23;
const BUCKET_COUNT: usize = EXACT_COUNT + OCTAVE_COUNT * BUCKETS_PER_OCTAVE;

/// How often which value occurred, in buckets that grow with the value: a quantile is at most 12.5 % above the true one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution {
            counts: vec![0; BUCKET_COUNT],
        }
    }
}

impl Distribution {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The least value that is not exceeded by this share of all (0 to 1), rounded up to its bucket; 0 when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                return greatest(bucket);
            }
        }
        0
    }

    /// How often which bucket occurred, without the zeros at the end.
    pub(crate) fn counts(&self) -> &[u64] {
        let used = self
            .counts
            .iter()
            .rposition(|count| *count != 0)
            .map_or(0, |last| last + 1);
        &self.counts[..used]
    }

    /// What came after an earlier reading of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let pairs = self.counts.iter().zip(&earlier.counts);
        Distribution {
            counts: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < EXACT_COUNT as u64 {
        return value as usize;
    }
    let exponent = value.ilog2() as usize;
    let octave = exponent - EXACT_COUNT.ilog2() as usize;
    let within = (value >> (exponent - BUCKETS_PER_OCTAVE.ilog2() as usize)) as usize - BUCKETS_PER_OCTAVE;
    (EXACT_COUNT + octave * BUCKETS_PER_OCTAVE + within).min(BUCKET_COUNT - 1)
}

/// The greatest value of a bucket.
fn greatest(bucket: usize) -> u64 {
    if bucket < EXACT_COUNT {
        return bucket as u64;
    }
    let octave = (bucket - EXACT_COUNT) / BUCKETS_PER_OCTAVE;
    let within = (bucket - EXACT_COUNT) % BUCKETS_PER_OCTAVE;
    (((BUCKETS_PER_OCTAVE + within + 1) as u64) << octave) - 1
}

/// A number that only its core writes.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution that only its core writes.
pub(crate) struct Buckets([Counter; BUCKET_COUNT]);

impl Default for Buckets {
    fn default() -> Self {
        Buckets(std::array::from_fn(|_| Counter::default()))
    }
}

impl Buckets {
    pub(crate) fn record(&self, value: u64) {
        self.0[bucket(value)].add(1);
    }

    pub(crate) fn read(&self) -> Distribution {
        Distribution {
            counts: self.0.iter().map(Counter::get).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_an_eighth_below_its_greatest() {
        let mut previous = 0;
        for value in (0..4096).chain([65_535, 65_536, 1_000_000, (1 << 26) - 1]) {
            let bucket = bucket(value);
            assert!(bucket >= previous, "{value}");
            previous = bucket;
            let greatest = greatest(bucket);
            assert!(greatest >= value && greatest - value <= value / 8, "{value} {greatest}");
        }
        assert_eq!(bucket((1 << 26) - 1), BUCKET_COUNT - 1);
        assert_eq!(bucket(u64::MAX), BUCKET_COUNT - 1);
    }
}
