//! The network's settings that the server's own do not go past.

use plimsoll_client::protocol::limits::FRAME_SIZE_BYTES_MAX;
use plimsoll_server::host::BACKLOG;

use super::host::Host;
use super::report::{Check, Finding};

pub(super) fn backlog(host: &Host) -> Finding {
    const PATH: &str = "/proc/sys/net/core/somaxconn";
    let check = Check("backlog");
    let wanted = BACKLOG.unsigned_abs();
    match host.files.number(PATH) {
        None => check.unknown(PATH),
        Some(found) if found >= u64::from(wanted) => check.fine(format!("net.core.somaxconn is {found}")),
        Some(found) => check.should(
            format!(
                "net.core.somaxconn is {found}: of clients that come at once no more than that wait to be accepted"
            ),
            format!("sysctl -w net.core.somaxconn={wanted}"),
        ),
    }
}

pub(super) fn idle_connections(host: &Host) -> Finding {
    const PATH: &str = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
    let check = Check("tcp-idle");
    match host.files.number(PATH) {
        None => check.unknown(PATH),
        Some(0) => check.fine("net.ipv4.tcp_slow_start_after_idle is 0"),
        Some(found) => check.should(
            format!(
                "net.ipv4.tcp_slow_start_after_idle is {found}: after a pause a large frame takes several round trips to remote clients"
            ),
            "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
        ),
    }
}

/// The largest frame should fit the kernel's buffers, or it travels in turns.
pub(super) fn socket_buffers(host: &Host) -> Finding {
    let check = Check("tcp-buffers");
    let mut found = Vec::new();
    for name in ["tcp_rmem", "tcp_wmem"] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        let text = host.files.text(&path).unwrap_or_default();
        let values: Vec<u64> = text.split_whitespace().filter_map(|value| value.parse().ok()).collect();
        let [least, usual, most] = values[..] else {
            return check.unknown(path);
        };
        // The kernel reckons up to half of a buffer for its own book-keeping.
        let wanted = 2 * u64::from(FRAME_SIZE_BYTES_MAX);
        if most < wanted {
            return check.should(
                format!("net.ipv4.{name} ends at {most} bytes: a frame of {FRAME_SIZE_BYTES_MAX} does not fit at once"),
                format!("sysctl -w net.ipv4.{name}='{least} {usual} {wanted}'"),
            );
        }
        found.push(format!("{name} up to {most} bytes"));
    }
    check.fine(found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{Fine, Should, Unknown};
    use super::super::sim_host::{SimHost, check};
    use super::*;

    #[test]
    fn a_short_backlog() {
        let with = |value: &str| SimHost::new().with_file("/proc/sys/net/core/somaxconn", value);
        check(backlog, &SimHost::new(), Fine, &["4096"]);
        check(
            backlog,
            &with("128"),
            Should,
            &["is 128", "sysctl -w net.core.somaxconn=4096"],
        );
        check(backlog, &with(""), Unknown, &["somaxconn"]);
    }

    #[test]
    fn connections_that_begin_slowly_after_a_pause() {
        let path = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
        check(idle_connections, &SimHost::new(), Fine, &[]);
        check(
            idle_connections,
            &SimHost::new().with_file(path, "1"),
            Should,
            &["sysctl -w net.ipv4.tcp_slow_start_after_idle=0"],
        );
        check(idle_connections, &SimHost::new().without(path), Unknown, &[path]);
    }

    #[test]
    fn buffers_that_a_frame_does_not_fit() {
        let with = |name: &str, value: &str| SimHost::new().with_file(&format!("/proc/sys/net/ipv4/{name}"), value);
        check(
            socket_buffers,
            &SimHost::new(),
            Fine,
            &["tcp_rmem up to 6291456", "tcp_wmem up to 4194304"],
        );
        check(
            socket_buffers,
            &with("tcp_wmem", "4096 16384 1048576"),
            Should,
            &[
                "tcp_wmem ends at 1048576",
                "sysctl -w net.ipv4.tcp_wmem='4096 16384 2097152'",
            ],
        );
        check(
            socket_buffers,
            &with("tcp_rmem", "4096 131072 65536"),
            Should,
            &["tcp_rmem"],
        );
        check(socket_buffers, &with("tcp_rmem", "many"), Unknown, &["tcp_rmem"]);
    }
}
