//! Looking back: reservations by reference or pool, pools as they were, and the way back to them.

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Operation, ReservationId, wire};

use crate::attempts::Attempts;
use crate::checks;
use crate::client::Client;
use crate::error::Error;
use crate::events::{After, EventKind};
use crate::outcome::State;
use crate::pools::{Pool, PoolsPage, encode, read};
use crate::reservations::ReservationDetails;

/// Which reservations to look for. A reference or a pool is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery<'a> {
    /// The caller's own name for them.
    pub reference: Option<&'a str>,
    /// Those of the pool that has this name, or had it last.
    pub pool: Option<&'a str>,
    /// Only those in this state.
    pub state: Option<State>,
    /// From [`FoundPage::next`]; the other fields stay as they were.
    pub cursor: Option<&'a str>,
    /// Most reservations at once; 0: the server's default.
    pub limit: u32,
}

/// Some reservations, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPage {
    /// The reservations; never empty when there is a next page.
    pub reservations: Vec<ReservationDetails>,
    /// Goes on behind the last one; `None`: there are no more.
    pub next: Option<String>,
}

/// Which pools to look at, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastQuery<'a> {
    /// After the last event that is not later than this, microseconds since 1970.
    pub at: i64,
    /// Only this pool.
    pub pool: Option<&'a str>,
    /// Only names after this one.
    pub after: Option<&'a str>,
    /// Only pools in this zone.
    pub zone: Option<&'a str>,
    /// Only pools of this kind.
    pub kind: Option<&'a str>,
    /// Most pools at once; 0: the server's default.
    pub limit: u32,
}

/// A way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset<'a> {
    /// The pool.
    pub pool: &'a str,
    /// As of this time, microseconds since 1970.
    pub to: i64,
    /// The definition as of then too.
    pub attributes: bool,
    /// The version that a dry run gave: refused when the pool has changed since. Never 0.
    pub expected_version: Option<u64>,
    /// Change nothing.
    pub dry_run: bool,
    /// How many of the changes to pass over in the list.
    pub offset: u32,
    /// How many to list at most.
    pub limit: u32,
}

/// A change that a reset makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetChange {
    /// Which event it is.
    pub kind: EventKind,
    /// The reservation; `None` of a change of the definition.
    pub reservation: Option<ReservationId>,
    /// The caller's own name for it.
    pub reference: Option<String>,
    /// State and units before; `None` where it had ended.
    pub before: Option<(State, Vec<u32>)>,
    /// State and units afterwards.
    pub after: Option<(State, Vec<u32>)>,
}

/// What a reset does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetReport {
    /// Of the pool with its reservations, before the change: for [`Reset::expected_version`].
    pub version: u64,
    /// How many changes there are in all.
    pub change_count: u32,
    /// Those that were asked for.
    pub changes: Vec<ResetChange>,
    /// Counters and limits before.
    pub before: After,
    /// Counters and limits afterwards.
    pub after: After,
}

impl From<wire::ResetChange<'_>> for ResetChange {
    fn from(table: wire::ResetChange<'_>) -> Self {
        let halves = wire::ReservationId::new(table.reservation_high(), table.reservation_low());
        let side = |state: wire::State, units: Option<flatbuffers::Vector<'_, u32>>| {
            let units = units.map(|units| units.iter().collect()).unwrap_or_default();
            (state != wire::State::none).then(|| (State::from(state), units))
        };
        Self {
            kind: table.kind().into(),
            reservation: Some(ReservationId::from(halves)).filter(|id| id.0 != 0),
            reference: table.reference().map(str::to_owned),
            before: side(table.state_before(), table.units_before()),
            after: side(table.state_after(), table.units_after()),
        }
    }
}

impl Client {
    /// Reservations by reference or pool, the newest first, as they are now; those that ended long ago and are forgotten elsewhere too.
    ///
    /// Each request does a bounded piece of work; this asks on until there is a reservation, each time with a deadline of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when neither reference nor pool is given, or no pool ever had the name. Reading has no effect, so that any retryable error may
    /// be tried again.
    pub async fn search_reservations(&self, query: &SearchQuery<'_>) -> Result<FoundPage, Error> {
        if let Some(name) = query.pool {
            checks::pool_name(name)?;
        }
        let state = query.state.map_or(wire::State::none, State::on_wire);
        let mut cursor = query.cursor.map(str::to_owned);
        loop {
            let directory = self.inner.shared.directory();
            let head = Head::request(Operation::SearchReservations, CorrelationId(0));
            let frame = encode(&directory, head, |builder| {
                let [reference, pool, cursor] = [query.reference, query.pool, cursor.as_deref()]
                    .map(|text| text.map(|text| builder.create_string(text)));
                let args = wire::SearchReservationsArgs {
                    reference,
                    pool,
                    state,
                    limit: query.limit,
                    cursor,
                };
                wire::SearchReservations::create(builder, &args)
            })?;
            let mut attempts = Attempts::new(self.options());
            let answer = self.call(frame, directory.epoch, &mut attempts).await?;
            let table = read::<wire::FoundReservations>("FoundReservations", &answer)?;
            let page = FoundPage {
                reservations: table.reservations().iter().map(ReservationDetails::from).collect(),
                next: table.next().map(str::to_owned),
            };
            if !page.reservations.is_empty() || page.next.is_none() {
                return Ok(page);
            }
            cursor = page.next;
        }
    }

    /// Pools as they were, in the byte order of their names, without what was acknowledged later.
    ///
    /// A state that is long ago takes its time: this asks on until it is there, each time with a deadline of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a time that has not come, and, retryable, while others read too many past states. Reading has no effect, so that any
    /// retryable error may be tried again.
    pub async fn past_pools(&self, query: &PastQuery<'_>) -> Result<PoolsPage, Error> {
        loop {
            let directory = self.inner.shared.directory();
            let head = Head::request(Operation::PastState, CorrelationId(0));
            let frame = encode(&directory, head, |builder| {
                let [pool, after, zone, kind] = [query.pool, query.after, query.zone, query.kind]
                    .map(|text| text.map(|text| builder.create_string(text)));
                let args = wire::GetPastPoolsArgs {
                    at: query.at,
                    pool,
                    after,
                    zone,
                    kind,
                    limit: query.limit,
                };
                wire::GetPastPools::create(builder, &args)
            })?;
            let mut attempts = Attempts::new(self.options());
            let answer = self.call(frame, directory.epoch, &mut attempts).await?;
            let table = read::<wire::PastPools>("PastPools", &answer)?;
            let page = PoolsPage {
                pools: table.pools().iter().map(Pool::from).collect(),
                more: table.more(),
            };
            if !page.pools.is_empty() || !page.more {
                return Ok(page);
            }
        }
    }

    /// Makes the pool's reservations and counters as of then its present, by new events; see [`Reset`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with [`ChangedMeanwhile`](crate::Status::ChangedMeanwhile) when another version was expected. [`Error::Unknown`] when it is not
    /// known whether it was done: unless it is a dry run, it is not sent again by itself then.
    pub async fn reset_pool(&self, reset: &Reset<'_>) -> Result<ResetReport, Error> {
        checks::pool_name(reset.pool)?;
        let expected_version = checks::expected_version(reset.expected_version)?;
        let directory = self.inner.shared.directory();
        let head = Head::request(Operation::ResetPool, CorrelationId(0));
        let frame = encode(&directory, head, |builder| {
            let args = wire::ResetPoolArgs {
                pool: Some(builder.create_string(reset.pool)),
                to: reset.to,
                attributes: reset.attributes,
                expected_version,
                dry_run: reset.dry_run,
                offset: reset.offset,
                limit: reset.limit,
            };
            wire::ResetPool::create(builder, &args)
        })?;
        let mut attempts = Attempts::new(self.options());
        attempts.retry_lost &= reset.dry_run;
        let answer = self.call(frame, directory.epoch, &mut attempts).await?;
        let table = read::<wire::ResetResult>("ResetResult", &answer)?;
        Ok(ResetReport {
            version: table.version(),
            change_count: table.change_count(),
            changes: table.changes().iter().map(ResetChange::from).collect(),
            before: table.before().into(),
            after: table.after().into(),
        })
    }
}
