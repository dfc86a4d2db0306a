//! Memory: what there is of it, and whether the kernel takes it back or moves it.

use indicatif::HumanBytes;
use plimsoll_server::ConnectionOptions;
use plimsoll_server::host::{ControlGroup, memory_size};

use super::host::Host;
use super::limits::SWAPPINESS_MAX;
use super::report::{Check, Finding};

/// The least that `serve --connection-memory` takes.
const CONNECTION_MEMORY_MIN: u64 = 32 << 20;

/// Reservations may take half of the memory; what connections may take must fit the other half.
pub(super) fn memory(host: &Host) -> Finding {
    let check = Check("memory");
    let Some(size) = memory_size(&host.files) else {
        return check.unknown("/proc/meminfo");
    };
    let whose = match ControlGroup::read(&host.files).memory {
        Some(limit) if limit == size => "the control group grants",
        _ => "the machine has",
    };
    let count = host.executors().len() as u64;
    let each = ConnectionOptions::default().memory_per_core as u64;
    if size / 2 >= each * count {
        return check.fine(format!("{whose} {}", HumanBytes(size)));
    }
    let fitting = size / 4 / count;
    let remedy = match fitting >= CONNECTION_MEMORY_MIN {
        true => format!("plimsoll serve --connection-memory {}MiB", fitting >> 20),
        false => "give it more memory, or fewer --cores".to_owned(),
    };
    check.should(
        format!(
            "{whose} {}: half of it for reservations leaves too little for {count} times {} of connections",
            HumanBytes(size),
            HumanBytes(each)
        ),
        remedy,
    )
}

pub(super) fn swap(host: &Host) -> Finding {
    let check = Check("swap");
    if ControlGroup::read(&host.files).swap == Some(0) {
        return check.fine("the control group may not swap");
    }
    let Ok(swaps) = host.files.text("/proc/swaps") else {
        return check.unknown("/proc/swaps");
    };
    let devices: Vec<&str> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if devices.is_empty() {
        return check.fine("there is none");
    }
    let Some(swappiness) = host.files.number("/proc/sys/vm/swappiness") else {
        return check.unknown("/proc/sys/vm/swappiness");
    };
    if swappiness <= SWAPPINESS_MAX {
        return check.fine(format!("vm.swappiness is {swappiness}"));
    }
    check.should(
        format!(
            "vm.swappiness is {swappiness}, and there is swap space on {}: a core stalls on a page of its state that was swapped out",
            devices.join(", ")
        ),
        "sysctl -w vm.swappiness=1 (a unit: MemorySwapMax=0)",
    )
}

/// A fault that compacts memory first stalls its core. Nothing in Plimsoll asks for huge pages, so the state has them under `always` alone.
pub(super) fn huge_pages(host: &Host) -> Finding {
    const DIRECTORY: &str = "/sys/kernel/mm/transparent_hugepage";
    let check = Check("huge-pages");
    let chosen = |name: &str| {
        let text = host.files.text(&format!("{DIRECTORY}/{name}")).ok()?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let (Some(enabled), Some(defrag)) = (chosen("enabled"), chosen("defrag")) else {
        return check.unknown(DIRECTORY);
    };
    if enabled == "always" && defrag == "always" {
        return check.should(
            "huge pages are made by whoever faults first, and it waits while memory is compacted",
            format!("echo defer+madvise > {DIRECTORY}/defrag"),
        );
    }
    check.fine(format!("enabled {enabled}, defrag {defrag}"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{Fine, Should, Unknown};
    use super::super::sim_host::{SimHost, check};
    use super::*;

    const GROUP: &str = "/sys/fs/cgroup/plimsoll.slice/plimsoll.service";

    #[test]
    fn too_little_memory() {
        check(memory, &SimHost::new(), Fine, &["the machine has 15.6"]);
        let granted = |bytes: u64| SimHost::new().with_file(&format!("{GROUP}/memory.max"), &bytes.to_string());
        check(memory, &granted(1 << 30), Fine, &["the control group grants 1.00 GiB"]);
        check(
            memory,
            &granted((1 << 30) - 4096),
            Should,
            &["2 times 256.00 MiB", "--connection-memory 127MiB"],
        );
        check(memory, &granted(64 << 20), Should, &["more memory"]);
        // What is above the machine's own is no limit.
        check(memory, &granted(1 << 40), Fine, &["the machine has"]);
        check(memory, &SimHost::new().without("/proc/meminfo"), Unknown, &[]);
    }

    #[test]
    fn swap_that_is_used_early() {
        const SWAPS: &str = "Filename Type Size Used Priority\n/dev/sda3 partition 1000 0 -2\n/swapfile file 1 0 -3";
        let swapping = |swappiness: &str| {
            SimHost::new()
                .with_file("/proc/swaps", SWAPS)
                .with_file("/proc/sys/vm/swappiness", swappiness)
        };
        check(swap, &SimHost::new(), Fine, &["there is none"]);
        check(swap, &swapping("10"), Fine, &["is 10"]);
        check(
            swap,
            &swapping("60"),
            Should,
            &["is 60", "/dev/sda3, /swapfile", "sysctl -w vm.swappiness=1"],
        );
        let barred = swapping("60").with_file(&format!("{GROUP}/memory.swap.max"), "0");
        check(swap, &barred, Fine, &["may not swap"]);
        check(swap, &swapping("often"), Unknown, &[]);
        check(swap, &SimHost::new().without("/proc/swaps"), Unknown, &[]);
    }

    #[test]
    fn huge_pages_that_are_waited_for() {
        let set = |enabled: &str, defrag: &str| {
            SimHost::new()
                .with_file("/sys/kernel/mm/transparent_hugepage/enabled", enabled)
                .with_file("/sys/kernel/mm/transparent_hugepage/defrag", defrag)
        };
        check(huge_pages, &SimHost::new(), Fine, &["enabled madvise"]);
        check(huge_pages, &set("[always] never", "always [defer+madvise]"), Fine, &[]);
        check(huge_pages, &set("always [never]", "[always] defer"), Fine, &[]);
        check(
            huge_pages,
            &set("[always] never", "[always] defer"),
            Should,
            &["compacted", "echo defer+madvise >"],
        );
        let without = SimHost::new().without("/sys/kernel/mm/transparent_hugepage/enabled");
        check(huge_pages, &without, Unknown, &[]);
    }
}
