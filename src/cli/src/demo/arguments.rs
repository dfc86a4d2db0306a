//! What `plimsoll demo` takes.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use plimsoll_server::Cores;

use super::traffic::RATE_MAX;
use crate::http::{HttpListen, parse_http_listen};
use crate::values::parse_cores;

#[derive(Debug, Args)]
#[command(after_help = "\
The planner's page is at the address that it names. The engine listens on a free port of this machine only and keeps its data in a temporary directory that is removed at the end. On a
terminal it shows a live view; its keys stand in the last line. Elsewhere it prints a line a second. At the end it holds
the pools' counters against every answer that the shoppers got, and fails when they differ.

Examples:
  plimsoll demo
  plimsoll demo --seconds 10 --rate 2000 --cores 1
  plimsoll demo --seed 7 --plain --seconds 60 > demo.log")]
pub(crate) struct DemoArguments {
    /// End after this many seconds
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<NonZeroU32>,

    /// Shoppers that come each second
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub(crate) rate: u32,

    /// The same shoppers with the same wishes each time; what they get still depends on who is first
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// A line a second instead of the live view
    #[arg(long)]
    pub(crate) plain: bool,

    /// Keep the data in this directory, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,

    /// Where HTTP and the planner's page are served, or off; a free port when this one is in use
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:7480", value_parser = parse_http_listen)]
    pub(crate) http: HttpListen,

    /// Processors to use: auto, the first N, or a list such as 0,2 or 4-7
    #[arg(long, value_name = "N|LIST", default_value = "auto", value_parser = parse_cores)]
    pub(crate) cores: Cores,
}
