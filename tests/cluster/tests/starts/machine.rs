//! A look at the whole machine: what a cluster could leave on it.
//!
//! The machine has other users, who write, mount and start things meanwhile. What is looked at is told apart by what
//! only a cluster of ours or its tools can be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use anyhow::Context;
use procfs::process::{Process as ProcessFiles, all_processes};

/// Folders that container tools write to by default, but /tmp: every program writes there, and nodes have their own.
const FOLDERS: [&str; 5] = ["/etc", "/opt", "/run", "/usr/libexec", "/var"];

/// Parts of the names of what container tools leave: files, mounts and control groups.
const NAMES: [&str; 9] = [
    "cni",
    "containerd",
    "etcd",
    "kube",
    "netns",
    "nodes",
    "pod",
    "runc",
    "stillwake",
];

/// The kinds of namespaces that a container or a node has for itself, all of them; sandboxes of browsers and services
/// have some.
const KINDS: [&str; 3] = ["mnt", "net", "pid"];

/// Settings of the kernel that kubelet and kube-proxy like to change.
const KERNEL_SETTINGS: [&str; 8] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
    "/proc/sys/net/ipv6/conf/default/accept_dad",
    "/sys/module/nf_conntrack/parameters/hashsize",
];

/// What there is, one line for each thing.
#[derive(Debug)]
pub(crate) struct Machine {
    things: BTreeSet<String>,
}

impl Machine {
    pub(crate) fn look() -> anyhow::Result<Self> {
        let mut things = BTreeSet::new();
        let own = namespaces(&ProcessFiles::myself()?);
        let cluster = stillwake_test_cluster::folder()?;
        for process in processes()? {
            let is_contained = KINDS.iter().all(|kind| {
                process
                    .namespaces
                    .get(*kind)
                    .is_some_and(|id| own.get(*kind) != Some(id))
            });
            if !is_contained && !process.mentions(&cluster) {
                continue;
            }
            let command = process.command.join(" ");
            things.insert(format!("process {} {command}", process.id));
            for (kind, id) in process.namespaces {
                if own.get(&kind) != Some(&id) {
                    things.insert(format!("namespace {kind} {id}"));
                }
            }
        }
        let mounts = ProcessFiles::myself()?.mountinfo()?;
        for mount in mounts {
            if is_of_a_cluster(&mount.mount_point) {
                things.insert(format!("mount {}", mount.mount_point.display()));
            }
            if mount.fs_type.starts_with("cgroup") {
                list(&mount.mount_point, &mut things, "control group", |path| {
                    path.is_dir() && is_of_a_cluster(path)
                })?;
            }
        }
        for link in fs::read_dir("/sys/class/net")? {
            things.insert(format!("network link {}", link?.file_name().display()));
        }
        for folder in FOLDERS {
            list(Path::new(folder), &mut things, "file", is_of_a_cluster)?;
        }
        list(&cluster.join("run"), &mut things, "file", |_| true)?;
        for setting in KERNEL_SETTINGS {
            if let Ok(value) = fs::read_to_string(setting) {
                things.insert(format!("setting {setting} = {}", value.trim()));
            }
        }
        Ok(Self { things })
    }

    /// What is there and was not before.
    pub(crate) fn added_since(&self, before: &Self) -> Vec<String> {
        self.things.difference(&before.things).cloned().collect()
    }
}

fn is_of_a_cluster(path: &Path) -> bool {
    let path = path.to_string_lossy();
    NAMES.iter().any(|name| path.contains(name))
}

fn list(
    folder: &Path,
    things: &mut BTreeSet<String>,
    what: &str,
    wanted: fn(&Path) -> bool,
) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        // What is gone while it is looked at is no leftover.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("listing {}", folder.display()))?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if wanted(&path) {
            things.insert(format!("{what} {}", path.display()));
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, things, what, wanted)?;
        }
    }
    Ok(())
}

/// A process, as the machine sees it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: i32,
    pub(crate) parent: i32,
    command: Vec<String>,
    namespaces: BTreeMap<String, u64>,
}

impl Process {
    /// Whether it is the component of that name: its program's name, or the first argument of a program of many.
    pub(crate) fn is(&self, component: &str) -> bool {
        self.command.iter().take(2).any(|word| {
            let name = word.rsplit('/').next().unwrap_or(word);
            name == component
                || (component == "containerd-shim" && name == "containerd-shim-runc-v2")
        })
    }

    /// Whether it is called with something in that folder: a node, a component, or a tool of theirs.
    fn mentions(&self, folder: &Path) -> bool {
        let folder = folder.to_string_lossy();
        self.command.iter().any(|word| word.contains(&*folder))
    }
}

/// All processes but zombies, whose number is all they keep.
pub(crate) fn processes() -> anyhow::Result<Vec<Process>> {
    let mut found = Vec::new();
    for process in all_processes()?.flatten() {
        let Ok(stat) = process.stat() else { continue };
        if stat.state == 'Z' {
            continue;
        }
        found.push(Process {
            id: process.pid,
            parent: stat.ppid,
            command: process.cmdline().unwrap_or_default(),
            namespaces: namespaces(&process),
        });
    }
    Ok(found)
}

/// By kind; a process that ends has none.
fn namespaces(process: &ProcessFiles) -> BTreeMap<String, u64> {
    let Ok(namespaces) = process.namespaces() else {
        return BTreeMap::new();
    };
    let namespaces = namespaces.0.into_iter();
    namespaces
        .map(|(kind, namespace)| (kind.display().to_string(), namespace.identifier))
        .collect()
}
