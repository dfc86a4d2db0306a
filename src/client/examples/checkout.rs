//! A checkout: what is available, a hold while the customer pays, and the confirmation.
//!
//! ```text
//! cargo run -p plimsoll-client --example checkout -- 127.0.0.1:7440 north orders=1
//! ```
//!
//! It asks for the pools of a zone that fit the units, holds the first that it gets, extends the hold while the payment
//! takes its time, and confirms it. It ends with 0 when the order is confirmed, with 3 when nothing could be had, with
//! 4 when the outcome of the confirmation is not known.
#![allow(clippy::print_stdout, reason = "it tells what it does")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use plimsoll_client::{
    AvailabilityQuery, Client, Confirming, Hold, Holding, Key, KeySource, Options, Reserve, Resizing, Units,
};

/// How long a customer has to pay, before the hold is extended.
const HOLD: Duration = Duration::from_secs(120);

/// How often an answer that is worth another try gets one, beyond what the client does by itself.
const ATTEMPTS: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, zone, units] = arguments.as_slice() else {
        return Err("expected: ENGINE ZONE DIMENSION=N[,DIMENSION=N..]".into());
    };
    let units = parse(units)?;
    let client = Client::connect(engine, Options::default()).await?;
    println!(
        "connected to {}, which limits {:?}",
        client.welcome().server,
        client.dimensions()
    );

    let Some(mut hold) = hold_any(&client, zone, Units::Named(&units)).await? else {
        println!("nothing left in {zone}");
        return Ok(ExitCode::from(3));
    };
    // The payment takes its time; the customer keeps the slot.
    if let Resizing::Resized(longer) = hold.extend(HOLD).await? {
        println!("extended to {:?}, version {}", longer.expires_at, longer.version);
    }
    for attempt in 1..=ATTEMPTS {
        match hold.confirm().await? {
            Confirming::Confirmed(reservation) => {
                println!("{} is {}", reservation.id, reservation.state);
                return Ok(ExitCode::SUCCESS);
            }
            Confirming::Refused(refusal) if !refusal.retryable() => {
                println!("refused: {refusal}");
                return Ok(ExitCode::from(3));
            }
            // Confirming twice is the same as confirming once.
            Confirming::Refused(refusal) => println!("attempt {attempt}: {refusal}"),
            Confirming::Unknown(unknown) => println!("attempt {attempt}: {unknown}"),
        }
    }
    // It may be confirmed, so that nothing is given back; whoever has the id can find out.
    println!("{} may or may not be confirmed", hold.leave().id);
    Ok(ExitCode::from(4))
}

/// Holds the units in the first pool of the zone in which they fit. Others buy meanwhile, so that a pool may be full
/// when it is asked.
async fn hold_any(client: &Client, zone: &str, units: Units<'_>) -> Result<Option<Hold>, Box<dyn Error>> {
    let query = AvailabilityQuery::in_zone(zone).fitting(units).limit(20);
    let available = client.availability(&query).await?;
    for pool in available.pools.iter().filter(|pool| pool.fits) {
        println!("{} in {}: {}", pool.name, pool.zone, pool.band);
        // One key for each attempt to buy: however often it is sent, it takes units once.
        let cart = Reserve {
            hold: Some(HOLD),
            reference: Some("checkout example"),
            ..Reserve::new(pool.id, units, Key::random()?)
        };
        for _ in 0..ATTEMPTS {
            match client.hold(&cart).await? {
                Holding::Held(hold) => {
                    println!("held as {} until {:?}", hold.id(), hold.expires_at());
                    // A customer who goes away leaves no hold behind.
                    return Ok(Some(hold.release_on_drop()));
                }
                Holding::Refused(refusal) if !refusal.retryable() => {
                    println!("refused: {refusal}");
                    break;
                }
                Holding::Settled(reservation) => return Err(format!("{} is not ours", reservation.id).into()),
                Holding::Refused(refusal) => println!("again: {refusal}"),
                Holding::Unknown(unknown) => println!("again, with the same key: {unknown}"),
            }
        }
    }
    Ok(None)
}

/// `rooms=1,guests=2`
fn parse(text: &str) -> Result<Vec<(&str, u32)>, Box<dyn Error>> {
    let pairs = text.split(',').map(|pair| {
        let (name, amount) = pair.split_once('=').ok_or("expected DIMENSION=N")?;
        Ok((name, amount.parse()?))
    });
    pairs.collect()
}
