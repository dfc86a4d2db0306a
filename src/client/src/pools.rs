//! Pools: their ids, their definitions, what is reserved of them.

use flatbuffers::{FlatBufferBuilder, Follow, Verifiable, WIPOffset};
use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{
    CLOSES_AT_NEVER, CorrelationId, EncodeError, Encoder, Operation, PoolId, Status, StatusNumber, payload, wire,
};
use std::collections::HashMap;
use std::time::Instant;

use crate::attempts::{Attempts, deadline_after};
use crate::checks;
use crate::client::Client;
use crate::directory::Directory;
use crate::error::{AnswerError, Error, Invalid, UnknownCause};
use crate::outcome::Unknown;
use crate::request::FrameAnswer;

/// What a frame takes besides its items.
const BASE_SIZE_BYTES: usize = 128;

/// What the planner says of a pool. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDefinition {
    /// Its name: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`, not `import`.
    pub name: String,
    /// Where it applies.
    pub zone: String,
    /// What sort of capacity it is.
    pub kind: String,
    /// From when it is used. Gates nothing.
    pub starts_at: i64,
    /// Until when it is used. Gates nothing.
    pub ends_at: i64,
    /// Before this, a reserve is refused.
    pub opens_at: i64,
    /// From this on, a reserve is refused; the greatest value: never.
    pub closes_at: i64,
    /// Prefixes of the locations that it serves.
    pub coverage: Vec<String>,
    /// Whether the planner closed it.
    pub closed: bool,
    /// Whether every reserve is recorded, also those that enforcement would have refused.
    pub shadow: bool,
    /// The limit in each dimension.
    pub limits: Vec<u32>,
    /// The overbooking allowance in each dimension; empty: zeros.
    pub overbook: Vec<u32>,
    /// To [`Client::put_pools`]: the version that the change was made from, 0 for any,
    /// [`VERSION_ABSENT`](plimsoll_protocol::VERSION_ABSENT) when the pool must not exist. From the server: the version
    /// that stands.
    pub version: u64,
}

impl PoolDefinition {
    /// An open, enforcing pool without coverage, whose window is everything and which may have any version.
    pub fn new(name: impl Into<String>, limits: Vec<u32>) -> Self {
        Self {
            name: name.into(),
            zone: String::new(),
            kind: String::new(),
            starts_at: 0,
            ends_at: 0,
            opens_at: 0,
            closes_at: CLOSES_AT_NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits,
            overbook: Vec::new(),
            version: 0,
        }
    }

    /// What it takes of a frame, at most.
    fn size_on_wire(&self) -> usize {
        const FIXED: usize = 256;
        const EACH_PREFIX: usize = 16;
        let texts = self.name.len() + self.zone.len() + self.kind.len();
        let coverage: usize = self.coverage.iter().map(|prefix| EACH_PREFIX + prefix.len()).sum();
        FIXED + texts + coverage + size_of::<u32>() * (self.limits.len() + self.overbook.len())
    }

    fn encode<'builder>(&self, builder: &mut FlatBufferBuilder<'builder>) -> WIPOffset<wire::PoolDefinition<'builder>> {
        let name = Some(builder.create_string(&self.name));
        let zone = Some(builder.create_string(&self.zone));
        let kind = Some(builder.create_string(&self.kind));
        let coverage = (!self.coverage.is_empty()).then(|| {
            let prefixes: Vec<_> = self
                .coverage
                .iter()
                .map(|prefix| builder.create_string(prefix))
                .collect();
            builder.create_vector(&prefixes)
        });
        let limits = Some(builder.create_vector(&self.limits));
        let overbook = (!self.overbook.is_empty()).then(|| builder.create_vector(&self.overbook));
        let &Self {
            starts_at,
            ends_at,
            opens_at,
            closes_at,
            closed,
            shadow,
            version,
            ..
        } = self;
        let args = wire::PoolDefinitionArgs {
            name,
            zone,
            kind,
            starts_at,
            ends_at,
            opens_at,
            closes_at,
            coverage,
            closed,
            shadow,
            limits,
            overbook,
            version,
        };
        wire::PoolDefinition::create(builder, &args)
    }
}

impl From<wire::PoolDefinition<'_>> for PoolDefinition {
    fn from(table: wire::PoolDefinition<'_>) -> Self {
        let coverage = table
            .coverage()
            .map(|prefixes| prefixes.iter().map(str::to_owned).collect());
        Self {
            name: table.name().to_owned(),
            zone: table.zone().to_owned(),
            kind: table.kind().to_owned(),
            starts_at: table.starts_at(),
            ends_at: table.ends_at(),
            opens_at: table.opens_at(),
            closes_at: table.closes_at(),
            coverage: coverage.unwrap_or_default(),
            closed: table.closed(),
            shadow: table.shadow(),
            limits: table.limits().iter().collect(),
            overbook: table
                .overbook()
                .map(|values| values.iter().collect())
                .unwrap_or_default(),
            version: table.version(),
        }
    }
}

/// A pool and what is reserved of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// What the planner says of it.
    pub definition: PoolDefinition,
    /// Held units, by dimension.
    pub held: Vec<i64>,
    /// Confirmed units, by dimension.
    pub confirmed: Vec<i64>,
}

impl Pool {
    /// Limit plus overbooking minus what is held and confirmed, by dimension; may be negative.
    #[must_use]
    pub fn remaining(&self) -> Vec<i64> {
        let at = |values: &[i64], index: usize| values.get(index).copied().unwrap_or(0);
        let limits = self.definition.limits.iter().enumerate();
        limits
            .map(|(index, &limit)| {
                let overbook = self.definition.overbook.get(index).copied().unwrap_or(0);
                let ceiling = i64::from(limit) + i64::from(overbook);
                ceiling
                    .saturating_sub(at(&self.held, index))
                    .saturating_sub(at(&self.confirmed, index))
            })
            .collect()
    }
}

impl From<wire::Pool<'_>> for Pool {
    fn from(table: wire::Pool<'_>) -> Self {
        Self {
            id: PoolId(table.pool()),
            definition: table.definition().into(),
            held: table.held().iter().collect(),
            confirmed: table.confirmed().iter().collect(),
        }
    }
}

/// What a definition did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// Nothing: it was refused.
    None,
    /// The pool was created.
    Created,
    /// The pool was changed.
    Changed,
    /// The pool is like that already.
    Unchanged,
    /// A change that this version does not know.
    Other(u8),
}

/// What became of one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutResult {
    /// [`Status::Ok`](crate::Status::Ok), or why it was refused.
    pub status: StatusNumber,
    /// What it did, or would do.
    pub change: Change,
    /// The pool's id; `None` when there is no such pool, as for one that would be created.
    pub pool: Option<PoolId>,
    /// The version that stands.
    pub version: u64,
}

impl PutResult {
    /// Of a definition that no answer tells of: it changed nothing as far as is known, for this reason.
    #[must_use]
    pub fn failed(status: impl Into<StatusNumber>) -> PutResult {
        PutResult {
            status: status.into(),
            change: Change::None,
            pool: None,
            version: 0,
        }
    }
}

/// What a failure of a frame means for each definition in it.
fn status_of(error: &Error) -> StatusNumber {
    match error {
        Error::Unknown(_) => Status::OutcomeUnknown.into(),
        Error::Refused(refusal) => refusal.status,
        Error::Invalid(_) => Status::Invalid.into(),
        Error::QueueFull { .. } => Status::Overloaded.into(),
        _ => Status::Unavailable.into(),
    }
}

impl From<&wire::PutResult> for PutResult {
    fn from(result: &wire::PutResult) -> Self {
        let change = match result.change() {
            wire::Change::none => Change::None,
            wire::Change::created => Change::Created,
            wire::Change::changed => Change::Changed,
            wire::Change::unchanged => Change::Unchanged,
            other => Change::Other(other.0),
        };
        Self {
            status: StatusNumber(result.status()),
            change,
            pool: Some(PoolId(result.pool())).filter(|id| id.0 != 0),
            version: result.version(),
        }
    }
}

/// Some pools, in the byte order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolsPage {
    /// The pools.
    pub pools: Vec<Pool>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// All pools, a page at a time. Made by [`Client::all_pools`].
#[derive(Debug)]
pub struct AllPools {
    client: Client,
    after: Option<String>,
    done: bool,
}

impl AllPools {
    /// The next page; `None` after the last one. Each page has a deadline of its own. After an error, the same page can
    /// be asked for again.
    ///
    /// # Errors
    ///
    /// As [`Client::pools`].
    pub async fn next(&mut self) -> Result<Option<Vec<Pool>>, Error> {
        if self.done {
            return Ok(None);
        }
        let page = self.client.pools(self.after.as_deref(), 0).await?;
        match page.pools.last() {
            Some(last) if page.more => self.after = Some(last.definition.name.clone()),
            _ => self.done = true,
        }
        Ok(if page.pools.is_empty() { None } else { Some(page.pools) })
    }

    /// All of them at once.
    ///
    /// # Errors
    ///
    /// As [`Client::pools`].
    pub async fn collect(mut self) -> Result<Vec<Pool>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }
}

impl Client {
    /// The ids of pools, in the order of the names; `None` for a name that no pool has. Ids are remembered.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a text that no pool can have as its name. Reading has no effect, so that any retryable
    /// error may be tried again.
    pub async fn resolve(&self, names: &[&str]) -> Result<Vec<Option<PoolId>>, Error> {
        for name in names {
            checks::pool_name(name)?;
        }
        let directory = self.inner.shared.directory();
        let mut found: Vec<Option<PoolId>> = names
            .iter()
            .map(|name| self.inner.shared.name(directory.epoch, name))
            .collect();
        let missing: Vec<usize> = (0..names.len()).filter(|&index| found[index].is_none()).collect();
        let asked: Vec<&str> = missing.iter().map(|&index| names[index]).collect();
        let deadline = deadline_after(self.options().request_timeout);
        let answered = self.resolve_in(&directory, &asked, deadline).await?;
        for (index, id) in missing.into_iter().zip(answered) {
            found[index] = id;
        }
        Ok(found)
    }

    /// Asks the server for ids, whatever is remembered.
    pub(crate) async fn resolve_in(
        &self,
        directory: &Directory,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<Option<PoolId>>, Error> {
        let mut attempts = Attempts::until(self.options(), deadline);
        let mut found = Vec::with_capacity(names.len());
        for names in chunks(names, directory, |name| 16 + name.len()) {
            let head = Head::request(Operation::ResolvePools, CorrelationId(0));
            let frame = encode(directory, head, |builder| {
                let names: Vec<_> = names.iter().map(|name| builder.create_string(name)).collect();
                let names = Some(builder.create_vector(&names));
                wire::ResolvePools::create(builder, &wire::ResolvePoolsArgs { names })
            })?;
            let answer = self.call(frame, directory.epoch, &mut attempts).await?;
            let ids = read::<wire::ResolvedPools>("ResolvedPools", &answer)?.pools();
            check_count("pools", names.len(), ids.len())?;
            for (name, id) in names.iter().zip(ids) {
                let id = Some(PoolId(id)).filter(|id| id.0 != 0);
                if let Some(id) = id {
                    self.inner.shared.remember(directory.epoch, name, id);
                }
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Creates each pool, or changes it to this definition; with `dry_run` only checks. Results stand in the order of
    /// the definitions; some may be refused while others are done.
    ///
    /// A definition that is in force already changes nothing, so that the call can be made again. More definitions than
    /// fit into one frame are sent in several, one after the other, each with a deadline of its own.
    ///
    /// # Errors
    ///
    /// When the first frame fails: then nothing was done, but with [`Error::Unknown`], when that is not known; a definition
    /// with a version is not sent again by itself in that case, because its own change would then look like that of
    /// somebody else. When a later frame fails, its definitions have the status of that, those of the frames behind it
    /// are `unavailable`, and none of these is sent; but any failure with `dry_run` is the call's.
    pub async fn put_pools(&self, definitions: &[PoolDefinition], dry_run: bool) -> Result<Vec<PutResult>, Error> {
        for definition in definitions {
            checks::pool_name(&definition.name)?;
        }
        let directory = self.inner.shared.directory();
        let count = definitions.len();
        let mut results = Vec::with_capacity(count);
        for definitions in chunks(definitions, &directory, PoolDefinition::size_on_wire) {
            match self.put_frame(definitions, &directory, dry_run).await {
                Ok(found) => results.extend(found),
                Err(error) if dry_run || results.is_empty() => return Err(error),
                Err(error) => {
                    results.resize(results.len() + definitions.len(), PutResult::failed(status_of(&error)));
                    break;
                }
            }
        }
        results.resize(count, PutResult::failed(Status::Unavailable));
        Ok(results)
    }

    async fn put_frame(
        &self,
        definitions: &[PoolDefinition],
        directory: &Directory,
        dry_run: bool,
    ) -> Result<Vec<PutResult>, Error> {
        let head = Head::request(Operation::PutPools, CorrelationId(0));
        let frame = encode(directory, head, |builder| {
            let tables: Vec<_> = definitions
                .iter()
                .map(|definition| definition.encode(builder))
                .collect();
            let definitions = Some(builder.create_vector(&tables));
            wire::PutPools::create(builder, &wire::PutPoolsArgs { definitions, dry_run })
        })?;
        let mut attempts = Attempts::new(self.options());
        attempts.retry_lost &= dry_run || definitions.iter().all(|definition| definition.version == 0);
        let answer = self.call(frame, directory.epoch, &mut attempts).await?;
        let found = read::<wire::PutPoolsResult>("PutPoolsResult", &answer)?.results();
        check_count("results", definitions.len(), found.len())?;
        Ok(found.iter().map(PutResult::from).collect())
    }

    /// Some pools in the byte order of their names: those after this name, at most `limit`, and never more than the
    /// server gives at once. A limit of 0 is that most.
    ///
    /// # Errors
    ///
    /// Reading has no effect, so that any retryable error may be tried again.
    pub async fn pools(&self, after: Option<&str>, limit: u32) -> Result<PoolsPage, Error> {
        let directory = self.inner.shared.directory();
        let head = Head::request(Operation::ListPools, CorrelationId(0));
        let frame = encode(&directory, head, |builder| {
            let after = after.map(|name| builder.create_string(name));
            wire::ListPools::create(builder, &wire::ListPoolsArgs { after, limit })
        })?;
        let answer = self
            .call(frame, directory.epoch, &mut Attempts::new(self.options()))
            .await?;
        let table = read::<wire::Pools>("Pools", &answer)?;
        Ok(PoolsPage {
            pools: table.pools().iter().map(Pool::from).collect(),
            more: table.more(),
        })
    }

    /// All pools, a page at a time.
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), plimsoll_client::Error> {
    /// let mut pools = client.all_pools();
    /// while let Some(page) = pools.next().await? {
    ///     for pool in page {
    ///         println!("{}: {:?} left", pool.definition.name, pool.remaining());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn all_pools(&self) -> AllPools {
        AllPools {
            client: self.clone(),
            after: None,
            done: false,
        }
    }

    /// The pool of this name, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Client::resolve`].
    pub async fn pool(&self, name: &str) -> Result<Option<Pool>, Error> {
        Ok(self.pools_named(&[name]).await?.pop().flatten())
    }

    /// The pools of these names, in their order; `None` for a name that no pool has. More than fit into one answer are asked for in several
    /// requests, one after the other, each with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::resolve`].
    pub async fn pools_named(&self, names: &[&str]) -> Result<Vec<Option<Pool>>, Error> {
        for name in names {
            checks::pool_name(name)?;
        }
        let directory = self.inner.shared.directory();
        let mut found: HashMap<String, Pool> = HashMap::with_capacity(names.len());
        let mut parts: Vec<&[&str]> = chunks(names, &directory, |name| 16 + name.len()).collect();
        while let Some(names) = parts.pop() {
            match self.pools_named_in(&directory, names).await {
                Ok(pools) => found.extend(pools.into_iter().map(|pool| (pool.definition.name.clone(), pool))),
                // What the pools say of themselves may be more than fits into an answer.
                Err(Error::Refused(refusal)) if refusal.is(Status::FrameTooLarge) && names.len() > 1 => {
                    let (left, right) = names.split_at(names.len() / 2);
                    parts.extend([left, right]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(names.iter().map(|name| found.get(*name).cloned()).collect())
    }

    async fn pools_named_in(&self, directory: &Directory, names: &[&str]) -> Result<Vec<Pool>, Error> {
        let head = Head::request(Operation::GetPools, CorrelationId(0));
        let frame = encode(directory, head, |builder| {
            let names: Vec<_> = names.iter().map(|name| builder.create_string(name)).collect();
            let names = Some(builder.create_vector(&names));
            wire::GetPools::create(builder, &wire::GetPoolsArgs { names })
        })?;
        let answer = self
            .call(frame, directory.epoch, &mut Attempts::new(self.options()))
            .await?;
        let table = read::<wire::Pools>("Pools", &answer)?;
        Ok(table.pools().iter().map(Pool::from).collect())
    }
}

/// Cuts items into parts that fit into a frame and that the server takes at once. An item that is too large by itself
/// stands alone, and is refused when it is encoded.
fn chunks<'items, T>(
    items: &'items [T],
    directory: &Directory,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &'items [T]> {
    let items_max = directory.welcome.items_max as usize;
    let size_max = (directory.welcome.frame_size_bytes_max as usize).saturating_sub(BASE_SIZE_BYTES);
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut total = 0;
        let fitting = rest.iter().take(items_max).take_while(|item| {
            total += size(item);
            total <= size_max
        });
        let count = fitting.count().max(1).min(rest.len());
        let (part, behind) = rest.split_at(count);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

pub(crate) fn encode<T>(
    directory: &Directory,
    head: Head,
    build: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<T>,
) -> Result<Vec<u8>, Error> {
    let mut frame = Vec::new();
    let mut encoder = Encoder::new();
    encoder.set_size_max(directory.welcome.frame_size_bytes_max);
    encoder.table(&mut frame, head, build).map_err(encode_error)?;
    Ok(frame)
}

pub(crate) fn encode_error(error: EncodeError) -> Error {
    let (size, size_max) = match error {
        EncodeError::Size { size, size_max } => (size, size_max as usize),
        EncodeError::Count { count } => (count, usize::from(u16::MAX)),
        _ => (0, 0),
    };
    Error::Invalid(Invalid::Size { size, size_max })
}

/// Reads an answer's table.
pub(crate) fn read<'answer, T>(name: &'static str, answer: &'answer FrameAnswer) -> Result<T::Inner, Error>
where
    T: Follow<'answer> + Verifiable + 'answer,
{
    payload::table::<T>(name, &answer.payload).map_err(|error| unreadable(AnswerError::Payload(error)))
}

pub(crate) fn check_count(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(unreadable(AnswerError::Count { what, expected, found }))
    }
}

fn unreadable(error: AnswerError) -> Error {
    Error::Unknown(Unknown {
        cause: UnknownCause::Answer(error),
        attempts: 1,
    })
}
