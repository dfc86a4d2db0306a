//! Reading reservations.

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Encoder, Operation, ReservationId, wire};

use crate::attempts::Attempts;
use crate::client::Client;
use crate::directory::Directory;
use crate::error::Error;
use crate::outcome::{Reservation, State};
use crate::pools::{encode_error, read};

/// A reservation as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationDetails {
    /// Its id.
    pub id: ReservationId,
    /// Its state.
    pub state: State,
    /// The name of its pool.
    pub pool: String,
    /// A value for each dimension.
    pub units: Vec<u32>,
    /// The caller's own name for what is reserved.
    pub reference: Option<String>,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// When the hold ends, microseconds since 1970.
    pub expires_at: Option<i64>,
    /// Counts its resizes, from 0.
    pub version: u16,
    /// Enforcement would have refused it: the pool was in shadow mode.
    pub would_refuse: bool,
}

impl From<wire::Reservation<'_>> for ReservationDetails {
    fn from(table: wire::Reservation<'_>) -> Self {
        let halves = wire::ReservationId::new(table.reservation_high(), table.reservation_low());
        Self {
            id: halves.into(),
            state: table.state().into(),
            pool: table.pool().to_owned(),
            units: table.units().iter().collect(),
            reference: table.reference().map(str::to_owned),
            created_at: table.created_at(),
            expires_at: Some(table.expires_at()).filter(|&time| time != 0),
            version: table.version(),
            would_refuse: table.would_refuse(),
        }
    }
}

impl From<&ReservationDetails> for Reservation {
    fn from(details: &ReservationDetails) -> Self {
        Self {
            id: details.id,
            state: details.state,
            version: details.version,
            created_at: details.created_at,
            expires_at: details.expires_at,
            repeated: false,
            would_refuse: details.would_refuse,
        }
    }
}

impl Client {
    /// Reservations by id. Unknown, forgotten and forged ids are missing from the result; the others stand in the order
    /// asked for.
    ///
    /// # Errors
    ///
    /// Reading has no effect, so that any retryable error may be tried again.
    pub async fn reservations(&self, ids: &[ReservationId]) -> Result<Vec<ReservationDetails>, Error> {
        let directory = self.inner.shared.directory();
        self.reservations_in(&directory, ids, &mut Attempts::new(self.options()))
            .await
    }

    pub(crate) async fn reservations_in(
        &self,
        directory: &Directory,
        ids: &[ReservationId],
        attempts: &mut Attempts,
    ) -> Result<Vec<ReservationDetails>, Error> {
        let mut found = Vec::new();
        for ids in ids.chunks(directory.welcome.items_max as usize) {
            let ids: Vec<wire::ReservationId> = ids.iter().copied().map(Into::into).collect();
            let mut frame = Vec::new();
            let mut encoder = Encoder::new();
            encoder.set_size_max(directory.welcome.frame_size_bytes_max);
            encoder
                .table(
                    &mut frame,
                    Head::request(Operation::GetReservations, CorrelationId(0)),
                    |builder| {
                        let reservations = Some(builder.create_vector(&ids));
                        wire::GetReservations::create(builder, &wire::GetReservationsArgs { reservations })
                    },
                )
                .map_err(encode_error)?;
            let answer = self.call(frame, directory.epoch, attempts).await?;
            let table = read::<wire::Reservations>("Reservations", &answer)?;
            found.extend(table.reservations().iter().map(ReservationDetails::from));
        }
        Ok(found)
    }
}
