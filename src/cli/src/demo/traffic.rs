//! The traffic of the demo: shoppers that come at a steady rate, orders that are cancelled, and now and then a sale.
//!
//! What a shopper wants depends on the seed and the shopper's number alone. What it gets depends on who is first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plimsoll_client::{Client, ReservationId, State};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::pools::Catalogue;
use super::sale::{self, Board};
use super::shopper::{self, BUYERS_SHARE};
use super::tally::Tally;

/// The most shoppers that come each second.
pub(super) const RATE_MAX: u32 = 50_000;
/// The most shoppers at once; while there are so many, no others come.
const SHOPPER_COUNT_MAX: usize = 200_000;

const TICK: Duration = Duration::from_millis(10);
/// The first sale comes early, so that a short demo has one.
const FIRST_SALE_AFTER: Duration = Duration::from_millis(500);
const SALE_EVERY: Duration = Duration::from_secs(20);

/// For each order that is confirmed so many are cancelled, at first.
const CANCELLED_SHARE: f64 = 0.08;
/// When the pools are full to this share, as many are cancelled as confirmed: the demo can run for days.
const FULL_SHARE: f64 = 0.5;

/// How often holds that were given up are looked at.
const AUDIT_EVERY: Duration = Duration::from_millis(500);
/// How much later than its deadline a hold may be seen, in microseconds: the engine ends it within a second.
pub(super) const EXPIRY_MICROS_MAX: i64 = 1_000_000;
const AUDITED_COUNT_MAX: usize = 1_000;

/// What all shoppers share.
pub(super) struct Traffic {
    pub(super) client: Client,
    pub(super) catalogue: Catalogue,
    pub(super) board: Board,
    seed: u64,
    books: Mutex<Books>,
    tasks: Mutex<JoinSet<()>>,
    rate: AtomicU32,
    is_paused: AtomicBool,
    is_sale_wanted: AtomicBool,
    stop: watch::Sender<bool>,
}

/// What shoppers did since the last look, and what they were told.
pub(super) struct Books {
    pub(super) recent: Tally,
    pub(super) ledger: Ledger,
}

/// What a sequence of random numbers is for.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Dispatcher = 1,
    Shopper = 2,
    Sale = 3,
    Crowd = 4,
    Earlier = 5,
}

impl Traffic {
    pub(super) fn new(client: Client, catalogue: Catalogue, seed: u64, rate: u32) -> Arc<Traffic> {
        Arc::new(Traffic {
            client,
            catalogue,
            board: Board::default(),
            seed,
            books: Mutex::new(Books {
                recent: Tally::new(),
                ledger: Ledger::default(),
            }),
            tasks: Mutex::default(),
            rate: AtomicU32::new(rate),
            is_paused: AtomicBool::new(false),
            is_sale_wanted: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        })
    }

    /// Sends shoppers out until [`Traffic::stop`].
    pub(super) async fn run(self: Arc<Traffic>) {
        self.spawn(Arc::clone(&self).audit());
        let mut random = self.random(Stream::Dispatcher, 0);
        let shopper_numbers = AtomicU64::new(0);
        let mut sale_number = 0;
        let mut sale_at = Instant::now() + FIRST_SALE_AFTER;
        let (mut arrivals, mut cancellations) = (0.0, 0.0);
        let mut last = Instant::now();
        while self.sleep(TICK).await {
            let passed = last.elapsed().as_secs_f64();
            last = Instant::now();
            self.reap();
            let is_wanted = self.is_sale_wanted.swap(false, Ordering::Relaxed);
            let is_due = Instant::now() >= sale_at && !self.is_paused();
            if (is_due || is_wanted) && !self.board.is_on() {
                sale_at = Instant::now() + SALE_EVERY;
                self.spawn(sale::run(Arc::clone(&self), sale_number));
                sale_number += 1;
            }
            if self.is_paused() {
                continue;
            }
            arrivals += f64::from(self.rate()) * passed;
            while arrivals >= 1.0 {
                arrivals -= 1.0;
                if self.task_count() < SHOPPER_COUNT_MAX {
                    let number = shopper_numbers.fetch_add(1, Ordering::Relaxed);
                    self.spawn(shopper::shop(Arc::clone(&self), number));
                }
            }
            cancellations += f64::from(self.rate()) * passed * self.cancelled_share();
            while cancellations >= 1.0 {
                cancellations -= 1.0;
                let kept = self.books().ledger.take_confirmed(random.random());
                if let Some(kept) = kept {
                    self.spawn(shopper::cancel(Arc::clone(&self), kept));
                }
            }
        }
    }

    /// Orders that are cancelled, for each shopper.
    fn cancelled_share(&self) -> f64 {
        let confirmed = self.books().ledger.confirmed_count() as f64;
        let fullness = confirmed / (self.catalogue.order_count_max() as f64 * FULL_SHARE);
        BUYERS_SHARE * (CANCELLED_SHARE + (1.0 - CANCELLED_SHARE) * fullness)
    }

    /// Looks whether holds that were given up have ended when they had to.
    async fn audit(self: Arc<Traffic>) {
        while self.sleep(AUDIT_EVERY).await {
            loop {
                let lapsed = self
                    .books()
                    .ledger
                    .take_lapsed(now_micros() - EXPIRY_MICROS_MAX, AUDITED_COUNT_MAX);
                if lapsed.is_empty() {
                    break;
                }
                self.audit_some(&lapsed).await;
            }
        }
    }

    async fn audit_some(&self, lapsed: &[ReservationId]) {
        let Ok(states) = self.states(lapsed).await else {
            self.books().recent.failed += 1;
            return;
        };
        let now = now_micros();
        let books = &mut *self.books();
        for id in lapsed {
            match states.get(id) {
                Some(State::Expired) | None => {
                    books.ledger.expired(*id, now);
                    books.recent.expired += 1;
                }
                Some(state) => books
                    .ledger
                    .contradictions
                    .push(format!("the hold {id} is {state} a second after its deadline")),
            }
        }
    }

    /// The states of these reservations, as far as they are known.
    pub(super) async fn states(
        &self,
        ids: &[ReservationId],
    ) -> Result<HashMap<ReservationId, State>, plimsoll_client::Error> {
        let found = self.client.reservations(ids).await?;
        Ok(found.into_iter().map(|details| (details.id, details.state)).collect())
    }

    /// Asks everyone to finish what they are at, and waits until they have.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Waits; false when everyone is to finish.
    pub(super) async fn sleep(&self, duration: Duration) -> bool {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|is_stopping| *is_stopping) => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Runs something that [`Traffic::stop`] waits for.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks().spawn(work);
    }

    fn reap(&self) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
    }

    fn task_count(&self) -> usize {
        self.tasks().len()
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done since the last call.
    pub(super) fn take_recent(&self) -> Tally {
        std::mem::replace(&mut self.books().recent, Tally::new())
    }

    /// Random numbers for one purpose.
    pub(super) fn random(&self, stream: Stream, number: u64) -> Pcg64Mcg {
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&self.seed.wrapping_mul(8).wrapping_add(stream as u64).to_le_bytes());
        seed[8..].copy_from_slice(&number.to_le_bytes());
        let mut random = Pcg64Mcg::from_seed(seed);
        // Neighbouring seeds differ in few bits, and so do the first numbers of this generator.
        for _ in 0..4 {
            let _: u64 = random.random();
        }
        random
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate.load(Ordering::Relaxed)
    }

    pub(super) fn set_rate(&self, rate: u32) {
        self.rate.store(rate.clamp(1, RATE_MAX), Ordering::Relaxed);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub(super) fn toggle_pause(&self) {
        self.is_paused.fetch_xor(true, Ordering::Relaxed);
    }

    /// A sale begins as soon as none is on.
    pub(super) fn want_sale(&self) {
        self.is_sale_wanted.store(true, Ordering::Relaxed);
    }
}

/// Microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A time between two, at a share from 0 to 1.
pub(super) fn between(from: Duration, to: Duration, share: f64) -> Duration {
    from + to.saturating_sub(from).mul_f64(share)
}

/// Runs a call and says how long its answer took.
pub(super) async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let answer = call.await;
    (answer, begun.elapsed())
}
