//! Which operation comes next.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// Units of a pool, confirmed at once.
    Reserve,
    /// Units of a pool for a while.
    Hold,
    /// A hold of this run.
    Confirm,
    /// A reservation of this run, confirmed or held.
    Release,
    /// The windows of one zone.
    Availability,
}

impl Operation {
    pub(crate) const ALL: [Self; 5] = [
        Self::Reserve,
        Self::Hold,
        Self::Confirm,
        Self::Release,
        Self::Availability,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Hold => "hold",
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::Availability => "availability",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How often each operation comes, by its index, in relation to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    weights: [u32; Operation::ALL.len()],
}

/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

impl Mix {
    /// Nothing but reserves.
    pub(crate) const RESERVES: Self = Self {
        weights: [1, 0, 0, 0, 0],
    };

    pub(crate) fn has(&self, operation: Operation) -> bool {
        self.weights[operation.index()] > 0
    }

    /// What is sent instead of a confirmation or a release when there is nothing to confirm or release.
    pub(crate) fn instead(&self) -> Operation {
        if self.has(Operation::Hold) {
            Operation::Hold
        } else {
            Operation::Reserve
        }
    }

    /// The operation for a number that is as likely as any other.
    #[inline]
    pub(crate) fn of(&self, uniform: u32) -> Operation {
        let sum: u64 = self.weights.iter().copied().map(u64::from).sum();
        let mut rest = (u64::from(uniform) * sum) >> 32;
        for operation in Operation::ALL {
            let weight = u64::from(self.weights[operation.index()]);
            if rest < weight {
                return operation;
            }
            rest -= weight;
        }
        unreachable!("a number below the sum of the weights lies within one of them")
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `reserve=5,hold=2,confirm=2,release=5,availability=20`; a name without a number counts once.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [0; Operation::ALL.len()];
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let operation = Operation::ALL
                .into_iter()
                .find(|operation| operation.name() == name)
                .ok_or_else(|| {
                    let names = Operation::ALL.map(Operation::name).join(", ");
                    format!("{name:?} is none of {names}")
                })?;
            let weight: u32 = weight.parse().map_err(|_| format!("{weight:?} is no whole number"))?;
            if weight > WEIGHT_MAX {
                return Err(format!("a weight is at most {WEIGHT_MAX}"));
            }
            if weights[operation.index()] > 0 {
                return Err(format!("{name} is there twice"));
            }
            weights[operation.index()] = weight;
        }
        let mix = Self { weights };
        if mix.weights.iter().all(|weight| *weight == 0) {
            return Err("expected a weight above 0".to_owned());
        }
        if mix.has(Operation::Confirm) && !mix.has(Operation::Hold) {
            return Err("confirm needs hold: only what this run holds is confirmed".to_owned());
        }
        if mix.has(Operation::Release) && !mix.has(Operation::Hold) && !mix.has(Operation::Reserve) {
            return Err("release needs reserve or hold: only what this run has made is released".to_owned());
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = Operation::ALL
            .into_iter()
            .filter(|operation| self.has(*operation))
            .map(|operation| format!("{}={}", operation.name(), self.weights[operation.index()]))
            .collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<[u32; 5]>| {
            assert_eq!(text.parse::<Mix>().ok().map(|mix| mix.weights), expected, "{text}");
        };
        check("reserve", Some([1, 0, 0, 0, 0]));
        check(
            "availability=20,release=5,reserve=5,hold=2,confirm=2",
            Some([5, 2, 2, 5, 20]),
        );
        check("reserve=1,hold=0", Some([1, 0, 0, 0, 0]));
        for text in [
            "",
            "reserve=0",
            "reserve=-1",
            "reserve=2000000",
            "reserve=1,reserve=1",
            "buy=1",
            "confirm=1",
            "confirm=1,reserve=1",
            "release=1",
            "availability=1,release=1",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn weights_are_shares() {
        let mix: Mix = "reserve=1,hold=2,availability=5".parse().expect("it is sound");
        let mut counts = [0_u32; 5];
        for step in 0..8000_u32 {
            counts[mix.of(step * (u32::MAX / 8000)).index()] += 1;
        }
        for (count, expected) in counts.iter().zip([1000, 2000, 0, 0, 5000]) {
            assert!(count.abs_diff(expected) <= 2, "{counts:?}");
        }
        assert_eq!(
            (mix.of(0), mix.of(u32::MAX)),
            (Operation::Reserve, Operation::Availability)
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mix: Mix = "hold=3,confirm=2,release".parse().expect("it is sound");
        assert_eq!(mix.to_string().parse(), Ok(mix));
        assert_eq!(mix.instead(), Operation::Hold);
    }
}
