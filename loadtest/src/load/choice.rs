//! Which pool a command is about.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// How pools are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Each as likely as any other.
    Uniform,
    /// The n-th pool in proportion to n to the power of -s.
    Zipf(f64),
    /// Always the first.
    One,
}

/// The exponent without a number.
const ZIPF_DEFAULT: f64 = 1.0;

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "one" => Ok(Self::One),
            None if text == "zipf" => Ok(Self::Zipf(ZIPF_DEFAULT)),
            Some(("zipf", exponent)) => match exponent.parse::<f64>() {
                Ok(exponent) if exponent > 0.0 && exponent <= 10.0 => Ok(Self::Zipf(exponent)),
                _ => Err("expected an exponent above 0 and up to 10".to_owned()),
            },
            _ => Err("expected uniform, zipf, zipf=EXPONENT or one".to_owned()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf={exponent}"),
            Self::One => f.write_str("one"),
        }
    }
}

/// Draws pools.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    Uniform {
        pools: u64,
    },
    /// For each pool, the probability that it or one before it is drawn.
    Weighted(Vec<f64>),
    One,
}

impl Chooser {
    /// `pools` is at least 1 and at most 65,536.
    pub(crate) fn new(choice: Choice, pools: usize) -> Self {
        match choice {
            Choice::Uniform => Self::Uniform { pools: pools as u64 },
            Choice::One => Self::One,
            Choice::Zipf(exponent) => {
                let mut sum = 0.0;
                let mut bounds: Vec<f64> = (1..=pools)
                    .map(|rank| {
                        sum += (rank as f64).powf(-exponent);
                        sum
                    })
                    .collect();
                for bound in &mut bounds {
                    *bound /= sum;
                }
                Self::Weighted(bounds)
            }
        }
    }

    /// The index of a pool.
    #[inline]
    pub(crate) fn draw(&self, generator: &mut Pcg64Mcg) -> u16 {
        match self {
            Self::Uniform { pools } => (((generator.next_u64() >> 32) * pools) >> 32) as u16,
            Self::Weighted(bounds) => {
                let uniform = (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                // The last bound is 1 but for rounding.
                bounds.partition_point(|bound| *bound <= uniform).min(bounds.len() - 1) as u16
            }
            Self::One => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<Choice>| assert_eq!(text.parse().ok(), expected, "{text}");
        check("uniform", Some(Choice::Uniform));
        check("one", Some(Choice::One));
        check("zipf", Some(Choice::Zipf(1.0)));
        check("zipf=0.8", Some(Choice::Zipf(0.8)));
        for text in ["", "zipf=", "zipf=0", "zipf=-1", "zipf=nan", "zipf=11", "one=1", "two"] {
            check(text, None);
        }
    }

    fn shares(choice: Choice, pools: usize) -> Vec<f64> {
        const DRAWS: usize = 200_000;
        let chooser = Chooser::new(choice, pools);
        let mut generator = Pcg64Mcg::new(0x1234_5678_9abc_def1);
        let mut counts = vec![0_usize; pools];
        for _ in 0..DRAWS {
            counts[usize::from(chooser.draw(&mut generator))] += 1;
        }
        counts.iter().map(|count| *count as f64 / DRAWS as f64).collect()
    }

    #[test]
    fn zipf_has_the_shares_of_its_law() {
        for exponent in [0.5, 1.0, 2.0] {
            let shares = shares(Choice::Zipf(exponent), 100);
            let sum: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1_usize, 2, 10] {
                let expected = (rank as f64).powf(-exponent) / sum;
                assert!(
                    (shares[rank - 1] - expected).abs() < 0.005,
                    "{exponent}, {rank}: {} instead of {expected}",
                    shares[rank - 1]
                );
            }
        }
    }

    #[test]
    fn uniform_and_one() {
        assert!(
            shares(Choice::Uniform, 100)
                .iter()
                .all(|share| (share - 0.01).abs() < 0.002)
        );
        assert_eq!(shares(Choice::One, 3), [1.0, 0.0, 0.0]);
    }
}
