//! `orders --again-after` and `--until`: lines are sent anew after a reset, once for each reset.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Server, fail, json, plimsoll, succeed};

const POOLS: &str = "name,zone,kind,starts_at,ends_at,rooms\nA,z,k,0,1,9\nB,z,k,0,1,9\n";
const ORDERS: &str =
    "at,op,order,pool,rooms\n1,reserve,a,A,1\n2,reserve,b,B,1\n3,reserve,c,A,2\n4,reserve,d,B,2\n4,release,c,A,\n";
const USED: &str = "A,1\nB,3\n";

/// A server with two pools and a file of orders.
struct Scene {
    directory: tempfile::TempDir,
    server: Server,
    file: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(
            &directory.path().join("data"),
            &["--dimensions", "rooms", "--cores", "1"],
        );
        let (pools, file) = (directory.path().join("pools.csv"), directory.path().join("orders.csv"));
        std::fs::write(&pools, POOLS).unwrap();
        std::fs::write(&file, ORDERS).unwrap();
        succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
        Scene {
            directory,
            server,
            file,
        }
    }

    fn progress(&self) -> PathBuf {
        self.directory.path().join("progress")
    }

    fn line<'a>(&'a self, progress: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
        let line = [
            "orders",
            self.file.to_str().unwrap(),
            "--progress",
            progress.to_str().unwrap(),
        ];
        [&line[..], options].concat()
    }

    fn drive(&self, options: &[&str]) -> Value {
        json(&self.server, &self.line(&self.progress(), options)).pop().unwrap()
    }

    fn used(&self) -> String {
        succeed(&self.server, &["pool", "list", "--used"])
    }

    /// Drives the first two lines, then all; both pools are as they were between.
    fn half_and_whole(&self) -> String {
        assert_eq!(self.drive(&["--until", "2"])["accepted"], 2);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let then = jiff::Timestamp::now().to_string();
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.is_whole(&self.drive(&[]));
        then
    }

    fn is_whole(&self, figures: &Value) {
        assert_eq!((&figures["accepted"], &figures["live"]), (&4.into(), &3.into()));
        assert_eq!(self.used(), USED);
    }

    fn reset(&self, then: &str) {
        let status = plimsoll()
            .args(["replay", "reset", "A", "B", "--any-version", "--to", then, "--engine"])
            .arg(self.server.engine())
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        assert_eq!(self.used(), "A,1\nB,1\n");
    }
}

#[test]
fn lines_are_sent_again_once_for_each_reset() {
    let scene = Scene::new();
    let then = scene.half_and_whole();
    scene.reset(&then);
    // Stopped half way: the key that a line has from then on, and what it came to, stand in the progress file.
    scene.is_whole(&scene.drive(&["--again-after", "2"]));
    let kept = std::fs::read_to_string(scene.progress()).unwrap();
    let begun = kept.find("again 2000000 1\n").unwrap();
    let cut = begun + kept[begun..].match_indices('\n').nth(1).unwrap().0 + 1;
    std::fs::write(scene.progress(), &kept[..cut]).unwrap();
    scene.is_whole(&scene.drive(&["--again-after", "2"]));
    scene.is_whole(&scene.drive(&["--again-after", "2"]));
    // Another reset is said.
    scene.reset(&then);
    scene.is_whole(&scene.drive(&["--again-after", "2", "--round", "2"]));
    scene.is_whole(&scene.drive(&["--again-after", "2", "--round", "2"]));
    scene.is_whole(&scene.drive(&["--again-after", "2"]));
    scene.is_whole(&scene.drive(&[]));
}

#[test]
fn a_line_whose_outcome_was_lost_is_sent_under_another_key_too() {
    let scene = Scene::new();
    let then = scene.half_and_whole();
    let kept = std::fs::read_to_string(scene.progress()).unwrap();
    let lost = kept.match_indices('\n').nth(2).unwrap().0 + 1;
    std::fs::write(scene.progress(), &kept[..lost]).unwrap();
    scene.reset(&then);
    scene.is_whole(&scene.drive(&["--again-after", "2"]));
}

#[test]
fn without_what_was_kept_nothing_is_sent_again() {
    let scene = Scene::new();
    scene.half_and_whole();
    let missing = scene.directory.path().join("missing");
    let line = scene.line(&missing, &["--again-after", "2"]);
    fail(&scene.server, &line, 1, "there is no progress file");
    assert!(!missing.exists());
    fail(
        &scene.server,
        &scene.line(&missing, &["--round", "2"]),
        2,
        "--again-after",
    );
}

#[test]
fn lines_that_were_sent_are_not_left_out() {
    let scene = Scene::new();
    scene.half_and_whole();
    let progress = scene.progress();
    fail(
        &scene.server,
        &scene.line(&progress, &["--until", "2"]),
        1,
        "line 4 lies behind --until",
    );
    assert_eq!(scene.used(), USED);
}
