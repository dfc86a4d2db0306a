//! The operations of the protocol.

use std::fmt;

/// What a frame asks for. The number is permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Operation {
    /// The first frame of a connection: versions, dimensions, limits.
    Hello = 1,
    /// Asks whether the other side is there.
    Ping = 2,
    /// Reserved.
    Authenticate = 3,
    /// Reserved.
    GoingAway = 4,
    /// Reserved.
    Cancel = 5,
    /// Reserve, release and the like: many commands in one frame.
    Commands = 16,
    /// Names of pools to ids.
    ResolvePools = 17,
    /// Creates or changes pools.
    PutPools = 18,
    /// Pools by name.
    GetPools = 19,
    /// Pools in the order of their names.
    ListPools = 20,
    /// Reservations by id.
    GetReservations = 21,
    /// Which pools sell in a window, and how much is left.
    Availability = 32,
    /// The events of a pool, the newest first.
    PoolEvents = 33,
    /// Events as they happen.
    Feed = 34,
    /// Reservations by reference or pool, those that ended long ago too.
    SearchReservations = 35,
    /// Pools as they were.
    PastState = 36,
    /// A pool goes back to an earlier moment.
    ResetPool = 37,
    /// What the server counts of its own work.
    Stats = 38,
}

/// Every operation with its name and whether it is only a reserved number, as ARCHITECTURE.md lists them.
const OPERATIONS: [(Operation, &str, bool); 18] = [
    (Operation::Hello, "hello", false),
    (Operation::Ping, "ping", false),
    (Operation::Authenticate, "authenticate", true),
    (Operation::GoingAway, "going away", true),
    (Operation::Cancel, "cancel", true),
    (Operation::Commands, "commands", false),
    (Operation::ResolvePools, "resolve pools", false),
    (Operation::PutPools, "put pools", false),
    (Operation::GetPools, "get pools", false),
    (Operation::ListPools, "list pools", false),
    (Operation::GetReservations, "get reservations", false),
    (Operation::Availability, "availability", false),
    (Operation::PoolEvents, "pool events", false),
    (Operation::Feed, "feed", false),
    (Operation::SearchReservations, "search reservations", false),
    (Operation::PastState, "past state", false),
    (Operation::ResetPool, "reset pool", false),
    (Operation::Stats, "stats", false),
];

impl Operation {
    /// The number in a frame's header.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The operation of this number; `None` for one that this version does not know, which a server answers with
    /// [`Status::Unsupported`](crate::Status::Unsupported).
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Ping,
            3 => Self::Authenticate,
            4 => Self::GoingAway,
            5 => Self::Cancel,
            16 => Self::Commands,
            17 => Self::ResolvePools,
            18 => Self::PutPools,
            19 => Self::GetPools,
            20 => Self::ListPools,
            21 => Self::GetReservations,
            32 => Self::Availability,
            33 => Self::PoolEvents,
            34 => Self::Feed,
            35 => Self::SearchReservations,
            36 => Self::PastState,
            37 => Self::ResetPool,
            38 => Self::Stats,
            _ => return None,
        })
    }

    /// The name, as ARCHITECTURE.md writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// Whether only the number is taken: such a request is answered with
    /// [`Status::Unsupported`](crate::Status::Unsupported).
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.entry().2
    }

    fn entry(self) -> &'static (Operation, &'static str, bool) {
        // A test holds that every operation is in the table.
        OPERATIONS
            .iter()
            .find(|entry| entry.0 == self)
            .unwrap_or(&OPERATIONS[0])
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_architecture_page() {
        let page = include_str!("../../../ARCHITECTURE.md");
        let mut rows: Vec<(u16, String, bool)> = page
            .lines()
            .skip_while(|line| !line.starts_with("| operation | name | request | answer |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .flat_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                // A row may hold several numbers and as many names.
                let names = cells[2].split(", ").map(str::to_owned);
                let reserved = cells[3] == "reserved";
                let numbers = cells[1].split(", ").map(|number| number.parse().expect("a number"));
                numbers
                    .zip(names)
                    .map(|(number, name)| (number, name, reserved))
                    .collect::<Vec<_>>()
            })
            .collect();
        rows.sort_unstable();
        let known: Vec<(u16, String, bool)> = OPERATIONS
            .iter()
            .map(|&(o, name, reserved)| (o.number(), name.to_owned(), reserved))
            .collect();
        assert_eq!(rows, known);
    }

    #[test]
    fn every_number_leads_to_its_operation_and_back() {
        let mut count = 0;
        for number in 0..=u16::MAX {
            if let Some(operation) = Operation::from_number(number) {
                assert_eq!(operation.number(), number);
                assert_eq!(operation.entry().0, operation, "{operation:?} is not in the table");
                count += 1;
            }
        }
        assert_eq!(count, OPERATIONS.len());
    }
}
