//! Pools: what the planner says of them, and what is reserved.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::limits::{
    COVERAGE_PREFIX_COUNT_MAX, COVERAGE_PREFIX_SIZE_MAX, LABEL_SIZE_MAX, POOL_NAME_SIZE_MAX, TIME_MAX, UNITS_MAX,
};
use crate::{Counters, Refusal, Timestamp, Units};

/// What the planner says of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDefinition {
    /// Unique; matches `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}` and is not `import`.
    pub name: Box<str>,
    /// Where the pool applies.
    pub zone: Box<str>,
    /// What sort of capacity it is.
    pub kind: Box<str>,
    /// The window in which the capacity is used; decides nothing.
    pub starts_at: Timestamp,
    /// The window's end.
    pub ends_at: Timestamp,
    /// Refuses reserves before this time.
    pub opens_at: Timestamp,
    /// Refuses reserves from this time on.
    pub closes_at: Timestamp,
    /// Prefixes of the locations that the pool serves.
    pub coverage: Vec<Box<str>>,
    /// Closed by the planner.
    pub closed: bool,
    /// Records also what enforcement would refuse.
    pub shadow: bool,
    /// The most that may be reserved, by dimension.
    pub limits: Units,
    /// What may be reserved past the limit, by dimension.
    pub overbook: Units,
}

/// Which part of a definition is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionField {
    /// `name`
    Name,
    /// `zone`
    Zone,
    /// `kind`
    Kind,
    /// `starts_at`
    StartsAt,
    /// `ends_at`
    EndsAt,
    /// `opens_at`
    OpensAt,
    /// `closes_at`
    ClosesAt,
    /// `coverage`
    Coverage,
    /// `limits`, of the dimension with this index
    Limits(usize),
    /// `overbook`, of the dimension with this index
    Overbook(usize),
}

/// Why a definition is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// Where.
    pub field: DefinitionField,
    /// What is asked for.
    pub rule: &'static str,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            DefinitionField::Name => f.write_str("name"),
            DefinitionField::Zone => f.write_str("zone"),
            DefinitionField::Kind => f.write_str("kind"),
            DefinitionField::StartsAt => f.write_str("starts_at"),
            DefinitionField::EndsAt => f.write_str("ends_at"),
            DefinitionField::OpensAt => f.write_str("opens_at"),
            DefinitionField::ClosesAt => f.write_str("closes_at"),
            DefinitionField::Coverage => f.write_str("coverage"),
            DefinitionField::Limits(dimension) => write!(f, "limits[{dimension}]"),
            DefinitionField::Overbook(dimension) => write!(f, "overbook[{dimension}]"),
        }?;
        write!(f, ": {}", self.rule)
    }
}

impl core::error::Error for DefinitionError {}

fn is_pool_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= POOL_NAME_SIZE_MAX
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(byte))
        && name != "import"
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= LABEL_SIZE_MAX && !label.chars().any(char::is_control)
}

impl PoolDefinition {
    /// Checks every value against the rules of the outward contract.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn check(&self) -> Result<(), DefinitionError> {
        let rule = |holds: bool, field, rule| {
            if holds {
                Ok(())
            } else {
                Err(DefinitionError { field, rule })
            }
        };
        rule(
            is_pool_name(&self.name),
            DefinitionField::Name,
            "must match [A-Za-z0-9][A-Za-z0-9._:-]{0,127} and not be `import`",
        )?;
        let label = "must have 1 to 64 bytes and no control characters";
        rule(is_label(&self.zone), DefinitionField::Zone, label)?;
        rule(is_label(&self.kind), DefinitionField::Kind, label)?;
        for (time, field) in [
            (self.starts_at, DefinitionField::StartsAt),
            (self.ends_at, DefinitionField::EndsAt),
            (self.opens_at, DefinitionField::OpensAt),
        ] {
            rule(
                (0..=TIME_MAX).contains(&time.0),
                field,
                "must lie between 1970 and 9999",
            )?;
        }
        rule(
            self.closes_at == Timestamp::NEVER || (0..=TIME_MAX).contains(&self.closes_at.0),
            DefinitionField::ClosesAt,
            "must lie between 1970 and 9999, or be absent",
        )?;
        rule(
            self.starts_at <= self.ends_at,
            DefinitionField::EndsAt,
            "must not be before starts_at",
        )?;
        rule(
            self.coverage.len() <= COVERAGE_PREFIX_COUNT_MAX,
            DefinitionField::Coverage,
            "must have at most 1,024 prefixes",
        )?;
        for prefix in &self.coverage {
            let holds = !prefix.is_empty()
                && prefix.len() <= COVERAGE_PREFIX_SIZE_MAX
                && prefix.bytes().all(|byte| byte.is_ascii_graphic());
            rule(
                holds,
                DefinitionField::Coverage,
                "each prefix must have 1 to 32 visible ASCII characters",
            )?;
        }
        for (dimension, (limit, overbook)) in self.limits.0.iter().zip(self.overbook.0).enumerate() {
            rule(
                *limit <= UNITS_MAX,
                DefinitionField::Limits(dimension),
                "must be at most 2147483647",
            )?;
            rule(
                overbook <= UNITS_MAX,
                DefinitionField::Overbook(dimension),
                "must be at most 2147483647",
            )?;
        }
        Ok(())
    }
}

impl PoolDefinition {
    /// Feeds everything into the hash.
    pub(crate) fn digest(&self, hash: &mut Xxh3) {
        for text in [&self.name, &self.zone, &self.kind].into_iter().chain(&self.coverage) {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        for time in [self.starts_at, self.ends_at, self.opens_at, self.closes_at] {
            hash.update(&time.0.to_le_bytes());
        }
        hash.update(&[u8::from(self.closed), u8::from(self.shadow)]);
        for unit in self.limits.0.iter().chain(&self.overbook.0) {
            hash.update(&unit.to_le_bytes());
        }
    }
}

/// A pool and its counters. What a reserve reads stands together; the definition stands apart.
#[derive(Debug)]
pub struct Pool {
    pub(crate) generation: u32,
    /// The last collection of touched pools that has this one.
    pub(crate) touched_in: u64,
    version: u64,
    closed: bool,
    shadow: bool,
    opens_at: Timestamp,
    closes_at: Timestamp,
    ceiling: Counters,
    pub(crate) held: Counters,
    pub(crate) confirmed: Counters,
    /// When the pool's last event happened; refusals are none.
    pub(crate) last_event: Timestamp,
    /// Its place in the queue of pools by the end of their lives.
    pub(crate) queued_at: Timestamp,
    definition: Arc<PoolDefinition>,
}

impl Pool {
    pub(crate) fn new(generation: u32, version: u64, at: Timestamp, definition: Arc<PoolDefinition>) -> Pool {
        let mut ceiling = Counters::default();
        ceiling.add(&definition.limits);
        ceiling.add(&definition.overbook);
        Pool {
            generation,
            touched_in: 0,
            version,
            closed: definition.closed,
            shadow: definition.shadow,
            opens_at: definition.opens_at,
            closes_at: definition.closes_at,
            ceiling,
            held: Counters::default(),
            confirmed: Counters::default(),
            last_event: at,
            queued_at: definition.ends_at,
            definition,
        }
    }

    pub(crate) fn redefine(&mut self, version: u64, at: Timestamp, definition: Arc<PoolDefinition>) {
        *self = Pool {
            touched_in: self.touched_in,
            held: self.held,
            confirmed: self.confirmed,
            ..Pool::new(self.generation, version, at, definition)
        };
    }

    /// Counts the definitions of this pool, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What the planner says of it.
    pub fn definition(&self) -> &Arc<PoolDefinition> {
        &self.definition
    }

    /// Limit plus allowance, by dimension.
    pub fn ceiling(&self) -> &Counters {
        &self.ceiling
    }

    /// Units of reservations that wait for their confirmation.
    pub fn held(&self) -> &Counters {
        &self.held
    }

    /// Units of confirmed reservations.
    pub fn confirmed(&self) -> &Counters {
        &self.confirmed
    }

    /// Limit plus allowance minus what is reserved; may be below zero.
    pub fn remaining(&self) -> Counters {
        let mut remaining = self.ceiling;
        for (dimension, left) in remaining.0.iter_mut().enumerate() {
            *left -= self.held.0[dimension] + self.confirmed.0[dimension];
        }
        remaining
    }

    /// Whether state and times let the pool sell now.
    #[inline]
    pub(crate) fn check_selling(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.closed {
            Err(Refusal::PoolClosed)
        } else if now < self.opens_at {
            Err(Refusal::PoolNotOpenYet)
        } else if now >= self.closes_at {
            Err(Refusal::PoolPastClosing)
        } else {
            Ok(())
        }
    }

    /// The dimensions in which the units do not fit, a bit each.
    #[inline]
    pub(crate) fn short_dimensions(&self, units: &Units) -> u8 {
        let mut short = 0;
        for (dimension, unit) in units.0.iter().enumerate() {
            let reserved = self.held.0[dimension] + self.confirmed.0[dimension];
            let fits = *unit == 0 || reserved + i64::from(*unit) <= self.ceiling.0[dimension];
            short |= u8::from(!fits) << dimension;
        }
        short
    }

    #[inline]
    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The law: an event that adds units in an enforcing pool leaves it at its ceiling or below in every dimension that
    /// it adds to.
    #[inline]
    pub(crate) fn assert_not_oversold(&self, added: &Units) {
        for (dimension, unit) in added.0.iter().enumerate() {
            let reserved = self.held.0[dimension] + self.confirmed.0[dimension];
            assert!(
                *unit == 0 || reserved <= self.ceiling.0[dimension],
                "pool {} is oversold in dimension {dimension}: {reserved} of {}",
                self.definition.name,
                self.ceiling.0[dimension],
            );
        }
    }
}

#[cfg(test)]
impl PoolDefinition {
    /// A pool that sells always, for tests.
    pub(crate) fn sample(name: &str, limits: &[u32]) -> PoolDefinition {
        PoolDefinition {
            name: name.into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(10),
            ends_at: Timestamp(20),
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::from_slice(limits),
            overbook: Units::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    /// Expects the text of the error, or "" for none, of a sample definition changed like this.
    fn check(change: impl FnOnce(&mut PoolDefinition), expected: &str) {
        let mut definition = PoolDefinition::sample("slot-1", &[1, 2]);
        change(&mut definition);
        let found = definition
            .check()
            .map_or_else(|error| error.to_string(), |()| "".into());
        let begins = if expected.is_empty() {
            found.is_empty()
        } else {
            found.starts_with(expected)
        };
        assert!(begins, "{found:?} instead of {expected:?}");
    }

    #[test]
    fn a_definition_is_checked_field_by_field() {
        check(|_| (), "");
        check(|pool| pool.name = "A".into(), "");
        check(|pool| pool.name = "0.a_b:c-d".into(), "");
        check(|pool| pool.name = "a".repeat(128).into(), "");
        for name in ["", "-a", ".a", "a b", "a/b", "\u{e9}", "import"] {
            check(|pool| pool.name = name.into(), "name: must match");
        }
        check(|pool| pool.name = "a".repeat(129).into(), "name: ");
        check(|pool| pool.zone = "\u{e9}".repeat(32).into(), "");
        check(|pool| pool.zone = "\u{e9}".repeat(33).into(), "zone: ");
        check(|pool| pool.zone = "".into(), "zone: ");
        check(|pool| pool.kind = "a\nb".into(), "kind: ");
        check(|pool| pool.starts_at = Timestamp(-1), "starts_at: ");
        check(|pool| pool.ends_at = Timestamp(TIME_MAX), "");
        check(|pool| pool.ends_at = Timestamp(TIME_MAX + 1), "ends_at: must lie");
        check(|pool| pool.ends_at = Timestamp(9), "ends_at: must not be before");
        check(|pool| pool.ends_at = Timestamp(10), "");
        check(|pool| pool.opens_at = Timestamp::NEVER, "opens_at: ");
        check(|pool| pool.closes_at = Timestamp::ABSENT, "closes_at: ");
        check(|pool| pool.coverage = vec!["1".into(); 1024], "");
        check(
            |pool| pool.coverage = vec!["1".into(); 1025],
            "coverage: must have at most",
        );
        check(|pool| pool.coverage = vec!["1".repeat(32).into()], "");
        for prefix in ["", "1 2", "\u{e9}", &"1".repeat(33)] {
            check(|pool| pool.coverage = vec![prefix.into()], "coverage: each prefix");
        }
        check(|pool| pool.limits.0[1] = UNITS_MAX, "");
        check(|pool| pool.limits.0[1] = UNITS_MAX + 1, "limits[1]: ");
        check(|pool| pool.overbook.0[0] = u32::MAX, "overbook[0]: ");
        // Several are wrong: the first in the order of the fields is told.
        check(|pool| (pool.zone, pool.limits.0[0]) = ("".into(), u32::MAX), "zone: ");
    }

    fn pool(limits: &[u32], overbook: &[u32], held: &[u32], confirmed: &[u32]) -> Pool {
        let mut definition = PoolDefinition::sample("slot-1", limits);
        definition.overbook = Units::from_slice(overbook);
        let mut pool = Pool::new(1, 1, Timestamp(0), Arc::new(definition));
        pool.held.add(&Units::from_slice(held));
        pool.confirmed.add(&Units::from_slice(confirmed));
        pool
    }

    #[test]
    fn remaining_counts_the_allowance_and_what_is_held() {
        let pool = pool(&[10, UNITS_MAX, 0], &[2, UNITS_MAX, 0], &[3, 1, 0], &[4, 0, 5]);
        assert_eq!(pool.remaining().0, [5, 2 * i64::from(UNITS_MAX) - 1, -5, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_dimension_is_short_only_if_something_of_it_is_asked_for() {
        let pool = pool(&[10, 10, 0], &[0, 1, 0], &[4, 4, 0], &[5, 6, 5]);
        for (units, short) in [
            (&[0, 0, 0, 0][..], 0),
            (&[1, 1, 0, 0], 0),
            (&[2, 1, 0, 0], 0b1),
            (&[1, 2, 0, 0], 0b10),
            (&[2, 2, 1, 0], 0b111),
            (&[0, 0, 0, 1], 0b1000),
            (&[UNITS_MAX; 8], 0xFF),
        ] {
            assert_eq!(pool.short_dimensions(&Units::from_slice(units)), short, "{units:?}");
        }
    }

    #[test]
    fn a_pool_sells_from_its_opening_until_before_its_closing() {
        let mut definition = PoolDefinition::sample("slot-1", &[1]);
        (definition.opens_at, definition.closes_at) = (Timestamp(100), Timestamp(200));
        let mut pool = Pool::new(1, 1, Timestamp(0), Arc::new(definition.clone()));
        for (now, expected) in [
            (99, Err(Refusal::PoolNotOpenYet)),
            (100, Ok(())),
            (199, Ok(())),
            (200, Err(Refusal::PoolPastClosing)),
        ] {
            assert_eq!(pool.check_selling(Timestamp(now)), expected, "at {now}");
        }
        definition.closed = true;
        pool.redefine(2, Timestamp(0), Arc::new(definition));
        for now in [99, 100, 200] {
            assert_eq!(pool.check_selling(Timestamp(now)), Err(Refusal::PoolClosed), "at {now}");
        }
    }

    #[test]
    #[should_panic(expected = "pool slot-1 is oversold in dimension 1: 11 of 10")]
    fn the_law_is_asserted() {
        let pool = pool(&[10, 10], &[0, 0], &[20, 11], &[0, 0]);
        pool.assert_not_oversold(&Units::from_slice(&[0, 1]));
    }
}
