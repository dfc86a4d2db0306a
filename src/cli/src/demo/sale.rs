//! A sale: a popular slot opens, and a crowd rushes it until it is full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_client::PoolDefinition;
use rand::RngExt;

use super::pools::at_share;
use super::shopper::{self, Basket, Buying, some};
use super::traffic::{Stream, Traffic, now_micros};

/// From the announcement to the opening.
const ANNOUNCED: Duration = Duration::from_secs(3);
/// So many come for each order that the pool takes.
const CROWD_PER_ORDER: f64 = 3.5;
/// These come before it opens.
const EARLY_SHARE: f64 = 0.12;
/// The others come within this time, more of them at its beginning.
const RUSH: Duration = Duration::from_secs(8);
/// Each tries so often.
const TRIES_MAX: u32 = 6;
const BETWEEN_TRIES: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(900));
/// From the opening to the end of the sale.
const OPEN_FOR: Duration = Duration::from_secs(13);
/// Sales that the view remembers.
const PAST_COUNT_MAX: usize = 16;

/// The sale that is on, or was last.
#[derive(Default)]
pub(super) struct Board {
    current: Mutex<Option<Arc<Sale>>>,
    past: Mutex<Vec<Arc<Sale>>>,
}

pub(super) struct Sale {
    /// Which pool, by its place in the catalogue.
    pub(super) pool: usize,
    pub(super) name: String,
    pub(super) crowd_count: usize,
    pub(super) opens_at: Instant,
    /// Reserves that were refused since the pool was full.
    pub(super) turned_away: AtomicU64,
    sold_out_after: Mutex<Option<Duration>>,
    is_over: Mutex<bool>,
}

impl Sale {
    /// How long after the opening the first one was turned away.
    pub(super) fn sold_out_after(&self) -> Option<Duration> {
        *self.sold_out_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        let mut sold_out = self.sold_out_after.lock().unwrap_or_else(PoisonError::into_inner);
        sold_out.get_or_insert_with(|| self.opens_at.elapsed());
    }
}

impl Board {
    /// The sale that is on, or was last.
    pub(super) fn current(&self) -> Option<Arc<Sale>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_on(&self) -> bool {
        self.current().is_some_and(|sale| !sale.is_over())
    }

    /// Sales that are over, the newest first.
    pub(super) fn past(&self) -> Vec<Arc<Sale>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs one sale from the announcement to its end.
pub(super) async fn run(traffic: Arc<Traffic>, number: u64) {
    let mut random = traffic.random(Stream::Sale, number);
    let sales = &traffic.catalogue.sales;
    let pool = sales[at_share(sales.len(), random.random())];
    let definition = &traffic.catalogue.definitions[pool];
    let crowd_count = (f64::from(definition.limits[0]) * CROWD_PER_ORDER) as usize;
    let sale = Arc::new(Sale {
        pool,
        name: definition.name.clone(),
        crowd_count,
        opens_at: Instant::now() + ANNOUNCED,
        turned_away: AtomicU64::new(0),
        sold_out_after: Mutex::new(None),
        is_over: Mutex::new(false),
    });
    let opens_at = now_micros() + ANNOUNCED.as_micros() as i64;
    put(&traffic, definition, false, opens_at).await;
    *traffic.board.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&sale));
    for member in 0..crowd_count as u64 {
        let arrives_in = if random.random_bool(EARLY_SHARE) {
            ANNOUNCED.mul_f64(random.random())
        } else {
            ANNOUNCED + RUSH.mul_f64(random.random::<f64>().powf(1.2))
        };
        traffic.spawn(join_in(
            Arc::clone(&traffic),
            Arc::clone(&sale),
            number << 32 | member,
            arrives_in,
        ));
    }
    traffic.sleep(ANNOUNCED + OPEN_FOR).await;
    put(&traffic, definition, true, 0).await;
    *sale.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let mut past = traffic.board.past.lock().unwrap_or_else(PoisonError::into_inner);
    past.insert(0, sale);
    past.truncate(PAST_COUNT_MAX);
}

/// Opens or closes the pool.
async fn put(traffic: &Traffic, definition: &PoolDefinition, closed: bool, opens_at: i64) {
    let changed = PoolDefinition {
        closed,
        opens_at,
        ..definition.clone()
    };
    let result = traffic.client.put_pools(&[changed], false).await;
    if !result.is_ok_and(|results| results.iter().all(|result| result.status.is_ok())) {
        traffic.books().recent.failed += 1;
    }
}

/// One of the crowd.
async fn join_in(traffic: Arc<Traffic>, sale: Arc<Sale>, number: u64, arrives_in: Duration) {
    let mut random = traffic.random(Stream::Crowd, number);
    let basket = Basket::draw(&mut random, format!("sale-{number}"));
    let mut bought = None;
    if traffic.sleep(arrives_in).await {
        for _ in 0..TRIES_MAX {
            match shopper::buy(&traffic, sale.pool, &basket).await {
                Buying::Got(kept) => {
                    bought = Some(kept);
                    break;
                }
                Buying::Full => sale.turn_away(),
                Buying::NotOnSale if sale.is_over() => break,
                Buying::NotOnSale => {}
                Buying::Failed => break,
            }
            if !traffic.sleep(some(BETWEEN_TRIES, &mut random)).await {
                break;
            }
        }
    }
    if let Some(kept) = bought {
        shopper::keep(&traffic, kept, &basket, &mut random).await;
    }
}
