//! What the threads of the generator drive Plimsoll with.

mod batched;
pub(crate) mod buffers;
mod by_client;
mod by_frames;
mod changes;
pub(crate) mod live;
pub(crate) mod queries;
mod socket;

use std::sync::Arc;

use anyhow::Result;
use plimsoll_client::{Gather, Options, PoolId};
use tokio::task::JoinSet;

use crate::args::Via;
use crate::ledger::Window;
use crate::load::driver::Driver;
use crate::preset::{Preset, Settings};
use crate::threads::{SharedLedger, Worker};

/// What every thread of the generator knows.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) address: String,
    pub(crate) pools: Vec<PoolId>,
    pub(crate) dimensions: usize,
    pub(crate) seed: u64,
}

impl Plan {
    /// One unit of the first dimension.
    pub(crate) fn one_unit(&self) -> Vec<u32> {
        let mut units = vec![0; self.dimensions];
        units[0] = 1;
        units
    }

    /// What a reserve takes, for each dimension.
    pub(crate) fn units(&self) -> Vec<u32> {
        let mut units = self.one_unit();
        units[0] = self.settings.work.as_ref().map_or(1, |work| work.units);
        units
    }

    /// Threads of the generator: those of the load and, beside queries, one that changes the numbers.
    pub(crate) fn worker_count(&self) -> usize {
        self.settings.threads + usize::from(self.settings.preset == Preset::Availability)
    }
}

/// Starts thread `index` of those that the plan has.
pub(crate) fn spawn(plan: &Arc<Plan>, index: usize) -> Result<Worker> {
    let plan = Arc::clone(plan);
    Worker::spawn(format!("load-{index}"), plan.pools.len(), async move |ledger| {
        let load = if let Some(work) = &plan.settings.work {
            Load::Driven(Box::new(Driver::open(&plan, work, index)?))
        } else if index < plan.settings.threads {
            // Connections are dealt out in turn.
            let connections = (index..plan.settings.connections).step_by(plan.settings.threads);
            Load::prepare(&plan, connections, &ledger).await?
        } else {
            Load::Changes(Box::new(changes::Changes::open(&plan).await?))
        };
        Ok(move |window| load.start(&plan, window, &ledger))
    })
}

/// The connections of one thread, ready to begin.
enum Load {
    Batched(Vec<batched::Connection>),
    Frames(Vec<by_frames::Connection>),
    Client(Vec<by_client::Connection>),
    Queries(Vec<queries::Connection>),
    Changes(Box<changes::Changes>),
    Driven(Box<Driver>),
}

impl Load {
    async fn prepare(
        plan: &Arc<Plan>,
        connections: impl Iterator<Item = usize>,
        ledger: &SharedLedger,
    ) -> Result<Self> {
        match (plan.settings.preset, plan.settings.via) {
            (Preset::Batched, _) => {
                let mut prepared = Vec::new();
                for index in connections {
                    let connection = batched::Connection::open(plan, index).await?;
                    connection.fill(ledger).await?;
                    prepared.push(connection);
                }
                Ok(Self::Batched(prepared))
            }
            (Preset::Availability, _) => {
                let mut prepared = Vec::new();
                for index in connections {
                    prepared.push(queries::Connection::open(plan, index).await?);
                }
                Ok(Self::Queries(prepared))
            }
            (_, Via::Frames) => {
                let mut prepared = Vec::new();
                for index in connections {
                    prepared.push(by_frames::Connection::open(plan, index).await?);
                }
                Ok(Self::Frames(prepared))
            }
            (_, Via::Client) => {
                let mut prepared = Vec::new();
                for index in connections {
                    prepared.push(by_client::Connection::open(plan, index).await?);
                }
                Ok(Self::Client(prepared))
            }
        }
    }

    fn start(self, plan: &Arc<Plan>, window: Window, ledger: &SharedLedger) -> JoinSet<Result<()>> {
        let mut tasks = JoinSet::new();
        match self {
            Self::Batched(connections) => {
                for connection in connections {
                    connection.start(window, ledger, &mut tasks);
                }
            }
            Self::Frames(connections) => {
                for connection in connections {
                    tasks.spawn(connection.run(window, ledger.clone()));
                }
            }
            Self::Client(connections) => {
                for connection in connections {
                    connection.start(plan, window, ledger, &mut tasks);
                }
            }
            Self::Queries(connections) => {
                for connection in connections {
                    tasks.spawn(connection.run(window, ledger.clone()));
                }
            }
            Self::Changes(changes) => changes.start(window, ledger, &mut tasks),
            Self::Driven(driver) => {
                let ledger = ledger.clone();
                // It has the thread for itself: nothing else runs on it.
                tasks.spawn(async move { driver.run(window, &mut ledger.lock()) });
            }
        }
        tasks
    }
}

/// A client with one connection, which sends each command once.
pub(crate) fn client_options() -> Options {
    Options {
        retry: false,
        gather: Gather {
            commands_max: 1,
            ..Gather::default()
        },
        // Room for every frame that may be in flight.
        queue_commands_max: 1 << 20,
        name: concat!("plimsoll-loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Options::default()
    }
}
