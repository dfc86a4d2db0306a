//! Which file system a path lies on.

use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of the device, `8:2`; those of file systems without one begin with 0.
    pub(super) device: String,
    pub(super) point: PathBuf,
    /// `ext4`, `nfs4` and so on.
    pub(super) kind: String,
    /// Of the mount, then of the file system.
    pub(super) options: Vec<String>,
}

impl Mount {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }
}

/// The mount that an absolute path without links lies on. Where several have the same place, the last one hides the others.
pub(super) fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    mountinfo
        .lines()
        .filter_map(parse)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (device, _, point, options) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, _, more) = (file_system.next()?, file_system.next()?, file_system.next()?);
    Some(Mount {
        device: device.to_owned(),
        point: unescaped(point).into(),
        kind: kind.to_owned(),
        options: options.split(',').chain(more.split(',')).map(str::to_owned).collect(),
    })
}

/// Spaces and the like stand there as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                whole.push(code.into());
                whole.push_str(&part[3..]);
            }
            None => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 0:40 / /srv rw,noatime - nfs4 host:/srv rw,vers=4.2
29 27 8:1 /part /srv/my\\040disk rw - xfs /dev/sda1 rw
30 27 8:2 / /srv/my\\040disk rw - ext4 /dev/sda2 rw
nonsense
31 27 0:41 /";

    #[test]
    fn the_nearest_mount_above_a_path() {
        let check = |path: &str, device: &str, kind: &str| {
            let mount = mount_of(MOUNTS, Path::new(path)).unwrap();
            assert_eq!((mount.device.as_str(), mount.kind.as_str()), (device, kind), "{path}");
        };
        check("/", "254:0", "ext4");
        check("/srvice/data", "254:0", "ext4");
        check("/srv", "0:40", "nfs4");
        check("/srv/data", "0:40", "nfs4");
        check("/srv/my disk/data", "8:2", "ext4");
        assert_eq!(mount_of("", Path::new("/")), None);
        let mount = mount_of(MOUNTS, Path::new("/data")).unwrap();
        assert!(mount.has("relatime") && mount.has("discard") && !mount.has("noatime"));
    }

    #[test]
    fn names_with_spaces() {
        assert_eq!(unescaped("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescaped("/a\\04"), "/a\\04");
        assert_eq!(unescaped("/a\\é99"), "/a\\é99");
    }
}
