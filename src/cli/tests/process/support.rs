//! Starting and ending the real binary.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that must happen: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn plimsoll() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A running `plimsoll serve`; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where HTTP is served, if it is.
    http: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Server {
    /// Starts on a free port and returns when it is ready.
    pub(crate) fn start(data: &Path, options: &[&str]) -> Server {
        Server::start_on(data, "127.0.0.1:0", options)
    }

    pub(crate) fn start_on(data: &Path, listen: &str, options: &[&str]) -> Server {
        Server::spawn(&mut serve(data, listen, options))
    }

    /// Starts what [`serve`] has put together, and returns when it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = |name: &str| {
            let value = line.split_ascii_whitespace().find_map(|part| part.strip_prefix(name));
            value.and_then(|value| value.parse().ok())
        };
        let (engine, http, admin) = (address("engine="), address("http="), address("admin="));
        let address = engine.unwrap_or_else(|| panic!("serve printed {line:?} and ended with {:?}", child.wait()));
        Server {
            child,
            address,
            http,
            admin,
        }
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.expect("it was started with --http")
    }

    /// Where what only planners are to see is served.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("it was started with --admin")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn engine(&self) -> String {
        self.address.to_string()
    }

    /// SIGKILL, as a crash of the process; what the kernel holds survives. The process may still be dying when this returns: directory and
    /// address can be used at once all the same.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        std::thread::spawn(move || drop(self));
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.ask_to_stop();
        wait(&mut self.child).code()
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits for the end that was asked for, and the exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        wait(&mut self.child).code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(data: &Path, listen: &str, options: &[&str]) -> Command {
    let mut command = plimsoll();
    command
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--listen", listen])
        .args(options);
    // Only who asks for HTTP gets it: its usual address may be in use.
    if !options.contains(&"--http") {
        command.args(["--http", "off"]);
    }
    command
}

/// Waits for a child that must end by itself.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "a process did not end within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `serve`, which must refuse to start; its exit code and what it says.
pub(crate) fn refused(data: &Path, listen: &str, options: &[&str]) -> (Option<i32>, String) {
    let mut child = serve(data, listen, options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (status.code(), text)
}

/// Runs a client command to its end.
pub(crate) fn run(server: &Server, arguments: &[&str]) -> Output {
    plimsoll()
        .args(arguments)
        .args(["--engine", &server.engine()])
        .output()
        .unwrap()
}

/// The same, which must succeed; what it printed.
pub(crate) fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?} ended with {:?}: {error}",
        output.status.code()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The same, which must fail with this exit code and say this on standard error.
pub(crate) fn fail(server: &Server, arguments: &[&str], code: i32, expected: &str) {
    let output = run(server, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(
        error.contains(expected),
        "{arguments:?}: {expected:?} is not in {error}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
}

/// What a command prints with `--json`, one object on a line.
pub(crate) fn json(server: &Server, arguments: &[&str]) -> Vec<serde_json::Value> {
    let text = succeed(server, &[arguments, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file of the real bookings, which are not part of the project.
pub(crate) fn bookings(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: the real bookings are not here ({})", path.display());
    None
}

/// SplitMix64: each test prints its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A seed from the clock, printed so that a failure can be tried again with `PLIMSOLL_TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("PLIMSOLL_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64
        });
    eprintln!("PLIMSOLL_TEST_SEED={seed}");
    seed
}
