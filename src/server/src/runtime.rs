//! All that the server uses of its runtime, glommio, in one place.
//!
//! The runtime can put an executor to sleep for ever while it has something to run: when its preemption timer fires before the run loop has run
//! anything, the loop takes itself for idle. Hence the rules here: default task queues only, no short preemption timer, and a
//! heartbeat (`heartbeat.rs`) that wakes every executor from outside. While any task stays runnable, an executor polls no I/O, so no task may
//! be kept alive by yielding: every loop is bounded and then awaits a socket, a signal or a timer.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::io::BufferedFile;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

/// What one executor's rings may register; the default of 10 MiB is registered three times and exceeds common limits of locked memory.
const IO_MEMORY_SIZE: usize = 1 << 20;
/// How long an executor looks for work before it sleeps. Waking a sleeping one from another thread takes 55 µs, a spinning one 11 µs.
const SPIN_BEFORE_PARK: Duration = Duration::from_micros(20);

/// A running executor.
pub(crate) struct Executor(ExecutorJoinHandle<()>);

impl Executor {
    /// Starts an executor that is pinned to a processor and runs the future to its end.
    pub(crate) fn start<F>(
        name: &str,
        processor: usize,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Executor, io::Error>
    where
        F: Future<Output = ()> + 'static,
    {
        LocalExecutorBuilder::new(Placement::Fixed(processor))
            .name(name)
            .io_memory(IO_MEMORY_SIZE)
            .spin_before_park(SPIN_BEFORE_PARK)
            .spawn(main)
            .map(Executor)
            .map_err(io::Error::from)
    }

    /// Waits until the executor has ended. It also tells that it could not start, a panic among its tasks, and the like.
    pub(crate) fn join(self) -> Result<(), io::Error> {
        self.0.join().map_err(io::Error::from)
    }
}

/// Runs a future beside the others on this executor.
pub(crate) fn spawn_local(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Waits, letting I/O go on.
pub(crate) async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Wakes one task of the same executor. A notification that comes before the wait is not lost.
#[derive(Default)]
pub(crate) struct Signal {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub(crate) fn notify(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Takes the notification, or remembers whom to wake.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_set.replace(false) {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}

/// A listening socket of one executor.
pub(crate) struct Listener(glommio::net::TcpListener);

impl Listener {
    /// Takes a socket that listens already.
    pub(crate) fn new(socket: socket2::Socket) -> Listener {
        // SAFETY: the descriptor is open, is a listening TCP socket, and is owned by nobody else from here on.
        Listener(unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) })
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let stream = self.0.accept().await.map_err(io::Error::from)?;
        let peer = stream.peer_addr().map_err(io::Error::from)?;
        stream.set_nodelay(true).map_err(io::Error::from)?;
        Ok((Stream(RefCell::new(stream)), peer))
    }
}

/// A connected socket; one task may read while another writes.
pub(crate) struct Stream(RefCell<glommio::net::TcpStream>);

impl Stream {
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buffer)
    }

    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    /// Writes what the socket takes without waiting; 0 when it takes nothing.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(0),
        }
    }
}

/// A file that is only synced.
pub(crate) struct SyncFile(BufferedFile);

impl SyncFile {
    pub(crate) async fn open(path: &Path) -> io::Result<SyncFile> {
        BufferedFile::open(path).await.map(SyncFile).map_err(io::Error::from)
    }

    /// Makes durable what was stored into the file, through a mapping too.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io::Error::from)
    }
}
