//! A hold as a value: confirmed, extended, released, or left to its deadline.
//!
//! - `release_on_drop` is only ever acted upon while `is_ours`: from the answer that it is held until a confirmation is
//!   sent, and again when that is known to have had no effect. So what may be confirmed is never released by a drop.

use std::time::Duration;

use plimsoll_protocol::{Applied, ReservationId};

use crate::client::Client;
use crate::commands::{Reserve, Resize};
use crate::error::{Error, Invalid};
use crate::outcome::{Confirming, Refusal, Releasing, Reservation, Reserving, Resizing, State, Unknown};

/// What became of a hold that was asked for.
#[derive(Debug)]
pub enum Holding {
    /// It is held, durably: now, or by an earlier attempt with the same key.
    Held(Hold),
    /// An earlier attempt with the same key took effect, and since then the hold was confirmed, released, or has
    /// expired.
    Settled(Reservation),
    /// It had no effect.
    Refused(Refusal),
    /// Nobody can tell. Ask again with the same key.
    Unknown(Unknown),
}

/// Units that are held for the caller, until they are confirmed or the deadline passes.
///
/// Dropped as it is, it does nothing: the hold ends at its deadline by itself. After [`Hold::release_on_drop`] a drop
/// gives the units back at once. That is a courtesy to other customers and not a promise: it is handed to a task of the
/// client's runtime, which sends the release like [`Client::release`], with retries within the deadline of a call, and
/// keeps the client's connections until then. The drop itself never waits. When the server cannot be reached in that
/// time, or the runtime is shut down, the hold still ends at its deadline.
///
/// ```no_run
/// # async fn pay() -> bool { true }
/// # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use plimsoll_client::{Confirming, Holding, Key, KeySource, Reserve, Units};
/// use std::time::Duration;
///
/// let cart = Reserve {
///     hold: Some(Duration::from_secs(600)),
///     ..Reserve::new("zone.7:2026-12-24T08:00", Units::Named(&[("orders", 1)]), Key::from_text("cart-17")?)
/// };
/// let Holding::Held(hold) = client.hold(&cart).await? else { return Ok(()) };
/// let mut hold = hold.release_on_drop();
/// // Without a payment, the drop at the end of the scope gives the slot to the next customer.
/// if pay().await && let Confirming::Refused(refusal) = hold.confirm().await? {
///     println!("the payment came too late: {refusal}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a hold that is neither confirmed nor released takes its units until its deadline"]
pub struct Hold {
    client: Client,
    reservation: Reservation,
    release_on_drop: bool,
    /// Whether it is held and no confirmation of it may have taken effect.
    is_ours: bool,
}

impl Client {
    /// Reserves units and holds them, as [`Client::reserve`] does, and gives the hold as a value.
    ///
    /// When the future of this call is dropped before it is done, there may be a hold that nobody knows of; it ends at
    /// its deadline.
    ///
    /// # Errors
    ///
    /// As [`Client::reserve`]; also [`Invalid::HoldMissing`] for a reserve without [`Reserve::hold`].
    pub async fn hold(&self, reserve: &Reserve<'_>) -> Result<Holding, Error> {
        if reserve.hold.is_none() {
            return Err(Invalid::HoldMissing.into());
        }
        Ok(match self.reserve(reserve).await? {
            Reserving::Reserved(reservation) if reservation.state == State::Held => Holding::Held(Hold {
                client: self.clone(),
                reservation,
                release_on_drop: false,
                is_ours: true,
            }),
            Reserving::Reserved(reservation) => Holding::Settled(reservation),
            Reserving::Refused(refusal) => Holding::Refused(refusal),
            Reserving::Unknown(unknown) => Holding::Unknown(unknown),
        })
    }
}

impl Hold {
    /// The reservation's id.
    #[must_use]
    pub fn id(&self) -> ReservationId {
        self.reservation.id
    }

    /// The reservation, as the last answer told of it.
    #[must_use]
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// When the hold ends, by the server's clock, microseconds since 1970. `None` when it was confirmed.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.reservation.expires_at
    }

    /// From now on a drop gives the units back, unless it was confirmed, or may have been.
    pub fn release_on_drop(mut self) -> Self {
        self.release_on_drop = true;
        self
    }

    /// Confirms it, as [`Client::confirm`] does. When the outcome is not known it can be called again; until it is
    /// known, a drop releases nothing.
    ///
    /// # Errors
    ///
    /// It had no effect; see [`Client::confirm`].
    pub async fn confirm(&mut self) -> Result<Confirming, Error> {
        // Before it is sent: this future may be dropped at any time.
        let was_ours = std::mem::replace(&mut self.is_ours, false);
        let confirming = self.client.confirm(self.reservation.id, None).await;
        let applied = match &confirming {
            Ok(confirming) => confirming.applied(),
            Err(error) => error.applied(),
        };
        self.is_ours = was_ours && applied == Applied::No;
        if let Ok(Confirming::Confirmed(reservation)) = &confirming {
            self.reservation = *reservation;
        }
        confirming
    }

    /// Holds it for another while, whole seconds from 1 to 86,400 from now on, as [`Client::resize`] does.
    ///
    /// # Errors
    ///
    /// It had no effect; see [`Client::resize`].
    pub async fn extend(&mut self, hold: Duration) -> Result<Resizing, Error> {
        let resize = Resize {
            hold: Some(hold),
            ..Resize::new(self.reservation.id)
        };
        let resizing = self.client.resize(&resize).await?;
        if let Resizing::Resized(reservation) = &resizing {
            self.reservation = *reservation;
        }
        Ok(resizing)
    }

    /// Gives the units back, as [`Client::release`] does, and waits for the answer.
    ///
    /// # Errors
    ///
    /// It had no effect; see [`Client::release`].
    pub async fn release(&mut self) -> Result<Releasing, Error> {
        let releasing = self.client.release(self.reservation.id, None).await?;
        if let Releasing::Released(reservation) = &releasing {
            self.reservation = *reservation;
            self.is_ours = false;
        }
        Ok(releasing)
    }

    /// Leaves the hold to its deadline, or to whoever confirms it by its id: nothing is released.
    #[must_use = "the id is the only way back to the reservation"]
    pub fn leave(mut self) -> Reservation {
        self.release_on_drop = false;
        self.reservation
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.release_on_drop || !self.is_ours {
            return;
        }
        let (client, id) = (self.client.clone(), self.reservation.id);
        // A runtime that is shutting down drops the task; the hold then ends by itself.
        self.client.inner.runtime.spawn(async move {
            match client.release(id, None).await {
                Ok(Releasing::Released(_)) => {}
                Ok(other) => tracing::debug!(reservation = %id, ?other, "a dropped hold was not released"),
                Err(error) => tracing::debug!(reservation = %id, %error, "a dropped hold was not released"),
            }
        });
    }
}
