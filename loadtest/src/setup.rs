//! What presets and free loads have in common: which server, where, and what is done with the figures.

use std::path::PathBuf;

use clap::Args;

use crate::requirement::{Requirement, parse_requirement};

/// Which server is used, where, and what is done with the figures.
#[derive(Clone, Debug, Args)]
pub(crate) struct Setup {
    /// Seed of arrivals, keys and choices [default: 1 for a server of its own, random for a running one]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Use this running server instead of one of its own; its resources are then not measured
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["server", "key_retention"])]
    pub(crate) engine: Option<String>,

    /// The program `plimsoll` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,

    /// Where the fresh data directory is made, and where the floor of a sync is measured [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// How long the server remembers ended reservations
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) key_retention: String,

    /// Write the figures to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a page with figures and charts to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Fail unless these hold: p50, p90, p99, p999, max (at most a time), rate (at least, with k or M), ratio (at most; `single`;
    /// at least; `hot`), share (at least; `overload`)
    #[arg(long, value_name = "NAME=VALUE[,..]", value_delimiter = ',', value_parser = parse_requirement)]
    pub(crate) require: Vec<Requirement>,

    /// Only presets take it.
    #[arg(skip)]
    pub(crate) snapshot_after: Option<String>,

    /// Only presets take it.
    #[arg(skip)]
    pub(crate) journal_space: Option<String>,
}
