//! What presets and free loads have in common: which server, where, and what is done with the figures.

use std::path::PathBuf;

use crate::args::PresetArguments;
use crate::load::arguments::RunArguments;
use crate::requirement::Requirement;

/// Which server is used, where, and what is done with the figures.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: Option<u64>,
    /// A running server instead of one of the harness's own.
    pub(crate) engine: Option<String>,
    pub(crate) server: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) key_retention: String,
    pub(crate) snapshot_after: Option<String>,
    pub(crate) journal_space: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) require: Vec<Requirement>,
}

impl From<&PresetArguments> for Setup {
    fn from(arguments: &PresetArguments) -> Self {
        Self {
            seed: arguments.seed,
            engine: arguments.engine.clone(),
            server: arguments.server.clone(),
            data: arguments.data.clone(),
            key_retention: arguments.key_retention.clone(),
            snapshot_after: arguments.snapshot_after.clone(),
            journal_space: arguments.journal_space.clone(),
            json: arguments.json.clone(),
            html: arguments.html.clone(),
            require: arguments.require.clone(),
        }
    }
}

impl From<&RunArguments> for Setup {
    fn from(arguments: &RunArguments) -> Self {
        Self {
            seed: arguments.seed,
            engine: arguments.engine.clone(),
            server: arguments.server.clone(),
            data: arguments.data.clone(),
            key_retention: arguments.key_retention.clone(),
            snapshot_after: None,
            journal_space: None,
            json: arguments.json.clone(),
            html: arguments.html.clone(),
            require: arguments.require.clone(),
        }
    }
}
