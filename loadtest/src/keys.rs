//! Keys of reserves and the choice of pools.

use plimsoll_client::Key;
use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// Draws keys and pools. One seed and one stream give one sequence.
#[derive(Debug)]
pub(crate) struct Draws {
    generator: Pcg64Mcg,
    pools: u64,
}

impl Draws {
    /// `stream` tells the connections of one run apart.
    pub(crate) fn new(seed: u64, stream: u64, pools: usize) -> Self {
        // The generator asks for an odd state, and spreads a weak one over its first outputs.
        let mut generator = Pcg64Mcg::new(u128::from(seed) << 64 | u128::from(stream) << 1 | 1);
        for _ in 0..16 {
            generator.next_u64();
        }
        Self {
            generator,
            pools: pools as u64,
        }
    }

    /// A key that no other draw gives, but for a chance of 2^-64 and less.
    #[inline]
    pub(crate) fn key(&mut self) -> Key {
        let high = self.generator.next_u64();
        Key(u128::from(high) << 64 | u128::from(self.generator.next_u64()))
    }

    /// The index of a pool, each as likely as any other.
    #[inline]
    pub(crate) fn pool(&mut self) -> u16 {
        const { assert!(crate::limits::POOLS_MAX <= u16::MAX as i64) };
        (((self.generator.next_u64() >> 32) * self.pools) >> 32) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_differ_between_streams_and_seeds() {
        let mut keys = HashSet::new();
        for (seed, stream) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] {
            let mut draws = Draws::new(seed, stream, 3);
            for _ in 0..1000 {
                assert!(keys.insert(draws.key().0), "seed {seed}, stream {stream}");
            }
        }
    }

    #[test]
    fn every_pool_is_drawn() {
        let mut draws = Draws::new(1, 0, 500);
        let drawn: HashSet<u16> = (0..20_000).map(|_| draws.pool()).collect();
        assert_eq!((drawn.len(), drawn.iter().max()), (500, Some(&499)));
    }
}
