//! A look at the whole machine: what a cluster could leave on it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use procfs::process::{Process as ProcessFiles, all_processes};

/// Folders that container tools write to by default, but /tmp: every program writes there, and nodes have their own.
const FOLDERS: [&str; 5] = ["/etc", "/opt", "/run", "/usr/libexec", "/var"];

/// Settings of the kernel that kubelet and kube-proxy like to change.
const KERNEL_SETTINGS: [&str; 6] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/net/ipv4/ip_forward",
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
        for process in processes()? {
            // Others come and go; a cluster's live in namespaces of their own, or are called with its folder.
            if process.namespaces.iter().any(|name| !own.contains(name)) || process.is_node() {
                things.insert(format!(
                    "process {} {}",
                    process.id,
                    process.command.join(" ")
                ));
            }
            things.extend(
                process
                    .namespaces
                    .iter()
                    .map(|name| format!("namespace {name}")),
            );
        }
        let mounts = ProcessFiles::myself()?.mountinfo()?;
        for mount in mounts {
            things.insert(format!("mount {}", mount.mount_point.display()));
            if mount.fs_type.starts_with("cgroup") {
                list(&mount.mount_point, &mut things, "control group", |path| {
                    path.is_dir()
                })?;
            }
        }
        for link in fs::read_dir("/sys/class/net")? {
            things.insert(format!("network link {}", link?.file_name().display()));
        }
        for folder in FOLDERS {
            list(Path::new(folder), &mut things, "file", |_| true)?;
        }
        list(&cache()?.join("cluster/run"), &mut things, "file", |_| true)?;
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

/// The harness's cache, as the tool finds it.
fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("STILLWAKE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|caches| caches.join("stillwake")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/stillwake")))
        .context("nothing says where caches are")
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
    namespaces: Vec<String>,
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

    fn is_node(&self) -> bool {
        let node = ["node", "--folder"];
        self.command.windows(2).any(|words| words == node)
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

fn namespaces(process: &ProcessFiles) -> Vec<String> {
    let Ok(namespaces) = process.namespaces() else {
        return Vec::new();
    };
    let mut names = namespaces
        .0
        .into_iter()
        .map(|(kind, namespace)| format!("{} {}", kind.display(), namespace.identifier))
        .collect::<Vec<_>>();
    names.sort();
    names
}
