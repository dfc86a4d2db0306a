//! Redis: a Lua script for each reserve, synced before it is acknowledged.
//!
//! - `remaining:POOL` is a pool's counter, `reservations:POOL` its reservations: a hash from id to units.
//! - `zone:NAME` holds the pools of a zone by the begin of their windows.
//! - With several servers each has the pools whose number leaves its own as the rest.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, Value, cmd};
use rustix::process::Signal;

use super::Work;
use super::load::{Answer, Asked, Connector, Plan, Session, System};
use super::process::{PeerProcess, Signals, free_address};
use crate::ledger::Fate;
use crate::pools::{ALL_WINDOWS, LIMIT, POOLS_PER_ZONE, window, zone_name};
use crate::server_process::fresh_directory;
use crate::usage::Usage;

/// Answers 1: reserved; 0: no room; 2: this id has been used.
const RESERVE: &str = "\
local units = tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[1])) < units then return 0 end
if redis.call('HSETNX', KEYS[2], ARGV[1], units) == 0 then return 2 end
redis.call('DECRBY', KEYS[1], units)
return 1";

/// Answers 1: released; 0: there is no such reservation.
const RELEASE: &str = "\
local units = redis.call('HGET', KEYS[2], ARGV[1])
if not units then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('INCRBY', KEYS[1], units)
return 1";

/// Answers with the pools of a zone that begin in a span of time and have so many units left.
const QUERY: &str = "\
local pools = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYSCORE')
local units = tonumber(ARGV[3])
local found = {}
for place, remaining in ipairs(redis.call('MGET', unpack(pools))) do
  if tonumber(remaining) >= units then found[#found + 1] = pools[place] end
end
return found";

/// One server, or several that share out the pools.
#[derive(Debug)]
pub(super) struct Redis {
    servers: Vec<PeerProcess>,
    /// A connection to each.
    controls: Vec<MultiplexedConnection>,
    connector: RedisConnector,
    version: String,
}

/// What a connection needs to know.
#[derive(Clone, Debug)]
pub(super) struct RedisConnector {
    clients: Vec<Client>,
    /// The digests by which the scripts are called.
    reserve: String,
    release: String,
    query: String,
}

/// A connection to one server.
#[derive(Clone, Debug)]
pub(super) struct RedisSession {
    connection: MultiplexedConnection,
    connector: RedisConnector,
}

fn remaining_key(pool: usize) -> String {
    format!("remaining:{pool}")
}

fn reservations_key(pool: usize) -> String {
    format!("reservations:{pool}")
}

fn zone_key(zone: usize) -> String {
    format!("zone:{}", zone_name(zone))
}

/// The command line of a server in this directory.
fn server(program: &Path, port: u16, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]);
    command.arg(directory);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    // Within a run its file is never written anew, which would take processor time.
    command.args(["--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]);
    command
}

async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

impl Redis {
    /// Starts the servers and makes the pools.
    pub(super) async fn start(program: &Path, directory: &Path, plan: &Plan) -> Result<Self> {
        let mut servers = Vec::with_capacity(plan.servers);
        let mut controls = Vec::with_capacity(plan.servers);
        let mut connector = RedisConnector {
            clients: Vec::with_capacity(plan.servers),
            reserve: String::new(),
            release: String::new(),
            query: String::new(),
        };
        let mut version = String::new();
        for index in 0..plan.servers {
            let directory = fresh_directory(directory)?;
            let address = free_address()?;
            let mut command = server(program, address.port(), directory.path());
            let signals = Signals {
                stop: Signal::TERM,
                abort: Signal::KILL,
            };
            let mut process = PeerProcess::start(&mut command, signals, directory)?;
            let address = (address.ip().to_string(), address.port())
                .into_connection_info()?
                .set_tcp_settings(TcpSettings::default().set_nodelay(true));
            let client = Client::open(address)?;
            let mut connection = process.until_ready(async || connect(&client).await).await?;
            for (script, digest) in [
                (RESERVE, &mut connector.reserve),
                (RELEASE, &mut connector.release),
                (QUERY, &mut connector.query),
            ] {
                *digest = cmd("SCRIPT")
                    .arg("LOAD")
                    .arg(script)
                    .query_async(&mut connection)
                    .await?;
            }
            let pools = (0..plan.pools).filter(|pool| plan.server_of(*pool) == index);
            make_pools(&mut connection, pools).await?;
            let number: Option<String> = info(&mut connection, "server", "redis_version").await?;
            version = format!("Redis {}", number.as_deref().unwrap_or("of an unknown version"));
            servers.push(process);
            controls.push(connection);
            connector.clients.push(client);
        }
        Ok(Self {
            servers,
            controls,
            connector,
            version,
        })
    }
}

async fn make_pools(connection: &mut MultiplexedConnection, pools: impl Iterator<Item = usize>) -> Result<()> {
    let mut pipeline = Pipeline::new();
    for pool in pools {
        pipeline.cmd("SET").arg(remaining_key(pool)).arg(LIMIT);
        let (starts_at, _) = window(pool);
        pipeline
            .cmd("ZADD")
            .arg(zone_key(pool / POOLS_PER_ZONE))
            .arg(starts_at)
            .arg(remaining_key(pool));
    }
    pipeline.exec_async(connection).await.context("cannot make the pools")
}

/// A value of what the server says of itself.
async fn info<V: FromStr>(connection: &mut MultiplexedConnection, section: &str, name: &str) -> Result<Option<V>> {
    let text: String = cmd("INFO").arg(section).query_async(connection).await?;
    Ok(info_value(&text, name))
}

fn info_value<V: FromStr>(text: &str, name: &str) -> Option<V> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    value.trim_end().parse().ok()
}

impl System for Redis {
    type Connector = RedisConnector;

    fn connector(&self) -> RedisConnector {
        self.connector.clone()
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn how(&self, plan: &Plan) -> String {
        let script = match plan.work {
            Work::Reserves => "a Lua script for each reserve",
            Work::ReservesAndReleases => "a Lua script for each reserve and each release",
            Work::Queries => "a Lua script for each query",
        };
        let servers = match plan.servers {
            1 => String::new(),
            count => format!("{count} servers with half of the pools each, "),
        };
        format!(
            "{servers}{} connections x pipelines of {}, {script}, appendfsync always",
            plan.connections, plan.commands
        )
    }

    fn usage(&self) -> Result<Usage> {
        let mut total = Usage::default();
        for server in &self.servers {
            let used = server.usage()?;
            total.cpu_seconds += used.cpu_seconds;
            total.rss_bytes += used.rss_bytes;
            total.written_bytes += used.written_bytes;
        }
        Ok(total)
    }

    fn memory_bytes(&self) -> u64 {
        self.servers.iter().map(PeerProcess::memory_bytes).sum()
    }

    async fn log_bytes(&self) -> Result<u64> {
        let mut total = 0;
        for control in &self.controls {
            let size: Option<u64> = info(&mut control.clone(), "persistence", "aof_current_size").await?;
            total += size.context("the server does not say how large its log is")?;
        }
        Ok(total)
    }

    async fn used(&self, plan: &Plan) -> Result<Result<Vec<i64>, String>> {
        let mut used = vec![0; plan.pools];
        for (index, control) in self.controls.iter().enumerate() {
            let mut connection = control.clone();
            let pools: Vec<usize> = (index..plan.pools).step_by(plan.servers).collect();
            let mut pipeline = Pipeline::new();
            for &pool in &pools {
                pipeline.cmd("GET").arg(remaining_key(pool));
                pipeline.cmd("HLEN").arg(reservations_key(pool));
            }
            let found: Vec<i64> = pipeline.query_async(&mut connection).await?;
            for (&pool, found) in pools.iter().zip(found.chunks_exact(2)) {
                used[pool] = i64::from(LIMIT) - found[0];
                if used[pool] != found[1] {
                    return Ok(Err(format!(
                        "pool {pool} has {} units reserved and {} reservations",
                        used[pool], found[1]
                    )));
                }
            }
        }
        Ok(Ok(used))
    }

    fn stop(self) -> Result<()> {
        self.servers.into_iter().try_for_each(PeerProcess::stop)
    }
}

impl Connector for RedisConnector {
    type Session = RedisSession;

    async fn connect(&self, server: usize) -> Result<RedisSession> {
        Ok(RedisSession {
            connection: connect(&self.clients[server]).await?,
            connector: self.clone(),
        })
    }
}

impl Session for RedisSession {
    async fn execute(&mut self, commands: &[Asked]) -> Result<Vec<Answer>> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            let call = pipeline.cmd("EVALSHA");
            let (Asked::Reserve { id, pool } | Asked::Release { id, pool }) = *command;
            let script = match command {
                Asked::Reserve { .. } => &self.connector.reserve,
                Asked::Release { .. } => &self.connector.release,
            };
            let pool = usize::from(pool);
            call.arg(script)
                .arg(2)
                .arg(remaining_key(pool))
                .arg(reservations_key(pool))
                .arg(&id.0.to_be_bytes()[..]);
            if matches!(command, Asked::Reserve { .. }) {
                call.arg(1);
            }
        }
        let values = self
            .connection
            .send_packed_commands(&pipeline, 0, commands.len())
            .await?;
        check_count(&values, commands.len())?;
        Ok(commands
            .iter()
            .zip(&values)
            .map(|(asked, value)| answer(asked, value))
            .collect())
    }

    async fn fill(&mut self, reserves: &[Asked]) -> Result<()> {
        let answers = self.execute(reserves).await?;
        match answers.iter().find(|answer| **answer != Ok(Fate::Applied)) {
            None => Ok(()),
            Some(other) => bail!("a reserve was answered with {other:?}"),
        }
    }

    async fn query(&mut self, zones: &[usize]) -> Result<Vec<usize>> {
        let mut pipeline = Pipeline::with_capacity(zones.len());
        let (from, to) = ALL_WINDOWS;
        for &zone in zones {
            pipeline
                .cmd("EVALSHA")
                .arg(&self.connector.query)
                .arg(1)
                .arg(zone_key(zone))
                .arg(from)
                .arg(to)
                .arg(1);
        }
        let values = self.connection.send_packed_commands(&pipeline, 0, zones.len()).await?;
        check_count(&values, zones.len())?;
        let found = |value| match value {
            Value::Array(pools) => Ok(pools.len()),
            other => Err(anyhow!("expected an array, found {other:?}")),
        };
        values.into_iter().map(found).collect()
    }
}

/// Without it an answer too few would be a command that nobody misses.
fn check_count(values: &[Value], expected: usize) -> Result<()> {
    if values.len() != expected {
        bail!("expected {expected} answers, found {}", values.len());
    }
    Ok(())
}

fn answer(asked: &Asked, value: &Value) -> Answer {
    match (asked, value) {
        (_, Value::Int(1)) => Ok(Fate::Applied),
        (Asked::Reserve { .. }, Value::Int(0)) => Ok(Fate::Refused),
        (asked, other) => Err(format!("{asked:?} was answered with {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::ReservationId;

    use super::*;

    #[test]
    fn answers() {
        let id = ReservationId(7);
        let (reserve, release) = (Asked::Reserve { id, pool: 1 }, Asked::Release { id, pool: 1 });
        assert_eq!(answer(&reserve, &Value::Int(1)), Ok(Fate::Applied));
        assert_eq!(answer(&reserve, &Value::Int(0)), Ok(Fate::Refused));
        assert!(answer(&reserve, &Value::Int(2)).is_err(), "an id is used once");
        assert!(answer(&release, &Value::Int(0)).is_err(), "what is released is there");
        assert!(answer(&release, &Value::Nil).is_err());
        assert_eq!(
            info_value("# Server\r\nredis_version:7.0.15\r\n", "redis_version"),
            Some("7.0.15".to_owned())
        );
        assert_eq!(info_value::<u64>("aof_current_size:x\r\n", "aof_current_size"), None);
        assert!(check_count(&[Value::Nil], 2).is_err());
    }
}
