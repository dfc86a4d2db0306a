//! History that was written by hand: whole, and damaged in every way that a check exists for.

mod events;
mod formats;
mod verify;
mod written;
