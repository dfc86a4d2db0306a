//! The real bookings, driven over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http_client::{call, get, send};
use crate::orders::expected;
use crate::support::{Server, bookings};

/// Commands of one call.
const BATCH: usize = 1000;

#[derive(Default)]
struct Figures {
    accepted: u64,
    rejected: u64,
    released: u64,
    release_of_rejected: u64,
}

/// What is gathered for the next call, and what became of the orders before.
#[derive(Default)]
struct Driver {
    commands: Vec<Value>,
    /// The orders that the commands are for.
    orders: Vec<String>,
    /// Reservations by order; none: it was rejected.
    reservations: HashMap<String, Option<String>>,
    figures: Figures,
}

impl Driver {
    fn reserve(&mut self, http: SocketAddr, order: &str, pool: &str, units: &Value) {
        self.push(
            http,
            order,
            json!({"op": "reserve", "pool": pool, "units": units, "key": order, "reference": order}),
        );
    }

    fn release(&mut self, http: SocketAddr, order: &str) {
        // The id comes with the answer to the reserve.
        if !self.reservations.contains_key(order) {
            self.send(http);
        }
        match self.reservations[order].clone() {
            None => self.figures.release_of_rejected += 1,
            Some(id) => self.push(http, order, json!({"op": "release", "reservation": id})),
        }
    }

    fn push(&mut self, http: SocketAddr, order: &str, command: Value) {
        self.commands.push(command);
        self.orders.push(order.to_owned());
        if self.commands.len() == BATCH {
            self.send(http);
        }
    }

    fn send(&mut self, http: SocketAddr) {
        if self.commands.is_empty() {
            return;
        }
        let body = json!({ "commands": self.commands }).to_string();
        let reply = send(http, "POST", "/v1/reservations/batch", &[], &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let results = reply.json()["results"].clone();
        for (index, order) in self.orders.drain(..).enumerate() {
            let result = &results[index];
            let reservation = result["reservation"]["reservation"].as_str().map(str::to_owned);
            match (self.commands[index]["op"] == "reserve", result["status"].as_u64()) {
                (true, Some(201)) => self.figures.accepted += 1,
                (true, Some(409)) => self.figures.rejected += 1,
                (false, Some(200)) => self.figures.released += 1,
                _ => panic!("{order} got {result}"),
            }
            if self.commands[index]["op"] == "reserve" {
                self.reservations.insert(order, reservation);
            }
        }
        self.commands.clear();
    }
}

#[test]
fn the_real_bookings_end_with_the_expected_figures() {
    let Some(expected) = expected("first_night_rooms_guests") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let options = ["--dimensions", "rooms,guests", "--http", "127.0.0.1:0"];
    let server = Server::start(&directory.path().join("data"), &options);
    let http = server.http();
    let pools = std::fs::read_to_string(bookings("resort-pools.csv").unwrap()).unwrap();
    let imported = call(
        http,
        "POST",
        "/v1/pools/import",
        &[("content-type", "text/csv")],
        &pools,
    );
    assert_eq!(
        (imported.status, &imported.json()["created"]),
        (200, &expected["pools"]),
        "{imported:?}"
    );

    let file = std::fs::File::open(bookings("resort-orders.csv.gz").unwrap()).unwrap();
    let mut rows = csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(file));
    let mut driver = Driver::default();
    for row in rows.deserialize::<HashMap<String, String>>() {
        let row = row.unwrap();
        let order = row["order"].as_str();
        match row["op"].as_str() {
            "reserve" => {
                let amount = |name: &str| row[name].parse::<u32>().unwrap();
                let units = json!({"rooms": amount("rooms"), "guests": amount("guests")});
                driver.reserve(http, order, &row["pool"], &units);
            }
            _ => driver.release(http, order),
        }
    }
    driver.send(http);
    let figures = driver.figures;
    for (name, found) in [
        ("accepted", figures.accepted),
        ("rejected", figures.rejected),
        ("released", figures.released),
        ("release_of_rejected", figures.release_of_rejected),
        ("live", figures.accepted - figures.released),
    ] {
        assert_eq!(expected[name], found, "{name}");
    }
    let sheet = get(http, "/v1/pools?format=csv").body;
    let mut used = Sha256::new();
    for row in csv::Reader::from_reader(sheet.as_bytes()).deserialize::<HashMap<String, String>>() {
        let row = row.unwrap();
        let sum = |dimension: &str| {
            let amount = |state: &str| row[&format!("{state}_{dimension}")].parse::<u64>().unwrap();
            amount("held") + amount("confirmed")
        };
        used.update(format!("{},{},{}\n", row["name"], sum("rooms"), sum("guests")));
    }
    let digest: String = used.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(expected["used_sha256"], digest);
}
