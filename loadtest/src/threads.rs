//! The threads of the generator, whatever they drive: each has a runtime, connections and a ledger of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::ledger::{Ledger, Tally, Window};
use crate::limits::{DRAIN_TIMEOUT, WARM_UP};

/// A ledger that the connections of one thread share. They never wait for it: the thread runs one of them at a time.
#[derive(Clone, Debug)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a load begins, and how finely it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    /// Of the series over time, at least.
    pub(crate) interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warm_up: WARM_UP,
            interval: Duration::from_secs(1),
        }
    }
}

/// A thread of the generator, as the coordinator sees it.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Told when the connections stand and the pools are filled.
    ready: oneshot::Receiver<()>,
    /// Takes the window; then the load begins.
    start: oneshot::Sender<Window>,
    /// What it has seen, or why it ended early.
    result: oneshot::Receiver<Result<Ledger>>,
    tally: Arc<Tally>,
}

impl Worker {
    /// Starts a thread with a ledger of so many pools. `prepare` opens what the load needs, on the thread's runtime; what that gives starts the load.
    pub(crate) fn spawn<P, L>(name: String, pool_count: usize, prepare: P) -> Result<Self>
    where
        P: AsyncFnOnce(SharedLedger) -> Result<L> + Send + 'static,
        L: FnOnce(Window) -> JoinSet<Result<()>>,
    {
        let tally = Arc::new(Tally::default());
        let ledger = Ledger::new(pool_count, Arc::clone(&tally))?;
        let (ready_sender, ready) = oneshot::channel();
        let (start, start_receiver) = oneshot::channel();
        let (result_sender, result) = oneshot::channel();
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                let outcome = run(prepare, ledger, ready_sender, start_receiver);
                // The coordinator has gone away when it was interrupted.
                let _ = result_sender.send(outcome);
            })
            .context("cannot start a thread")?;
        Ok(Self {
            ready,
            start,
            result,
            tally,
        })
    }
}

fn run<P, L>(prepare: P, ledger: Ledger, ready: oneshot::Sender<()>, start: oneshot::Receiver<Window>) -> Result<Ledger>
where
    P: AsyncFnOnce(SharedLedger) -> Result<L>,
    L: FnOnce(Window) -> JoinSet<Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let shared = SharedLedger(Arc::new(Mutex::new(ledger)));
    runtime.block_on(async {
        let load = prepare(shared.clone()).await?;
        let _ = ready.send(());
        let window = start.await.context("the run was given up")?;
        shared.lock().set_window(window);
        let mut tasks = load(window);
        // Each task ends by itself: nothing is sent after the window, and every request has a deadline.
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                ended.context("a task of the generator panicked")??;
            }
            anyhow::Ok(())
        };
        let deadline = tokio::time::Instant::from_std(window.end + DRAIN_TIMEOUT);
        tokio::time::timeout_at(deadline, all)
            .await
            .map_err(|_| anyhow!("no answers within {DRAIN_TIMEOUT:?} after the last request"))?
    })?;
    drop(runtime);
    let ledger = Arc::into_inner(shared.0).context("a task of the generator has outlived its runtime")?;
    Ok(ledger.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Threads that have begun.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) window: Window,
    pub(crate) tallies: Vec<Arc<Tally>>,
    results: Vec<oneshot::Receiver<Result<Ledger>>>,
}

impl Workers {
    /// Waits until all threads are ready, and lets them begin.
    pub(crate) async fn begin(workers: Vec<Worker>, timing: Timing, seconds: u64) -> Result<Self> {
        let (mut starts, mut results, mut tallies) = (Vec::new(), Vec::new(), Vec::new());
        for worker in workers {
            if worker.ready.await.is_err() {
                // It has ended, so that its result says why.
                worker.result.await.context("a thread of the generator panicked")??;
                bail!("a thread of the generator ended before the run");
            }
            starts.push(worker.start);
            results.push(worker.result);
            tallies.push(worker.tally);
        }
        let start = Instant::now() + timing.warm_up;
        let window = Window {
            start,
            end: start + Duration::from_secs(seconds),
            interval: timing.interval,
        };
        for start in starts {
            // One that has ended meanwhile says so in its result.
            let _ = start.send(window);
        }
        Ok(Self {
            window,
            tallies,
            results,
        })
    }

    /// What all of them have seen, once they have ended.
    pub(crate) async fn ledger(self) -> Result<Ledger> {
        let mut all: Option<Ledger> = None;
        for result in self.results {
            let ledger = result.await.context("a thread of the generator panicked")??;
            match &mut all {
                Some(all) => all.merge(&ledger)?,
                None => all = Some(ledger),
            }
        }
        all.context("a run has at least one thread")
    }
}
