//! Pools and reservations: decide and apply, without any environment.
