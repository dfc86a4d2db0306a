//! Orders from before the demo began, so that the first days are well booked when it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_client::{Key, Reserve, Reserving, Units as UnitsOf};
use rand::RngExt;

use super::ledger::Kept;
use super::pools::{DAYS, Units};
use super::traffic::{Stream, Traffic};
use crate::failure::Failure;

/// Each is of a company that orders for several people.
const UNITS: Units = [5, 60];
/// How many are under way at once.
const BOOKER_COUNT: usize = 64;
/// How full the slots of the first day are at least, and those of the last.
const FIRST_DAY_SHARE: f64 = 0.75;
const LAST_DAY_SHARE: f64 = 0.05;
/// A slot is up to so much fuller than that.
const SPREAD: f64 = 0.25;

/// Books them, and returns when all are durable.
pub(super) async fn book(traffic: &Arc<Traffic>) -> Result<(), Failure> {
    let orders: Arc<[usize]> = orders(traffic).into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut bookers = tokio::task::JoinSet::new();
    for _ in 0..BOOKER_COUNT {
        let (traffic, orders, next) = (Arc::clone(traffic), Arc::clone(&orders), Arc::clone(&next));
        bookers.spawn(async move {
            while let Some(pool) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
                book_one(&traffic, *pool).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(booked) = bookers.join_next().await {
        booked.map_err(|error| Failure::failed("the earlier orders were not booked").because(error))??;
    }
    Ok(())
}

/// The pool of each order.
fn orders(traffic: &Traffic) -> Vec<usize> {
    let mut random = traffic.random(Stream::Earlier, 0);
    let mut orders = Vec::new();
    for (pool, definition) in traffic.catalogue.definitions.iter().enumerate() {
        let day = traffic.catalogue.day(pool) as f64 / (DAYS - 1) as f64;
        let share = FIRST_DAY_SHARE + (LAST_DAY_SHARE - FIRST_DAY_SHARE) * day + SPREAD * random.random::<f64>();
        let fitting = definition
            .limits
            .iter()
            .zip(UNITS)
            .map(|(limit, unit)| limit / unit)
            .min();
        if !definition.closed {
            let count = f64::from(fitting.unwrap_or(0)) * share.min(1.0);
            orders.extend(std::iter::repeat_n(pool, count as usize));
        }
    }
    orders
}

async fn book_one(traffic: &Traffic, pool: usize) -> Result<(), Failure> {
    let key = Key(rand::random());
    let reserve = Reserve {
        reference: Some("company"),
        ..Reserve::new(traffic.catalogue.ids[pool], UnitsOf::InOrder(&UNITS), key)
    };
    match traffic.client.reserve(&reserve).await {
        Ok(Reserving::Reserved(reservation)) => {
            let kept = Kept {
                id: reservation.id,
                pool,
                units: UNITS,
            };
            traffic.books().ledger.reserved(kept, None);
            Ok(())
        }
        Ok(answer) => Err(Failure::failed(format!(
            "the earlier orders were not booked: {answer:?}"
        ))),
        Err(error) => Err(Failure::failed("the earlier orders were not booked").because(error)),
    }
}
