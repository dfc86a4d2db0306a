//! The executors' processors: whether they are there, alone, quick, and near each other.

use std::collections::BTreeSet;

use plimsoll_server::host::{ControlGroup, numbers_in};

use super::host::Host;
use super::limits::INTERRUPT_COUNT_MIN;
use super::report::{Check, Finding};

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";

/// Clocks that are read without a call of the kernel.
const QUICK_CLOCKS: &[&str] = &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// `0-2,5`
pub(super) fn list_of(processors: &[usize]) -> String {
    let sorted: BTreeSet<usize> = processors.iter().copied().collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for processor in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == processor => *last = processor,
            _ => ranges.push((processor, processor)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

pub(super) fn cores(host: &Host) -> Finding {
    let check = Check("cores");
    let allowed = list_of(&host.allowed);
    let cores = match &host.cores {
        Ok(cores) => cores,
        Err(refused) => {
            return check.must(
                refused.clone(),
                format!("taskset -c LIST plimsoll serve (a unit: CPUAffinity=LIST), or choose --cores among {allowed}"),
            );
        }
    };
    let distinct: BTreeSet<_> = cores.iter().collect();
    if distinct.len() < cores.len() {
        return check.should(
            format!(
                "the directory has {} cores, which share the processors {}",
                cores.len(),
                list_of(cores)
            ),
            format!(
                "plimsoll serve --cores {}: it spreads the directory anew",
                distinct.len()
            ),
        );
    }
    check.fine(format!("executors on the processors {}", list_of(cores)))
}

pub(super) fn quota(host: &Host) -> Finding {
    let check = Check("cpu-quota");
    let count = host.executors().len();
    match ControlGroup::read(&host.files).processors {
        None => check.fine("the control group has none"),
        Some(granted) if granted >= count as f64 => check.fine(format!("the control group grants {granted:.2} processors")),
        Some(granted) => check.should(
            format!(
                "the control group grants the time of {granted:.2} processors to {count} cores: all of them stop whenever it is used up"
            ),
            format!(
                "raise it (CPUQuota= of a unit, --cpus of a container), or plimsoll serve --cores {}",
                (granted as usize).max(1)
            ),
        ),
    }
}

pub(super) fn governor(host: &Host) -> Finding {
    let check = Check("governor");
    let path = |processor: &usize| format!("{CPU}/cpu{processor}/cpufreq/scaling_governor");
    let mut slow = Vec::new();
    for processor in host.executors() {
        match host.files.text(&path(processor)) {
            Ok(governor) if governor == "performance" => {}
            Ok(governor) => slow.push((*processor, governor)),
            Err(_) => return check.unknown(format!("{} (usual on virtual machines)", path(processor))),
        }
    }
    let Some((_, governor)) = slow.first() else {
        return check.fine("performance");
    };
    let processors: Vec<usize> = slow.iter().map(|(processor, _)| *processor).collect();
    let list = list_of(&processors);
    check.should(
        format!("{governor} on the processors {list}: a core that was idle begins slowly"),
        format!("cpupower -c {list} frequency-set -g performance"),
    )
}

/// A core reads the clock several times for each batch.
pub(super) fn clock(host: &Host) -> Finding {
    const DIRECTORY: &str = "/sys/devices/system/clocksource/clocksource0";
    let check = Check("clock");
    let Ok(current) = host.files.text(&format!("{DIRECTORY}/current_clocksource")) else {
        return check.unknown(DIRECTORY);
    };
    if QUICK_CLOCKS.contains(&current.as_str()) {
        return check.fine(format!("{current}, read without a call of the kernel"));
    }
    let available = host
        .files
        .text(&format!("{DIRECTORY}/available_clocksource"))
        .unwrap_or_default();
    let quick = available.split_whitespace().find(|name| QUICK_CLOCKS.contains(name));
    let remedy = match quick {
        Some(quick) => format!("echo {quick} > {DIRECTORY}/current_clocksource"),
        None => "journalctl -k --grep 'clocksource|tsc' says why; where the clock is known to be sound, boot with tsc=reliable".to_owned(),
    };
    check.should(
        format!("{current}: each look at the clock is a call of the kernel"),
        remedy,
    )
}

pub(super) fn siblings(host: &Host) -> Finding {
    let check = Check("siblings");
    let siblings_of = |processor: usize| {
        let path = format!("{CPU}/cpu{processor}/topology/thread_siblings_list");
        host.files.text(&path).map(|list| numbers_in(&list)).map_err(|_| path)
    };
    let mut shared = Vec::new();
    for processor in host.executors() {
        match siblings_of(*processor) {
            Ok(siblings)
                if siblings
                    .iter()
                    .any(|other| other != processor && host.executors().contains(other)) =>
            {
                shared.push(*processor);
            }
            Ok(_) => {}
            Err(path) => return check.unknown(path),
        }
    }
    if shared.is_empty() {
        return check.fine("no two executors share a physical core, as far as the machine shows");
    }
    let mut apart: Vec<usize> = Vec::new();
    for processor in &host.allowed {
        let siblings = siblings_of(*processor).unwrap_or_default();
        if !siblings.iter().any(|other| apart.contains(other)) {
            apart.push(*processor);
        }
    }
    apart.truncate(host.executors().len());
    check.should(
        format!(
            "the processors {} are siblings of a physical core, which executors then share",
            list_of(&shared)
        ),
        format!("plimsoll serve --cores {}", as_list(&apart)),
    )
}

pub(super) fn nodes(host: &Host) -> Finding {
    let check = Check("numa");
    let names = host.files.names(NODE);
    let nodes: Vec<Vec<usize>> = names
        .iter()
        .filter(|name| {
            name.strip_prefix("node")
                .is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .filter_map(|name| host.files.text(&format!("{NODE}/{name}/cpulist")).ok())
        .map(|list| numbers_in(&list))
        .collect();
    if nodes.is_empty() {
        return check.unknown(NODE);
    }
    let used = nodes
        .iter()
        .filter(|node| host.executors().iter().any(|core| node.contains(core)));
    if used.count() > 1 {
        let allowed_of = |node: &Vec<usize>| -> Vec<usize> {
            let allowed = host.allowed.iter().filter(|processor| node.contains(processor));
            allowed.copied().take(host.executors().len()).collect()
        };
        let fitting = nodes
            .iter()
            .map(allowed_of)
            .rev()
            .max_by_key(Vec::len)
            .unwrap_or_default();
        return check.should(
            "the executors' processors lie on several NUMA nodes: messages between them and the availability table cross over",
            format!("plimsoll serve --cores {}", as_list(&fitting)),
        );
    }
    for name in ["kernel/numa_balancing", "vm/zone_reclaim_mode"] {
        let value = host.files.number(&format!("/proc/sys/{name}")).unwrap_or(0);
        if nodes.len() > 1 && value != 0 {
            let name = name.replace('/', ".");
            return check.should(
                format!("{name} is {value}: the kernel moves or reclaims memory under the cores"),
                format!("sysctl -w {name}=0"),
            );
        }
    }
    check.fine(match nodes.len() {
        1 => "the machine has one node".to_owned(),
        count => format!("all on one of {count} nodes"),
    })
}

/// Nobody else should run on the executors' processors, as long as there are others.
pub(super) fn isolation(host: &Host) -> Finding {
    let check = Check("isolation");
    let (Some(spare), Ok(isolated)) = (host.spare_processors(), host.files.text(&format!("{CPU}/isolated"))) else {
        return check.unknown(format!("{CPU}/isolated"));
    };
    let executors = host.executors();
    let isolated = numbers_in(&isolated);
    if executors.iter().all(|processor| isolated.contains(processor)) {
        if host.allowed.iter().all(|processor| executors.contains(processor)) {
            return check.should(
                "the server may run on the executors' processors alone: its other threads share them, and an isolated processor is not relieved",
                format!("taskset -c {} plimsoll serve (a unit: CPUAffinity=)", list_of(&[&spare[..], executors].concat())),
            );
        }
        return check.fine(format!("the processors {} are isolated", list_of(executors)));
    }
    if spare.is_empty() {
        return check.fine("no processor is left for others: fewer --cores would leave one");
    }
    let is_kept_away = |slice: &str| {
        let path = format!("/sys/fs/cgroup/{slice}/cpuset.cpus.effective");
        let list = host.files.text(&path).map(|list| numbers_in(&list)).unwrap_or_default();
        !list.is_empty() && executors.iter().all(|processor| !list.contains(processor))
    };
    if ["system.slice", "user.slice"].into_iter().all(is_kept_away) {
        return check.fine("other programs are kept away by the control groups");
    }
    // Slices are kept to processors by the second version of control groups alone.
    let controllers = host.files.text("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let list = list_of(&spare);
    let remedy = match controllers.split(' ').any(|controller| controller == "cpuset") {
        true => format!(
            "for slice in system user; do systemctl set-property $slice.slice AllowedCPUs={list}; done (the engine in a slice of its own)"
        ),
        false => format!(
            "boot with isolcpus=managed_irq,domain,{}, and let the server run there: taskset -c {} plimsoll serve (a unit: CPUAffinity=)",
            list_of(executors),
            list_of(&[&spare[..], executors].concat())
        ),
    };
    check.should(
        format!(
            "other programs may run on the executors' processors {}",
            list_of(executors)
        ),
        remedy,
    )
}

pub(super) fn interrupts(host: &Host) -> Finding {
    let check = Check("interrupts");
    let (Some(spare), Ok(interrupts)) = (host.spare_processors(), host.files.text("/proc/interrupts")) else {
        return check.unknown("/proc/interrupts");
    };
    let mut lines = interrupts.lines();
    let columns: Vec<usize> = lines
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter_map(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    let is_executors = |processor: &usize| host.executors().contains(processor);
    let mut busy = Vec::new();
    for line in lines {
        let Some((number, rest)) = line.trim().split_once(':') else {
            continue;
        };
        // Those without a number are the processors' own, and stay.
        let Ok(number) = number.parse::<u32>() else { continue };
        let counts = rest.split_whitespace().map_while(|count| count.parse::<u64>().ok());
        let here = columns
            .iter()
            .zip(counts)
            .filter(|(processor, _)| is_executors(processor));
        if here.map(|(_, count)| count).sum::<u64>() < INTERRUPT_COUNT_MIN {
            continue;
        }
        let now = ["effective_affinity_list", "smp_affinity_list"]
            .iter()
            .find_map(|name| host.files.text(&format!("/proc/irq/{number}/{name}")).ok());
        // The counts are of all times; it may have been moved since.
        if now.is_none_or(|list| numbers_in(&list).iter().any(is_executors)) {
            let name = rest.split_whitespace().last().unwrap_or("").to_owned();
            busy.push((number, name));
        }
    }
    if busy.is_empty() {
        return check.fine("those of busy devices go elsewhere");
    }
    let shown: Vec<String> = busy.iter().map(|(number, name)| format!("{number} ({name})")).collect();
    let shown = shown.join(", ");
    if spare.is_empty() {
        return check.fine(format!("{shown} go to the executors' processors, and no other is left"));
    }
    let numbers: Vec<String> = busy.iter().map(|(number, _)| number.to_string()).collect();
    check.should(
        format!("{shown} interrupt the executors' processors"),
        format!(
            "for irq in {}; do echo {} > /proc/irq/$irq/smp_affinity_list; done",
            numbers.join(" "),
            list_of(&spare)
        ),
    )
}

/// As `--cores` takes a list: a single number would be a count.
fn as_list(processors: &[usize]) -> String {
    match processors {
        [only] => format!("{only}-{only}"),
        several => list_of(several),
    }
}
