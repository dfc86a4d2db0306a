//! What a load consists of.

use std::sync::Arc;
use std::time::Duration;

use super::choice::Choice;
use super::mix::Mix;
use super::orders::Replay;
use crate::limits::HOLD_SECONDS;
use crate::schedule::{Arrivals, Rate};

/// What a load consists of, apart from connections and frames.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) arrivals: Arrivals,
    /// Commands a second; without meaning in a closed loop.
    pub(crate) rate: Rate,
    pub(crate) mix: Mix,
    pub(crate) choice: Choice,
    /// Of the first dimension, for each reserve.
    pub(crate) units: u32,
    /// What each pool has; `None`: so much that it never fills.
    pub(crate) limit: Option<u32>,
    /// A command that could not be sent for so long is given up, and counted; `None`: it is sent late.
    pub(crate) patience: Option<Duration>,
    /// Whether refusals are left out of the latencies.
    pub(crate) accepted_only: bool,
    pub(crate) hold_seconds: u32,
    /// Whether each acknowledged command is remembered, and accounted for at the end.
    pub(crate) account: bool,
    /// A file instead of mix, choice and arrivals.
    pub(crate) replay: Option<Arc<Replay>>,
}

impl Work {
    /// Reserves of one unit in an open loop.
    pub(crate) fn reserves(arrivals: Arrivals, rate: f64) -> Self {
        Self {
            arrivals,
            rate: Rate::constant(rate),
            mix: Mix::RESERVES,
            choice: Choice::Uniform,
            units: 1,
            limit: None,
            patience: None,
            accepted_only: false,
            hold_seconds: HOLD_SECONDS,
            account: false,
            replay: None,
        }
    }
}
