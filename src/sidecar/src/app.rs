//! What all requests share, and what differs between the two addresses.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Semaphore, watch};

use crate::engine::Engine;
use crate::follower::Follower;
use crate::limits::{
    BODIES_SIZE_BYTES_MAX, CATCHING_UP_COUNT_MAX, CHANGES_COUNT_MAX, IMPORT_COUNT_MAX, SHEET_COUNT_MAX,
    STREAM_COUNT_MAX,
};
use crate::lookup::Lookups;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::samples::Samples;

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) engine: Engine,
    pub(crate) lookups: Lookups,
    pub(crate) metrics: Metrics,
    pub(crate) samples: Samples,
    pub(crate) follower: Follower,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) catching_up: Arc<Semaphore>,
    /// Whether the sidecar is stopping.
    pub(crate) draining: watch::Receiver<bool>,
    /// Requests that are being answered.
    pub(crate) requests: AtomicUsize,
    /// Room for bodies, in bytes.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) imports: Arc<Semaphore>,
    pub(crate) changes: Arc<Semaphore>,
    pub(crate) sheets: Arc<Semaphore>,
}

/// Who asks, by the address that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Whether exact numbers are told.
    pub(crate) exact: bool,
}

/// What a handler gets.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) app: Arc<App>,
    pub(crate) audience: Audience,
}

impl App {
    pub(crate) fn new(options: Options, draining: watch::Receiver<bool>) -> Arc<App> {
        let engine = Engine::new(&options);
        Arc::new(App {
            lookups: Lookups::start(engine.clone()),
            samples: Samples::default(),
            follower: Follower::start(engine.clone()),
            streams: Arc::new(Semaphore::new(STREAM_COUNT_MAX)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_COUNT_MAX)),
            engine,
            metrics: Metrics::default(),
            draining,
            requests: AtomicUsize::new(0),
            bodies: Arc::new(Semaphore::new(BODIES_SIZE_BYTES_MAX)),
            changes: Arc::new(Semaphore::new(CHANGES_COUNT_MAX)),
            imports: Arc::new(Semaphore::new(IMPORT_COUNT_MAX)),
            sheets: Arc::new(Semaphore::new(SHEET_COUNT_MAX)),
            options,
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
