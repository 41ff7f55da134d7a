//! What is left of what a process's control groups may have: memory and tasks,
//! of version 1 and version 2, all groups above it counted in
//! (Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v1/pids.rst and
//! cgroup-v2.rst in the kernel's source, cgroups(7)).

use std::path::{Path, PathBuf};

/// Where one controller's files of a process are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    /// The process's own directory, at or below it.
    own: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// What is left; None where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Bytes of memory; page cache that can be dropped counts as free.
    pub memory: Option<u64>,
    /// Tasks.
    pub tasks: Option<u64>,
}

/// What process `pid` has left.
pub fn left(pid: i32) -> Left {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let groups = read(&format!("/proc/{pid}/cgroup"));
    let mounts = read("/proc/self/mountinfo");
    left_in(&groups, &mounts)
}

fn left_in(groups: &str, mounts: &str) -> Left {
    let each = |controller, of: fn(&Path, Version) -> Option<u64>| {
        let found = groups_of(groups, mounts, controller);
        found.iter().filter_map(|group| group.least(of)).min()
    };
    Left {
        memory: each(Controller::Memory, memory_left),
        tasks: each(Controller::Pids, tasks_left),
    }
}

impl Group {
    /// The tightest of the group and all above it.
    fn least(&self, of: fn(&Path, Version) -> Option<u64>) -> Option<u64> {
        let up = self.own.ancestors();
        up.take_while(|dir| dir.starts_with(&self.mount))
            .filter_map(|dir| of(dir, self.version))
            .min()
    }
}

fn memory_left(dir: &Path, version: Version) -> Option<u64> {
    let (most, used, cache) = match version {
        Version::V1 => (
            number(dir, "memory.limit_in_bytes"),
            number(dir, "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
        Version::V2 => (
            number(dir, "memory.max")
                .into_iter()
                .chain(number(dir, "memory.high"))
                .min(),
            number(dir, "memory.current"),
            "inactive_file",
        ),
    };
    // Version 1 says "none" with the largest number of pages.
    let most = most.filter(|most| *most < 1 << 62)?;
    let used = used?.saturating_sub(counted(dir, cache).unwrap_or(0));
    Some(most.saturating_sub(used))
}

fn tasks_left(dir: &Path, _: Version) -> Option<u64> {
    Some(number(dir, "pids.max")?.saturating_sub(number(dir, "pids.current")?))
}

/// A file that holds one number; "max" is none.
fn number(dir: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(dir.join(name)).ok()?;
    text.trim().parse().ok()
}

/// A line of memory.stat.
fn counted(dir: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(dir.join("memory.stat")).ok()?;
    let mut lines = text.lines().filter_map(|l| l.split_once(' '));
    lines.find(|(n, _)| *n == name)?.1.trim().parse().ok()
}

/// The groups that a controller has the process in, by /proc/PID/cgroup and
/// /proc/self/mountinfo.
fn groups_of(groups: &str, mounts: &str, controller: Controller) -> Vec<Group> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match (id, names) {
            ("0", "") => Version::V2,
            _ if names.split(',').any(|n| n == controller.name()) => Version::V1,
            _ => continue,
        };
        let mounted = mounts
            .lines()
            .filter_map(|l| mount(l, version, controller))
            .find_map(|(root, at)| {
                // In a container the mount may show a part of the hierarchy only;
                // outside of the reader's own part paths begin with "/..".
                let below = Path::new(path).strip_prefix(root).ok();
                let below = below.filter(|_| !path.starts_with("/.."));
                let own = below.map_or_else(|| at.clone(), |below| at.join(below));
                own.is_dir().then_some((at, own))
            });
        if let Some((mount, own)) = mounted {
            found.push(Group {
                mount,
                own,
                version,
            });
        }
    }
    found
}

/// Root and mount point of a line of mountinfo, if it is such a hierarchy
/// (proc_pid_mountinfo(5)).
fn mount(line: &str, version: Version, controller: Controller) -> Option<(&str, PathBuf)> {
    let (before, behind) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, at) = (before.next()?, before.next()?);
    let mut behind = behind.split(' ');
    let fits = match (version, behind.next()?) {
        (Version::V2, "cgroup2") => true,
        (Version::V1, "cgroup") => behind
            .nth(1)?
            .split(',')
            .any(|option| option == controller.name()),
        _ => false,
    };
    fits.then(|| (root, PathBuf::from(at.replace("\\040", " "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy in a folder of its own.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Fake {
            Fake(tempfile::tempdir().expect("a folder"))
        }

        fn put(&self, dir: &str, files: &[(&str, &str)]) {
            let dir = self.0.path().join(dir);
            std::fs::create_dir_all(&dir).expect("a folder");
            for (name, text) in files {
                std::fs::write(dir.join(name), text).expect("a file");
            }
        }

        fn mount(&self, root: &str, at: &str, kind: &str, options: &str) -> String {
            let at = self.0.path().join(at);
            format!(
                "41 31 0:38 {root} {} rw,nosuid shared:9 - {kind} none {options}\n",
                at.display()
            )
        }
    }

    #[test]
    fn version_2_takes_the_tightest_group_above() {
        let fake = Fake::new();
        fake.put(
            "u/a/b",
            &[
                ("memory.max", "max\n"),
                ("memory.current", "5000\n"),
                ("pids.max", "100\n"),
                ("pids.current", "40\n"),
            ],
        );
        fake.put(
            "u/a",
            &[
                ("memory.max", "100000\n"),
                ("memory.high", "90000\n"),
                ("memory.current", "80000\n"),
                ("memory.stat", "anon 1\ninactive_file 5000\nactive_file 7\n"),
                ("pids.max", "max\n"),
                ("pids.current", "41\n"),
            ],
        );
        let mounts = fake.mount("/", "u", "cgroup2", "rw");
        let left = left_in("1:name=systemd:/x\n0::/a/b\n", &mounts);
        assert_eq!(left.memory, Some(15_000), "90000 - (80000 - 5000)");
        assert_eq!(left.tasks, Some(60));
    }

    #[test]
    fn version_1_has_a_hierarchy_each() {
        let fake = Fake::new();
        fake.put(
            "m/job",
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "7\n"),
            ],
        );
        fake.put(
            "m",
            &[
                ("memory.limit_in_bytes", "1000\n"),
                ("memory.usage_in_bytes", "900\n"),
                ("memory.stat", "cache 1\ntotal_inactive_file 400\n"),
            ],
        );
        fake.put("p/job", &[("pids.max", "2\n"), ("pids.current", "1\n")]);
        let mounts = fake.mount("/", "m", "cgroup", "rw,memory")
            + &fake.mount("/", "p", "cgroup", "rw,pids");
        let groups = "8:pids:/job\n4:cpu,memory:/job\n0::/\n";
        let left = left_in(groups, &mounts);
        assert_eq!((left.memory, left.tasks), (Some(500), Some(1)));
    }

    #[test]
    fn a_container_sees_a_part_of_the_hierarchy() {
        let fake = Fake::new();
        let files = [("pids.max", "10\n"), ("pids.current", "10\n")];
        fake.put("p", &files);
        let mounts = fake.mount("/docker/abc", "p", "cgroup", "rw,pids");
        for groups in ["8:pids:/docker/abc\n", "8:pids:/\n", "8:pids:/../x\n"] {
            assert_eq!(left_in(groups, &mounts).tasks, Some(0), "{groups}");
        }
        assert_eq!(left_in("8:pids:/x\n", ""), Left::default());
        assert_eq!(left_in("nonsense", "nonsense"), Left::default());
    }
}
