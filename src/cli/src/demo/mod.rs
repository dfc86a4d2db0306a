//! `plimsoll demo`: an engine in this process, example pools, example traffic, and a view of both.

mod arguments;
mod earlier;
mod figures;
mod format;
mod ledger;
mod palette;
mod plain;
mod pools;
mod sale;
mod shopper;
mod summary;
mod tally;
mod terminal;
mod traffic;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_client::{Client, Options};
use plimsoll_server::{Handle, Server};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

pub(crate) use arguments::DemoArguments;

use crate::connection::{block_on, failure_of};
use crate::failure::Failure;
use crate::http;
use crate::output::Output;
use crate::serve;
use figures::{Fill, Recorder, SaleFigures, Setting};
use pools::Catalogue;
use terminal::{Action, Terminal};
use traffic::Traffic;

/// The demo ends its reservations by the thousand; there is no use in keeping them.
const KEY_RETENTION: Duration = Duration::from_secs(30);

/// How often the live view is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// What the view asks of the engine it can do without for once.
const VIEW_PATIENCE: Duration = Duration::from_millis(500);
/// A key press changes the rate by this much.
const RATE_STEP: f64 = 1.25;

pub(crate) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let place = Place::new(arguments.keep.as_deref())?;
    let server = Server::start(&plimsoll_server::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        cores: arguments.cores.clone(),
        dimensions: Some(pools::DIMENSIONS.map(str::to_owned).into()),
        key_retention: KEY_RETENTION,
        ..plimsoll_server::Options::new(place.data())
    })
    .map_err(serve::failure_of)?;
    let handle = server.handle();
    let engine = server.address().to_string();
    let sidecar = match http::serve_demo(&engine, arguments.http) {
        Ok(sidecar) => sidecar,
        Err(failure) => {
            handle.shutdown();
            server.wait().map_err(serve::failure_of)?;
            return Err(failure);
        }
    };
    let page = sidecar.as_ref().map(|sidecar| format!("http://{}", sidecar.address()));
    let shown = block_on(show(&engine, page, &handle, arguments));
    if let Some(sidecar) = sidecar {
        sidecar.stop();
    }
    handle.shutdown();
    let stopped = server.wait().map_err(serve::failure_of);
    shown.and(stopped).and(place.leave())
}

/// Where the data is kept.
enum Place {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Place {
    fn new(kept: Option<&Path>) -> Result<Place, Failure> {
        if let Some(path) = kept {
            if path.exists() {
                return Err(Failure::usage(format!("{} exists already", path.display()))
                    .help("the demo keeps its data in a new directory only"));
            }
            return Ok(Place::Kept(path.to_owned()));
        }
        tempfile::Builder::new()
            .prefix("plimsoll-demo-")
            .tempdir()
            .map(Place::Temporary)
            .map_err(|error| Failure::failed("cannot make a temporary directory").because(error))
    }

    fn data(&self) -> PathBuf {
        match self {
            Place::Temporary(directory) => directory.path().join("data"),
            Place::Kept(path) => path.clone(),
        }
    }

    fn leave(self) -> Result<(), Failure> {
        match self {
            Place::Temporary(directory) => directory
                .close()
                .map_err(|error| Failure::failed("cannot remove the temporary directory").because(error)),
            Place::Kept(path) => {
                let mut output = Output::new();
                output.line(format_args!(
                    "kept: plimsoll serve --data {} serves it again",
                    path.display()
                ))?;
                output.finish()
            }
        }
    }
}

/// Makes the pools, shows traffic until the limit, a key or a signal, then checks the sums.
async fn show(address: &str, page: Option<String>, handle: &Handle, arguments: &DemoArguments) -> Result<(), Failure> {
    let signals = Signals::new()?;
    let engine_error = |error| failure_of(error, address);
    let client = Client::connect(address, Options::default())
        .await
        .map_err(engine_error)?;
    let catalogue = make_pools(&client, address).await?;
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let setting = Setting {
        address: address.to_owned(),
        page,
        pool_count: catalogue.definitions.len(),
        core_count: handle.stats().cores.len(),
        seed,
    };
    let traffic = Traffic::new(client.clone(), catalogue, seed, arguments.rate);
    earlier::book(&traffic).await?;
    let mut recorder = Recorder::new(setting, handle.stats());
    traffic.spawn(Arc::clone(&traffic).run());

    let limit = arguments
        .seconds
        .map(|seconds| Duration::from_secs(seconds.get().into()));
    let watching = Watching {
        traffic: &traffic,
        handle,
        recorder: &mut recorder,
        signals,
        ends_at: limit.map(|limit| Instant::now() + limit),
    };
    let outcome = if arguments.plain || !terminal::is_capable() {
        watching.plainly().await
    } else {
        watching.live().await
    };
    traffic.stop().await;
    outcome?;
    recorder.look(traffic.rate(), false, None);
    let pools = summary::settle(&traffic, &client).await.map_err(engine_error)?;
    recorder.figures.total.add(&traffic.take_recent());
    // Those that nobody has come back for, too.
    recorder.figures.total.expired = traffic.books().ledger.expired;

    let mut output = Output::new();
    summary::print(&mut output, &recorder.figures, &handle.stats())?;
    let definitions = &traffic.catalogue.definitions;
    let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
    let checked = summary::check(&mut output, &recorder.figures, &traffic.books().ledger, &names, &pools);
    output.finish().and(checked)
}

async fn make_pools(client: &Client, address: &str) -> Result<Catalogue, Failure> {
    let engine_error = |error| failure_of(error, address);
    let definitions = pools::definitions();
    let results = client.put_pools(&definitions, false).await.map_err(engine_error)?;
    if let Some(refused) = results.iter().find(|result| !result.status.is_ok()) {
        return Err(Failure::failed(format!(
            "the engine does not take the example pools: {}",
            refused.status
        )));
    }
    let ids: Vec<_> = results.iter().filter_map(|result| result.pool).collect();
    if ids.len() != definitions.len() {
        return Err(Failure::failed("the engine does not know the pools that it just took"));
    }
    Ok(Catalogue::new(definitions, ids))
}

/// What ends the demo from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::failed("cannot listen for signals").because(error));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The demo while it runs.
struct Watching<'a> {
    traffic: &'a Traffic,
    handle: &'a Handle,
    recorder: &'a mut Recorder,
    signals: Signals,
    ends_at: Option<Instant>,
}

impl Watching<'_> {
    /// A line a second.
    async fn plainly(mut self) -> Result<(), Failure> {
        let setting = &self.recorder.figures.setting;
        print_line(format_args!(
            "engine on {}, {} pools, seed {}; try: plimsoll pool list --engine {}",
            setting.address, setting.pool_count, setting.seed, setting.address
        ))?;
        if let Some(page) = &setting.page {
            print_line(format_args!("the planner's page is at {page}"))?;
        }
        let mut seconds = ticks(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                () = self.signals.any() => return Ok(()),
                () = until(self.ends_at) => return Ok(()),
                _ = seconds.tick() => {
                    self.second().await;
                    self.look().await;
                    print_line(plain::line(&self.recorder.figures))?;
                }
            }
        }
    }

    /// The live view.
    async fn live(mut self) -> Result<(), Failure> {
        let mut terminal = Terminal::take()?;
        let mut seconds = ticks(Duration::from_secs(1));
        let mut frames = ticks(FRAME);
        loop {
            tokio::select! {
                biased;
                () = self.signals.any() => return Ok(()),
                () = until(self.ends_at) => return Ok(()),
                action = terminal.action() => match action {
                    Action::Quit => return Ok(()),
                    Action::Pause => self.traffic.toggle_pause(),
                    Action::Sale => self.traffic.want_sale(),
                    Action::Faster => self.traffic.set_rate((f64::from(self.traffic.rate()) * RATE_STEP).ceil() as u32),
                    Action::Slower => self.traffic.set_rate((f64::from(self.traffic.rate()) / RATE_STEP) as u32),
                    Action::Redraw => {}
                },
                _ = seconds.tick() => self.second().await,
                _ = frames.tick() => self.look().await,
            }
            terminal.draw(&self.recorder.figures)?;
        }
    }

    /// A second has passed.
    async fn second(&mut self) {
        self.recorder.second(self.traffic.take_recent(), self.handle.stats());
        let pools = self.traffic.client.all_pools().collect();
        if let Ok(Ok(pools)) = tokio::time::timeout(VIEW_PATIENCE, pools).await {
            self.recorder.pools(&pools);
        }
        let past = self.traffic.board.past();
        self.recorder.figures.past_sales = past.iter().map(|sale| SaleFigures::of(sale, None)).collect();
    }

    /// What changes from one look to the next.
    async fn look(&mut self) {
        let sale = match self.traffic.board.current() {
            None => None,
            Some(sale) => {
                let pool = tokio::time::timeout(VIEW_PATIENCE, self.traffic.client.pool(&sale.name)).await;
                let fill = pool.ok().and_then(Result::ok).flatten();
                Some(SaleFigures::of(&sale, fill.as_ref().map(Fill::of)))
            }
        };
        self.recorder.look(self.traffic.rate(), self.traffic.is_paused(), sale);
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn print_line(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(line)?;
    output.finish()
}
