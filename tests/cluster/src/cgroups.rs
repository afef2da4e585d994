//! The control groups that kubelets put pods into: below one of ours, so that they can be told and removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use procfs::process::Process;

use crate::waiting;

/// A group whose processes have just been killed stays busy for a moment.
const PATIENCE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(20);

/// The group of a node as kubelet's `cgroupRoot` names it.
pub(crate) fn of_node(group: &str, node: &str) -> String {
    format!("/{group}/{node}")
}

/// Makes the group of a node below `group` in every hierarchy: kubelet wants to find it.
pub(crate) fn make(group: &str, node: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let controllers =
            fs::read_to_string(hierarchy.join("cgroup.controllers")).unwrap_or_default();
        let mut path = hierarchy.clone();
        hand_down(&path, &controllers)?;
        for part in [group, node] {
            path.push(part);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("making {}", path.display()));
                }
                _ => hand_down(&path, &controllers)?,
            }
        }
    }
    Ok(())
}

/// Version 2 only: what is below `group` may use the controllers too.
fn hand_down(group: &Path, controllers: &str) -> anyhow::Result<()> {
    if controllers.trim().is_empty() {
        return Ok(());
    }
    let wanted = controllers
        .split_whitespace()
        .map(|controller| format!("+{controller}"))
        .collect::<Vec<_>>()
        .join(" ");
    let path = group.join("cgroup.subtree_control");
    fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))
}

/// Removes `group` and all below it. The processes in there must have ended.
pub(crate) fn remove(group: &str) -> anyhow::Result<()> {
    for group in existing(group)? {
        waiting::until("the control groups to be empty", PATIENCE, INTERVAL, || {
            remove_below(&group).with_context(|| format!("removing {}", group.display()))
        })?;
    }
    Ok(())
}

fn remove_below(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Where `group` exists now.
pub(crate) fn existing(group: &str) -> anyhow::Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .into_iter()
        .map(|hierarchy| hierarchy.join(group))
        .filter(|group| group.exists())
        .collect())
}

/// Where hierarchies are mounted, of version 1 and 2.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let mut points = Process::myself()?
        .mountinfo()
        .context("reading which control groups are mounted")?
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup" || mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point)
        .collect::<Vec<_>>();
    points.sort();
    points.dedup();
    Ok(points)
}
