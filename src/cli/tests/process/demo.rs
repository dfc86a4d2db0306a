//! The demo: it ends by itself, and its sums agree.

use std::process::Output;

use crate::support::plimsoll;

fn demo(options: &[&str]) -> (Output, String) {
    let output = plimsoll().arg("demo").args(options).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn a_short_demo_ends_with_its_check() {
    let (output, text) = demo(&["--seconds", "3", "--plain", "--seed", "7", "--cores", "2"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("check: passed: "), "{text}");
    assert!(text.contains("pools count the same"), "{text}");
    // Nothing but text, although a terminal might have followed.
    assert!(!text.contains('\x1b'), "{text}");
    assert!(
        text.lines().filter(|line| line.contains("reserves ")).count() >= 2,
        "{text}"
    );
    assert!(
        !text.contains("reserves 0/s"),
        "there is traffic from the first second on: {text}"
    );
}

#[test]
fn a_kept_directory_can_be_served_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kept");
    let keep = ["--seconds", "1", "--cores", "1", "--keep", path.to_str().unwrap()];
    let (output, text) = demo(&keep);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("kept: plimsoll serve --data "), "{text}");
    let server = crate::support::Server::start(&path, &[]);
    let used = crate::support::succeed(&server, &["pool", "list", "--used"]);
    assert!(used.lines().any(|line| !line.ends_with(",0,0")), "nothing was reserved");
    let (output, _) = demo(&keep);
    assert_eq!(output.status.code(), Some(2));
}
