//! Starting, running and stopping.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_availability::{Table, Writer};
use plimsoll_domain::StateOptions;
use plimsoll_engine::{Engine, EngineOptions};
use plimsoll_journal::{Directory, DirectoryError, DirectoryJournal, MmapStorage, NewDirectory, RecoveryError, Ring};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::availability::Availability;
use crate::clock::Clock;
use crate::core::Core;
use crate::fatal::Fatal;
use crate::limits::POOLS_PER_CORE_MAX;
use crate::options::Options;
use crate::patience::try_patiently;
use crate::runtime::{self, Executor, Listener};
use crate::shared::Shared;
use crate::stats::{CoreCounters, Stats};
use crate::{heartbeat, host, listen, sync};

/// A running server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    executors: Vec<Executor>,
    heartbeat: JoinHandle<()>,
    /// Kept until every core has ended: it holds the lock.
    directory: Directory,
}

/// Stops and watches a server from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Asks the server to finish what it accepted and end; returns at once.
    pub fn shutdown(&self) {
        self.0.stop();
    }

    /// What each core has counted since the start. Reading disturbs no core.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            cores: self.0.counters.iter().map(CoreCounters::read).collect(),
        }
    }
}

impl Server {
    /// Starts a server: checks the host, takes the data directory, recovers every journal, listens.
    ///
    /// # Errors
    /// A [`Fatal`], with its exit code and remedy. Nothing is left running then.
    pub fn start(options: &Options) -> Result<Server, Fatal> {
        if !options.insecure_listen && !options.listen.ip().is_loopback() {
            return Err(Fatal::InsecureListen {
                address: options.listen,
            });
        }
        abort_on_panic();
        host::check()?;
        let (directory, processors) = open_directory(options)?;
        host::check_locked_memory(processors.len())?;
        let (sockets, address) = listen::listen(options.listen, processors.len()).map_err(|source| Fatal::Listen {
            address: options.listen,
            source,
        })?;
        let connection_count_max = host::connection_count_max(processors.len());
        let shared = Arc::new(Shared::new(&directory, connection_count_max));
        let heartbeat = heartbeat::start(Arc::clone(&shared)).map_err(|source| Fatal::Executor { core: 0, source })?;
        let mut server = Server {
            address,
            shared: Arc::clone(&shared),
            executors: Vec::new(),
            heartbeat,
            directory,
        };
        let (table, writers) = Table::new(processors.len(), shared.dimensions.len());
        let (started, starts) = mpsc::channel();
        for (core, (processor, (socket, writer))) in processors.iter().zip(sockets.into_iter().zip(writers)).enumerate()
        {
            let setup = CoreSetup {
                core,
                journal: server.directory.journals()[core].clone(),
                segment_size: server.directory.segment_size(),
                options: options.clone(),
                shared: Arc::clone(&shared),
                table: table.clone(),
                writer,
                socket,
            };
            let started = started.clone();
            let name = format!("core-{core}");
            match Executor::start(&name, *processor, move || run_core(setup, started)) {
                Ok(executor) => server.executors.push(executor),
                Err(source) => return server.abandon(Some(Fatal::Executor { core, source })),
            }
        }
        drop(started);
        for _ in &server.executors {
            match starts.recv() {
                Ok(Ok(())) => {}
                Ok(Err(fatal)) => return server.abandon(Some(fatal)),
                // An executor ended without a word: joining it tells why.
                Err(_) => return server.abandon(None),
            }
        }
        Ok(server)
    }

    /// Where the binary protocol listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names of the dimensions.
    pub fn dimensions(&self) -> &[String] {
        &self.shared.dimensions
    }

    /// Stops the server from any thread.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Stops the server when the process gets SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                tracing::info!(signal, "stopping");
                shared.stop();
            }
        })?;
        Ok(())
    }

    /// Waits until the server has stopped, by [`Handle::shutdown`] or a signal: what was accepted is then finished and synced.
    ///
    /// # Errors
    /// An executor that ended by itself.
    pub fn wait(self) -> Result<(), Fatal> {
        self.join()
    }

    fn join(self) -> Result<(), Fatal> {
        let mut result = Ok(());
        for (core, executor) in self.executors.into_iter().enumerate() {
            if let Err(source) = executor.join() {
                self.shared.stop();
                result = result.and(Err(Fatal::Executor { core, source }));
            }
        }
        self.shared.finish();
        if result.is_ok() && self.heartbeat.join().is_err() {
            result = Err(Fatal::Executor {
                core: 0,
                source: std::io::Error::other("the heartbeat panicked"),
            });
        }
        result
    }

    /// A core did not come up: the others end, and the first reason is told.
    fn abandon(self, fatal: Option<Fatal>) -> Result<Server, Fatal> {
        self.shared.abandon();
        let joined = self.join();
        match fatal {
            Some(fatal) => Err(fatal),
            None => Err(joined.err().unwrap_or(Fatal::Executor {
                core: 0,
                source: std::io::Error::other("it ended before it had started"),
            })),
        }
    }
}

/// Opens the data directory, or makes it, and chooses the processors.
fn open_directory(options: &Options) -> Result<(Directory, Vec<usize>), Fatal> {
    let asked = options.dimensions.clone().unwrap_or_default();
    let is_locked = |error: &DirectoryError| matches!(error, DirectoryError::Locked { .. });
    match try_patiently(|| Directory::open(&options.data), is_locked) {
        Err(DirectoryError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(directory) => return open_existing(directory, options, asked),
    }
    if asked.is_empty() {
        return Err(Fatal::Dimensions {
            found: Vec::new(),
            asked,
        });
    }
    let processors = host::processors(&options.cores, None)?;
    // A size that does not fit is out of range as well, and refused as such.
    let segment_size = usize::try_from(options.segment_size).unwrap_or(usize::MAX);
    let new = NewDirectory {
        dimensions: asked,
        journal_count: processors.len(),
        segment_size,
    };
    Ok((Directory::create(&options.data, &new)?, processors))
}

fn open_existing(
    directory: Directory,
    options: &Options,
    asked: Vec<String>,
) -> Result<(Directory, Vec<usize>), Fatal> {
    if !asked.is_empty() && asked != directory.dimensions() {
        return Err(Fatal::Dimensions {
            found: directory.dimensions().to_vec(),
            asked,
        });
    }
    let processors = host::processors(&options.cores, Some(directory.journals().len()))?;
    Ok((directory, processors))
}

/// What one core's executor starts from.
struct CoreSetup {
    core: usize,
    journal: DirectoryJournal,
    segment_size: usize,
    options: Options,
    shared: Arc<Shared>,
    table: Table,
    writer: Writer,
    socket: socket2::Socket,
}

/// Recovers, listens, tells that it has started, and runs until the server stops.
async fn run_core(setup: CoreSetup, started: mpsc::Sender<Result<(), Fatal>>) {
    IS_SERVING.set(true);
    match start_core(setup) {
        Ok((core, listener, drain_timeout)) => {
            runtime::spawn_local(Rc::clone(&core).accept(listener));
            if started.send(Ok(())).is_ok() {
                drop(started);
                core.run(drain_timeout).await;
            }
        }
        Err(fatal) => {
            // The one who started us is gone only if another core has failed already.
            let _ = started.send(Err(fatal));
        }
    }
}

fn start_core(setup: CoreSetup) -> Result<(Rc<Core>, Listener, Duration), Fatal> {
    let CoreSetup {
        core,
        journal,
        segment_size,
        options,
        shared,
        table,
        writer,
        socket,
    } = setup;
    let path = journal.directory;
    let recovery = |source| Fatal::Recovery {
        path: path.clone(),
        source: Box::new(source),
    };
    let storage = MmapStorage::open(&path, journal.id, segment_size, Ring::default())
        .map_err(|error| recovery(RecoveryError::Storage(error)))?;
    let engine_options = EngineOptions {
        state: StateOptions {
            key_retention_micros: micros(options.key_retention),
            retire_after_micros: micros(options.retire_after),
            reservation_count_max: host::reservation_count_max(shared.core_count()),
            pool_count_max: POOLS_PER_CORE_MAX,
            hash_seed: random(),
            ..StateOptions::new(shared.dimensions.len())
        },
        hold_grace_micros: micros(options.hold_grace),
    };
    let now = Clock::new().now();
    let begun = Instant::now();
    let recovered = Engine::recover(storage, engine_options, None, now, random).map_err(recovery)?;
    tracing::info!(core, summary = ?recovered.summary, elapsed = ?begun.elapsed(), "journal recovered");
    let ahead = (recovered.summary.last_time - now.0) / 1_000_000;
    if ahead > 0 {
        tracing::warn!(
            core,
            seconds = ahead,
            "the last record is ahead of the system clock; time stands still until it is reached"
        );
    }
    shared.counters[core].started(recovered.engine.journal().last_lsn().0);
    let (listener, closer) = Listener::new(socket).map_err(|source| Fatal::Executor { core, source })?;
    let core = Rc::new(Core::new(
        core,
        shared,
        recovered.engine,
        Availability::new(&table, writer),
        closer,
        random(),
    ));
    runtime::spawn_local(sync::run(Rc::clone(&core), path));
    Ok((core, listener, options.drain_timeout))
}

/// In microseconds; saturates.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

thread_local! {
    /// Whether this thread is an executor that has started.
    static IS_SERVING: Cell<bool> = const { Cell::new(false) };
}

/// A process with one dead core is worse than a restart, so a panic on an executor ends the process, in debug builds too.
fn abort_on_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            previous(panic);
            // An executor that cannot start panics too; that is told as an error.
            if IS_SERVING.get() {
                std::process::abort();
            }
        }));
    });
}

/// 64 random bits from the kernel.
fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random bits")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::Cores;

    fn options(data: &Path, listen: SocketAddr) -> Options {
        Options {
            listen,
            data: data.to_owned(),
            cores: Cores::Auto,
            dimensions: Some(vec!["units".into()]),
            drain_timeout: Duration::from_secs(1),
            key_retention: Duration::from_secs(1),
            retire_after: Duration::from_secs(1),
            hold_grace: Duration::from_secs(1),
            segment_size: 1 << 16,
            insecure_listen: false,
        }
    }

    /// Nothing is left: the address, the directory and the memory of a server can be used again by the same process.
    #[test]
    fn a_server_that_has_stopped_leaves_nothing_open() {
        let directory = tempfile::tempdir().unwrap();
        let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut address = "127.0.0.1:0".parse().unwrap();
        let mut before = None;
        for _ in 0..3 {
            let server = Server::start(&options(directory.path(), address)).unwrap();
            address = server.address();
            // One client says nothing, one sends half a frame, one goes away at once.
            let silent = TcpStream::connect(address).unwrap();
            let mut half = TcpStream::connect(address).unwrap();
            half.write_all(b"PLM1").unwrap();
            drop(TcpStream::connect(address).unwrap());
            server.handle().shutdown();
            server.wait().unwrap();
            for mut stream in [silent, half] {
                // Closed, or reset: in any case over.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            // The runtime leaks an eventfd with each executor.
            let leaked = host::allowed_processors().len();
            let now = open_files();
            assert!(
                before.is_none_or(|before| now <= before + leaked),
                "{before:?} files were open, now {now} are"
            );
            before = Some(now);
        }
    }
}
