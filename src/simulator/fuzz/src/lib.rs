//! Fuzz targets: bytes at random, and what must hold whatever they are.
//!
//! Each module is one target with a function `check`, which panics when something does not hold, and a function `seeds`, which makes
//! first inputs with the project's own encoders. `run` beside this package builds and starts them; `corpus` holds the first inputs and
//! whatever input a crash was found with.

pub mod commands;
mod counting;
pub mod frames;
mod input;
pub mod journals;
pub mod manifests;
mod memory;
pub mod snapshots;
