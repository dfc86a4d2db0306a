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
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::io::BufferedFile;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

/// What one executor's rings may register; the default of 10 MiB is registered three times and exceeds common limits of locked memory.
const IO_MEMORY_SIZE: usize = 1 << 20;
/// How long an executor looks for work before it sleeps. Waking a sleeping one from another thread takes 55 µs, a spinning one 11 µs.
const SPIN_BEFORE_PARK: Duration = Duration::from_micros(20);

/// How much longer than the server the kernel waits for a peer that takes no byte: it alone sees what it holds already, and does not say why it closes.
const KERNEL_PATIENCE: Duration = Duration::from_secs(30);

/// Probes of the kernel that find a peer which has vanished: from two minutes of silence on, four in a minute.
const KEEPALIVE: socket2::TcpKeepalive = socket2::TcpKeepalive::new()
    .with_time(Duration::from_secs(120))
    .with_interval(Duration::from_secs(15));

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

/// The most beats that an executor has not seen: while it is busy for long, in recovery say, they must not pile up. The runtime counts wakers in 16 bits.
const BEATS_UNSEEN_MAX: u64 = 1000;

/// Wakes an executor from outside, whatever it believes to be doing.
///
/// The waker of a task of its own is kept for this. The wakers of tasks that do the work will not do: a lost wake-up leaves the task marked as woken,
/// and nobody wakes it again. It is never dropped on another thread, which the runtime does not survive, but forgotten.
#[derive(Default)]
pub(crate) struct Pulse {
    waker: OnceLock<Waker>,
    sent: AtomicU64,
    seen: AtomicU64,
}

impl Pulse {
    /// From now on this executor can be woken; `on_beat` runs on it each time.
    pub(crate) fn attach(self: Arc<Pulse>, on_beat: impl Fn() + 'static) {
        spawn_local(poll_fn(move |context| {
            self.waker.get_or_init(|| context.waker().clone());
            self.seen.store(self.sent.load(Ordering::Acquire), Ordering::Release);
            on_beat();
            Poll::Pending
        }));
    }

    /// Wakes the executor, if one is attached.
    pub(crate) fn beat(&self) {
        if let Some(waker) = self.waker.get()
            && self.sent.load(Ordering::Acquire) - self.seen.load(Ordering::Acquire) < BEATS_UNSEEN_MAX
        {
            self.sent.fetch_add(1, Ordering::AcqRel);
            waker.wake_by_ref();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            std::mem::forget(waker);
        }
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

/// Closes a listener when it is dropped. An accept that is given up instead, by dropping it, may have a connection already, and lose it open.
pub(crate) struct ListenerCloser(socket2::Socket);

impl Drop for ListenerCloser {
    fn drop(&mut self) {
        // It fails when the listener is closed already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A listening socket of one executor.
pub(crate) struct Listener {
    listener: glommio::net::TcpListener,
    write_timeout: Duration,
}

impl Listener {
    /// Takes a socket that listens already. A client of its may take no byte for `write_timeout`.
    pub(crate) fn new(socket: socket2::Socket, write_timeout: Duration) -> io::Result<(Listener, ListenerCloser)> {
        let closer = ListenerCloser(socket.try_clone()?);
        // SAFETY: the descriptor is open, is a listening TCP socket, and is owned by nobody else from here on.
        let listener = unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Ok((
            Listener {
                listener,
                write_timeout,
            },
            closer,
        ))
    }

    /// The next connection; `None` when its client is gone again already.
    pub(crate) async fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        let stream = self.listener.accept().await.map_err(io::Error::from)?;
        let Ok(peer) = stream.peer_addr() else { return Ok(None) };
        // SAFETY: the descriptor is open as long as the stream, which outlives this borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        let socket = socket2::SockRef::from(&socket);
        let set_up = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_keepalive(&KEEPALIVE))
            .and_then(|()| socket.set_tcp_user_timeout(Some(self.write_timeout + KERNEL_PATIENCE)));
        Ok(set_up.is_ok().then(|| (Stream(RefCell::new(stream)), peer)))
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

    /// Sends a last word as far as the socket takes it without waiting, and closes. What the client has sent already is read first: a socket that is closed
    /// with unread bytes resets the connection, and the client might lose the word.
    pub(crate) fn close_with(self, last_word: &[u8]) {
        let mut unread = [std::mem::MaybeUninit::uninit(); 4096];
        let stream = self.0.borrow();
        // SAFETY: the descriptor is open as long as the stream, which outlives this borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        let socket = socket2::SockRef::from(&socket);
        let _ = socket.recv_with_flags(&mut unread, libc::MSG_DONTWAIT);
        let _ = socket.send_with_flags(last_word, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
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

    /// The same as [`SyncFile::sync`], on this thread, which does nothing else meanwhile.
    pub(crate) fn sync_now(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as the file, which outlives this call.
        let file = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        rustix::fs::fdatasync(file).map_err(io::Error::from)
    }

    /// Makes durable what was stored into the file, through a mapping too.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io::Error::from)
    }
}

/// The defect of the runtime that the heartbeat makes up for, and that it does.
#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use atomic_waker::AtomicWaker;
    use glommio::{Latency, Shares};

    use super::*;

    /// A question takes an answer within microseconds; an executor that sleeps on it never answers.
    const STALLED_AFTER: Duration = Duration::from_millis(500);

    #[derive(Default)]
    struct Exchange {
        waker: AtomicWaker,
        is_asked: AtomicBool,
        is_over: AtomicBool,
        answered: AtomicU64,
    }

    impl Exchange {
        fn ask(&self) {
            if !self.is_asked.swap(true, Ordering::AcqRel) {
                self.waker.wake();
            }
        }

        async fn answer(self: Arc<Exchange>) {
            while !self.is_over.load(Ordering::Acquire) {
                poll_fn(|context| {
                    self.waker.register(context.waker());
                    if self.is_asked.swap(false, Ordering::AcqRel) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                self.answered.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Asks an executor that is set up as it must not be, until it stalls or the time is over.
    fn stalls(has_heartbeat: bool, at_most: Duration) -> bool {
        let exchange = Arc::new(Exchange::default());
        let pulse = Arc::new(Pulse::default());
        let beats = Arc::new(AtomicBool::new(has_heartbeat));
        let is_ended = Arc::new(AtomicBool::new(false));
        let executor = {
            let (exchange, pulse) = (Arc::clone(&exchange), Arc::clone(&pulse));
            LocalExecutorBuilder::new(Placement::Unbound)
                .io_memory(IO_MEMORY_SIZE)
                .spawn(move || async move {
                    pulse.attach(|| {});
                    let latency = Latency::Matters(Duration::from_micros(100));
                    let queue = glommio::executor().create_task_queue(Shares::default(), latency, "hasty");
                    glommio::spawn_local_into(exchange.answer(), queue).unwrap().await;
                })
                .unwrap()
        };
        let heartbeat = {
            let (pulse, beats, is_ended) = (Arc::clone(&pulse), Arc::clone(&beats), Arc::clone(&is_ended));
            std::thread::spawn(move || {
                while !is_ended.load(Ordering::Acquire) {
                    if beats.load(Ordering::Acquire) {
                        pulse.beat();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let begun = Instant::now();
        let mut has_stalled = false;
        while begun.elapsed() < at_most && !has_stalled {
            let before = exchange.answered.load(Ordering::Acquire);
            exchange.ask();
            let asked = Instant::now();
            while exchange.answered.load(Ordering::Acquire) == before && !has_stalled {
                has_stalled = asked.elapsed() > STALLED_AFTER;
                std::thread::yield_now();
            }
        }
        // The heartbeat brings a stalled executor back, so that the test can end.
        beats.store(true, Ordering::Release);
        exchange.is_over.store(true, Ordering::Release);
        exchange.ask();
        executor.join().unwrap();
        is_ended.store(true, Ordering::Release);
        heartbeat.join().unwrap();
        has_stalled
    }

    #[test]
    fn an_executor_sleeps_for_ever_without_the_heartbeat_and_not_with_it() {
        assert!(
            stalls(false, Duration::from_secs(60)),
            "the runtime's defect did not show; is the heartbeat still needed?"
        );
        assert!(
            !stalls(true, Duration::from_secs(5)),
            "the heartbeat must bring a stalled executor back"
        );
    }
}
