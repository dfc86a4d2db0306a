//! What keeps a server from starting, what a stop leaves, and a disk that is full.

use std::process::{Command, Stdio};

use crate::support::{Server, refused, run, serve, succeed, wait};

const NEW: [&str; 4] = ["--dimensions", "rooms", "--cores", "1"];

fn check(refusal: &(Option<i32>, String), code: i32, words: &[&str]) {
    let (found, text) = refusal;
    assert_eq!(*found, Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn a_second_server_on_the_same_directory_or_port_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &NEW);
    check(&refused(&data, "127.0.0.1:0", &[]), 12, &["in use", "help:"]);
    let other = directory.path().join("other");
    check(
        &refused(&other, &server.engine(), &NEW),
        18,
        &["cannot listen", "help:"],
    );
    assert!(server.is_running());
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn options_that_do_not_fit_are_refused_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    check(&refused(&data, "127.0.0.1:0", &[]), 15, &["dimensions", "help:"]);
    check(
        &refused(&data, "0.0.0.0:0", &NEW),
        19,
        &["loopback", "--insecure-listen"],
    );
    Server::start(&data, &NEW).kill();
    check(
        &refused(&data, "127.0.0.1:0", &["--dimensions", "guests"]),
        15,
        &["rooms", "guests"],
    );
    check(
        &refused(&data, "127.0.0.1:0", &["--journal-space", "512MiB"]),
        23,
        &["536870912 bytes", "--snapshot-after"],
    );
    check(
        &refused(&data, "127.0.0.1:0", &["--cores", "4000"]),
        16,
        &["4000 cores", "help:"],
    );
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    check(&refused(&foreign, "127.0.0.1:0", &NEW), 13, &["letter.txt"]);
    let file = foreign.join("letter.txt");
    check(&refused(&file, "127.0.0.1:0", &NEW), 13, &["letter.txt"]);
    // A file system that nobody may write to, not even root.
    check(
        &refused("/proc/plimsoll".as_ref(), "127.0.0.1:0", &NEW),
        13,
        &["/proc/plimsoll"],
    );
}

#[test]
fn too_little_locked_memory_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let serve = serve(&directory.path().join("data"), "127.0.0.1:0", &NEW);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\""])
        .arg(serve.get_program())
        .args(serve.get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait(&mut child);
    let text = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    check(&(status.code(), text), 11, &["locked memory", "LimitMEMLOCK"]);
}

#[test]
fn damage_is_named_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &NEW);
    let pools = directory.path().join("pools.csv");
    std::fs::write(
        &pools,
        "name,zone,kind,starts_at,ends_at,rooms\na,z,k,0,1,5\nb,z,k,0,1,5\n",
    )
    .unwrap();
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    succeed(&server, &["reserve", "a", "--units", "rooms=1"]);
    assert_eq!(server.terminate(), Some(0));
    let journal = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-"))
        .unwrap();
    let segment = journal.join("0000000001.segment");
    let intact = std::fs::read(&segment).unwrap();
    let mut damaged = intact.clone();
    damaged[4096 + 40] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    check(
        &refused(&data, "127.0.0.1:0", &[]),
        17,
        &["0000000001.segment", "offset 4096", "help:"],
    );
    std::fs::write(&segment, &intact).unwrap();
    let server = Server::start(&data, &[]);
    assert!(succeed(&server, &["pool", "list", "--used"]).contains("a,1"));
}

/// A small file system of its own; `None` where this user may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "plimsoll-test"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(directory));
        }
        eprintln!("SKIPPED: this user may not mount a file system of a small size");
        None
    }

    fn resize(&self, size: &str) {
        self.remount(&format!("size={size}"));
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount")
            .args(["-o", &option])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_reserves_still_takes_releases_and_resumes_by_itself() {
    let Some(disk) = SmallDisk::mount("640k") else { return };
    let data = disk.0.path().join("data");
    let options = ["--dimensions", "rooms", "--cores", "1", "--segment-size", "65536"];
    let server = Server::start(&data, &options);
    let pools = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
    std::fs::write(
        pools.path(),
        "name,zone,kind,starts_at,ends_at,rooms\na,z,k,0,1,1000000\n",
    )
    .unwrap();
    succeed(&server, &["pool", "import", pools.path().to_str().unwrap()]);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use plimsoll_client::{Client, Key, KeySource, Options, Releasing, Reserve, Reserving, Status, Units};
        let client = Client::connect(
            server.engine(),
            Options {
                retry: false,
                ..Options::default()
            },
        )
        .await
        .unwrap();
        let reserve = async || {
            let reserve = Reserve::new("a", Units::InOrder(&[1]), Key::random().unwrap());
            client.reserve(&reserve).await.unwrap()
        };
        let mut ids = Vec::new();
        let full = loop {
            match reserve().await {
                Reserving::Reserved(reservation) => ids.push(reservation.id),
                Reserving::Refused(refusal) if refusal.is(Status::Overloaded) => {
                    // The ring was used up faster than the disk showed itself full.
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                Reserving::Refused(refusal) => break refusal,
                Reserving::Unknown(unknown) => panic!("{unknown}"),
            }
            assert!(ids.len() < 100_000, "640 KiB cannot hold this many");
        };
        assert!(full.is(Status::StorageFull), "{full}");
        assert!(full.retryable());
        assert!(matches!(
            client.release(ids[0], None).await.unwrap(),
            Releasing::Released(_)
        ));
        let pool = client.pool("a").await.unwrap().unwrap();
        assert_eq!(pool.confirmed[0], ids.len() as i64 - 1);
        disk.resize("4m");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !matches!(reserve().await, Reserving::Reserved(_)) {
            assert!(std::time::Instant::now() < until, "the server did not resume");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    assert_eq!(server.terminate(), Some(0));
    // And it starts again with what it had.
    let server = Server::start(&data, &[]);
    assert!(run(&server, &["pool", "get", "a"]).status.success());
    drop(server);
}

#[test]
fn a_read_only_directory_is_refused_and_stays_as_it_was() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let data = disk.0.path().join("data");
    let options = ["--dimensions", "rooms", "--cores", "1", "--segment-size", "65536"];
    assert_eq!(Server::start(&data, &options).terminate(), Some(0));
    disk.remount("ro");
    check(
        &refused(&data, "127.0.0.1:0", &[]),
        13,
        &["Read-only file system", "help:"],
    );
    check(
        &refused(&disk.0.path().join("new"), "127.0.0.1:0", &options),
        13,
        &["Read-only file system"],
    );
    disk.remount("rw");
    assert_eq!(Server::start(&data, &[]).terminate(), Some(0));
}

#[test]
fn a_start_without_room_says_how_much_is_missing() {
    let Some(disk) = SmallDisk::mount("100k") else { return };
    let data = disk.0.path().join("data");
    check(
        &refused(
            &data,
            "127.0.0.1:0",
            &[&NEW[..], &["--segment-size", "262144"]].concat(),
        ),
        14,
        &["help:", "space"],
    );
}
