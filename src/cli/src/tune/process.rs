//! What the process is granted: io_uring, locked memory, open files.

use std::io;

use indicatif::HumanBytes;
use plimsoll_server::host::{LOCKED_MEMORY_ADVISED_PER_CORE, LOCKED_MEMORY_PER_CORE, reserved_file_count};
use rustix::io::Errno;

use super::host::Host;
use super::limits::{CONNECTION_COUNT_ADVISED_PER_CORE, KERNEL_VERSION_MIN};
use super::report::{Check, Finding};

/// With it the memory of rings does not count against the limit: `CAP_IPC_LOCK`, a bit of the effective capabilities.
const IPC_LOCK: u64 = 1 << 14;

pub(super) fn kernel(host: &Host) -> Finding {
    const PATH: &str = "/proc/sys/kernel/osrelease";
    let check = Check("kernel");
    let Ok(release) = host.files.text(PATH) else {
        return check.unknown(PATH);
    };
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let Some(version) = number().zip(number()) else {
        return check.unknown(format!("the version in {release:?}"));
    };
    if version >= KERNEL_VERSION_MIN {
        return check.fine(format!("Linux {release}"));
    }
    let (major, minor) = KERNEL_VERSION_MIN;
    check.must(
        format!("Linux {release} is too old"),
        format!("boot Linux {major}.{minor} or newer"),
    )
}

pub(super) fn io_uring(host: &Host) -> Finding {
    let check = Check("io-uring");
    let disabled = host.files.number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let is_filtered = status(host, "Seccomp:").as_deref() == Some("2");
    let error = match &host.ring {
        Ok(()) if disabled == 0 => return check.fine("a ring can be made"),
        Ok(()) => {
            return check.should(
                format!(
                    "a ring can be made, but kernel.io_uring_disabled is {disabled}: a server of another user may be refused"
                ),
                "sysctl -w kernel.io_uring_disabled=0",
            );
        }
        Err(error) => error,
    };
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::PERM) && disabled > 0 {
        let whom = match disabled {
            1 => "all but root and the group kernel.io_uring_group",
            _ => "everyone",
        };
        return check.must(
            format!("kernel.io_uring_disabled is {disabled}, which refuses io_uring to {whom}"),
            "sysctl -w kernel.io_uring_disabled=0",
        );
    }
    if (is(Errno::PERM) || is(Errno::NOSYS)) && is_filtered {
        return check.must(
            format!("a seccomp filter is in force, and refuses io_uring ({error})"),
            "allow io_uring_setup, io_uring_enter and io_uring_register in its profile (tuning/README.md, Container)",
        );
    }
    if is(Errno::NOSYS) {
        return check.must(
            format!("the kernel was built without io_uring ({error})"),
            "boot a kernel with CONFIG_IO_URING=y",
        );
    }
    if is(Errno::NOMEM) {
        return check.must(
            format!("the ring found no lockable memory ({error}): this user's processes have locked it all"),
            "raise LimitMEMLOCK, or ulimit -l; a process that has just ended gives it back within a second",
        );
    }
    check.must(
        format!("no ring can be made ({error})"),
        "see whether a security module refuses io_uring: journalctl -k --grep 'io_uring|denied'",
    )
}

pub(super) fn locked_memory(host: &Host) -> Finding {
    let check = Check("locked-memory");
    let Some((soft, hard)) = limit(host, "Max locked memory") else {
        return check.unknown("/proc/self/limits");
    };
    let count = host.executors().len() as u64;
    let (needed, advised) = (LOCKED_MEMORY_PER_CORE * count, LOCKED_MEMORY_ADVISED_PER_CORE * count);
    let remedy = format!(
        "ulimit -l {} (KiB; a unit: LimitMEMLOCK={0}K, a container: --ulimit memlock={advised}:{advised})",
        advised / 1024
    );
    // A server raises its own limit to what its rings need, as far as the hard one goes.
    let (possible, shown) = (soft.max(hard), shown(soft));
    if possible < needed {
        return check.must(
            format!(
                "{shown} may be locked; the rings of {count} cores need {}",
                HumanBytes(needed)
            ),
            remedy,
        );
    }
    let capabilities = status(host, "CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok());
    let is_counted = capabilities.is_none_or(|bits| bits & IPC_LOCK == 0);
    if soft < advised && is_counted {
        return check.should(
            format!(
                "{shown} may be locked; {} let {count} cores pin their buffers, also right after a restart",
                HumanBytes(advised)
            ),
            remedy,
        );
    }
    check.fine(format!(
        "{shown} may be locked{}",
        if is_counted {
            ""
        } else {
            ", and does not count for this user"
        }
    ))
}

pub(super) fn open_files(host: &Host) -> Finding {
    let check = Check("open-files");
    let Some((_, hard)) = limit(host, "Max open files") else {
        return check.unknown("/proc/self/limits");
    };
    let count = host.executors().len();
    let reserved = reserved_file_count(count) as u64;
    let advised = (count * CONNECTION_COUNT_ADVISED_PER_CORE) as u64;
    // A server raises its own limit to the hard one.
    let connections = hard.saturating_sub(reserved);
    let remedy = format!(
        "ulimit -Hn {} (a unit: LimitNOFILE={0})",
        (reserved + advised).next_multiple_of(1024)
    );
    match connections {
        0 => check.must(
            format!("{hard} files may be open, and {reserved} are kept for journals and rings"),
            remedy,
        ),
        few if few < advised => check.should(
            format!("{hard} files may be open, which leaves {few} connections for {count} cores"),
            remedy,
        ),
        _ if hard == u64::MAX => check.fine("any number of files may be open"),
        _ => check.fine(format!(
            "{hard} files may be open, which leaves {connections} connections"
        )),
    }
}

/// Soft and hard limit; unlimited is the largest number.
fn limit(host: &Host, name: &str) -> Option<(u64, u64)> {
    let limits = host.files.text("/proc/self/limits").ok()?;
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = rest.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        value => value.parse().ok(),
    });
    values.next().flatten().zip(values.next().flatten())
}

fn shown(bytes: u64) -> String {
    match bytes {
        u64::MAX => "any memory".to_owned(),
        bytes => HumanBytes(bytes).to_string(),
    }
}

/// A value of `/proc/self/status`.
fn status(host: &Host, name: &str) -> Option<String> {
    let status: io::Result<String> = host.files.text("/proc/self/status");
    let status = status.ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use plimsoll_server::Cores;

    use super::super::report::Verdict::{Fine, Must, Should, Unknown};
    use super::super::sim_host::{SimHost, check};
    use super::*;

    #[test]
    fn an_old_kernel() {
        let with = |release: &str| SimHost::new().with_file("/proc/sys/kernel/osrelease", release);
        check(kernel, &SimHost::new(), Fine, &["6.12.0"]);
        check(kernel, &with("5.11.0-rc1"), Fine, &[]);
        check(
            kernel,
            &with("5.10.0-33"),
            Must,
            &["5.10.0-33 is too old", "boot Linux 5.11"],
        );
        check(kernel, &with("4.18.0-553.el8"), Must, &[]);
        check(kernel, &with("plan 9"), Unknown, &["plan 9"]);
        let nothing = SimHost::new().without("/proc/sys/kernel/osrelease");
        check(kernel, &nothing, Unknown, &["osrelease"]);
    }

    #[test]
    fn who_refuses_a_ring() {
        let refused = |errno| SimHost::new().with_ring_refused(errno);
        let disabled = |host: SimHost, value| host.with_file("/proc/sys/kernel/io_uring_disabled", value);
        let filtered = |host: SimHost| host.with_file("/proc/self/status", "Seccomp:\t2\n");
        check(io_uring, &SimHost::new(), Fine, &[]);
        // Kernels before 6.6 have no such setting.
        check(
            io_uring,
            &SimHost::new().without("/proc/sys/kernel/io_uring_disabled"),
            Fine,
            &[],
        );
        check(io_uring, &filtered(SimHost::new()), Fine, &[]);
        check(
            io_uring,
            &disabled(SimHost::new(), "1"),
            Should,
            &["another user", "sysctl -w kernel.io_uring_disabled=0"],
        );
        let sysctl = "sysctl -w kernel.io_uring_disabled=0";
        check(
            io_uring,
            &disabled(refused(Errno::PERM), "2"),
            Must,
            &["everyone", sysctl],
        );
        check(
            io_uring,
            &disabled(refused(Errno::PERM), "1"),
            Must,
            &["io_uring_group", sysctl],
        );
        for errno in [Errno::PERM, Errno::NOSYS] {
            check(
                io_uring,
                &filtered(refused(errno)),
                Must,
                &["seccomp filter", "allow io_uring_setup"],
            );
        }
        check(io_uring, &refused(Errno::NOSYS), Must, &["without io_uring"]);
        check(
            io_uring,
            &refused(Errno::NOMEM),
            Must,
            &["lockable memory", "LimitMEMLOCK"],
        );
        check(
            io_uring,
            &refused(Errno::PERM),
            Must,
            &["Operation not permitted", "security module"],
        );
    }

    fn limits(line: &str) -> SimHost {
        SimHost::new().with_file("/proc/self/limits", line)
    }

    #[test]
    fn too_little_locked_memory() {
        let line = |soft: &str, hard: &str| limits(&format!("Max locked memory  {soft} {hard} bytes"));
        check(locked_memory, &SimHost::new(), Fine, &["64.00 MiB"]);
        check(locked_memory, &line("unlimited", "unlimited"), Fine, &["any memory"]);
        check(locked_memory, &line("16777216", "16777216"), Fine, &[]);
        check(
            locked_memory,
            &line("65536", "65536"),
            Must,
            &[
                "64.00 KiB",
                "2 cores need 1.00 MiB",
                "ulimit -l 16384 ",
                "LimitMEMLOCK=16384K",
            ],
        );
        // The soft limit is raised as far as the hard one goes, and no further.
        check(
            locked_memory,
            &line("65536", "1048576"),
            Should,
            &["64.00 KiB", "16.00 MiB"],
        );
        check(locked_memory, &line("65536", "1048575"), Must, &[]);
        check(locked_memory, &line("8388608", "8388608"), Should, &[]);
        let root = line("1048576", "1048576").with_file("/proc/self/status", "CapEff:\t000001ffffffffff\n");
        check(locked_memory, &root, Fine, &["does not count"]);
        let one = line("8388608", "8388608").with_cores(&Cores::Count(1));
        check(locked_memory, &one, Fine, &[]);
        check(locked_memory, &limits("nonsense"), Unknown, &["/proc/self/limits"]);
    }

    #[test]
    fn too_few_open_files() {
        let line = |hard: &str| limits(&format!("Max open files  1024 {hard} files"));
        check(open_files, &SimHost::new(), Fine, &["524096 connections"]);
        check(open_files, &line("unlimited"), Fine, &["any number"]);
        check(open_files, &line("2240"), Fine, &["2048 connections"]);
        check(
            open_files,
            &line("1024"),
            Should,
            &["832 connections", "ulimit -Hn 3072", "LimitNOFILE=3072"],
        );
        check(open_files, &line("192"), Must, &["192 are kept"]);
        check(open_files, &limits(""), Unknown, &[]);
    }
}
