//! Which pools sell in a window, and how much is left.

use std::fmt;
use std::sync::Arc;

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Operation, PoolId, wire};

use crate::attempts::Attempts;
use crate::checks;
use crate::client::Client;
use crate::commands::Units;
use crate::directory::Directory;
use crate::error::Error;
use crate::pools::{check_count, encode, read};
use crate::request::FrameAnswer;

/// What to ask for: the pools of a zone, or those that serve a location, whose windows overlap a span of time. Begins
/// with [`AvailabilityQuery::in_zone`] or [`AvailabilityQuery::of_location`].
///
/// ```
/// use plimsoll_client::{AvailabilityQuery, Units};
///
/// let query = AvailabilityQuery::in_zone("north")
///     .at_location("10115")
///     .of_kind("delivery")
///     .between(1_798_704_000_000_000, 1_799_308_800_000_000)
///     .fitting(Units::Named(&[("orders", 1), ("items", 12)]))
///     .limit(50)
///     .exact();
/// assert_eq!(query.clone(), query);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityQuery<'a> {
    zone: Option<&'a str>,
    location: Option<&'a str>,
    kind: Option<&'a str>,
    from: i64,
    to: i64,
    units: Option<Units<'a>>,
    limit: u32,
    exact: bool,
}

/// `from` of a query that begins now.
const FROM_NOW: i64 = i64::MIN;

/// `to` of a query without an end.
const TO_NEVER: i64 = i64::MAX;

impl<'a> AvailabilityQuery<'a> {
    const ANYWHERE: Self = Self {
        zone: None,
        location: None,
        kind: None,
        from: FROM_NOW,
        to: TO_NEVER,
        units: None,
        limit: 0,
        exact: false,
    };

    /// The pools of a zone, from now on.
    #[must_use]
    pub const fn in_zone(zone: &'a str) -> Self {
        Self {
            zone: Some(zone),
            ..Self::ANYWHERE
        }
    }

    /// The pools that serve a location, from now on: those of whose coverage a prefix is a prefix of it.
    #[must_use]
    pub const fn of_location(location: &'a str) -> Self {
        Self {
            location: Some(location),
            ..Self::ANYWHERE
        }
    }

    /// Of these, only those that serve the location.
    #[must_use]
    pub const fn at_location(self, location: &'a str) -> Self {
        Self {
            location: Some(location),
            ..self
        }
    }

    /// Of these, only those of a kind.
    #[must_use]
    pub const fn of_kind(self, kind: &'a str) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// Windows that overlap `[from, to)`, microseconds since 1970.
    #[must_use]
    pub const fn between(self, from: i64, to: i64) -> Self {
        Self { from, to, ..self }
    }

    /// Windows that overlap what comes from this time on, microseconds since 1970. Without it, from now.
    #[must_use]
    pub const fn from(self, from: i64) -> Self {
        Self { from, ..self }
    }

    /// Windows that begin before this time, microseconds since 1970. Without it, there is no end.
    #[must_use]
    pub const fn until(self, to: i64) -> Self {
        Self { to, ..self }
    }

    /// What has to fit. A pool in which it does not has the band [`Band::None`]. Without it, one unit in any dimension
    /// is enough.
    #[must_use]
    pub const fn fitting(self, units: Units<'a>) -> Self {
        Self {
            units: Some(units),
            ..self
        }
    }

    /// Most pools in the answer. 0, or without it: 200. Never more than the server gives at once.
    #[must_use]
    pub const fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Asks for the numbers that remain, not only bands.
    #[must_use]
    pub const fn exact(self) -> Self {
        Self { exact: true, ..self }
    }
}

/// How much of a pool is left, in its tightest dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Band {
    /// Nothing, or less than what has to fit.
    None,
    /// At most a tenth.
    Low,
    /// At most half.
    Some,
    /// More than half.
    Plenty,
    /// A band that this version does not know.
    Other(u8),
}

impl From<wire::Band> for Band {
    fn from(band: wire::Band) -> Self {
        match band {
            wire::Band::none => Self::None,
            wire::Band::low => Self::Low,
            wire::Band::some => Self::Some,
            wire::Band::plenty => Self::Plenty,
            other => Self::Other(other.0),
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Low => f.write_str("low"),
            Self::Some => f.write_str("some"),
            Self::Plenty => f.write_str("plenty"),
            Self::Other(number) => write!(f, "band {number}"),
        }
    }
}

/// Which pools sell, in the order of `starts_at`, then name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Microseconds since 1970: everything that was acknowledged before it is counted.
    pub as_of: i64,
    /// The pools that sell, those without anything left too.
    pub pools: Vec<AvailablePool>,
    /// There are more than the limit let through.
    pub truncated: bool,
}

/// A pool that sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailablePool {
    /// Its id, for [`PoolRef::Id`](crate::PoolRef::Id).
    pub id: PoolId,
    /// Its name.
    pub name: Arc<str>,
    /// Where it applies.
    pub zone: Arc<str>,
    /// What sort of capacity it is.
    pub kind: Arc<str>,
    /// From when it is used, microseconds since 1970.
    pub starts_at: i64,
    /// Until when it is used, microseconds since 1970.
    pub ends_at: i64,
    /// The version of its definition.
    pub version: u32,
    /// How much is left.
    pub band: Band,
    /// Whether what has to fit does.
    pub fits: bool,
    /// What remains in each dimension, in their order; may be negative. `None` unless the query is
    /// [exact](AvailabilityQuery::exact).
    pub remaining: Option<Vec<i64>>,
}

/// What a pool is called; it stays as long as the version of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels {
    name: Arc<str>,
    zone: Arc<str>,
    kind: Arc<str>,
}

impl Client {
    /// Which pools sell in a window, and how much is left: of published counters, without a turn of their owners. What
    /// an answer to this client acknowledged before is counted.
    ///
    /// Names, zones and kinds of up to [`Options::names_max`](crate::Options::names_max) pools are remembered by the
    /// version of their definition. An answer with a pool that is not remembered is asked for a second time, with
    /// names.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for units that no server takes. Reading has no effect, so that any retryable error may be
    /// tried again.
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), plimsoll_client::Error> {
    /// use plimsoll_client::{AvailabilityQuery, Units};
    ///
    /// let query = AvailabilityQuery::of_location("10115").fitting(Units::Named(&[("orders", 1)]));
    /// for pool in client.availability(&query).await?.pools {
    ///     println!("{}: {}", pool.name, pool.band);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn availability(&self, query: &AvailabilityQuery<'_>) -> Result<Availability, Error> {
        let directory = self.inner.shared.directory();
        let mut attempts = Attempts::new(self.options());
        let mut names = !self.inner.shared.has_labels(directory.epoch);
        loop {
            let frame = query.encode(&directory, names)?;
            let answer = self.call(frame, directory.epoch, &mut attempts).await?;
            if let Some(found) = self.read_availability(&directory, query, &answer, names)? {
                return Ok(found);
            }
            names = true;
        }
    }

    /// Reads an answer. `None`: it has no names, and one of them is not remembered.
    fn read_availability(
        &self,
        directory: &Directory,
        query: &AvailabilityQuery<'_>,
        answer: &FrameAnswer,
        names: bool,
    ) -> Result<Option<Availability>, Error> {
        let table = read::<wire::Availability>("Availability", answer)?;
        let pools = table.pools();
        let keys = || pools.iter().map(|pool| (PoolId(pool.pool()), pool.version()));
        let labels = if names {
            let labels = labels_of(&table)?;
            let shared = &self.inner.shared;
            shared.remember_labels(directory.epoch, keys().zip(labels.iter().cloned()));
            labels
        } else {
            match self.inner.shared.labels(directory.epoch, keys()) {
                Some(labels) => labels,
                None => return Ok(None),
            }
        };
        let dimensions = directory.welcome.dimensions.len();
        let remaining: Vec<i64> = match table.remaining() {
            Some(remaining) if query.exact => remaining.iter().collect(),
            _ => Vec::new(),
        };
        if query.exact {
            check_count("remaining units", pools.len() * dimensions, remaining.len())?;
        }
        let mut remaining = remaining.chunks(dimensions);
        let pools = pools.iter().zip(labels).map(|(pool, labels)| AvailablePool {
            id: PoolId(pool.pool()),
            name: labels.name,
            zone: labels.zone,
            kind: labels.kind,
            starts_at: pool.starts_at(),
            ends_at: pool.ends_at(),
            version: pool.version(),
            band: pool.band().into(),
            fits: pool.fits() != 0,
            remaining: remaining.next().map(<[i64]>::to_vec),
        });
        Ok(Some(Availability {
            as_of: table.as_of(),
            pools: pools.collect(),
            truncated: table.truncated(),
        }))
    }
}

impl AvailabilityQuery<'_> {
    fn encode(&self, directory: &Directory, names: bool) -> Result<Vec<u8>, Error> {
        let dimensions = &directory.welcome.dimensions;
        let units = self.units.map(|units| checks::units(dimensions, units)).transpose()?;
        let head = Head::request(Operation::Availability, CorrelationId(0));
        encode(directory, head, |builder| {
            let [zone, location, kind] =
                [self.zone, self.location, self.kind].map(|text| text.map(|text| builder.create_string(text)));
            let units = units.map(|units| builder.create_vector(&units[..dimensions.len()]));
            let args = wire::AvailabilityQueryArgs {
                zone,
                location,
                kind,
                from: self.from,
                to: self.to,
                units,
                limit: self.limit,
                exact: self.exact,
                names,
            };
            wire::AvailabilityQuery::create(builder, &args)
        })
    }
}

/// The names, zones and kinds beside the pools of an answer.
fn labels_of(table: &wire::Availability<'_>) -> Result<Vec<Labels>, Error> {
    let expected = table.pools().len();
    let lists = [
        ("names", table.names()),
        ("zones", table.zones()),
        ("kinds", table.kinds()),
    ];
    for (what, list) in &lists {
        check_count(what, expected, list.map_or(0, |list| list.len()))?;
    }
    let [names, zones, kinds] = lists.map(|(_, list)| list.into_iter().flatten());
    // Most pools share their zone and kind with the one before.
    let mut before: Option<Labels> = None;
    let labels = names.zip(zones).zip(kinds).map(|((name, zone), kind)| {
        let shared = |text: &str, before: Option<&Arc<str>>| match before {
            Some(before) if **before == *text => Arc::clone(before),
            _ => text.into(),
        };
        let labels = Labels {
            name: name.into(),
            zone: shared(zone, before.as_ref().map(|labels| &labels.zone)),
            kind: shared(kind, before.as_ref().map(|labels| &labels.kind)),
        };
        before = Some(labels.clone());
        labels
    });
    Ok(labels.collect())
}
