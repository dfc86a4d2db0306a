//! Connections: accepted within bounds, served, and closed when the sidecar stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use crate::limits::{
    CONNECTION_COUNT_MAX, HEAD_SIZE_BYTES_MAX, HEAD_TIMEOUT, HEADER_COUNT_MAX, LATE_CONNECTION_COUNT_MAX, WRITE_TIMEOUT,
};

/// The pause after an accept that failed, so that a lack of descriptors does not take the processor as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    /// For those that come while the sidecar stops, which nobody waits for.
    late_places: Arc<Semaphore>,
    /// Whether the sidecar is stopping.
    draining: watch::Receiver<bool>,
}

impl Connections {
    pub(crate) fn new(draining: watch::Receiver<bool>) -> Connections {
        Connections {
            places: Arc::new(Semaphore::new(CONNECTION_COUNT_MAX)),
            late_places: Arc::new(Semaphore::new(LATE_CONNECTION_COUNT_MAX)),
            draining,
        }
    }

    /// Accepts and serves, until the future is dropped. While the sidecar is stopping, whoever comes is told so.
    pub(crate) async fn serve(self, listener: TcpListener, router: Router) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Past the limit it is closed by being dropped.
            let is_late = *self.draining.borrow();
            let places = if is_late { &self.late_places } else { &self.places };
            if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                let draining = (!is_late).then(|| self.draining.clone());
                tokio::spawn(serve(stream, router.clone(), draining, place));
            }
        }
    }

    /// Waits until every connection that was there when the stop began has ended.
    pub(crate) async fn drained(&self) {
        // It fails only when the semaphore is closed, which nobody does.
        let _ = self.places.acquire_many(CONNECTION_COUNT_MAX as u32).await;
    }
}

/// Serves a connection. One that comes while the sidecar stops, which has no `draining` to wait for, is answered once.
async fn serve(
    stream: TcpStream,
    router: Router,
    draining: Option<watch::Receiver<bool>>,
    _place: OwnedSemaphorePermit,
) {
    // Answers are small and whole: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_BYTES_MAX)
        .max_headers(HEADER_COUNT_MAX)
        .keep_alive(draining.is_some())
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    if let Some(mut draining) = draining {
        tokio::select! {
            ended = connection.as_mut() => return log(ended),
            _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
        }
    }
    log(connection.await);
}

/// Callers can make any of these happen.
fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
