//! Ends a cluster and removes all it made, whatever state it is in.
//!
//! Does not rely on anything the cluster wrote down: processes are found by what they were called with.

use std::{fs, io, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroups, entry, layout::Layout, node, waiting};

/// The kernel ends hundreds of processes and their mounts before a node's first process is gone.
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(10);

/// What is there of a cluster.
#[derive(Debug)]
pub(crate) struct Leftovers {
    processes: Vec<NodeProcess>,
    folder: Option<PathBuf>,
    groups: Vec<PathBuf>,
}

/// A process that holds a node: its first one, the `unshare` above it, or an `nsenter` with a program inside.
#[derive(Debug)]
struct NodeProcess {
    id: i32,
    started: u64,
}

impl Leftovers {
    /// Looks at the machine.
    pub(crate) fn find(layout: &Layout) -> anyhow::Result<Self> {
        Ok(Self {
            processes: node_processes(layout)?,
            folder: Some(layout.run()).filter(|folder| folder.exists()),
            groups: cgroups::existing(&layout.group())?,
        })
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.processes.is_empty() && self.folder.is_none() && self.groups.is_empty()
    }
}

/// Ends the cluster and removes its files and groups; says so when there is nothing.
pub(crate) fn remove(layout: &Layout) -> anyhow::Result<()> {
    let leftovers = Leftovers::find(layout)?;
    if leftovers.is_nothing() {
        eprintln!("No cluster is there");
        return Ok(());
    }
    for process in &leftovers.processes {
        if let Some(id) = Pid::from_raw(process.id) {
            match kill_process(id, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("ending process {}", process.id));
                }
            }
        }
    }
    wait_for_ends(&leftovers.processes)?;
    cgroups::remove(&layout.group())?;
    if let Some(folder) = leftovers.folder {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", folder.display()));
            }
            _ => {}
        }
    }
    eprintln!(
        "The cluster has ended; nothing of it is left but the builds in {}",
        layout.built().display()
    );
    Ok(())
}

fn wait_for_ends(processes: &[NodeProcess]) -> anyhow::Result<()> {
    for process in processes {
        waiting::until("the killed nodes to end", PATIENCE, INTERVAL, || {
            ensure!(!is_alive(process), "process {} is there", process.id);
            Ok(())
        })?;
    }
    Ok(())
}

/// Zombies have given back everything but their number.
fn is_alive(process: &NodeProcess) -> bool {
    Process::new(process.id)
        .and_then(|found| found.stat())
        .is_ok_and(|stat| stat.starttime == process.started && stat.state != 'Z')
}

/// The processes that are the nodes, and those that hold a program inside one.
fn node_processes(layout: &Layout) -> anyhow::Result<Vec<NodeProcess>> {
    let run = layout.run();
    let mut nodes = processes(|arguments| {
        node::folder_of(arguments).is_some_and(|folder| folder.starts_with(&run))
    })?;
    let targets = nodes
        .iter()
        .map(|node| node.id.to_string())
        .collect::<Vec<_>>();
    nodes.extend(processes(|arguments| match arguments {
        [program, option, target, ..] => {
            program == entry::NSENTER && option == entry::TARGET && targets.contains(target)
        }
        _ => false,
    })?);
    Ok(nodes)
}

fn processes(wanted: impl Fn(&[String]) -> bool) -> anyhow::Result<Vec<NodeProcess>> {
    let mut found = Vec::new();
    // A process that ends while it is looked at is none of ours.
    for process in all_processes().context("listing processes")?.flatten() {
        if process.cmdline().is_ok_and(|arguments| wanted(&arguments))
            && let Ok(stat) = process.stat()
        {
            found.push(NodeProcess {
                id: process.pid,
                started: stat.starttime,
            });
        }
    }
    Ok(found)
}
