//! Commands whose order on each pool is kept.

mod lanes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use plimsoll_protocol::{PoolId, Status, wire};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::attempts::deadline_after;
use crate::client::Client;
use crate::commands::{Confirm, PoolRef, Release, Reserve};
use crate::error::{Error, Invalid};
use crate::execution::Prepared;
use crate::limits::ORDERED_COMMANDS_MAX;
use crate::outcome::{Confirming, Decided, Refusal, Releasing, Reserving};
use lanes::{Item, Lanes, Order};

/// Sends commands so that those on one pool take effect in the order in which they were given.
///
/// A command on a pool is not sent while an earlier one on the same pool is in flight in another frame or its outcome
/// is not known; several that wait for the same pool travel in one frame, which keeps their order. Other pools go on in
/// parallel. What is sent again keeps its place.
///
/// The order is that in which [`Ordered::reserve`], [`Ordered::confirm`] and [`Ordered::release`] return; one caller
/// that awaits them one after the other decides it. They only wait for room. The result comes from the [`Ticket`].
///
/// When the outcome of a command is still not known at its deadline, the pool is *blocked*: what waits on it and what
/// is given later is refused with [`Error::Blocked`], without being sent, until [`Ordered::resume`].
///
/// ```no_run
/// # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use plimsoll_client::{Key, KeySource, Reserve, Units};
///
/// let ordered = client.ordered();
/// let mut tickets = Vec::new();
/// for order in ["4711", "4712"] {
///     let reserve = Reserve::new("slot-1", Units::Named(&[("orders", 1)]), Key::from_text(order)?);
///     tickets.push(ordered.reserve(&reserve).await?);
/// }
/// for ticket in tickets {
///     println!("{:?}", ticket.await?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Ordered {
    client: Client,
    orders: mpsc::Sender<Order>,
    /// Bounds what waits and what is in flight together.
    permits: Arc<Semaphore>,
}

type Decision = Result<Decided, Error>;

/// The result of a command that was given in order. Dropping it leaves the command in its place.
#[derive(Debug)]
#[must_use = "the command's outcome is only told here"]
pub struct Ticket<T> {
    decided: oneshot::Receiver<Decision>,
    convert: fn(Decided) -> T,
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let decided = std::task::ready!(Pin::new(&mut self.decided).poll(context));
        // The task answers every command before it ends, unless the runtime is shut down.
        Poll::Ready(decided.unwrap_or(Err(Error::Closed)).map(self.convert))
    }
}

impl Client {
    /// Commands whose order on each pool is kept. Each call of this makes an order of its own; clones of the result
    /// share it. Its commands end by the deadline of [`Options::request_timeout`](crate::Options::request_timeout) too,
    /// counted from when they were given.
    #[must_use]
    pub fn ordered(&self) -> Ordered {
        let (orders, receiver) = mpsc::channel(ORDERED_COMMANDS_MAX);
        self.inner.runtime.spawn(Lanes::new(self.clone()).run(receiver));
        Ordered {
            client: self.clone(),
            orders,
            permits: Arc::new(Semaphore::new(ORDERED_COMMANDS_MAX)),
        }
    }
}

impl Ordered {
    /// Gives a reserve. Waits while [`ORDERED_COMMANDS_MAX`] commands are under way.
    ///
    /// # Errors
    ///
    /// The command was not given, and has no effect: [`Error::Invalid`], or an error of resolving the pool's name. From
    /// the ticket: no effect either; that the outcome is not known is [`Reserving::Unknown`].
    pub async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Ticket<Reserving>, Error> {
        let permit = self.room().await?;
        let directory = self.client.inner.shared.directory();
        let deadline = deadline_after(self.client.options().request_timeout);
        let prepared = self
            .client
            .prepare_reserve(reserve, &directory, false, deadline)
            .await?;
        let (reply, decided) = oneshot::channel();
        match prepared {
            Some((prepared, remembered)) => {
                let pool = prepared.command.pool_id();
                let forget = match reserve.pool {
                    PoolRef::Name(name) if remembered => Some(name.into()),
                    _ => None,
                };
                self.give(Item {
                    pool,
                    prepared,
                    forget,
                    deadline,
                    reply,
                    permit,
                    lost: None,
                    attempts: 0,
                })
                .await?;
            }
            None => drop(reply.send(Ok(Decided::Refused(Refusal::new(Status::PoolNotFound))))),
        }
        Ok(Ticket {
            decided,
            convert: Reserving::from,
        })
    }

    /// Gives a confirmation. Waits while [`ORDERED_COMMANDS_MAX`] commands are under way.
    ///
    /// # Errors
    ///
    /// As [`Ordered::release`].
    pub async fn confirm(&self, confirm: &Confirm<'_>) -> Result<Ticket<Confirming>, Error> {
        let command = wire::Command::confirm(confirm.reservation, confirm.occurred_at);
        let decided = self.change(confirm.pool, command).await?;
        Ok(Ticket {
            decided,
            convert: Confirming::from,
        })
    }

    /// Gives a release. Waits while [`ORDERED_COMMANDS_MAX`] commands are under way.
    ///
    /// # Errors
    ///
    /// As [`Ordered::reserve`]; also [`Invalid::PoolName`] when no pool has the name, because then there is no place
    /// for it in the order.
    pub async fn release(&self, release: &Release<'_>) -> Result<Ticket<Releasing>, Error> {
        let command = wire::Command::release(release.reservation, release.occurred_at);
        let decided = self.change(release.pool, command).await?;
        Ok(Ticket {
            decided,
            convert: Releasing::from,
        })
    }

    async fn change(&self, pool: PoolRef<'_>, command: wire::Command) -> Result<oneshot::Receiver<Decision>, Error> {
        let permit = self.room().await?;
        let directory = self.client.inner.shared.directory();
        let deadline = deadline_after(self.client.options().request_timeout);
        let pool = self.pool_id(pool).await?;
        let prepared = Prepared {
            command,
            units: Default::default(),
            reference: None,
            epoch: directory.epoch,
        };
        let (reply, decided) = oneshot::channel();
        self.give(Item {
            pool,
            prepared,
            forget: None,
            deadline,
            reply,
            permit,
            lost: None,
            attempts: 0,
        })
        .await?;
        Ok(decided)
    }

    /// Lets commands on a blocked pool be sent again, after the caller has found out, or does not mind, what became of
    /// the one whose outcome was unknown.
    ///
    /// # Errors
    ///
    /// An error of resolving the pool's name.
    pub async fn resume(&self, pool: impl Into<PoolRef<'_>>) -> Result<(), Error> {
        let pool = self.pool_id(pool.into()).await?;
        self.orders.send(Order::Resume(pool)).await.map_err(|_| Error::Closed)
    }

    async fn pool_id(&self, pool: PoolRef<'_>) -> Result<PoolId, Error> {
        let directory = self.client.inner.shared.directory();
        let deadline = deadline_after(self.client.options().request_timeout);
        match (self.client.pool_id(pool, &directory, false, deadline).await?, pool) {
            (Some((id, _)), _) => Ok(id),
            (None, PoolRef::Name(name)) => Err(Invalid::PoolName { name: name.to_owned() }.into()),
            (None, PoolRef::Id(id)) => Ok(id),
        }
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)
    }

    async fn give(&self, item: Item) -> Result<(), Error> {
        self.orders
            .send(Order::Command(Box::new(item)))
            .await
            .map_err(|_| Error::Closed)
    }
}
