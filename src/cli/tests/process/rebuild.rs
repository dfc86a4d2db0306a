//! `orders --rebuild`: every order is recorded, limits that were passed are named, and pools get back what they had, through kills too.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::orders::import;
use crate::support::{Server, bookings, fail, json, plimsoll, succeed, wait};

const SERVE: [&str; 4] = ["--dimensions", "rooms,guests", "--cores", "2"];

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn rebuild(engine: &str, file: &Path, progress: &Path, options: &[&str]) -> Child {
    plimsoll()
        .arg("orders")
        .arg(file)
        .args(["--rebuild", "--engine", engine, "--json", "--progress"])
        .arg(progress)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a rebuild that must come to its end reports. Its report is longer than what a pipe holds.
fn finish(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ended with {:?}: {error}",
        output.status.code()
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The definitions of all pools, without what is reserved of them.
fn definitions(server: &Server) -> Vec<Value> {
    let mut pools = json(server, &["pool", "list"]);
    for pool in &mut pools {
        // The ETag counts the definitions, and a rebuild opens and closes pools on its way.
        for figure in ["held", "confirmed", "remaining", "etag"] {
            pool.as_object_mut().unwrap().remove(figure);
        }
    }
    pools
}

fn used(server: &Server) -> String {
    succeed(server, &["pool", "list", "--used"])
}

/// Pools that refuse for every reason there is, and one that nobody names.
const POOLS: &str = "name,zone,kind,starts_at,ends_at,opens_at,closes_at,state,mode,rooms,guests,overbook_rooms\n\
    closed,z,k,0,1,,,closed,enforce,1,9,1\n\
    future,z,k,0,1,2100-01-01T00:00:00Z,,open,enforce,9,9,\n\
    other,z,k,0,1,,,open,enforce,1,1,\n\
    past,z,k,0,1,10,30,open,enforce,1,2,\n\
    shadow,z,k,0,1,,,open,shadow,0,0,\n";

const ORDERS: &str = "at,op,order,pool,rooms,guests\n\
    10,reserve,a,past,1,2\n\
    20,reserve,b,past,1,1\n\
    25,release,a,past,,\n\
    30,reserve,c,closed,1,1\n\
    30,reserve,d,closed,1,1\n\
    31,reserve,e,closed,1,1\n\
    32,reserve,f,closed,0,1\n\
    33,release,f,closed,,\n\
    40,reserve,g,future,1,1\n\
    41,reserve,h,shadow,0,1\n\
    42,reserve,i,past,0,1\n\
    43,reserve,a,past,0,1\n";

const USED: &str = "closed,3,3\nfuture,1,1\nother,0,0\npast,1,3\nshadow,0,1\n";

#[test]
fn every_order_is_recorded_and_limits_that_were_passed_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &SERVE);
    let pools = write(directory.path(), "pools.csv", POOLS);
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    let before = definitions(&server);
    let file = write(directory.path(), "orders.csv", ORDERS);
    let progress = directory.path().join("progress");
    let line = [
        "orders",
        file.to_str().unwrap(),
        "--rebuild",
        "--progress",
        progress.to_str().unwrap(),
    ];
    let expected = "\
pool,dimension,limit,overbook,highest,first_at,orders,at_end
closed,rooms,1,1,3,1970-01-01T00:00:31.000Z,1,3
past,rooms,1,0,2,1970-01-01T00:00:20.000Z,1,1
past,guests,2,0,3,1970-01-01T00:00:20.000Z,2,3
shadow,guests,0,0,1,1970-01-01T00:00:41.000Z,1,1

accepted                    10
rejected                     0
released                     2
release_of_rejected          0
live                         8
would_refuse                 4
outside_times                3
";
    // Again and again: nothing happens a second time, also without what the first run has kept.
    for round in 0..3 {
        if round == 2 {
            std::fs::remove_file(&progress).unwrap();
        }
        assert_eq!(succeed(&server, &line), expected);
        assert_eq!(used(&server), USED);
        assert_eq!(definitions(&server), before);
    }
    let report = &json(&server, &line)[0];
    assert_eq!(report["live"], 8);
    assert_eq!(
        report["violations"][0],
        json!({"pool": "closed", "dimension": "rooms", "limit": 1, "overbook": 1, "highest": 3,
            "first_at": "1970-01-01T00:00:31.000Z", "orders": 1, "at_end": 3})
    );
    assert_eq!(report["violations"].as_array().unwrap().len(), 4);
    assert_eq!(report["differences"], json!([]));
    // A pool that is past its limit and enforces again takes nothing more, and gives back.
    fail(&server, &["reserve", "closed", "--units", "rooms=1"], 3, "pool_closed");
    succeed(&server, &["pool", "open", "closed"]);
    fail(
        &server,
        &["reserve", "closed", "--units", "rooms=1"],
        3,
        "insufficient_capacity",
    );
}

#[test]
fn a_later_file_and_callers_who_name_the_order_find_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &SERVE);
    let pools = write(directory.path(), "pools.csv", POOLS);
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    let run = |name: &str, text: &str| {
        let file = write(directory.path(), name, text);
        let progress = directory.path().join(format!("{name}.progress"));
        finish(rebuild(&server.engine(), &file, &progress, &[]))
    };
    let first: Vec<&str> = ORDERS.lines().take(6).collect();
    run("first.csv", &(first.join("\n") + "\n"));
    // What comes next arrives live, in a pool in shadow mode.
    let mirror = |order: &str, units: &str| {
        let line = [
            "reserve",
            "shadow",
            "--units",
            units,
            "--key",
            order,
            "--reference",
            order,
        ];
        json(&server, &line)[0].clone()
    };
    mirror("h", "guests=1");
    let whole = run("whole.csv", ORDERS);
    assert_eq!((&whole["accepted"], &whole["differences"]), (&json!(10), &json!([])));
    assert_eq!(used(&server), USED);
    // What the file does not know is a difference, and no failure.
    mirror("x", "guests=2");
    let again = run("again.csv", &(ORDERS.to_owned() + "50,reserve,y,other,1,1\n"));
    let expected = json!([{"pool": "shadow", "dimension": "guests", "file": 1, "engine": 3}]);
    assert_eq!(again["differences"], expected);
    // A caller who sends something else under an order's name is found out, and the pools are given back.
    let before = definitions(&server);
    let file = write(
        directory.path(),
        "other.csv",
        &ORDERS.replace("41,reserve,h,shadow,0,1", "41,reserve,h,shadow,0,2"),
    );
    let progress = directory.path().join("other.progress");
    let line = ["orders", file.to_str().unwrap(), "--rebuild", "--progress"];
    let line = [&line[..], &[progress.to_str().unwrap()]].concat();
    let (line_10, order_h) = (
        "line 11: order h has a reservation already",
        "another pool or other units",
    );
    fail(&server, &line, 1, line_10);
    fail(&server, &line, 1, order_h);
    assert_eq!(definitions(&server), before);
}

#[test]
fn a_pool_that_the_file_does_not_name_holds_nothing_according_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &SERVE);
    let pools = write(directory.path(), "pools.csv", POOLS);
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    succeed(&server, &["reserve", "other", "--units", "rooms=1"]);
    let file = write(directory.path(), "orders.csv", ORDERS);
    let progress = directory.path().join("progress");
    for _ in 0..2 {
        let report = finish(rebuild(&server.engine(), &file, &progress, &[]));
        let expected = json!([{"pool": "other", "dimension": "rooms", "file": 0, "engine": 1}]);
        assert_eq!(report["differences"], expected);
    }
}

#[test]
fn what_cannot_be_rebuilt_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &SERVE);
    let pools = write(directory.path(), "pools.csv", POOLS);
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    let before = definitions(&server);
    let check = |text: &str, options: &[&str], code, expected: &str| {
        let file = write(directory.path(), "orders.csv", text);
        let progress = directory.path().join("none.progress");
        let line = [
            "orders",
            file.to_str().unwrap(),
            "--progress",
            progress.to_str().unwrap(),
        ];
        fail(&server, &[&line, options].concat(), code, expected);
        assert_eq!(definitions(&server), before, "{expected}");
        let _ = std::fs::remove_file(progress);
    };
    let unknown = ORDERS.replace("future", "unknown") + "50,reserve,y,absent,1,1\n";
    let expected = "the engine lacks 2 of the 5 pools that the file names: unknown, absent";
    check(&unknown, &["--rebuild"], 1, expected);
    check(
        &ORDERS.replace("release", "return"),
        &["--rebuild"],
        1,
        "expected reserve or release",
    );
    check(ORDERS, &["--rebuild", "--restore-only"], 1, "there is no progress file");
    check(ORDERS, &["--restore-only"], 2, "--rebuild");
    check(ORDERS, &["--rebuild", "--hold"], 2, "--hold");
    assert_eq!(
        used(&server),
        "closed,0,0\nfuture,0,0\nother,0,0\npast,0,0\nshadow,0,0\n"
    );
}

const POOL_COUNT: usize = 20;

/// Pools with a limit that is soon passed, every second one closed.
fn small_pools() -> String {
    let mut text = "name,zone,kind,starts_at,ends_at,state,rooms,guests\n".to_owned();
    for pool in 0..POOL_COUNT {
        let state = ["open", "closed"][pool % 2];
        writeln!(text, "pool-{pool:02},z,k,0,1,{state},5,5").unwrap();
    }
    text
}

/// Each order stays for a while; a few come back.
fn many_orders(count: usize) -> String {
    let mut text = "at,op,order,pool,rooms,guests\n".to_owned();
    for order in 0..count {
        writeln!(text, "{order},reserve,o-{order},pool-{:02},1,1", order * 7 % POOL_COUNT).unwrap();
        if order >= 300 {
            writeln!(text, "{order},release,o-{},x,1,1", order - 300).unwrap();
        }
        if order % 10 == 9 {
            let other = order.saturating_sub(400);
            writeln!(text, "{order},reserve,o-{other},pool-{:02},1,1", other * 7 % POOL_COUNT).unwrap();
        }
    }
    text
}

/// Waits until so many reserves stand in the progress file.
fn wait_for(progress: &Path, count: usize) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(progress).unwrap_or_default();
        if text.matches(" A ").count() >= count {
            return;
        }
        assert!(Instant::now() < until, "the rebuild does not get on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server with small pools, a file of many orders, and what an undisturbed rebuild comes to.
struct Scene {
    directory: tempfile::TempDir,
    server: Server,
    file: PathBuf,
    progress: PathBuf,
    before: Vec<Value>,
    report: Value,
    used: String,
}

impl Scene {
    fn new(count: usize) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let pools = write(directory.path(), "pools.csv", &small_pools());
        let file = write(directory.path(), "orders.csv", &many_orders(count));
        let start = |name: &str| {
            let server = Server::start(&directory.path().join(name), &SERVE);
            succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
            server
        };
        let undisturbed = start("undisturbed");
        let progress = directory.path().join("undisturbed.progress");
        let report = finish(rebuild(&undisturbed.engine(), &file, &progress, &[]));
        let used = used(&undisturbed);
        assert!(report["would_refuse"].as_u64().unwrap() > 0);
        let server = start("data");
        Scene {
            before: definitions(&server),
            progress: directory.path().join("progress"),
            directory,
            server,
            file,
            report,
            used,
        }
    }

    /// One line at a time, so that it can be caught in the middle.
    fn slowly(&self) -> Child {
        rebuild(&self.server.engine(), &self.file, &self.progress, &["--window", "1"])
    }

    fn finish(&self) {
        let child = rebuild(&self.server.engine(), &self.file, &self.progress, &[]);
        assert_eq!(finish(child), self.report);
        assert_eq!(used(&self.server), self.used);
    }

    fn lifted_count(&self) -> usize {
        let pools = definitions(&self.server);
        pools
            .iter()
            .filter(|pool| pool["mode"] == "shadow" && pool["state"] == "open")
            .count()
    }
}

#[test]
fn a_rebuild_survives_kills_of_the_engine_and_of_the_command() {
    let mut scene = Scene::new(3000);
    let mut child = scene.slowly();
    wait_for(&scene.progress, 100);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.lifted_count(), POOL_COUNT, "killed, it cannot give anything back");

    let mut child = scene.slowly();
    wait_for(&scene.progress, 300);
    let engine = scene.server.engine();
    let data = scene.directory.path().join("data");
    scene.server.kill();
    scene.server = Server::start_on(&data, &engine, &SERVE);
    wait_for(&scene.progress, 500);
    child.kill().unwrap();
    child.wait().unwrap();

    scene.finish();
    assert_eq!(definitions(&scene.server), scene.before);
    scene.finish();
    assert_eq!(definitions(&scene.server), scene.before);
}

#[test]
fn what_a_killed_rebuild_left_can_be_given_back_alone() {
    let scene = Scene::new(1500);
    let mut child = scene.slowly();
    wait_for(&scene.progress, 100);
    child.kill().unwrap();
    child.wait().unwrap();
    // What a planner changes meanwhile stays.
    let set = [
        "pool",
        "set",
        "pool-03",
        "--closes-at",
        "2100-01-01T00:00:00Z",
        "--limits",
        "rooms=6",
    ];
    succeed(&scene.server, &set);
    let mut before = scene.before.clone();
    before[3]["closes_at"] = json!("2100-01-01T00:00:00.000Z");
    before[3]["limits"]["rooms"] = json!(6);

    let restore = ["--restore-only"];
    let child = rebuild(&scene.server.engine(), &scene.file, &scene.progress, &restore);
    assert_eq!(finish(child), json!({"restored": POOL_COUNT}));
    assert_eq!(definitions(&scene.server), before);
    let child = rebuild(&scene.server.engine(), &scene.file, &scene.progress, &restore);
    assert_eq!(finish(child), json!({"restored": 0}));

    // It goes on from there all the same.
    let child = rebuild(&scene.server.engine(), &scene.file, &scene.progress, &[]);
    assert_eq!(finish(child)["live"], scene.report["live"]);
    assert_eq!(used(&scene.server), scene.used);
    assert_eq!(definitions(&scene.server), before);
}

#[test]
fn an_interrupted_rebuild_gives_back_at_once() {
    let scene = Scene::new(1500);
    for (signal, count) in [(Signal::INT, 100), (Signal::TERM, 200)] {
        let mut child = scene.slowly();
        wait_for(&scene.progress, count);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(wait(&mut child).code(), Some(1));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("stopped; "), "{said}");
        assert_eq!(definitions(&scene.server), scene.before);
    }
    scene.finish();
    assert_eq!(definitions(&scene.server), scene.before);
}

#[test]
fn a_pool_that_no_longer_takes_every_order_stops_the_rebuild() {
    let scene = Scene::new(1500);
    let mut child = scene.slowly();
    wait_for(&scene.progress, 200);
    succeed(&scene.server, &["pool", "set", "pool-07", "--mode", "enforce"]);
    assert_eq!(wait(&mut child).code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        said.contains("the pool pool-07 does not take every order any more"),
        "{said}"
    );
    assert_eq!(definitions(&scene.server), scene.before);
    scene.finish();
    assert_eq!(definitions(&scene.server), scene.before);
}

/// What the bookings come to when nothing is refused, by a few lines that share nothing with the command.
struct Expected {
    accepted: u64,
    released: u64,
    would_refuse: u64,
    /// `pool dimension` to limit, highest, orders past it, at end.
    violations: BTreeMap<String, [u64; 4]>,
    used: String,
}

fn expected() -> Option<Expected> {
    let pools = std::fs::read_to_string(bookings("resort-pools.csv")?).unwrap();
    let mut orders = String::new();
    MultiGzDecoder::new(std::fs::File::open(bookings("resort-orders.csv.gz")?).unwrap())
        .read_to_string(&mut orders)
        .unwrap();
    let mut limits: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for row in pools.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        limits.insert(cells[0], [cells[6].parse().unwrap(), cells[7].parse().unwrap()]);
    }
    let mut level: HashMap<&str, [u64; 2]> = HashMap::new();
    let mut live: HashMap<&str, (&str, [u64; 2])> = HashMap::new();
    let (mut accepted, mut released, mut would_refuse) = (0, 0, 0);
    let mut violations: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for row in orders.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let (order, pool) = (cells[2], cells[3]);
        if cells[1] == "release" {
            let (pool, units) = live.remove(order).unwrap();
            let level = level.get_mut(pool).unwrap();
            *level = [level[0] - units[0], level[1] - units[1]];
            released += 1;
            continue;
        }
        let units = [cells[5].parse().unwrap(), cells[6].parse().unwrap()];
        assert!(live.insert(order, (pool, units)).is_none());
        accepted += 1;
        let level = level.entry(pool).or_default();
        let mut fits = true;
        for dimension in 0..2 {
            level[dimension] += units[dimension];
            if units[dimension] > 0 && level[dimension] > limits[pool][dimension] {
                fits = false;
                let name = format!("{pool} {}", ["rooms", "guests"][dimension]);
                let found = violations.entry(name).or_insert([limits[pool][dimension], 0, 0, 0]);
                found[1] = found[1].max(level[dimension]);
                found[2] += 1;
            }
        }
        would_refuse += u64::from(!fits);
    }
    let mut used = String::new();
    for name in limits.keys() {
        let [rooms, guests] = level.get(name).copied().unwrap_or_default();
        writeln!(used, "{name},{rooms},{guests}").unwrap();
        for (dimension, value) in [("rooms", rooms), ("guests", guests)] {
            if let Some(found) = violations.get_mut(&format!("{name} {dimension}")) {
                found[3] = value;
            }
        }
    }
    Some(Expected {
        accepted,
        released,
        would_refuse,
        violations,
        used,
    })
}

#[test]
fn the_bookings_are_rebuilt() {
    let Some(expected) = expected() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &SERVE);
    import(&server);
    succeed(&server, &["pool", "close", "resort:A:2015-07-01"]);
    let before = definitions(&server);
    let file = bookings("resort-orders.csv.gz").unwrap();
    let progress = directory.path().join("progress");
    let report = finish(rebuild(&server.engine(), &file, &progress, &[]));
    assert_eq!(report["accepted"], expected.accepted);
    assert_eq!(report["rejected"], 0);
    assert_eq!(report["released"], expected.released);
    assert_eq!(report["release_of_rejected"], 0);
    assert_eq!(report["live"], expected.accepted - expected.released);
    assert_eq!(report["would_refuse"], expected.would_refuse);
    assert_eq!(report["differences"], json!([]));
    let found: Vec<(String, [u64; 4])> = report["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let name = format!(
                "{} {}",
                found["pool"].as_str().unwrap(),
                found["dimension"].as_str().unwrap()
            );
            (
                name,
                ["limit", "highest", "orders", "at_end"].map(|figure| found[figure].as_u64().unwrap()),
            )
        })
        .collect();
    assert!(found.is_sorted_by_key(|(name, _)| name.split(' ').next().unwrap().to_owned()));
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected.violations);
    assert_eq!(used(&server), expected.used);
    assert_eq!(definitions(&server), before);
}
