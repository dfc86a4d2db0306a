//! The traffic of the demo: shoppers that reserve slots and sometimes give them back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plimsoll_client::{
    Client, Error, Key, KeySource, PoolId, Releasing, Reservation, ReservationId, Reserve, Reserving, Status, Units,
};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::pools::DIMENSIONS;

/// How many shoppers act at once.
pub(super) const SHOPPER_COUNT: usize = 64;
/// The most reservations that a shopper keeps; then the oldest is given back.
const KEPT_COUNT_MAX: usize = 1_200;
/// How often a shopper that acts gives something back, once it has something.
const RELEASE_SHARE: f64 = 0.35;
/// The most items of one order.
const ITEMS_MAX: u32 = 24;
/// The latencies that are told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// After an error.
const PAUSE: Duration = Duration::from_millis(50);

/// Units by dimension.
pub(super) type Amounts = [i64; DIMENSIONS.len()];

/// What shoppers did.
#[derive(Clone)]
pub(super) struct Tally {
    pub(super) reserved: u64,
    pub(super) released: u64,
    pub(super) refused: u64,
    /// No effect, for another reason than a full pool.
    pub(super) failed: u64,
    /// May have had an effect: then the sums need not agree.
    pub(super) unknown: u64,
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds are in order");
        Tally {
            reserved: 0,
            released: 0,
            refused: 0,
            failed: 0,
            unknown: 0,
            latency,
        }
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.reserved += other.reserved;
        self.released += other.released;
        self.refused += other.refused;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.latency += &other.latency;
    }
}

/// What all shoppers did since the last look, and what they hold.
struct Books {
    recent: Tally,
    /// By pool, in the order of the pools.
    reserved: Vec<Amounts>,
    released: Vec<Amounts>,
}

/// The shoppers' shared books, and the sign to stop.
pub(super) struct Traffic {
    books: Mutex<Books>,
    stop: AtomicBool,
}

impl Traffic {
    /// Sends the shoppers out.
    pub(super) fn start(client: &Client, pools: &Arc<[PoolId]>) -> (Arc<Traffic>, Vec<tokio::task::JoinHandle<()>>) {
        let books = Books {
            recent: Tally::new(),
            reserved: vec![[0; 2]; pools.len()],
            released: vec![[0; 2]; pools.len()],
        };
        let traffic = Arc::new(Traffic {
            books: Mutex::new(books),
            stop: AtomicBool::new(false),
        });
        let shoppers = (0..SHOPPER_COUNT).map(|_| {
            let shopper = Shopper {
                client: client.clone(),
                pools: Arc::clone(pools),
                traffic: Arc::clone(&traffic),
                kept: Vec::new(),
                random: rand::make_rng(),
            };
            tokio::spawn(shopper.run())
        });
        let shoppers = shoppers.collect();
        (traffic, shoppers)
    }

    /// Asks the shoppers to finish what they are at.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What was done since the last call.
    pub(super) fn take_recent(&self) -> Tally {
        std::mem::replace(&mut self.books().recent, Tally::new())
    }

    /// Reserved and released units by pool.
    pub(super) fn sums(&self) -> (Vec<Amounts>, Vec<Amounts>) {
        let books = self.books();
        (books.reserved.clone(), books.released.clone())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reservation that a shopper has.
#[derive(Clone, Copy)]
struct Kept {
    pool: usize,
    units: [u32; DIMENSIONS.len()],
    reservation: ReservationId,
}

struct Shopper {
    client: Client,
    pools: Arc<[PoolId]>,
    traffic: Arc<Traffic>,
    kept: Vec<Kept>,
    random: SmallRng,
}

impl Shopper {
    async fn run(mut self) {
        while !self.traffic.stop.load(Ordering::Relaxed) {
            let gives_back = self.kept.len() >= KEPT_COUNT_MAX || self.random.random_bool(RELEASE_SHARE);
            if gives_back && !self.kept.is_empty() {
                self.release().await;
            } else {
                self.reserve().await;
            }
        }
    }

    async fn reserve(&mut self) {
        // Some pools are far more popular than others: the square of an even number is small most of the time.
        let popularity = self.random.random::<f64>().powi(2);
        let pool = ((popularity * self.pools.len() as f64) as usize).min(self.pools.len() - 1);
        let units = [1, self.random.random_range(1..=ITEMS_MAX)];
        let Ok(key) = Key::random() else {
            self.failed(None).await;
            return;
        };
        let reserve = Reserve::new(self.pools[pool], Units::InOrder(&units), key);
        let begun = Instant::now();
        let answer = self.client.reserve(&reserve).await;
        let took = begun.elapsed();
        match answer {
            Ok(Reserving::Reserved(Reservation { id, .. })) => {
                self.kept.push(Kept {
                    pool,
                    units,
                    reservation: id,
                });
                let mut books = self.traffic.books();
                books.recent.reserved += 1;
                record(&mut books.recent, took);
                add(&mut books.reserved[pool], units);
            }
            Ok(Reserving::Refused(refusal)) if refusal.is(Status::InsufficientCapacity) => {
                let mut books = self.traffic.books();
                books.recent.refused += 1;
                record(&mut books.recent, took);
            }
            Ok(Reserving::Refused(_)) => self.failed(None).await,
            Ok(Reserving::Unknown(_)) => self.unknown(),
            Err(error) => self.failed(Some(error)).await,
        }
    }

    async fn release(&mut self) {
        let index = self.random.random_range(0..self.kept.len());
        let Kept {
            pool,
            units,
            reservation,
        } = self.kept.swap_remove(index);
        let begun = Instant::now();
        let answer = self.client.release(reservation, None).await;
        let took = begun.elapsed();
        match answer {
            Ok(Releasing::Released(_)) => {
                let mut books = self.traffic.books();
                books.recent.released += 1;
                record(&mut books.recent, took);
                add(&mut books.released[pool], units);
            }
            Ok(Releasing::Refused(_)) => self.failed(None).await,
            Ok(Releasing::Unknown(_)) => self.unknown(),
            Err(error) => self.failed(Some(error)).await,
        }
    }

    async fn failed(&self, error: Option<Error>) {
        if let Some(error) = error {
            tracing::debug!(%error, "no effect");
        }
        self.traffic.books().recent.failed += 1;
        tokio::time::sleep(PAUSE).await;
    }

    fn unknown(&self) {
        self.traffic.books().recent.unknown += 1;
    }
}

fn record(tally: &mut Tally, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tally.latency.saturating_record(micros.max(1));
}

fn add(amounts: &mut Amounts, units: [u32; DIMENSIONS.len()]) {
    for (amount, unit) in amounts.iter_mut().zip(units) {
        *amount += i64::from(unit);
    }
}
