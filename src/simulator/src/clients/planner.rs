//! The planner defines pools, and is told what became of that.

use plimsoll_domain::{PoolDefinition, PoolId, Timestamp, Units};
use plimsoll_protocol::Status;

use super::Ledger;
use crate::checkers::{Promise, Violation, hold};
use crate::dice::Dice;

/// The end of a pool that nobody sees the end of.
pub(crate) const LATE: i64 = 4_000_000_000_000_000;
/// Refusals after which the planner takes it that there is no room for the pool.
const REFUSAL_COUNT_MAX: u32 = 20;

impl Ledger {
    /// A definition that the planner wants next.
    pub(crate) fn plan(&mut self, pool: usize, now: i64, dice: &mut Dice) -> bool {
        let ledger = &mut self.pools[pool];
        if let Some((_, is_on_its_way)) = &mut ledger.pending {
            return !std::mem::replace(is_on_its_way, true);
        }
        let mut definition = ledger.acked.clone().unwrap_or_else(|| PoolDefinition {
            name: ledger.name.as_str().into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(LATE),
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::default(),
            overbook: Units::default(),
        });
        for dimension in 0..self.rules.dimension_count {
            definition.limits.0[dimension] = dice.below(60) as u32;
            definition.overbook.0[dimension] = if dice.coin() { 0 } else { dice.below(8) as u32 };
        }
        definition.shadow = dice.permille(120);
        definition.closed = dice.permille(60);
        definition.opens_at = Timestamp(if dice.permille(80) { now + 200_000 } else { 0 });
        definition.closes_at = if dice.permille(80) {
            Timestamp(now + 800_000)
        } else {
            Timestamp::NEVER
        };
        let end = dice.pick(&[-1_000_000, 500_000, 5_000_000, 600_000_000]);
        // What goes back to its past does not end, so that the past is that of the same pool.
        let ends = self.pools_end && dice.permille(700) && !ledger.was_reset;
        definition.ends_at = Timestamp(if ends { now + end } else { LATE });
        let prefixes = if dice.permille(300) {
            dice.index(self.prefix_count_max)
        } else {
            dice.index(4)
        };
        definition.coverage = (0..prefixes)
            .map(|number| format!("{number:032}").into_boxed_str())
            .collect();
        ledger.was_shadow |= definition.shadow;
        ledger.ends_at_min = ledger.ends_at_min.min(definition.ends_at.0);
        for dimension in 0..8 {
            let ceiling = i64::from(definition.limits.0[dimension]) + i64::from(definition.overbook.0[dimension]);
            ledger.ceiling_max[dimension] = ledger.ceiling_max[dimension].max(ceiling);
        }
        ledger.pending = Some((definition, true));
        true
    }

    /// A definition got no answer, or none that settles it: it is sent again.
    pub(crate) fn put_is_lost(&mut self, pool: usize) {
        if let Some((_, is_on_its_way)) = &mut self.pools[pool].pending {
            *is_on_its_way = false;
        }
    }

    /// The planner got an answer.
    pub(crate) fn planned(&mut self, pool: usize, result: &plimsoll_engine::PutResult) -> Result<(), Violation> {
        if result.status.retryable() {
            self.put_is_lost(pool);
            let may_be_full = self.rules.pool_count_max < usize::MAX;
            let ledger = &mut self.pools[pool];
            ledger.refusals += 1;
            if may_be_full && ledger.refusals > REFUSAL_COUNT_MAX {
                (ledger.pending, ledger.refusals) = (None, 0);
            }
            return Ok(());
        }
        let may_be_new = self.pools[pool].id.is_none_or(|id| self.may_be_retired(pool, id));
        let ledger = &mut self.pools[pool];
        let is_new = ledger.id != Some(PoolId(result.pool));
        let is_right =
            result.status == Status::Ok && (is_new && may_be_new || !is_new && result.version >= ledger.acked_version);
        hold(is_right, Promise::Durable, || {
            format!(
                "pool {} was acknowledged in version {}, and now {result:?}",
                ledger.name, ledger.acked_version
            )
        })?;
        ledger.was_replaced |= is_new && ledger.id.is_some();
        ledger.id = Some(PoolId(result.pool));
        ledger.acked_version = result.version;
        ledger.acked = ledger.pending.take().map(|(definition, _)| definition);
        ledger.refusals = 0;
        if is_new {
            ledger.ends_at_min = ledger.acked.as_ref().map_or(i64::MAX, |acked| acked.ends_at.0);
        }
        Ok(())
    }
}
