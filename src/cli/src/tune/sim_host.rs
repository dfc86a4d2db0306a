//! A host of a test: a made tree of files, and made answers of calls.

use std::fs;
use std::io;
use std::path::Path;

use plimsoll_server::Cores;
use plimsoll_server::host::HostFiles;

use super::host::{Data, DataState, Host, cores_of};
use super::report::{Finding, Verdict};

/// A host where nothing is off: 4 processors, of which the executors have 2 and 3, a disk with ext4, enough of everything.
pub(super) struct SimHost {
    root: tempfile::TempDir,
    pub(super) host: Host,
}

/// What a bare machine with everything set tells. Of the processors 0 and 1 are for the others.
pub(super) const GOOD: &[(&str, &str)] = &[
    ("/proc/sys/kernel/osrelease", "6.12.0-amd64"),
    ("/proc/sys/kernel/io_uring_disabled", "0"),
    (
        "/proc/self/status",
        "Name:\tplimsoll\nCapEff:\t0000000000000000\nSeccomp:\t0\n",
    ),
    (
        "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 524288               files     \n\
         Max locked memory         67108864             67108864             bytes     \n",
    ),
    ("/proc/self/cgroup", "0::/plimsoll.slice/plimsoll.service"),
    (
        "/proc/self/mountinfo",
        "27 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n\
         28 27 259:1 / /var/lib rw,noatime - xfs /dev/nvme0n1p1 rw,attr2\n\
         31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n",
    ),
    ("/proc/meminfo", "MemTotal:       16384000 kB\n"),
    ("/proc/swaps", "Filename Type Size Used Priority\n"),
    ("/proc/sys/vm/swappiness", "1"),
    ("/proc/sys/vm/zone_reclaim_mode", "0"),
    ("/proc/sys/kernel/numa_balancing", "0"),
    ("/proc/sys/net/core/somaxconn", "4096"),
    ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
    ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
    ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
    (
        "/proc/interrupts",
        "            CPU0       CPU1       CPU2       CPU3\n\
         \x20 36:     900000          0          0          0  PCI-MSIX  nvme0q1\n\
         \x20 41:          0     500000          0          0  PCI-MSIX  eth0-TxRx-0\n\
         NMI:          0          0          0          0   Non-maskable interrupts\n\
         LOC:   10000000   10000000   10000000   10000000   Local timer interrupts\n",
    ),
    ("/sys/devices/system/cpu/online", "0-3"),
    ("/sys/devices/system/cpu/isolated", "2-3"),
    ("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
    ("/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
    ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0"),
    ("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1"),
    ("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2"),
    ("/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3"),
    ("/sys/devices/system/node/node0/cpulist", "0-3"),
    (
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc",
    ),
    (
        "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm",
    ),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    (
        "/sys/kernel/mm/transparent_hugepage/defrag",
        "always defer defer+madvise [madvise] never",
    ),
    // 8:2 and 259:1 are partitions: the queue is the disk's.
    ("/sys/dev/block/259:1/uevent", "MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1"),
    ("/sys/dev/block/uevent", "MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1"),
    ("/sys/dev/block/queue/write_cache", "write back"),
];

impl SimHost {
    pub(super) fn new() -> SimHost {
        let root = tempfile::tempdir().unwrap();
        let data = Data {
            path: "/var/lib/plimsoll".into(),
            state: DataState::New,
            access: Ok(()),
            free: Ok(100 << 30),
        };
        let allowed = vec![0, 1, 2, 3];
        let host = Host {
            files: HostFiles::below(root.path()),
            ring: Ok(()),
            cores: cores_of(&Cores::List(vec![2, 3]), &data, &allowed),
            allowed,
            data,
        };
        let host = SimHost { root, host };
        GOOD.iter()
            .fold(host, |host, (path, content)| host.with_file(path, content))
    }

    /// With another content of this file, or a further file.
    pub(super) fn with_file(self, path: &str, content: &str) -> SimHost {
        let path = self.root.path().join(Path::new(path.trim_start_matches('/')));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Without this file.
    pub(super) fn without(self, path: &str) -> SimHost {
        fs::remove_file(self.root.path().join(Path::new(path.trim_start_matches('/')))).unwrap();
        self
    }

    pub(super) fn with_cores(mut self, cores: &Cores) -> SimHost {
        self.host.cores = cores_of(cores, &self.host.data, &self.host.allowed);
        self
    }

    /// With this answer to the making of a ring.
    pub(super) fn with_ring_refused(mut self, errno: rustix::io::Errno) -> SimHost {
        self.host.ring = Err(io::Error::from(errno));
        self
    }
}

/// Holds what a check finds on a host against a verdict, and words that must stand in what it says.
pub(super) fn check(check: fn(&Host) -> Finding, host: &SimHost, verdict: Verdict, words: &[&str]) {
    let finding = check(&host.host);
    let said = format!(
        "{}; {}",
        finding.found,
        finding.remedy.as_deref().unwrap_or("no remedy")
    );
    assert_eq!(finding.verdict, verdict, "{}: {said}", finding.check);
    for word in words {
        assert!(said.contains(word), "{}: {word:?} is not in {said:?}", finding.check);
    }
}
