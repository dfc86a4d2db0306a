//! One shopper: looks around, reserves a slot, and keeps it, forgets it or cancels it.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::{AvailabilityQuery, Confirming, Key, Releasing, Reserve, Reserving, Status, Units as UnitsOf};
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::ledger::Kept;
use super::pools::{MICROS_PER_DAY, Shelf, Units, at_share};
use super::tally::Call;
use super::traffic::{Stream, Traffic, between, now_micros, timed};

/// How long a slot is held for a buyer: far shorter than in a real shop, so that one sees holds expire.
pub(super) const HOLD: Duration = Duration::from_secs(6);

/// Shoppers that buy; the others only look.
pub(super) const BUYERS_SHARE: f64 = 0.5;
/// Buyers that do not look first, but want a certain slot.
const REGULARS_SHARE: f64 = 0.15;
/// Buyers whose application did not get the answer and sends the same again.
const REPEAT_SHARE: f64 = 0.04;

const LOOKS_MAX: u32 = 4;
/// Buyers that leave what is held for them.
const LEAVING_SHARE: f64 = 0.06;
/// Buyers that confirm too late.
const LATE_SHARE: f64 = 0.03;

/// Slots that a buyer tries until one is not full.
const TRIES_MAX: u32 = 3;
const ITEMS_MAX: u32 = 24;
/// Digits of a postal code.
const LOCATION_SIZE: usize = 5;
const DAYS_LOOKED_AT: i64 = 3;

/// Between two looks, and before a slot is chosen.
const THINKING: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_500));
/// Before a buyer confirms: filling in a form.
const PAYING: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(3_500));
/// So much too late a late buyer confirms.
const TOO_LATE: Duration = Duration::from_millis(200);
/// Before another slot is tried.
const SECOND_THOUGHTS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// After an error.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of a reserve.
pub(super) enum Buying {
    Got(Kept),
    Full,
    NotOnSale,
    Failed,
}

/// One visit.
pub(super) async fn shop(traffic: Arc<Traffic>, number: u64) {
    let mut random = traffic.random(Stream::Shopper, number);
    // Some zones and kinds are far more popular than others: the square of an even number is small most of the time.
    let shelf = traffic.catalogue.shelf(square(&mut random), square(&mut random));
    let is_buyer = random.random_bool(BUYERS_SHARE);
    let is_regular = is_buyer && random.random_bool(REGULARS_SHARE);
    let basket = Basket::draw(&mut random, format!("order-{number}"));
    let mut choice = Vec::new();
    if !is_regular {
        for _ in 0..random.random_range(1..=LOOKS_MAX) {
            choice = look(&traffic, shelf, &basket, &mut random).await;
            if !traffic.sleep(some(THINKING, &mut random)).await {
                return;
            }
        }
    }
    if !is_buyer {
        return;
    }
    if choice.is_empty() {
        choice.clone_from(&shelf.pools);
    }
    for _ in 0..TRIES_MAX {
        let pool = choice[at_share(choice.len(), square(&mut random))];
        match buy(&traffic, pool, &basket).await {
            Buying::Got(kept) => return keep(&traffic, kept, &basket, &mut random).await,
            Buying::Failed => return,
            Buying::Full | Buying::NotOnSale => {}
        }
        if !traffic.sleep(some(SECOND_THOUGHTS, &mut random)).await {
            return;
        }
    }
}

/// What a shopper wants to have delivered.
pub(super) struct Basket {
    key: Key,
    units: Units,
    reference: String,
}

impl Basket {
    pub(super) fn draw(random: &mut Pcg64Mcg, reference: String) -> Basket {
        Basket {
            key: Key(random.random()),
            units: [1, random.random_range(1..=ITEMS_MAX)],
            reference,
        }
    }

    fn reserve<'a>(&'a self, traffic: &Traffic, pool: usize) -> Reserve<'a> {
        Reserve {
            hold: Some(HOLD),
            reference: Some(&self.reference),
            ..Reserve::new(traffic.catalogue.ids[pool], UnitsOf::InOrder(&self.units), self.key)
        }
    }
}

/// Asks what is left on some days at the shopper's door; the slots into which the basket fits.
async fn look(traffic: &Traffic, shelf: &Shelf, basket: &Basket, random: &mut Pcg64Mcg) -> Vec<usize> {
    let prefix = shelf.coverage[at_share(shelf.coverage.len(), random.random())];
    let location = format!(
        "{prefix}{:0width$}",
        random.random_range(0..10),
        width = LOCATION_SIZE - prefix.len()
    );
    let first = shelf.pools[at_share(shelf.pools.len(), square(random))];
    let from = traffic.catalogue.definitions[first].starts_at;
    let query = AvailabilityQuery::of_location(&location)
        .of_kind(shelf.kind)
        .between(from, from + DAYS_LOOKED_AT * MICROS_PER_DAY)
        .fitting(UnitsOf::InOrder(&basket.units));
    let (answer, took) = timed(traffic.client.availability(&query)).await;
    let recent = &mut traffic.books().recent;
    recent.answered(Call::Query, took);
    match answer {
        Ok(available) => {
            recent.done(Call::Query);
            let fitting = available.pools.iter().filter(|pool| pool.fits);
            fitting.filter_map(|pool| traffic.catalogue.index(pool.id)).collect()
        }
        Err(_) => {
            recent.failed += 1;
            Vec::new()
        }
    }
}

/// Reserves.
pub(super) async fn buy(traffic: &Traffic, pool: usize, basket: &Basket) -> Buying {
    let (answer, took) = timed(traffic.client.reserve(&basket.reserve(traffic, pool))).await;
    {
        let books = &mut *traffic.books();
        books.recent.answered(Call::Reserve, took);
        match answer {
            Ok(Reserving::Reserved(reservation)) => {
                let kept = Kept {
                    id: reservation.id,
                    pool,
                    units: basket.units,
                };
                books.recent.done(Call::Reserve);
                books.ledger.reserved(kept, reservation.expires_at);
                return Buying::Got(kept);
            }
            Ok(Reserving::Refused(refusal)) => match refusal.status.known() {
                Some(Status::InsufficientCapacity) => {
                    books.recent.full += 1;
                    return Buying::Full;
                }
                Some(Status::PoolClosed | Status::PoolNotOpenYet | Status::PoolPastClosing) => {
                    books.recent.not_on_sale += 1;
                    return Buying::NotOnSale;
                }
                _ => books.recent.failed += 1,
            },
            Ok(Reserving::Unknown(_)) => books.recent.unknown += 1,
            Err(error) => {
                tracing::debug!(%error, "no effect");
                books.recent.failed += 1;
            }
        }
    }
    traffic.sleep(PAUSE).await;
    Buying::Failed
}

/// What a shopper does with what is held for it.
pub(super) async fn keep(traffic: &Traffic, kept: Kept, basket: &Basket, random: &mut Pcg64Mcg) {
    if random.random_bool(REPEAT_SHARE) {
        buy_again(traffic, kept, basket).await;
    }
    let mood: f64 = random.random();
    if mood < LEAVING_SHARE {
        traffic.books().ledger.given_up(kept.id);
        return;
    }
    let pause = if mood < LEAVING_SHARE + LATE_SHARE {
        HOLD + TOO_LATE
    } else {
        some(PAYING, random)
    };
    if traffic.sleep(pause).await {
        confirm(traffic, kept).await;
    }
}

async fn confirm(traffic: &Traffic, kept: Kept) {
    let (answer, took) = timed(traffic.client.confirm(kept.id, None)).await;
    let books = &mut *traffic.books();
    books.recent.answered(Call::Confirm, took);
    match answer {
        Ok(Confirming::Confirmed(_)) => {
            books.recent.done(Call::Confirm);
            books.ledger.confirmed(kept.id);
        }
        Ok(Confirming::Refused(refusal)) if refusal.is(Status::HoldExpired) => {
            books.recent.expired += 1;
            books.ledger.expired(kept.id, now_micros());
        }
        Ok(Confirming::Refused(refusal)) => books
            .ledger
            .contradictions
            .push(format!("{} cannot be confirmed: {refusal}", kept.id)),
        Ok(Confirming::Unknown(_)) => books.recent.unknown += 1,
        // It had no effect, so the hold ends by itself.
        Err(_) => {
            books.recent.failed += 1;
            books.ledger.given_up(kept.id);
        }
    }
}

/// Sends the same reserve again, as an application does that lost the answer: it must find the first one.
async fn buy_again(traffic: &Traffic, kept: Kept, basket: &Basket) {
    let (answer, took) = timed(traffic.client.reserve(&basket.reserve(traffic, kept.pool))).await;
    let books = &mut *traffic.books();
    books.recent.answered(Call::Reserve, took);
    match answer {
        Ok(Reserving::Reserved(again)) if again.repeated && again.id == kept.id => books.recent.repeated += 1,
        Ok(Reserving::Reserved(again)) => books
            .ledger
            .contradictions
            .push(format!("the key of {} gave {} as well", kept.id, again.id)),
        Ok(Reserving::Refused(refusal)) if refusal.is(Status::InsufficientCapacity) => books
            .ledger
            .contradictions
            .push(format!("the key of {} did not find it: {refusal}", kept.id)),
        // Nothing follows from it: the first reservation stands.
        Ok(Reserving::Refused(_) | Reserving::Unknown(_)) | Err(_) => books.recent.failed += 1,
    }
}

/// Gives a confirmed reservation back, which the ledger has let go already.
pub(super) async fn cancel(traffic: Arc<Traffic>, kept: Kept) {
    let (answer, took) = timed(traffic.client.release(kept.id, None)).await;
    let books = &mut *traffic.books();
    books.recent.answered(Call::Release, took);
    match answer {
        Ok(Releasing::Released(_)) => {
            books.recent.done(Call::Release);
            books.ledger.released += 1;
        }
        Ok(Releasing::Refused(refusal)) => books
            .ledger
            .contradictions
            .push(format!("{} cannot be released: {refusal}", kept.id)),
        Ok(Releasing::Unknown(_)) => books.recent.unknown += 1,
        // It had no effect, so it is still there.
        Err(_) => {
            books.recent.failed += 1;
            books.ledger.kept_after_all(kept);
        }
    }
}

/// A random time between two.
pub(super) fn some((from, to): (Duration, Duration), random: &mut Pcg64Mcg) -> Duration {
    between(from, to, random.random())
}

fn square(random: &mut Pcg64Mcg) -> f64 {
    random.random::<f64>().powi(2)
}
