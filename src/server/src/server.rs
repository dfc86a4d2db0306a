//! Starting, running and stopping.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll_availability::{Table, Writer};
use plimsoll_domain::StateOptions;
use plimsoll_engine::EngineOptions;
use plimsoll_journal::{
    Directory, DirectoryError, DirectoryJournal, DirectorySnapshot, ManifestWriter, NewDirectory, Ring,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::archive::ArchivedJournal;
use crate::availability::Availability;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::core::Core;
use crate::fatal::Fatal;
use crate::limits::{CONNECTION_MEMORY_MIN, POOLS_PER_CORE_MAX};
use crate::options::{ConnectionOptions, Options};
use crate::patience::try_patiently;
use crate::recovery::{self, RecoveredCore, Source};
use crate::runtime::{self, Executor, Listener};
use crate::shared::Shared;
use crate::snapshots::Snapshots;
use crate::stats::{CoreCounters, Stats};
use crate::{archive, availability, core_count, heartbeat, history, host, host_watch, listen, snapshots, sync};

/// A running server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    executors: Vec<Executor>,
    /// What goes on beside them.
    threads: Vec<JoinHandle<()>>,
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
            is_history_whole: self.0.is_history_whole(),
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
        host::return_large_buffers();
        let (mut directory, processors) = open_directory(options)?;
        host::check_locked_memory(processors.len())?;
        let (sockets, address) = listen::listen(options.listen, processors.len()).map_err(|source| Fatal::Listen {
            address: options.listen,
            source,
        })?;
        let connection_count_max = host::connection_count_max(processors.len(), options.connections.count_max);
        let shared = Arc::new(Shared::new(&directory, connection_count_max));
        let heartbeat = heartbeat::start(Arc::clone(&shared)).map_err(|source| Fatal::Executor { core: 0, source })?;
        check_journal_space(options, directory.segment_size() as u64)?;
        let manifest = directory.take_writer();
        let mut server = Server {
            address,
            shared: Arc::clone(&shared),
            executors: Vec::new(),
            threads: vec![heartbeat],
            directory,
        };
        let indices: Vec<_> = core_count::running(&server.directory)
            .iter()
            .map(|(index, _)| *index)
            .collect();
        let engine_options = engine_options(options, &server.directory);
        let ring = ring(options, &server.directory);
        let (table, writers) = Table::new(processors.len(), shared.dimensions.len());
        let (started, starts) = mpsc::channel();
        for (core, (processor, (socket, writer))) in processors.iter().zip(sockets.into_iter().zip(writers)).enumerate()
        {
            let setup = CoreSetup {
                core,
                journal: server.directory.journals()[indices[core]].clone(),
                snapshots: server.directory.snapshots(indices[core]).to_vec(),
                began_with_snapshot: indices.len() < server.directory.journals().len(),
                segment_size: server.directory.segment_size(),
                ring,
                engine_options,
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
        let mut archived: Vec<Option<ArchivedJournal>> = indices.iter().map(|_| None).collect();
        for _ in &server.executors {
            match starts.recv() {
                Ok(Ok((core, journal))) => archived[core] = Some(journal),
                Ok(Err(fatal)) => return server.abandon(Some(fatal)),
                // An executor ended without a word: joining it tells why.
                Err(_) => return server.abandon(None),
            }
        }
        server.shared.serve();
        match server.start_background(manifest, archived.into_iter().flatten().collect()) {
            Ok(()) => Ok(server),
            Err(source) => server.abandon(Some(Fatal::Executor { core: 0, source })),
        }
    }

    /// Starts what goes on beside the executors.
    fn start_background(
        &mut self,
        manifest: Option<ManifestWriter>,
        journals: Vec<ArchivedJournal>,
    ) -> std::io::Result<()> {
        if let Some(mut manifest) = manifest {
            for journal in &journals {
                manifest.passed_over(journal.id, &journal.passed_over);
            }
            let ids = journals.iter().map(|journal| journal.id);
            let data = self.directory.path().to_owned();
            self.threads
                .push(snapshots::start(Arc::clone(&self.shared), manifest, data, ids)?);
        }
        let data = self.directory.path().to_owned();
        self.threads.push(host_watch::start(Arc::clone(&self.shared), data)?);
        let data = self.directory.path().to_owned();
        self.threads.push(history::start(Arc::clone(&self.shared), data)?);
        let history = self.directory.journals().iter().filter_map(|journal| {
            // One without an end at 0 never had a record.
            let end = journal.end.filter(|end| end.segment.0 > 0)?;
            Some((journal.clone(), end))
        });
        let history = history.collect();
        let segment_size = self.directory.segment_size();
        self.threads.extend(archive::start(
            Arc::clone(&self.shared),
            segment_size,
            journals,
            history,
        )?);
        Ok(())
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

    /// Stops the server when the process gets SIGTERM or SIGINT. `before` is called first, and may take its time: it ends what sends commands from
    /// this process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn stop_on_signals(&self, before: impl Fn() + Send + 'static) -> std::io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                tracing::info!(signal, "stopping");
                before();
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
        for thread in self.threads {
            if thread.join().is_err() {
                result = result.and(Err(Fatal::Executor {
                    core: 0,
                    source: std::io::Error::other("a background thread panicked"),
                }));
            }
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
    let processors = host::processors(&options.cores, None, host::allowed_processors())?;
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
    for journal in directory.journals() {
        recovery::refuse_newer_archive(journal)?;
    }
    let core_count = core_count::running(&directory).len();
    let processors = host::processors(&options.cores, Some(core_count), host::allowed_processors())?;
    if processors.len() == core_count {
        return Ok((directory, processors));
    }
    let engine_options = engine_options(options, &directory);
    let directory = core_count::change(directory, processors.len(), engine_options, Clock::new().now(), random)?;
    Ok((directory, processors))
}

fn engine_options(options: &Options, directory: &Directory) -> EngineOptions {
    let core_count = core_count::running(directory).len();
    EngineOptions {
        state: StateOptions {
            key_retention_micros: micros(options.key_retention),
            retire_after_micros: micros(options.retire_after),
            reservation_count_max: host::reservation_count_max(core_count),
            pool_count_max: POOLS_PER_CORE_MAX,
            hash_seed: random(),
            ..StateOptions::new(directory.dimensions().len())
        },
        hold_grace_micros: micros(options.hold_grace),
    }
}

fn check_journal_space(options: &Options, segment_size: u64) -> Result<(), Fatal> {
    let needed = options.journal_space_min(segment_size);
    if options.journal_space >= needed {
        return Ok(());
    }
    Err(Fatal::JournalSpace {
        found: options.journal_space,
        snapshot_after: options.snapshot_after,
        needed,
    })
}

fn ring(options: &Options, directory: &Directory) -> Ring {
    let file_count = options.journal_space / directory.segment_size() as u64;
    Ring::default().with_file_count_max(usize::try_from(file_count).unwrap_or(usize::MAX))
}

/// What one core's executor starts from.
struct CoreSetup {
    core: usize,
    journal: DirectoryJournal,
    snapshots: Vec<DirectorySnapshot>,
    began_with_snapshot: bool,
    segment_size: usize,
    ring: Ring,
    engine_options: EngineOptions,
    options: Options,
    shared: Arc<Shared>,
    table: Table,
    writer: Writer,
    socket: socket2::Socket,
}

/// How often a core that has started looks whether the others have.
const BEFORE_SERVING: Duration = Duration::from_millis(1);

/// Tells that a core has started, with what is done beside it.
type Started = mpsc::Sender<Result<(usize, ArchivedJournal), Fatal>>;

/// Recovers, listens, tells that it has started, and runs until the server stops.
async fn run_core(setup: CoreSetup, started: Started) {
    panics_are_fatal();
    let index = setup.core;
    match start_core(setup) {
        Ok((core, listener, archived, drain_timeout)) => {
            if started.send(Ok((index, archived))).is_ok() {
                drop(started);
                // Nobody is served, and no time runs, before every core's state is back.
                while !core.shared.is_serving() && !core.shared.is_stopping() {
                    runtime::sleep(BEFORE_SERVING).await;
                }
                runtime::spawn_local(Rc::clone(&core).accept(listener));
                core.run(drain_timeout).await;
            }
        }
        Err(fatal) => {
            // The one who started us is gone only if another core has failed already.
            let _ = started.send(Err(fatal));
        }
    }
}

fn start_core(setup: CoreSetup) -> Result<(Rc<Core>, Listener, ArchivedJournal, Duration), Fatal> {
    let CoreSetup {
        core,
        journal,
        snapshots,
        began_with_snapshot,
        segment_size,
        ring,
        engine_options,
        options,
        shared,
        table,
        writer,
        socket,
    } = setup;
    let source = Source {
        journal: &journal,
        snapshots: &snapshots,
        began_with_snapshot,
        segment_size,
        ring,
        options: engine_options,
    };
    let now = Clock::new().now();
    let RecoveredCore {
        mut recovered,
        first_segment,
        passed_over,
    } = recovery::recover(&source, now, random)?;
    let ahead = (recovered.summary.last_time - now.0) / 1_000_000;
    if ahead > 0 {
        tracing::warn!(
            core,
            seconds = ahead,
            "the last record is ahead of the system clock; time stands still until it is reached"
        );
    }
    if options.stands_still {
        recovered.engine.stand_still();
    }
    shared.counters[core].started(recovered.engine.journal().last_lsn().0);
    let archived = ArchivedJournal {
        id: journal.id,
        directory: journal.directory.clone(),
        recovered_from: first_segment,
        recycler: recovered.engine.journal().storage().recycler(),
        passed_over,
    };
    let (listener, closer) =
        Listener::new(socket, options.connections.write_timeout).map_err(|source| Fatal::Executor { core, source })?;
    let connection_options = ConnectionOptions {
        memory_per_core: options.connections.memory_per_core.max(CONNECTION_MEMORY_MIN),
        ..options.connections
    };
    let connections = Connections::new(connection_options, closer);
    let recycler = archived.recycler.clone();
    let snapshots = Snapshots::new(options.snapshot_after, recovered.summary.bytes, recycler);
    let availability = Availability::new(&table, writer);
    let core = Rc::new(Core::new(
        core,
        shared,
        recovered.engine,
        availability,
        snapshots,
        connections,
        random(),
    ));
    // Before anybody asks: what recovery brought back is durable.
    core.with(|inner| availability::publish(inner, now));
    runtime::spawn_local(sync::run(Rc::clone(&core), journal.directory));
    Ok((core, listener, archived, options.drain_timeout))
}

/// In microseconds; saturates.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

thread_local! {
    /// Whether this thread is an executor that has started.
    static IS_SERVING: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic of this thread ends the process.
pub(crate) fn panics_are_fatal() {
    IS_SERVING.set(true);
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
            stands_still: false,
            segment_size: 1 << 16,
            snapshot_after: 1 << 16,
            journal_space: 1 << 30,
            connections: ConnectionOptions::default(),
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
