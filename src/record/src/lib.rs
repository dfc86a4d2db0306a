//! Domain events to bytes and back.
