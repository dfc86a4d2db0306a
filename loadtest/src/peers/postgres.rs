//! PostgreSQL: one prepared statement for each reserve, which is a transaction of its own.
//!
//! - It does not run as root: started by root, it runs as `postgres` or, without such a user, as `nobody`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, Statement};
use uuid::Uuid;

use super::Work;
use super::load::{Answer, Asked, Connector, Plan, Session, System};
use super::process::{PeerProcess, Signals, check_passable, free_address, run_to_end, user};
use super::programs::PostgresPrograms;
use crate::ledger::Fate;
use crate::pools::{ALL_WINDOWS, LIMIT, POOLS_PER_ZONE, window, zone_name};
use crate::server_process::fresh_directory;
use crate::usage::Usage;

/// The user within the database.
const ROLE: &str = "loadtest";
/// Whom it runs as when the harness runs as root, in order.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The rows of the counters are few and change all the time: room is left beside each for its next versions, so that
/// these need no entry in an index.
const SCHEMA: &str = "\
CREATE TABLE pools (
    id int PRIMARY KEY,
    zone text NOT NULL,
    starts_at bigint NOT NULL,
    ends_at bigint NOT NULL,
    units_max bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE INDEX ON pools (zone, starts_at);
CREATE TABLE reservations (id uuid PRIMARY KEY, pool int NOT NULL, units int NOT NULL);";

const RESERVE: &str = "\
WITH taken AS (
    UPDATE pools SET reserved = reserved + 1 WHERE id = $1 AND reserved + 1 <= units_max RETURNING id
)
INSERT INTO reservations (id, pool, units) SELECT $2, id, 1 FROM taken";

const RELEASE: &str = "\
WITH gone AS (DELETE FROM reservations WHERE id = $1 RETURNING pool, units)
UPDATE pools SET reserved = reserved - gone.units FROM gone WHERE pools.id = gone.pool";

const QUERY: &str = "\
SELECT id FROM pools WHERE zone = $1 AND starts_at < $3 AND ends_at > $2 AND reserved + 1 <= units_max";

const FILL: &str = "\
WITH made AS (
    INSERT INTO reservations (id, pool, units) SELECT id, pool, 1 FROM unnest($1::uuid[], $2::int[]) AS new (id, pool)
    RETURNING pool
)
UPDATE pools SET reserved = reserved + counted.units
FROM (SELECT pool, count(*) AS units FROM made GROUP BY pool) AS counted WHERE pools.id = counted.pool";

/// What differs from the defaults. `fsync`, `full_page_writes` and `synchronous_commit` are on by default, and said all
/// the same. Within a run nothing is written anew that a larger log could leave alone.
const OPTIONS: [&str; 13] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=1GB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=16GB",
    "min_wal_size=1GB",
    "checkpoint_timeout=1h",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "jit=off",
];

/// A running server.
#[derive(Debug)]
pub(super) struct Postgres {
    process: PeerProcess,
    control: Client,
    connector: PostgresConnector,
    version: String,
}

/// What a connection needs to know.
#[derive(Clone, Debug)]
pub(super) struct PostgresConnector {
    config: Config,
}

/// A connection with its prepared statements.
#[derive(Clone, Debug)]
pub(super) struct PostgresSession {
    client: Arc<Client>,
    reserve: Statement,
    release: Statement,
    query: Statement,
}

/// Whom the server runs as; `None`: whoever started the harness.
#[derive(Clone, Copy, Debug)]
struct RunAs(Option<(u32, u32)>);

impl RunAs {
    fn find() -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        match USERS.iter().find_map(|name| user(&passwd, name)) {
            Some(found) => Ok(Self(Some(found))),
            None => bail!(
                "PostgreSQL does not run as root, and there is no user {}: run the harness as another user",
                USERS.join(" or ")
            ),
        }
    }

    fn command(self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory);
        if let Self(Some((user, group))) = self {
            command.uid(user).gid(group);
        }
        command
    }

    /// A fresh directory in `parent` that belongs to it.
    fn directory(self, parent: &Path) -> Result<TempDir> {
        let directory = fresh_directory(parent)?;
        if let Self(Some((user, group))) = self {
            chown(directory.path(), Some(user), Some(group)).context("cannot give the directory away")?;
        }
        Ok(directory)
    }
}

/// Whether a server can run in a fresh directory in this one.
pub(super) fn check(parent: &Path) -> Result<()> {
    match RunAs::find()? {
        RunAs(Some(_)) => check_passable(parent),
        RunAs(None) => Ok(()),
    }
}

fn config(address: SocketAddr) -> Config {
    let mut config = Config::new();
    config
        .host(address.ip().to_string())
        .port(address.port())
        .user(ROLE)
        .dbname("postgres");
    config
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer is told of the error too.
        let _ = connection.await;
    });
    Ok(client)
}

impl Postgres {
    /// Makes a database, starts its server, and makes the pools.
    pub(super) async fn start(programs: &PostgresPrograms, directory: &Path, plan: &Plan) -> Result<Self> {
        let run_as = RunAs::find()?;
        let directory = run_as.directory(directory)?;
        let data = directory.path().join("data");
        let mut initdb = run_as.command(&programs.initdb, directory.path());
        initdb
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        run_to_end(&mut initdb)?;
        let address = free_address()?;
        let mut server = run_as.command(&programs.postgres, directory.path());
        server.arg("-D").arg(&data).args(["-p", &address.port().to_string()]);
        for option in OPTIONS {
            server.args(["-c", option]);
        }
        let signals = Signals {
            stop: Signal::INT,
            abort: Signal::QUIT,
        };
        let mut process = PeerProcess::start(&mut server, signals, directory)?;
        let config = config(address);
        let client = process.until_ready(async || connect(&config).await).await?;
        client.batch_execute(SCHEMA).await?;
        make_pools(&client, plan.pools).await?;
        let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
        let number = version.split(' ').next().unwrap_or_default();
        Ok(Self {
            process,
            control: client,
            connector: PostgresConnector { config },
            version: format!("PostgreSQL {number}"),
        })
    }
}

async fn make_pools(client: &Client, count: usize) -> Result<()> {
    let insert = client
        .prepare("INSERT INTO pools (id, zone, starts_at, ends_at, units_max) VALUES ($1, $2, $3, $4, $5)")
        .await?;
    client.batch_execute("BEGIN").await?;
    for pool in 0..count {
        let (starts_at, ends_at) = window(pool);
        let zone = zone_name(pool / POOLS_PER_ZONE);
        client
            .execute(
                &insert,
                &[&(pool as i32), &zone, &starts_at, &ends_at, &i64::from(LIMIT)],
            )
            .await?;
    }
    client.batch_execute("COMMIT").await?;
    client.batch_execute("VACUUM ANALYZE pools").await?;
    Ok(())
}

impl System for Postgres {
    type Connector = PostgresConnector;

    fn connector(&self) -> PostgresConnector {
        self.connector.clone()
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn how(&self, plan: &Plan) -> String {
        let statement = match plan.work {
            Work::Reserves => "a prepared statement for each reserve",
            Work::ReservesAndReleases => "a prepared statement for each reserve and each release",
            Work::Queries => "a prepared statement for each query",
        };
        format!(
            "{} connections x {} in flight, {statement}, synchronous_commit on",
            plan.connections, plan.in_flight
        )
    }

    fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    fn memory_bytes(&self) -> u64 {
        self.process.memory_bytes()
    }

    async fn log_bytes(&self) -> Result<u64> {
        let position = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let position: i64 = self.control.query_one(position, &[]).await?.get(0);
        Ok(position.unsigned_abs())
    }

    async fn used(&self, plan: &Plan) -> Result<Result<Vec<i64>, String>> {
        let rows = self
            .control
            .query(
                "SELECT pools.reserved, coalesce(counted.units, 0)::bigint FROM pools LEFT JOIN \
                 (SELECT pool, sum(units) AS units FROM reservations GROUP BY pool) AS counted \
                 ON counted.pool = pools.id ORDER BY pools.id",
                &[],
            )
            .await?;
        if rows.len() != plan.pools {
            bail!("expected {} pools, found {}", plan.pools, rows.len());
        }
        let mut used = Vec::with_capacity(rows.len());
        for (pool, row) in rows.iter().enumerate() {
            let (counter, recorded): (i64, i64) = (row.get(0), row.get(1));
            if counter != recorded {
                return Ok(Err(format!(
                    "pool {pool} has {counter} units reserved, its reservations have {recorded}"
                )));
            }
            used.push(counter);
        }
        Ok(Ok(used))
    }

    fn stop(self) -> Result<()> {
        drop(self.control);
        self.process.stop()
    }
}

impl Connector for PostgresConnector {
    type Session = PostgresSession;

    async fn connect(&self, _server: usize) -> Result<PostgresSession> {
        let client = connect(&self.config).await?;
        Ok(PostgresSession {
            reserve: client.prepare(RESERVE).await?,
            release: client.prepare(RELEASE).await?,
            query: client.prepare(QUERY).await?,
            client: Arc::new(client),
        })
    }
}

impl Session for PostgresSession {
    async fn execute(&mut self, commands: &[Asked]) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(commands.len());
        for asked in commands {
            let changed = match *asked {
                Asked::Reserve { id, pool } => {
                    let (pool, id) = (i32::from(pool), Uuid::from_u128(id.0));
                    self.client.execute(&self.reserve, &[&pool, &id]).await
                }
                Asked::Release { id, .. } => {
                    let id = Uuid::from_u128(id.0);
                    self.client.execute(&self.release, &[&id]).await
                }
            };
            answers.push(match (asked, changed) {
                (_, Ok(1)) => Ok(Fate::Applied),
                (Asked::Reserve { .. }, Ok(0)) => Ok(Fate::Refused),
                (asked, Ok(rows)) => Err(format!("{asked:?} changed {rows} rows")),
                // The server has said no, so that nothing took effect.
                (asked, Err(error)) if error.as_db_error().is_some() => Err(format!("{asked:?}: {error:#}")),
                (_, Err(error)) => return Err(error.into()),
            });
        }
        Ok(answers)
    }

    async fn fill(&mut self, reserves: &[Asked]) -> Result<()> {
        let (ids, pools): (Vec<Uuid>, Vec<i32>) = reserves
            .iter()
            .map(|(Asked::Reserve { id, pool } | Asked::Release { id, pool })| {
                (Uuid::from_u128(id.0), i32::from(*pool))
            })
            .unzip();
        // Two that change the same counters in another order would wait for each other.
        self.client
            .batch_execute("BEGIN; LOCK TABLE pools IN SHARE ROW EXCLUSIVE MODE")
            .await?;
        self.client.execute(FILL, &[&ids, &pools]).await?;
        self.client.batch_execute("COMMIT").await?;
        Ok(())
    }

    async fn query(&mut self, zones: &[usize]) -> Result<Vec<usize>> {
        let mut found = Vec::with_capacity(zones.len());
        let (from, to) = ALL_WINDOWS;
        for &zone in zones {
            let rows = self.client.query(&self.query, &[&zone_name(zone), &from, &to]).await?;
            found.push(rows.len());
        }
        Ok(found)
    }
}
