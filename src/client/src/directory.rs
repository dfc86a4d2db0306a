//! What the server said of itself, and which data directory it runs on.
//!
//! - The *epoch* counts the data directories that this client has seen, from 1. Pool ids, reservation ids and keys
//!   belong to one epoch; a request carries its own, and no connection sends a request of another.
//! - Directory and names change together under one lock, so that no id of an old directory is remembered for a new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_protocol::limits::{DIMENSIONS_COUNT_MAX, FRAME_HEADER_SIZE_BYTES, FRAME_SIZE_BYTES_MAX};
use plimsoll_protocol::{PoolId, VERSION, payload, wire};

use crate::availability::Labels;
use crate::error::ConnectError;
use crate::options::Options;
use crate::recent::Recent;

/// The least that a frame must be able to hold: one command with everything that belongs to it, and some room.
const FRAME_SIZE_BYTES_MIN: u32 = 512;

/// Counts data directories, from 1; 0 belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u64);

/// What the server said of itself when the connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Welcome {
    /// The version of the protocol that is spoken.
    pub version: u16,
    /// The server's program and version.
    pub server: String,
    /// The data directory, 32 hexadecimal digits. Ids and keys are only valid within one.
    pub directory_id: String,
    /// The names of the dimensions, in their order; 1 to 8.
    pub dimensions: Vec<String>,
    /// How many cores own pools.
    pub cores: u16,
    /// Largest frame in bytes.
    pub frame_size_bytes_max: u32,
    /// Most commands in one frame.
    pub commands_max: u16,
    /// Most commands in flight on one connection.
    pub window_commands: u32,
    /// Most pools or reservations that one frame names or asks for. The client cuts longer calls into several.
    pub items_max: u32,
}

impl Welcome {
    /// Reads and checks the answer to hello.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, ConnectError> {
        let table = payload::table::<wire::Welcome>("Welcome", payload)?;
        let welcome = Self {
            version: table.version(),
            server: table.server().unwrap_or_default().to_owned(),
            directory_id: table.directory_id().unwrap_or_default().to_owned(),
            dimensions: table.dimensions().iter().map(str::to_owned).collect(),
            cores: table.cores(),
            frame_size_bytes_max: table.frame_size_max().min(FRAME_SIZE_BYTES_MAX),
            commands_max: table.commands_max(),
            window_commands: table.window_commands(),
            items_max: table.items_max(),
        };
        let check = |field, found: u64, valid: bool| {
            if valid {
                Ok(())
            } else {
                Err(ConnectError::Welcome { field, found })
            }
        };
        const { assert!(FRAME_SIZE_BYTES_MIN as usize > FRAME_HEADER_SIZE_BYTES) };
        let dimensions = welcome.dimensions.len();
        check("version", welcome.version.into(), welcome.version == VERSION)?;
        check(
            "dimensions",
            dimensions as u64,
            (1..=DIMENSIONS_COUNT_MAX).contains(&dimensions),
        )?;
        let size = welcome.frame_size_bytes_max;
        check("frame_size_max", size.into(), size >= FRAME_SIZE_BYTES_MIN)?;
        check("commands_max", welcome.commands_max.into(), welcome.commands_max > 0)?;
        check(
            "window_commands",
            welcome.window_commands.into(),
            welcome.window_commands > 0,
        )?;
        check("items_max", welcome.items_max.into(), welcome.items_max > 0)?;
        Ok(welcome)
    }
}

/// What the tasks of all connections and all callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) address: Arc<str>,
    /// That of `current`, for a look without the lock.
    epoch: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    epoch: Epoch,
    welcome: Arc<Welcome>,
    names: Recent<Box<str>, PoolId>,
    /// Names, zones and kinds by the pool's id and the version of its definition.
    labels: Recent<(PoolId, u32), Labels>,
}

/// The directory that a call was checked against.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) epoch: Epoch,
    pub(crate) welcome: Arc<Welcome>,
}

impl Shared {
    pub(crate) fn new(options: Options, address: Arc<str>) -> Self {
        let welcome = Welcome {
            version: 0,
            server: String::new(),
            directory_id: String::new(),
            dimensions: Vec::new(),
            cores: 0,
            frame_size_bytes_max: FRAME_SIZE_BYTES_MIN,
            commands_max: 1,
            window_commands: 1,
            items_max: 1,
        };
        let (names, labels) = (Recent::new(options.names_max), Recent::new(options.names_max));
        let current = Mutex::new(Current {
            epoch: Epoch(0),
            welcome: Arc::new(welcome),
            names,
            labels,
        });
        Self {
            options,
            address,
            epoch: AtomicU64::new(0),
            current,
        }
    }

    /// The directory now. Until the first connection stands, one without dimensions.
    pub(crate) fn directory(&self) -> Directory {
        let current = self.lock();
        Directory {
            epoch: current.epoch,
            welcome: Arc::clone(&current.welcome),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Takes note of a connection's welcome, and gives the epoch of its directory.
    pub(crate) fn welcomed(&self, welcome: &Arc<Welcome>) -> Epoch {
        let mut current = self.lock();
        let known = current.epoch != Epoch(0);
        if !known || current.welcome.directory_id != welcome.directory_id {
            if known {
                let (before, now) = (&current.welcome.directory_id, &welcome.directory_id);
                tracing::warn!(address = %self.address, %before, %now, "the server runs on another data directory");
            }
            current.epoch.0 += 1;
            current.names.clear();
            current.labels.clear();
            self.epoch.store(current.epoch.0, Ordering::Release);
        }
        current.welcome = Arc::clone(welcome);
        current.epoch
    }

    /// The remembered id of a pool.
    pub(crate) fn name(&self, epoch: Epoch, name: &str) -> Option<PoolId> {
        let mut current = self.lock();
        if current.epoch == epoch {
            current.names.get(name)
        } else {
            None
        }
    }

    /// Remembers the id of a pool, when its directory is still the one in use.
    pub(crate) fn remember(&self, epoch: Epoch, name: &str, id: PoolId) {
        let mut current = self.lock();
        if current.epoch == epoch {
            current.names.insert(name.into(), id);
        }
    }

    /// Forgets the id of a pool, when it is still this one.
    pub(crate) fn forget(&self, name: &str, id: PoolId) {
        self.lock().names.remove(name, &id);
    }

    /// The remembered labels of all these pools; `None` when one of them is not remembered.
    pub(crate) fn labels(&self, epoch: Epoch, pools: impl Iterator<Item = (PoolId, u32)>) -> Option<Vec<Labels>> {
        let mut current = self.lock();
        if current.epoch != epoch {
            return None;
        }
        pools.map(|pool| current.labels.get(&pool)).collect()
    }

    /// Whether labels of any pool are remembered.
    pub(crate) fn has_labels(&self, epoch: Epoch) -> bool {
        let current = self.lock();
        current.epoch == epoch && !current.labels.is_empty()
    }

    /// Remembers labels of pools, when their directory is still the one in use.
    pub(crate) fn remember_labels(&self, epoch: Epoch, pools: impl Iterator<Item = ((PoolId, u32), Labels)>) {
        let mut current = self.lock();
        if current.epoch == epoch {
            pools.for_each(|(pool, labels)| current.labels.insert(pool, labels));
        }
    }

    /// A panic elsewhere leaves nothing half done here: every change is a single assignment.
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
