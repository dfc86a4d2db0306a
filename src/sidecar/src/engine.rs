//! The way to the engine. It may be there later than the sidecar: until then every request is answered as unavailable.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::{Client, Options as ClientOptions};
use tokio::sync::watch;

use crate::options::Options;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// The pause between attempts at the first connection; later ones the client makes by itself.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// The way to the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    address: Arc<str>,
    client: watch::Receiver<Option<Client>>,
}

impl Engine {
    /// Connects, and goes on trying, on the runtime that this is called in.
    pub(crate) fn new(options: &Options) -> Engine {
        let address: Arc<str> = options.engine.as_str().into();
        let (found, client) = watch::channel(None);
        tokio::spawn(connect(Arc::clone(&address), client_options(options), found));
        Engine { address, client }
    }

    /// The client, once the first connection stands.
    pub(crate) fn client(&self) -> Result<Client, Problem> {
        let found = self.client.borrow().clone();
        found.ok_or_else(|| {
            Problem::new(
                ProblemKind::Unavailable,
                format!("no engine has answered at {} yet", self.address),
            )
        })
    }

    /// Waits for the first connection.
    pub(crate) async fn connected(&self) {
        let mut client = self.client.clone();
        // The sender stays until it has connected.
        let _ = client.wait_for(Option::is_some).await;
    }
}

fn client_options(options: &Options) -> ClientOptions {
    ClientOptions {
        connect_timeout: options.request_timeout,
        request_timeout: options.request_timeout,
        connections: options.engine_connections.max(1),
        name: concat!("plimsoll-sidecar ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientOptions::default()
    }
}

async fn connect(address: Arc<str>, options: ClientOptions, found: watch::Sender<Option<Client>>) {
    let mut is_told = false;
    loop {
        match Client::connect(&*address, options.clone()).await {
            Ok(client) => {
                tracing::info!(engine = %address, server = %client.welcome().server, "connected");
                found.send_replace(Some(client));
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(engine = %address, %error, "no engine answers yet; trying again");
                }
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
    }
}
