//! What the machine itself takes for one command in flight: a round trip on the loopback, and a sync.
//!
//! Both are measured before and after the load, so that a drift of the machine shows in the floors too.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;

use crate::ledger::{latencies, nanos};
use crate::limits::{FLOOR_FILE_SIZE_BYTES, FLOOR_ROUND_TRIPS, FLOOR_SYNCS};

/// Size of a message of the round trip.
const MESSAGE_SIZE_BYTES: usize = 64;
/// Size of what is stored and synced.
const PAGE_SIZE_BYTES: usize = 4096;

/// Latencies of the machine itself, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) round_trip: Histogram<u64>,
    pub(crate) sync: Histogram<u64>,
}

/// The floor before and after a load.
#[derive(Clone, Debug)]
pub(crate) struct Floors {
    pub(crate) before: Floor,
    pub(crate) after: Floor,
}

impl Floors {
    /// Both together.
    pub(crate) fn together(&self) -> Result<Floor> {
        let mut together = self.before.clone();
        together.round_trip.add(&self.after.round_trip)?;
        together.sync.add(&self.after.sync)?;
        Ok(together)
    }
}

impl Floor {
    /// Measures both. The file for the syncs is made in `directory` and vanishes.
    pub(crate) fn measure(directory: &Path) -> Result<Self> {
        let mut floor = Self {
            round_trip: latencies()?,
            sync: latencies()?,
        };
        floor
            .measure_round_trips()
            .context("cannot measure a round trip on the loopback")?;
        floor.measure_syncs(directory).context("cannot measure a sync")?;
        Ok(floor)
    }

    /// 64 bytes there and back between two threads with blocking sockets.
    fn measure_round_trips(&mut self) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let echo = thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut message = [0; MESSAGE_SIZE_BYTES];
            // The end of the other side ends this one.
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
            }
            Ok(())
        });
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut message = [7; MESSAGE_SIZE_BYTES];
        for _ in 0..FLOOR_ROUND_TRIPS {
            let started = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
            self.round_trip.saturating_record(nanos(started.elapsed()));
        }
        black_box(message);
        drop(stream);
        echo.join().map_err(|_| anyhow!("the echoing thread panicked"))??;
        Ok(())
    }

    /// One page written into a file all of whose blocks have been written, then `fdatasync`.
    fn measure_syncs(&mut self, directory: &Path) -> Result<()> {
        const PAGES: usize = FLOOR_FILE_SIZE_BYTES / PAGE_SIZE_BYTES;
        let file: File = tempfile::tempfile_in(directory)?;
        file.write_all_at(&vec![1; FLOOR_FILE_SIZE_BYTES], 0)?;
        file.sync_all()?;
        for index in 0..FLOOR_SYNCS {
            let page = [index as u8; PAGE_SIZE_BYTES];
            let started = Instant::now();
            file.write_all_at(&page, ((index % PAGES) * PAGE_SIZE_BYTES) as u64)?;
            file.sync_data()?;
            self.sync.saturating_record(nanos(started.elapsed()));
        }
        Ok(())
    }
}
