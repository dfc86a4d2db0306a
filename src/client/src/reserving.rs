//! Taking units from a pool.

use std::time::Instant;

use plimsoll_protocol::{PoolId, Status, wire};

use crate::attempts::Attempts;
use crate::checks;
use crate::client::Client;
use crate::commands::{PoolRef, Reserve};
use crate::directory::Directory;
use crate::error::Error;
use crate::execution::Prepared;
use crate::outcome::{Decided, Refusal, Reserving};

impl Client {
    /// Takes units from a pool.
    ///
    /// With [`Options::retry`](crate::Options::retry) it is sent again by its key, within the deadline, after a lost
    /// connection and when the server is overloaded or unavailable. When the remembered id of a pool's name turns out
    /// to be void, the name is resolved once anew.
    ///
    /// # Errors
    ///
    /// The command had no effect. [`Error::Invalid`] is for the caller to correct; [`Error::QueueFull`] and
    /// [`Error::NotSent`] can be tried again. That the outcome is not known is no error but [`Reserving::Unknown`].
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use plimsoll_client::{Key, KeySource, Reserve, Reserving, Units};
    /// use std::time::Duration;
    ///
    /// let cart = Reserve {
    ///     hold: Some(Duration::from_secs(600)),
    ///     ..Reserve::new("zone.7:2026-12-24T08:00", Units::Named(&[("orders", 1)]), Key::from_text("cart-17")?)
    /// };
    /// if let Reserving::Refused(refusal) = client.reserve(&cart).await? {
    ///     println!("{refusal}; worth another try: {}", refusal.retryable());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Reserving, Error> {
        let mut attempts = Attempts::new(self.options());
        let mut anew = false;
        loop {
            let directory = self.inner.shared.directory();
            let Some((prepared, remembered)) = self
                .prepare_reserve(reserve, &directory, anew, attempts.deadline)
                .await?
            else {
                return Ok(Reserving::Refused(Refusal::new(Status::PoolNotFound)));
            };
            let named = matches!(reserve.pool, PoolRef::Name(_));
            let pool = prepared.command.pool_id();
            match self.execute(prepared, &directory, &mut attempts).await {
                Ok(Decided::Refused(refusal)) if named && remembered && !anew && refusal.is(Status::PoolNotFound) => {
                    if let PoolRef::Name(name) = reserve.pool {
                        self.inner.shared.forget(name, pool);
                    }
                    anew = true;
                }
                // It was not sent, and its pool may have another id in the new directory.
                Err(Error::DirectoryChanged) if named && !anew => anew = true,
                Ok(decided) => return Ok(decided.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks a reserve and finds its pool. `None`: there is no such pool. Also says whether the id was a remembered
    /// one.
    pub(crate) async fn prepare_reserve(
        &self,
        reserve: &Reserve<'_>,
        directory: &Directory,
        anew: bool,
        deadline: Instant,
    ) -> Result<Option<(Prepared, bool)>, Error> {
        let units = checks::units(&directory.welcome.dimensions, reserve.units)?;
        let hold_seconds = checks::hold_seconds(reserve.hold)?;
        checks::reference(reserve.reference)?;
        let Some((pool, remembered)) = self.pool_id(reserve.pool, directory, anew, deadline).await? else {
            return Ok(None);
        };
        let Reserve {
            key,
            occurred_at,
            reference,
            ..
        } = *reserve;
        let command = wire::Command::reserve(plimsoll_protocol::Reserve {
            pool,
            key,
            hold_seconds,
            occurred_at,
        });
        let prepared = Prepared {
            command,
            units,
            reference: reference.map(Into::into),
            epoch: directory.epoch,
        };
        Ok(Some((prepared, remembered)))
    }

    /// The id of a pool, and whether it was remembered.
    pub(crate) async fn pool_id(
        &self,
        pool: PoolRef<'_>,
        directory: &Directory,
        anew: bool,
        deadline: Instant,
    ) -> Result<Option<(PoolId, bool)>, Error> {
        let name = match pool {
            PoolRef::Id(id) => return Ok(Some((id, false))),
            PoolRef::Name(name) => name,
        };
        checks::pool_name(name)?;
        if !anew && let Some(id) = self.inner.shared.name(directory.epoch, name) {
            return Ok(Some((id, true)));
        }
        let found = self.resolve_in(directory, &[name], deadline).await?;
        Ok(found.first().copied().flatten().map(|id| (id, false)))
    }
}
