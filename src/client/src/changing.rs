//! Changing a reservation: release, confirm, resize.

use plimsoll_protocol::{ReservationId, Status, wire};

use crate::attempts::Attempts;
use crate::checks::{self, UnitsArray};
use crate::client::Client;
use crate::commands::Resize;
use crate::directory::Directory;
use crate::error::Error;
use crate::execution::Prepared;
use crate::outcome::{Confirming, Decided, Refusal, Releasing, Resizing};
use crate::reservations::ReservationDetails;

impl Client {
    /// Gives a reservation's units back, whether it is held or confirmed. Releasing it again is the same as releasing
    /// it once.
    ///
    /// `occurred_at` is the caller's business time, microseconds since 1970; it decides nothing. Sent again as
    /// [`Client::reserve`] is. What it answers is durable.
    ///
    /// # Errors
    ///
    /// The command had no effect; see [`Client::reserve`].
    pub async fn release(&self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<Releasing, Error> {
        let command = wire::Command::release(reservation, occurred_at);
        Ok(self.change(command).await?.into())
    }

    /// Confirms a hold: from then on it has no deadline. Confirming it again is the same as confirming it once.
    ///
    /// `occurred_at` is the caller's business time, microseconds since 1970; it decides nothing. Sent again as
    /// [`Client::reserve`] is: by state. A closed pool takes confirmations too. What it answers is durable.
    ///
    /// Refused, and not worth another try: [`Status::HoldExpired`] when the deadline has passed,
    /// [`Status::ReservationEnded`] when it was released, [`Status::ReservationNotFound`].
    ///
    /// # Errors
    ///
    /// The command had no effect; see [`Client::reserve`].
    ///
    /// ```no_run
    /// # use plimsoll_client::{Client, Error, ReservationId};
    /// # async fn example(client: Client, id: ReservationId) -> Result<(), Error> {
    /// use plimsoll_client::{Confirming, Status};
    ///
    /// match client.confirm(id, None).await? {
    ///     Confirming::Confirmed(reservation) => println!("{} is {}", reservation.id, reservation.state),
    ///     Confirming::Refused(refusal) if refusal.is(Status::HoldExpired) => println!("too late"),
    ///     Confirming::Refused(refusal) => println!("{refusal}"),
    ///     Confirming::Unknown(unknown) => println!("confirm it again: {unknown}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn confirm(&self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<Confirming, Error> {
        let command = wire::Command::confirm(reservation, occurred_at);
        Ok(self.change(command).await?.into())
    }

    /// Changes a reservation's units, or the deadline of a hold, or both at once. It takes effect as a whole or not at
    /// all.
    ///
    /// Values are absolute, so that a lost attempt is sent again within the deadline like any other command. With
    /// [`Resize::version`] at most one attempt takes effect; when the answer to a later one leaves open whether an
    /// earlier one did, the reservation is read once, and what cannot be told even then is [`Resizing::Unknown`].
    /// Without a version the last of several callers wins, and a lost attempt that arrives late may undo what came
    /// after it: give the version where more than one may change a reservation. What it answers is durable.
    ///
    /// Refused, among others: [`Status::InsufficientCapacity`] when the additional units do not fit,
    /// [`Status::ChangedMeanwhile`] for another version, [`Status::NotHeld`] for a deadline of what is confirmed.
    ///
    /// # Errors
    ///
    /// The command had no effect; see [`Client::reserve`].
    ///
    /// ```no_run
    /// # use plimsoll_client::{Client, Error, ReservationId};
    /// # async fn example(client: Client, id: ReservationId) -> Result<(), Error> {
    /// use plimsoll_client::{Resize, Resizing};
    ///
    /// // Two rooms instead of what it has; guests and deadline stay.
    /// let resize = Resize { units: &[("rooms", 2)], ..Resize::new(id) };
    /// if let Resizing::Resized(reservation) = client.resize(&resize).await? {
    ///     println!("now at version {}", reservation.version);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resize(&self, resize: &Resize<'_>) -> Result<Resizing, Error> {
        let directory = self.inner.shared.directory();
        let units = checks::resize_units(&directory.welcome.dimensions, resize)?;
        let command = wire::Command::resize(plimsoll_protocol::Resize {
            reservation: resize.reservation,
            version: resize.version,
            hold_seconds: checks::hold_seconds(resize.hold)?,
            occurred_at: resize.occurred_at,
        });
        let mut attempts = Attempts::new(self.options());
        let decided = self.change_in(&directory, command, units, &mut attempts).await?;
        Ok(match decided {
            Decided::Refused(refusal) if attempts.lost_count() > 0 => {
                self.resized_before(resize, &directory, &attempts, refusal).await
            }
            decided => decided.into(),
        })
    }

    /// Tells what became of a resize whose earlier attempt was lost and whose last one was refused, by the reservation.
    async fn resized_before(
        &self,
        resize: &Resize<'_>,
        directory: &Directory,
        attempts: &Attempts,
        refusal: Refusal,
    ) -> Resizing {
        // What has ended has neither units nor a deadline that an earlier attempt could have changed.
        let ended = [
            Status::ReservationNotFound,
            Status::ReservationEnded,
            Status::HoldExpired,
        ];
        if ended.into_iter().any(|status| refusal.is(status)) {
            return Resizing::Refused(refusal);
        }
        let mut reading = Attempts::until(self.options(), attempts.deadline);
        let found = self
            .reservations_in(directory, &[resize.reservation], &mut reading)
            .await;
        let stands = match found.as_ref().map(|found| found.first()) {
            Ok(Some(details)) => stands(resize, details, &directory.welcome.dimensions).map(|stands| (stands, details)),
            _ => None,
        };
        match stands {
            Some((true, details)) => Resizing::Resized(details.into()),
            Some((false, _)) => Resizing::Refused(refusal),
            None => Resizing::Unknown(attempts.unknown_after(&refusal)),
        }
    }

    /// Sends a command about a reservation that takes no units.
    async fn change(&self, command: wire::Command) -> Result<Decided, Error> {
        let directory = self.inner.shared.directory();
        let mut attempts = Attempts::new(self.options());
        self.change_in(&directory, command, UnitsArray::default(), &mut attempts)
            .await
    }

    async fn change_in(
        &self,
        directory: &Directory,
        command: wire::Command,
        units: UnitsArray,
        attempts: &mut Attempts,
    ) -> Result<Decided, Error> {
        let prepared = Prepared {
            command,
            units,
            reference: None,
            epoch: directory.epoch,
        };
        self.execute(prepared, directory, attempts).await
    }
}

/// Whether a reservation is as a resize asked for, by its own doing; `None` when that cannot be told.
fn stands(resize: &Resize<'_>, details: &ReservationDetails, dimensions: &[String]) -> Option<bool> {
    let has = |name: &str, units: u32| {
        let index = dimensions.iter().position(|dimension| dimension == name);
        index.and_then(|index| details.units.get(index)) == Some(&units)
    };
    let as_asked = resize.units.iter().all(|&(name, units)| has(name, units));
    match resize.version {
        Some(version) if details.version == version => Some(false),
        // One resize since then, and it is another's.
        Some(version) if version.checked_add(1) == Some(details.version) && !as_asked => Some(false),
        // One resize since then, to just these units. Another deadline than ours would leave them the same.
        Some(version) if version.checked_add(1) == Some(details.version) && !resize.units.is_empty() => Some(true),
        Some(_) => None,
        None if !as_asked => Some(false),
        None if resize.hold.is_none() => Some(true),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::outcome::State;

    use super::*;

    fn check(resize: Resize<'_>, (version, units): (u16, [u32; 2]), expected: Option<bool>) {
        let dimensions = ["orders".to_owned(), "kg".to_owned()];
        let details = ReservationDetails {
            id: resize.reservation,
            state: State::Held,
            pool: "a".into(),
            units: units.into(),
            reference: None,
            created_at: 5,
            expires_at: Some(9),
            version,
            would_refuse: false,
        };
        assert_eq!(
            stands(&resize, &details, &dimensions),
            expected,
            "{resize:?} at {version}, {units:?}"
        );
    }

    #[test]
    fn what_a_reservation_tells_of_a_lost_resize() {
        let hold = Some(Duration::from_secs(60));
        let any = Resize {
            units: &[("kg", 3)],
            ..Resize::new(ReservationId(1))
        };
        let second = Resize {
            version: Some(1),
            ..any
        };
        check(second, (1, [1, 3]), Some(false));
        check(second, (2, [1, 3]), Some(true));
        check(second, (2, [1, 4]), Some(false));
        check(second, (3, [1, 3]), None);
        check(second, (0, [1, 3]), None);
        check(Resize { hold, ..second }, (2, [1, 3]), Some(true));
        check(
            Resize {
                hold,
                units: &[],
                ..second
            },
            (2, [1, 3]),
            None,
        );
        check(
            Resize {
                hold,
                units: &[],
                ..second
            },
            (1, [1, 3]),
            Some(false),
        );
        check(
            Resize {
                version: Some(u16::MAX),
                ..any
            },
            (u16::MAX, [1, 3]),
            Some(false),
        );
        check(any, (7, [1, 3]), Some(true));
        check(any, (7, [1, 4]), Some(false));
        check(Resize { hold, ..any }, (7, [1, 3]), None);
    }
}
