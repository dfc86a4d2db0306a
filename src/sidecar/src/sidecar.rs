//! Starting, running and stopping.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::app::App;
use crate::limits::CHANGES_COUNT_MAX;
use crate::options::Options;
use crate::router;
use crate::samples;
use crate::serving::Connections;

/// Why the sidecar cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An address that others can reach, while there is no authentication.
    #[error("{address} is not a loopback address, and there is no authentication yet")]
    InsecureListen {
        /// The address.
        address: SocketAddr,
    },
    /// Not the name of a time zone.
    #[error("{name:?} is no time zone of the IANA database")]
    TimeZone {
        /// The name.
        name: String,
    },
    /// A thread cannot be started.
    #[error("cannot start the threads that serve HTTP")]
    Threads {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Addresses that are taken, on which nobody is served yet: whoever connects waits.
#[derive(Debug)]
pub struct Bound {
    options: Options,
    listen: TcpListener,
    address: SocketAddr,
    admin: Option<(TcpListener, SocketAddr)>,
}

/// A running sidecar. When it is dropped, it stops without waiting for anything.
#[derive(Debug)]
pub struct Sidecar {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    handle: Handle,
    /// Whoever waits for it holds the lock meanwhile.
    thread: Mutex<Option<JoinHandle<()>>>,
    ready: Mutex<mpsc::Receiver<()>>,
}

/// Stops a sidecar from any thread.
#[derive(Clone, Debug)]
pub struct Handle(watch::Sender<bool>);

impl Bound {
    /// Checks the options and takes the addresses.
    ///
    /// # Errors
    /// [`StartError`]; the addresses are free then.
    pub fn new(options: Options) -> Result<Bound, StartError> {
        jiff::tz::TimeZone::get(&options.time_zone).map_err(|_| StartError::TimeZone {
            name: options.time_zone.clone(),
        })?;
        let (listen, address) = bind(options.listen, &options)?;
        let admin = options.admin.map(|address| bind(address, &options)).transpose()?;
        Ok(Bound {
            options,
            listen,
            address,
            admin,
        })
    }

    /// Where HTTP will be served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, with this engine behind it. It need not be there yet: until it is, requests are answered as unavailable.
    ///
    /// # Errors
    /// [`StartError::Threads`].
    pub fn start(self, engine: impl Into<String>) -> Result<Sidecar, StartError> {
        let Bound {
            mut options,
            listen,
            address,
            admin,
        } = self;
        options.engine = engine.into();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|source| StartError::Threads { source })?;
        let (stop, stopping) = watch::channel(false);
        let (told, ready) = mpsc::channel();
        let (admin, admin_address) = admin.unzip();
        let thread = std::thread::Builder::new().name("http-sidecar".into()).spawn(move || {
            runtime.block_on(run(options, listen, admin, stopping, told));
            // Whatever still runs has had its time.
            runtime.shutdown_background();
        });
        Ok(Sidecar {
            address,
            admin: admin_address,
            handle: Handle(stop),
            thread: Mutex::new(Some(thread.map_err(|source| StartError::Threads { source })?)),
            ready: Mutex::new(ready),
        })
    }
}

impl Sidecar {
    /// Where HTTP is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the page, pools, exact numbers and metrics are served, when that is an address of its own.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Stops it from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the engine has answered for the first time; `false` when the sidecar stopped before.
    #[must_use]
    pub fn wait_until_ready(&self) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok()
    }

    /// Stops it, and waits until it has: what was accepted has been answered, or has had its time.
    pub fn stop(&self) {
        self.handle.stop();
        self.wait();
    }

    /// Waits until it has stopped: what was accepted has been answered, or has had its time.
    pub fn wait(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic has been told by its hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl Handle {
    /// Asks it to finish what it accepted and end; returns at once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

fn bind(address: SocketAddr, options: &Options) -> Result<(TcpListener, SocketAddr), StartError> {
    if !options.insecure_listen && !address.ip().is_loopback() {
        return Err(StartError::InsecureListen { address });
    }
    let listen = |source| StartError::Listen { address, source };
    // Without SO_REUSEPORT: a port that another process listens on is refused.
    let listener = TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    Ok((listener, bound))
}

async fn run(
    options: Options,
    listen: TcpListener,
    admin: Option<TcpListener>,
    stopping: watch::Receiver<bool>,
    told: mpsc::Sender<()>,
) {
    let drain_timeout = options.drain_timeout;
    let mut draining = stopping.clone();
    let app = App::new(options, stopping.clone());
    let routers = router::routers(&app);
    let connections = Connections::new(stopping);
    let mut serving = tokio::task::JoinSet::new();
    for (listener, router) in [(Some(listen), routers.listen), (admin, routers.admin)] {
        let Some(listener) = listener else { continue };
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                serving.spawn(connections.clone().serve(listener, router));
            }
            Err(error) => {
                tracing::error!(%error, "a listener cannot be used");
                return;
            }
        }
    }
    serving.spawn(samples::take(Arc::clone(&app)));
    let engine = app.engine.clone();
    serving.spawn(async move {
        engine.connected().await;
        let _ = told.send(());
        std::future::pending::<()>().await;
    });
    // An error means that the sidecar was dropped.
    let _ = draining.wait_for(|draining| *draining).await;
    let drained = async {
        connections.drained().await;
        // Changes whose callers have gone are made to their end. It fails only when the semaphore is closed, which nobody does.
        let _ = app.changes.acquire_many(CHANGES_COUNT_MAX as u32).await;
    };
    if tokio::time::timeout(drain_timeout, drained).await.is_err() {
        tracing::warn!(?drain_timeout, "some requests were not answered in time");
    }
    serving.abort_all();
}
