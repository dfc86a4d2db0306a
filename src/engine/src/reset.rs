//! Taking a pool back to an earlier moment.
//!
//! Invariant: the events of a reset are one group in one batch of one segment. So they count together or not at all, for
//! recovery and followers; and no publication lies between them, since one is made for a whole turn.

use plimsoll_domain::{PoolId, ResetPlan, ResetTarget};
use plimsoll_journal::{Framing, Journal, Segment, Storage};
use plimsoll_protocol::Status;

use crate::limits::RESET_CHANGE_COUNT_MAX;
use crate::message::{Answer, ResetReport};
use crate::process::{Processing, full_status, refusal_status};

impl<S: Storage, F: Framing> Processing<'_, S, F> {
    pub(crate) fn reset_pool(
        &mut self,
        name: &str,
        target: &ResetTarget,
        expected_version: Option<u64>,
        dry_run: bool,
    ) -> Answer {
        let Some(pool) = self.state.pool_id(name) else {
            return Answer::Refused(Status::PoolNotFound);
        };
        match self.try_reset(pool, target, expected_version, dry_run) {
            Ok(report) => Answer::Reset(Box::new(report)),
            Err(status) => Answer::Refused(status),
        }
    }

    fn try_reset(
        &mut self,
        pool: PoolId,
        target: &ResetTarget,
        expected_version: Option<u64>,
        dry_run: bool,
    ) -> Result<ResetReport, Status> {
        let plan = self
            .state
            .plan_reset(pool, target, expected_version, self.now)
            .map_err(|refusal| refusal_status(&refusal))?;
        if plan.changes.len() > RESET_CHANGE_COUNT_MAX {
            return Err(Status::TooManyChanges);
        }
        let size = self.group_size(target, &plan);
        if size > self.journal.max_group_size() {
            return Err(Status::TooManyChanges);
        }
        let definition_before = self.definition(pool);
        if !dry_run && plan.event_count() > 0 {
            self.journal.make_room(size).map_err(|full| full_status(&full))?;
            let segment = self.journal.segment().number();
            for index in 0..plan.event_count() {
                let event = self.state.reset_event(target, &plan, index, self.now);
                self.record(&event).expect("room was made for the whole group");
            }
            assert_eq!(
                self.journal.segment().number(),
                segment,
                "a reset lies in one segment, and so in one batch"
            );
        }
        let definition_after = plan.definition.unwrap_or_else(|| definition_before.clone());
        Ok(ResetReport {
            pool,
            version: plan.version,
            is_done: !dry_run,
            definition: (definition_before, definition_after),
            changes: plan.changes,
            held: plan.held,
            confirmed: plan.confirmed,
        })
    }

    fn definition(&self, pool: PoolId) -> std::sync::Arc<plimsoll_domain::PoolDefinition> {
        let found = self.state.pool(pool).expect("names lead to existing pools");
        found.definition().clone()
    }

    /// The bytes that the events take in the journal. Each is decided against the state as it is now: their numbers are
    /// not the final ones, and their sizes are.
    fn group_size(&mut self, target: &ResetTarget, plan: &ResetPlan) -> usize {
        let mut size = 0;
        for index in 0..plan.event_count() {
            let event = self.state.reset_event(target, plan, index, self.now);
            plimsoll_record::encode(&event, self.state.dimension_count(), self.body);
            size += Journal::<S, F>::record_size(self.body.len());
        }
        size
    }
}
