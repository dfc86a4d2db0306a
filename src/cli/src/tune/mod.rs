//! `plimsoll tune`: what of a host is off for an engine, and the command that mends it.

mod disk;
mod host;
mod limits;
mod memory;
mod mounts;
mod network;
mod process;
mod processors;
#[cfg(test)]
mod processors_tests;
mod report;
#[cfg(test)]
mod sim_host;

use std::path::PathBuf;

use clap::Args;
use plimsoll_server::Cores;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::values::parse_cores;
use host::Host;
use report::{Finding, Verdict};

/// The command line of `plimsoll tune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line says how much it matters, which check found it, what is off, and behind \"do:\" the command that mends it until \
the next boot:
  must     a server would not start, or could lose what it acknowledged
  should   it costs speed, evenness or room
  unknown  it cannot be read here, as in many containers and on virtual machines

Nothing is changed, and a server may run meanwhile. Limits are those of this process: run it as the server is run, as its \
user, in its container, or in its unit (ExecStartPre=). What serve would be told otherwise than by --data and --cores \
counts with its default. tuning/README.md says why each setting matters, and how it is kept over a boot.

It ends with 0, also when lines say should, and with 1 when one says must.

Examples:
  plimsoll tune --check --data /var/lib/plimsoll
  plimsoll tune --check --data /var/lib/plimsoll --cores 2-5 --json")]
pub(crate) struct TuneArguments {
    /// Read the host and say what is off
    #[arg(long, required = true)]
    check: bool,

    /// The data directory, or where it would be made
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./plimsoll-data",
        env = "PLIMSOLL_SERVE_DATA"
    )]
    data: PathBuf,

    /// Processors as of serve: auto, the first N, or a list such as 0,2 or 4-7
    #[arg(long, value_name = "N|LIST", default_value = "auto", value_parser = parse_cores, env = "PLIMSOLL_SERVE_CORES")]
    cores: Cores,

    /// Print JSON, one object, with what is in order too
    #[arg(long)]
    json: bool,
}

/// In the order in which they are printed: what keeps a server from starting, the disk, then what costs time.
const CHECKS: &[fn(&Host) -> Finding] = &[
    process::kernel,
    process::io_uring,
    process::locked_memory,
    process::open_files,
    processors::cores,
    disk::data_directory,
    disk::space,
    disk::file_system,
    disk::mount_options,
    disk::write_cache,
    memory::memory,
    memory::swap,
    memory::huge_pages,
    processors::quota,
    processors::governor,
    processors::clock,
    processors::siblings,
    processors::nodes,
    processors::isolation,
    processors::interrupts,
    network::backlog,
    network::idle_connections,
    network::socket_buffers,
];

#[derive(Serialize)]
struct JsonReport<'report> {
    data: &'report str,
    cores: &'report [usize],
    must: usize,
    should: usize,
    unknown: usize,
    fine: usize,
    checks: &'report [Finding],
}

pub(crate) fn run(arguments: &TuneArguments) -> Result<(), Failure> {
    assert!(arguments.check, "the command line asks for --check");
    let host = Host::here(&arguments.data, &arguments.cores);
    let findings: Vec<Finding> = CHECKS.iter().map(|check| check(&host)).collect();
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let data = host.data.path.to_string_lossy();
    let report = JsonReport {
        data: &data,
        cores: host.executors(),
        must: count(Verdict::Must),
        should: count(Verdict::Should),
        unknown: count(Verdict::Unknown),
        fine: count(Verdict::Fine),
        checks: &findings,
    };
    let mut output = Output::new();
    match arguments.json {
        true => output.json(&report)?,
        false => print(&report, &mut output)?,
    }
    output.finish()?;
    match report.must {
        0 => Ok(()),
        _ => Err(
            Failure::failed("this host would stop a server, or endanger what it acknowledges")
                .help("do what the lines with must say; tuning/README.md has the reasons"),
        ),
    }
}

fn print(report: &JsonReport<'_>, output: &mut Output) -> Result<(), Failure> {
    for finding in report.checks.iter().filter(|finding| finding.verdict != Verdict::Fine) {
        let (verdict, found) = (finding.verdict.name(), printable(&finding.found));
        match &finding.remedy {
            Some(remedy) => {
                let remedy = printable(remedy);
                output.line(format_args!(
                    "{verdict:<7}  {:<14}  {found}; do: {remedy}",
                    finding.check
                ))?;
            }
            None => output.line(format_args!("{verdict:<7}  {:<14}  {found}", finding.check))?,
        }
    }
    output.line(format_args!(
        "{} checks for cores on {} and {}: {} must, {} should, {} unknown, {} fine",
        report.checks.len(),
        processors::list_of(report.cores),
        printable(report.data),
        report.must,
        report.should,
        report.unknown,
        report.fine
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_host::SimHost;

    /// On a host where all is well every check says so, by a name of its own, and there is one for each.
    #[test]
    fn a_host_where_nothing_is_off() {
        let host = SimHost::new();
        let mut names = Vec::new();
        for check in CHECKS {
            let finding = check(&host.host);
            assert_eq!(finding.verdict, Verdict::Fine, "{finding:?}");
            assert_eq!(finding.remedy, None);
            assert!(!names.contains(&finding.check), "{} is there twice", finding.check);
            names.push(finding.check);
        }
    }

    /// Nothing can be read: nothing is off, and nothing fails.
    #[test]
    fn a_host_that_shows_nothing() {
        let mut host = SimHost::new();
        host.host.files = plimsoll_server::host::HostFiles::below("/nowhere");
        for check in CHECKS {
            let finding = check(&host.host);
            assert!(
                matches!(finding.verdict, Verdict::Unknown | Verdict::Fine),
                "{finding:?}"
            );
        }
    }

    /// What `tuning/99-plimsoll.conf` sets is what the checks ask for.
    #[test]
    fn the_file_for_sysctl_satisfies_the_checks() {
        let conf =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tuning/99-plimsoll.conf")).unwrap();
        let settings = conf.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        // A host on which all that the file sets is off.
        let off = [
            ("/proc/sys/kernel/io_uring_disabled", "1"),
            ("/proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1 0 -3"),
            ("/proc/sys/vm/swappiness", "60"),
            ("/sys/devices/system/node/node1/cpulist", "4-7"),
            ("/proc/sys/kernel/numa_balancing", "1"),
            ("/proc/sys/vm/zone_reclaim_mode", "1"),
            ("/proc/sys/net/core/somaxconn", "128"),
            ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
        ];
        let mut host = off
            .iter()
            .fold(SimHost::new(), |host, (path, text)| host.with_file(path, text));
        let off_count = |host: &SimHost| {
            let findings = CHECKS.iter().map(|check| check(&host.host));
            findings.filter(|finding| finding.verdict != Verdict::Fine).count()
        };
        assert_eq!(off_count(&host), 5);
        for line in settings {
            let (name, value) = line.trim_start_matches('-').split_once('=').unwrap();
            let path = format!("/proc/sys/{}", name.trim().replace('.', "/"));
            assert!(off.iter().any(|(known, _)| *known == path), "{line}: no check reads it");
            host = host.with_file(&path, value.trim());
        }
        assert_eq!(off_count(&host), 0);
    }
}
