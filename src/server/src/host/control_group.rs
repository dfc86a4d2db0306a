//! What the control groups of this process grant, of both versions.
//!
//! A limit of a group holds for all below it, so the tightest of the group and those above it counts. In a container with a name space of its own
//! the group's path is `/`, and the mounted directory is the group itself.

use super::files::HostFiles;

/// The tightest limits of the groups that this process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ControlGroup {
    /// Bytes of memory; `None` without a limit.
    pub memory: Option<u64>,
    /// Bytes of swap space; `None` without a limit, or where it cannot be told.
    pub swap: Option<u64>,
    /// How many processors' time may be used, 1.5 for instance; `None` without a quota.
    pub processors: Option<f64>,
}

/// The first version has no word for "no limit": a number of about 2^63, rounded to pages.
const NO_LIMIT_MIN: u64 = 1 << 60;

impl ControlGroup {
    /// Reads them. What cannot be read counts as no limit.
    #[must_use]
    pub fn read(files: &HostFiles) -> ControlGroup {
        let mounts = files.text("/proc/self/mountinfo").unwrap_or_default();
        let groups = files.text("/proc/self/cgroup").unwrap_or_default();
        let mut found = ControlGroup::default();
        for line in groups.lines() {
            // 4:memory:/path of the first version, 0::/path of the second.
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            let directories = |controller: &str| directories(&mounts, controller, path);
            if controllers.is_empty() {
                for directory in directories("") {
                    found.tighten(ControlGroup {
                        memory: files.number(&format!("{directory}/memory.max")),
                        swap: files.number(&format!("{directory}/memory.swap.max")),
                        processors: files.text(&format!("{directory}/cpu.max")).ok().and_then(|text| {
                            let (quota, period) = text.split_once(' ')?;
                            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
                        }),
                    });
                }
            }
            if has("memory") {
                for directory in directories("memory") {
                    let memory = files.number(&format!("{directory}/memory.limit_in_bytes"));
                    found.tighten(ControlGroup {
                        memory: memory.filter(|bytes| *bytes < NO_LIMIT_MIN),
                        ..ControlGroup::default()
                    });
                }
            }
            if has("cpu") {
                for directory in directories("cpu") {
                    // A quota of -1 is none.
                    let quota = files.number(&format!("{directory}/cpu.cfs_quota_us"));
                    let period = files.number(&format!("{directory}/cpu.cfs_period_us"));
                    found.tighten(ControlGroup {
                        processors: quota.zip(period).map(|(quota, period)| quota as f64 / period as f64),
                        ..ControlGroup::default()
                    });
                }
            }
        }
        found
    }

    fn tighten(&mut self, other: ControlGroup) {
        let tightest = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        self.memory = tightest(self.memory, other.memory);
        self.swap = tightest(self.swap, other.swap);
        self.processors = self.processors.into_iter().chain(other.processors).reduce(f64::min);
    }
}

/// The directories of a group and of those above it, as far as they are mounted. An empty controller means the second version.
fn directories(mounts: &str, controller: &str, group: &str) -> Vec<String> {
    let Some((mounted, mount_point)) = mounts.lines().find_map(|line| hierarchy(line, controller)) else {
        return Vec::new();
    };
    // What is mounted may be a part of the hierarchy: the container's own.
    let below = group.strip_prefix(mounted.trim_end_matches('/')).unwrap_or("");
    let mut directory = format!("{mount_point}/{}", below.trim_matches('/'));
    let mut directories = Vec::new();
    while directory.len() > mount_point.len() {
        directories.push(directory.trim_end_matches('/').to_owned());
        let parent = directory.trim_end_matches('/').rfind('/').unwrap_or(0);
        directory.truncate(parent);
    }
    directories.push(mount_point.to_owned());
    directories
}

/// The root within the hierarchy, and the mount point, of a line of `mountinfo` that mounts this controller.
fn hierarchy<'line>(line: &'line str, controller: &str) -> Option<(&'line str, &'line str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let place = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    let is_wanted = match controller {
        "" => kind == "cgroup2",
        controller => kind == "cgroup" && options.split(',').any(|option| option == controller),
    };
    is_wanted.then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";

    fn check(tree: &[(&str, &str)], expected: ControlGroup) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in tree {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        assert_eq!(ControlGroup::read(&HostFiles::below(root.path())), expected, "{tree:?}");
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let unit = "/sys/fs/cgroup/system.slice/plimsoll.service";
        check(
            &[
                ("/proc/self/mountinfo", V2),
                ("/proc/self/cgroup", "0::/system.slice/plimsoll.service\n"),
                (&format!("{unit}/memory.max"), "max\n"),
                (&format!("{unit}/memory.swap.max"), "0\n"),
                (&format!("{unit}/cpu.max"), "300000 100000\n"),
                ("/sys/fs/cgroup/system.slice/memory.max", "1048576\n"),
                ("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ],
            ControlGroup {
                memory: Some(1 << 20),
                swap: Some(0),
                processors: Some(1.5),
            },
        );
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        check(
            &[
                ("/proc/self/mountinfo", V2),
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/memory.max", "4096\n"),
                ("/sys/fs/cgroup/cpu.max", "max 100000\n"),
            ],
            ControlGroup {
                memory: Some(4096),
                ..ControlGroup::default()
            },
        );
    }

    #[test]
    fn the_first_version_has_a_hierarchy_for_each_controller() {
        check(
            &[
                ("/proc/self/mountinfo", V1),
                (
                    "/proc/self/cgroup",
                    "4:memory:/docker/abc/inner\n2:cpu,cpuacct:/docker/abc\n",
                ),
                ("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "4096\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ],
            ControlGroup {
                memory: Some(4096),
                swap: None,
                processors: Some(0.5),
            },
        );
        check(
            &[
                ("/proc/self/mountinfo", V1),
                ("/proc/self/cgroup", "4:memory:/docker/abc\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            ControlGroup::default(),
        );
    }

    #[test]
    fn nothing_readable_is_no_limit() {
        check(&[], ControlGroup::default());
        check(
            &[
                ("/proc/self/mountinfo", "nonsense\n - cgroup2\n1 2 3 / - cgroup2 x\n"),
                ("/proc/self/cgroup", "nonsense\n0::\n"),
            ],
            ControlGroup::default(),
        );
    }
}
