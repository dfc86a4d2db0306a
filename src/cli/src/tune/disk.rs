//! The data directory: whether it can be used, what it lies on, and what a sync is worth there.

use std::path::PathBuf;

use indicatif::HumanBytes;
use plimsoll_journal::limits::RING_SEGMENT_COUNT_DEFAULT;
use plimsoll_server::Options;

use super::host::{Data, DataState, Host};
use super::mounts::{Mount, mount_of};
use super::report::{Check, Finding};

const MOUNTS: &str = "/proc/self/mountinfo";

/// File systems of other machines: what a sync means there, and whether a lock holds, is theirs to say.
const REMOTE: &[&str] = &[
    "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3",
    "smbfs",
];

fn mount(host: &Host) -> Option<Mount> {
    mount_of(&host.files.text(MOUNTS).ok()?, &host.data.path)
}

pub(super) fn data_directory(host: &Host) -> Finding {
    let check = Check("data-directory");
    let path = host.data.path.display();
    if let DataState::Unusable(why) = &host.data.state {
        return check.must(
            why.clone(),
            "name a data directory of plimsoll, or an empty one, with --data",
        );
    }
    if let Err(error) = &host.data.access {
        return check.must(
            format!("this user may not write to {path} ({error})"),
            format!("install -d -o USER {path}, with the user of the server"),
        );
    }
    match &host.data.state {
        DataState::Existing { journal_count, .. } => check.fine(format!("{path} has {journal_count} cores")),
        DataState::New | DataState::Unusable(_) => check.fine(format!("{path} can be made")),
    }
}

pub(super) fn space(host: &Host) -> Finding {
    let check = Check("space");
    let free = match &host.data.free {
        Ok(free) => *free,
        Err(error) => return check.unknown(format!("the free space of {} ({error})", host.data.path.display())),
    };
    let count = host.executors().len() as u64;
    // The segment in use, and those that are prepared ahead; an existing directory has them.
    let (start, used) = match host.data.state {
        DataState::Existing { segments_size, .. } => (0, segments_size),
        DataState::New | DataState::Unusable(_) => {
            let segments = RING_SEGMENT_COUNT_DEFAULT as u64 + 1;
            (count * segments * Data::segment_size(), 0)
        }
    };
    let whole = (count * Options::new(PathBuf::new()).journal_space).saturating_sub(used);
    let point = mount(host).map_or_else(
        || host.data.path.display().to_string(),
        |mount| mount.point.display().to_string(),
    );
    let remedy = format!("du -xhd2 {point} | sort -h, and free some of it; or a larger disk for --data");
    if free < start {
        return check.must(
            format!(
                "{} are free; the first segments of {count} cores take {}",
                HumanBytes(free),
                HumanBytes(start)
            ),
            remedy,
        );
    }
    if free < whole {
        return check.should(
            format!(
                "{} are free; segments may come to take {} more (--journal-space), beside snapshots and the archive, which is kept for ever",
                HumanBytes(free),
                HumanBytes(whole)
            ),
            remedy,
        );
    }
    check.fine(format!("{} are free", HumanBytes(free)))
}

pub(super) fn file_system(host: &Host) -> Finding {
    let check = Check("file-system");
    let Some(mount) = mount(host) else {
        return check.unknown(MOUNTS);
    };
    let (kind, point) = (mount.kind.as_str(), mount.point.display());
    let remedy = "put --data on a local disk with ext4 or xfs";
    match kind {
        "ext4" | "xfs" => check.fine(format!("{kind} at {point}")),
        "tmpfs" | "ramfs" => check.must(
            format!("{kind} at {point} is memory: a power loss takes all of it"),
            remedy,
        ),
        kind if REMOTE.contains(&kind) || kind == "fuse" || kind.starts_with("fuse.") => check.must(
            format!("{kind} at {point}: something else than this kernel decides what a sync and a lock are worth"),
            remedy,
        ),
        "overlay" => check.should(
            format!("{kind} at {point} is most often the container's own layer, and goes with it"),
            "mount a volume at --data",
        ),
        "9p" | "virtiofs" => check.should(
            format!("{kind} at {point} is a directory of the host machine: not tried"),
            remedy,
        ),
        kind => check.should(
            format!("{kind} at {point}: not tried; one that copies on write moves each page that is synced"),
            remedy,
        ),
    }
}

pub(super) fn mount_options(host: &Host) -> Finding {
    let check = Check("mount-options");
    let Some(mount) = mount(host) else {
        return check.unknown(MOUNTS);
    };
    let point = mount.point.display();
    let remount = |options: &str| format!("mount -o remount,{options} {point}, and the same in /etc/fstab");
    if mount.has("ro") {
        return check.must(format!("{point} is mounted read-only"), remount("rw"));
    }
    for option in ["nobarrier", "barrier=0"] {
        if mount.has(option) {
            return check.must(
                format!("{option} at {point}: a sync does not reach past the disk's own cache, and a power loss takes what was acknowledged"),
                remount("barrier"),
            );
        }
    }
    if mount.has("volatile") {
        return check.must(
            format!("volatile at {point}: syncs are ignored"),
            "mount a volume at --data",
        );
    }
    if mount.has("data=journal") {
        return check.should(
            format!("data=journal at {point}: every page is written twice"),
            format!("mount {point} without data=journal: it cannot be changed by a remount"),
        );
    }
    if mount.has("sync") {
        return check.should(
            format!("sync at {point}: also what need not be durable yet is waited for"),
            remount("async"),
        );
    }
    let is_disk = ["ext4", "xfs"].contains(&mount.kind.as_str());
    if is_disk && !mount.has("relatime") && !mount.has("noatime") {
        return check.should(
            format!("neither relatime nor noatime at {point}: reading history writes to the disk"),
            remount("noatime"),
        );
    }
    check.fine(format!("{} at {point}", mount.options.join(",")))
}

pub(super) fn write_cache(host: &Host) -> Finding {
    let check = Check("write-cache");
    let Some(mount) = mount(host) else {
        return check.unknown(MOUNTS);
    };
    // A partition has no queue of its own: its disk lies above it.
    let own = format!("/sys/dev/block/{}", mount.device);
    let above = format!("{own}/..");
    let Some((disk, cache)) = [&own, &above].into_iter().find_map(|device| {
        let cache = host.files.text(&format!("{device}/queue/write_cache")).ok()?;
        Some((device, cache))
    }) else {
        return check.unknown(format!(
            "{own}/queue/write_cache ({} may have no block device of its own)",
            mount.kind
        ));
    };
    let uevent = host.files.text(&format!("{disk}/uevent")).unwrap_or_default();
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))
        .unwrap_or("the disk");
    if cache == "write back" {
        return check.fine(format!("{name} has one, and is sent flushes"));
    }
    // What the disk itself says, where it is one of SCSI or SATA.
    let scsi = format!("{disk}/device/scsi_disk");
    let types = host.files.names(&scsi).into_iter();
    let mut types = types.filter_map(|address| host.files.text(&format!("{scsi}/{address}/cache_type")).ok());
    if types.any(|kind| kind.starts_with("write back")) {
        return check.must(
            format!("{name} has a write cache, and the kernel was told to send no flushes: a power loss takes what was acknowledged"),
            format!("echo 'write back' > /sys/block/{name}/queue/write_cache"),
        );
    }
    check.fine(format!("{name} says that it has none, and is sent no flushes"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::report::Verdict::{Fine, Must, Should, Unknown};
    use super::super::sim_host::{SimHost, check};
    use super::*;

    fn mounted(kind: &str, options: &str) -> SimHost {
        let line = format!("28 27 259:1 / /var/lib {options} - {kind} source rw");
        SimHost::new().with_file(MOUNTS, &line)
    }

    fn with(change: impl FnOnce(&mut Data)) -> SimHost {
        let mut host = SimHost::new();
        change(&mut host.host.data);
        host
    }

    const EXISTING: DataState = DataState::Existing {
        journal_count: 2,
        segments_size: 1 << 30,
    };

    #[test]
    fn a_directory_that_cannot_be_used() {
        check(
            data_directory,
            &SimHost::new(),
            Fine,
            &["/var/lib/plimsoll can be made"],
        );
        check(
            data_directory,
            &with(|data| data.state = EXISTING),
            Fine,
            &["has 2 cores"],
        );
        let refused = with(|data| data.access = Err(io::ErrorKind::PermissionDenied.into()));
        check(
            data_directory,
            &refused,
            Must,
            &["may not write", "install -d -o USER /var/lib/plimsoll"],
        );
        let damaged = with(|data| data.state = DataState::Unusable("the manifest is damaged".into()));
        check(data_directory, &damaged, Must, &["the manifest is damaged", "--data"]);
    }

    #[test]
    fn too_little_space() {
        let free = |bytes: u64| with(|data| data.free = Ok(bytes));
        check(space, &free(8 << 30), Fine, &["8.00 GiB are free"]);
        check(
            space,
            &free((8 << 30) - 1),
            Should,
            &["8.00 GiB more", "du -xhd2 /var/lib"],
        );
        check(space, &free(512 << 20), Should, &[]);
        check(space, &free((512 << 20) - 1), Must, &["2 cores take 512.00 MiB"]);
        let mut existing = free(0);
        existing.host.data.state = EXISTING;
        check(space, &existing, Should, &["7.00 GiB more"]);
        check(
            space,
            &with(|data| data.free = Err(io::ErrorKind::NotFound.into())),
            Unknown,
            &[],
        );
    }

    #[test]
    fn file_systems() {
        check(file_system, &SimHost::new(), Fine, &["xfs at /var/lib"]);
        check(file_system, &mounted("ext4", "rw"), Fine, &[]);
        for kind in ["nfs4", "nfs", "cifs", "ceph", "fuse.sshfs", "fuse"] {
            check(file_system, &mounted(kind, "rw"), Must, &[kind, "local disk"]);
        }
        check(file_system, &mounted("tmpfs", "rw"), Must, &["is memory"]);
        check(file_system, &mounted("overlay", "rw"), Should, &["mount a volume"]);
        check(file_system, &mounted("virtiofs", "rw"), Should, &[]);
        for kind in ["btrfs", "zfs", "f2fs", "fuseblk"] {
            check(file_system, &mounted(kind, "rw"), Should, &["not tried"]);
        }
        check(file_system, &SimHost::new().without(MOUNTS), Unknown, &[MOUNTS]);
    }

    #[test]
    fn options_of_the_mount() {
        check(mount_options, &SimHost::new(), Fine, &["noatime"]);
        check(mount_options, &mounted("ext4", "rw,relatime"), Fine, &[]);
        check(
            mount_options,
            &mounted("ext4", "ro,relatime"),
            Must,
            &["read-only", "remount,rw /var/lib"],
        );
        for option in ["nobarrier", "barrier=0"] {
            let host = mounted("ext4", &format!("rw,noatime,{option}"));
            check(mount_options, &host, Must, &[option, "remount,barrier /var/lib"]);
        }
        check(
            mount_options,
            &mounted("overlay", "rw,relatime,volatile"),
            Must,
            &["volatile"],
        );
        check(
            mount_options,
            &mounted("ext4", "rw,noatime,data=journal"),
            Should,
            &["twice"],
        );
        check(
            mount_options,
            &mounted("xfs", "rw,noatime,sync"),
            Should,
            &["remount,async"],
        );
        check(
            mount_options,
            &mounted("xfs", "rw"),
            Should,
            &["remount,noatime /var/lib"],
        );
        check(mount_options, &mounted("tmpfs", "rw"), Fine, &[]);
        check(mount_options, &SimHost::new().without(MOUNTS), Unknown, &[]);
    }

    #[test]
    fn write_caches() {
        let queue = "/sys/dev/block/queue/write_cache";
        check(
            write_cache,
            &SimHost::new(),
            Fine,
            &["nvme0n1 has one, and is sent flushes"],
        );
        let through = || SimHost::new().with_file(queue, "write through");
        check(write_cache, &through(), Fine, &["no flushes"]);
        let scsi = |kind: &str| through().with_file("/sys/dev/block/device/scsi_disk/0:0:0:0/cache_type", kind);
        check(write_cache, &scsi("write through"), Fine, &[]);
        check(
            write_cache,
            &scsi("write back, no read (daft)"),
            Must,
            &["power loss", "echo 'write back' > /sys/block/nvme0n1/queue/write_cache"],
        );
        // A whole disk, or one that the kernel puts together, has a queue of its own.
        let own = through().with_file("/sys/dev/block/259:1/queue/write_cache", "write back");
        check(write_cache, &own, Fine, &["nvme0n1p1"]);
        check(write_cache, &SimHost::new().without(queue), Unknown, &["259:1"]);
    }
}
