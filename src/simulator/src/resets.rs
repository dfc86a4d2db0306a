//! The planner takes pools back to earlier moments, and what that must do is decided once more.

use std::sync::Arc;

use plimsoll_domain::{Event, ResetTarget, Timestamp};
use plimsoll_engine::{Answer, Call, ResetReport};
use plimsoll_journal::{Framing, Journal};
use plimsoll_protocol::Status;

use crate::checkers::{Promise, Violation, hold, violation};
use crate::clients::LATE;
use crate::disk::SEGMENT_SIZE;
use crate::mirror::Turn;
use crate::model::Part;
use crate::storage::SimStorage;
use crate::trace::note;
use crate::world::{Asked, TENSE_STEPS, World};

/// Moments of a core that are remembered.
const MOMENT_COUNT_MAX: usize = 10;
/// What the events of a reset may take: a segment without its header's page and a commit record.
const GROUP_SIZE_MAX: usize = SEGMENT_SIZE - 4_096 - 56;

impl<F: Framing + 'static> World<F> {
    /// The planner remembers now and then what there is.
    pub(crate) fn remember(&mut self, index: usize) {
        if !self.ledger.resets || !self.dice.permille(100) {
            return;
        }
        let core = &mut self.cores[index];
        let lsn = core.log.last_lsn();
        let moment = core.model.moment(lsn, core.clock);
        if core.moments.len() == MOMENT_COUNT_MAX {
            let gone = self.dice.index(MOMENT_COUNT_MAX);
            core.moments.remove(gone);
        }
        core.moments.push(moment);
    }

    /// The planner takes a pool back to a moment that it remembers, or looks what that would do.
    pub(crate) fn reset(&mut self, pool: usize) {
        let ledger = &self.ledger.pools[pool];
        let core = &self.cores[ledger.core];
        // The history of a pool that may have retired belongs to another one of its name.
        if core.moments.is_empty() || ledger.ends_at_min < LATE {
            return;
        }
        let moment = &core.moments[self.dice.index(core.moments.len())];
        let name: Box<str> = ledger.name.as_str().into();
        let id = core.model.pool_id(&name);
        let Some(past) = moment.pools.get(&name).filter(|past| Some(past.id) == id) else {
            return;
        };
        let version = core.model.version_of(past.id, &core.model.pools[&past.id]);
        let target = Arc::new(ResetTarget {
            to: Timestamp(moment.at),
            definition: self.dice.permille(500).then(|| (*past.definition).clone()),
            reservations: past.reservations.clone(),
        });
        let expected_version = match self.dice.below(10) {
            0..7 => None,
            7..9 => Some(version),
            _ => Some(version ^ 1),
        };
        let dry_run = self.dice.permille(200);
        let owner = ledger.core;
        self.ledger.pools[pool].was_reset |= !dry_run;
        let handle = self.next_handle();
        note(
            "planner resets",
            [
                pool as u64,
                u64::from(handle),
                target.reservations.len() as u64,
                u64::from(dry_run),
            ],
        );
        let call = Call::ResetPool {
            pool: name,
            target,
            expected_version,
            dry_run,
        };
        self.ask(handle, owner, call);
        self.asked.insert(handle, Asked::Read);
        self.tension = self.tension.max(TENSE_STEPS);
    }
}

impl Turn<'_> {
    pub(crate) fn reset(
        &mut self,
        name: &str,
        target: &ResetTarget,
        expected_version: Option<u64>,
        dry_run: bool,
    ) -> Result<Answer, Violation> {
        let prediction = match self.model.decide_reset(name, target, expected_version, self.now) {
            Ok(prediction) => prediction,
            Err(status) => {
                note(status.name(), [1, 0, 0, 0]);
                return Ok(Answer::Refused(status));
            }
        };
        let report = ResetReport {
            is_done: !dry_run,
            ..prediction.report
        };
        if self.group_size(&prediction.parts, target, &report) > GROUP_SIZE_MAX {
            note("too many changes", [prediction.parts.len() as u64, 0, 0, 0]);
            return Ok(Answer::Refused(Status::TooManyChanges));
        }
        if dry_run || prediction.parts.is_empty() {
            note("reset looked at", [prediction.parts.len() as u64, 0, 0, 0]);
            // Nothing that is written says whether there was room for it.
            let is_sure = !prediction.may_be_full;
            return Ok(if is_sure {
                Answer::Reset(Box::new(report))
            } else {
                Answer::Pending
            });
        }
        let next = self.events.front().map(|happened| &happened.event);
        if !matches!(next, Some(Event::PoolReset(event)) if event.pool == report.pool) {
            if prediction.may_be_full {
                return Ok(Answer::Refused(Status::Overloaded));
            }
            let status = self.no_room(1, &target)?;
            return Ok(Answer::Refused(status));
        }
        for part in &prediction.parts {
            let mut expected = self.model.part_event(part, target, &report, self.now);
            let Some(happened) = self.events.pop_front() else {
                return violation(Promise::Forgotten, || format!("a reset ends before {expected:?}"));
            };
            // The slot is any that is free.
            if let (Event::Restored(expected), Event::Restored(event)) = (&mut expected, &happened.event) {
                (expected.slot, expected.generation) = (event.slot, event.generation);
                note(
                    if event.has_key {
                        "restored"
                    } else {
                        "restored without its key"
                    },
                    [0; 4],
                );
                if u64::from(event.slot) != event.reservation.parts().slot {
                    note("restored elsewhere", [0; 4]);
                }
                if event.previous_state.is_some() {
                    note("restored in place", [0; 4]);
                }
            }
            hold(happened.event == expected, Promise::Answer, || {
                format!("{:?} instead of {expected:?}", happened.event)
            })?;
            self.model.apply(&happened.event, self.now)?;
        }
        note("reset", [prediction.parts.len() as u64, 0, 0, 0]);
        Ok(Answer::Reset(Box::new(report)))
    }

    fn group_size(&self, parts: &[Part], target: &ResetTarget, report: &ResetReport) -> usize {
        let mut body = Vec::new();
        let sizes = parts.iter().map(|part| {
            let event = self.model.part_event(part, target, report, self.now);
            plimsoll_record::encode(&event, self.model.rules.dimension_count, &mut body);
            Journal::<SimStorage>::record_size(body.len())
        });
        sizes.sum()
    }
}
