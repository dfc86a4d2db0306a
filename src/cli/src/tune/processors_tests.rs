//! Tests of `processors.rs`.

use plimsoll_server::Cores;

use super::processors::*;
use super::report::Verdict::{Fine, Must, Should, Unknown};
use super::sim_host::{SimHost, check};

const CPU: &str = "/sys/devices/system/cpu";

fn with(path: &str, content: &str) -> SimHost {
    SimHost::new().with_file(path, content)
}

#[test]
fn lists_are_short() {
    let check = |processors: &[usize], expected: &str| assert_eq!(list_of(processors), expected);
    check(&[], "");
    check(&[3], "3");
    check(&[5, 0, 1, 2], "0-2,5");
    check(&[1, 0, 1], "0-1");
}

#[test]
fn cores_that_there_are_not() {
    check(cores, &SimHost::new(), Fine, &["2-3"]);
    let asked = |cores: Cores| SimHost::new().with_cores(&cores);
    check(
        cores,
        &asked(Cores::Count(9)),
        Must,
        &["9 cores were asked for", "among 0-3"],
    );
    check(
        cores,
        &asked(Cores::List(vec![7])),
        Must,
        &["processor 7", "taskset -c", "CPUAffinity="],
    );
    let mut small = SimHost::new();
    small.host.cores = Ok(vec![0, 1, 0, 1]);
    check(cores, &small, Should, &["4 cores, which share", "--cores 2"]);
}

#[test]
fn a_quota_below_the_cores() {
    let quota_of = |text: &str| with("/sys/fs/cgroup/plimsoll.slice/plimsoll.service/cpu.max", text);
    check(quota, &SimHost::new(), Fine, &["none"]);
    check(quota, &quota_of("max 100000"), Fine, &["none"]);
    check(quota, &quota_of("200000 100000"), Fine, &["2.00"]);
    check(
        quota,
        &quota_of("150000 100000"),
        Should,
        &["1.50 processors to 2 cores", "--cores 1"],
    );
    check(
        quota,
        &quota_of("50000 100000"),
        Should,
        &["0.50", "CPUQuota=", "--cores 1"],
    );
}

#[test]
fn governors_that_save_power() {
    let path = |processor: usize| format!("{CPU}/cpu{processor}/cpufreq/scaling_governor");
    check(governor, &SimHost::new(), Fine, &["performance"]);
    check(
        governor,
        &with(&path(3), "powersave"),
        Should,
        &[
            "powersave on the processors 3:",
            "cpupower -c 3 frequency-set -g performance",
        ],
    );
    // Those of the others do not matter.
    check(governor, &with(&path(0), "powersave"), Fine, &[]);
    check(
        governor,
        &SimHost::new().without(&path(2)),
        Unknown,
        &["virtual machines"],
    );
}

#[test]
fn slow_clocks() {
    let directory = "/sys/devices/system/clocksource/clocksource0";
    let current = |name: &str| with(&format!("{directory}/current_clocksource"), name);
    check(clock, &SimHost::new(), Fine, &["tsc"]);
    check(clock, &current("kvm-clock"), Fine, &[]);
    check(clock, &current("hpet"), Should, &["hpet", "echo tsc >"]);
    let available = format!("{directory}/available_clocksource");
    check(
        clock,
        &current("hpet").with_file(&available, "hpet acpi_pm"),
        Should,
        &["tsc=reliable"],
    );
    check(
        clock,
        &SimHost::new().without(&format!("{directory}/current_clocksource")),
        Unknown,
        &[],
    );
}

#[test]
fn siblings_as_two_cores() {
    let path = |processor: usize| format!("{CPU}/cpu{processor}/topology/thread_siblings_list");
    check(siblings, &SimHost::new(), Fine, &[]);
    let paired = || {
        let host = with(&path(0), "0-1").with_file(&path(1), "0-1");
        host.with_file(&path(2), "2-3").with_file(&path(3), "2-3")
    };
    check(siblings, &paired(), Should, &["2-3 are siblings", "--cores 0,2"]);
    check(siblings, &paired().with_cores(&Cores::List(vec![1, 2])), Fine, &[]);
    let one = paired().with_cores(&Cores::List(vec![3]));
    check(siblings, &one, Fine, &[]);
    let mut narrow = paired();
    narrow.host.allowed = vec![2, 3];
    check(siblings, &narrow, Should, &["--cores 2-2"]);
    check(siblings, &SimHost::new().without(&path(2)), Unknown, &["cpu2"]);
}

#[test]
fn several_nodes() {
    let node = |number: usize| format!("/sys/devices/system/node/node{number}/cpulist");
    check(nodes, &SimHost::new(), Fine, &["one node"]);
    let split = || with(&node(0), "0,2").with_file(&node(1), "1,3");
    check(nodes, &split(), Should, &["several NUMA nodes", "--cores 0,2"]);
    let near = || split().with_cores(&Cores::List(vec![0, 2]));
    check(nodes, &near(), Fine, &["one of 2"]);
    for name in ["kernel/numa_balancing", "vm/zone_reclaim_mode"] {
        let path = format!("/proc/sys/{name}");
        let remedy = format!("sysctl -w {}=0", name.replace('/', "."));
        check(nodes, &near().with_file(&path, "1"), Should, &[&remedy]);
        // On a machine with one node neither does anything.
        check(nodes, &with(&path, "1"), Fine, &[]);
    }
    check(nodes, &SimHost::new().without(&node(0)), Unknown, &[]);
}

#[test]
fn processors_that_others_run_on() {
    let isolated = format!("{CPU}/isolated");
    check(isolation, &SimHost::new(), Fine, &["2-3 are isolated"]);
    check(
        isolation,
        &with(&isolated, "").with_file("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io"),
        Should,
        &["processors 2-3", "AllowedCPUs=0-1"],
    );
    let boot = ["isolcpus=managed_irq,domain,2-3", "taskset -c 0-3"];
    check(isolation, &with(&isolated, ""), Should, &boot);
    check(isolation, &with(&isolated, "3"), Should, &[]);
    let group = |slice: &str| format!("/sys/fs/cgroup/{slice}.slice/cpuset.cpus.effective");
    let kept = with(&isolated, "").with_file(&group("system"), "0-1");
    check(isolation, &kept, Should, &[]);
    check(
        isolation,
        &kept.with_file(&group("user"), "0-1"),
        Fine,
        &["control groups"],
    );
    let all = with(&isolated, "").with_cores(&Cores::Count(4));
    check(isolation, &all, Fine, &["no processor is left"]);
    let mut alone = SimHost::new();
    alone.host.allowed = vec![2, 3];
    check(
        isolation,
        &alone,
        Should,
        &["executors' processors alone", "taskset -c 0-3"],
    );
    check(isolation, &SimHost::new().without(&isolated), Unknown, &[]);
}

#[test]
fn interrupts_of_busy_devices() {
    const INTERRUPTS: &str = "\
            CPU0       CPU2       CPU3
  1:      99999          5          0  IO-APIC 1-edge i8042
 36:          0       9000       1000  PCI-MSIX-0000:00:02.0 1-edge nvme0q1
 41:          0          0      70000  PCI-MSIX-0000:00:04.0 1-edge eth0-rx
LOC:   10000000   10000000   10000000  Local timer interrupts";
    let busy = || with("/proc/interrupts", INTERRUPTS);
    check(interrupts, &SimHost::new(), Fine, &[]);
    check(
        interrupts,
        &busy(),
        Should,
        &[
            "36 (nvme0q1), 41 (eth0-rx)",
            "for irq in 36 41; do echo 0-1 > /proc/irq/$irq/smp_affinity_list",
        ],
    );
    let moved = busy().with_file("/proc/irq/36/effective_affinity_list", "0");
    check(interrupts, &moved, Should, &["for irq in 41;"]);
    let moved = moved.with_file("/proc/irq/41/smp_affinity_list", "0-1");
    check(interrupts, &moved, Fine, &[]);
    let all = busy().with_cores(&Cores::Count(4));
    check(interrupts, &all, Fine, &["no other is left"]);
    check(interrupts, &SimHost::new().without("/proc/interrupts"), Unknown, &[]);
}
