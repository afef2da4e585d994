//! The first process of a node: it starts the components, buries orphans, and takes all of them along when it ends.
//!
//! The kernel kills what lives in a process namespace when its first process ends, so an end of this one, however it
//! comes, leaves no process.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, BufRead, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, WaitOptions, wait};

use crate::{
    components::{Component, NodePlan},
    files, isolation, prerequisites,
};

/// What the process of a node is called with, before its folder.
pub(crate) const ARGUMENTS: [&str; 2] = ["node", "--folder"];
/// The plan that `start` leaves in the node's folder.
pub(crate) const PLAN: &str = "plan.json";
/// What ended, one line each, for who waits for the cluster.
pub(crate) const ENDED: &str = "ended";
/// How often a component that starts is asked whether it serves.
const INTERVAL: Duration = Duration::from_millis(100);

/// The folder of the node that a process with these arguments is, or holds.
pub(crate) fn folder_of(arguments: &[String]) -> Option<&Path> {
    let after = arguments.windows(3).find(|words| words[..2] == ARGUMENTS)?;
    Some(Path::new(&after[2]))
}

/// Is the node whose folder is given, until it is killed.
///
/// Once its namespaces are as they should be, its standard output gets one line, its process id as the machine counts; then
/// it waits for a line on its standard input, which says that the network is there.
pub(crate) fn be(folder: &Path) -> anyhow::Result<()> {
    ensure!(
        rustix::process::getpid().as_raw_nonzero().get() == 1,
        "this is the first process of a node and nothing to call by hand; `make cluster` starts nodes"
    );
    let path = folder.join(PLAN);
    let plan = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let plan: NodePlan = serde_json::from_slice(&plan)
        .with_context(|| format!("{} is no plan of a node", path.display()))?;
    // /proc is still the machine's.
    let process = fs::read_link("/proc/self").context("reading /proc/self")?;
    isolation::enter(&plan.name, folder)?;
    writeln!(io::stdout(), "{}", process.display())?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    ensure!(
        !line.is_empty(),
        "the start of the cluster ended before the network was there"
    );

    let mut started = Vec::new();
    for component in &plan.components {
        started.push((component.name.clone(), spawn(&plan, component)?));
        if let Some(serves) = &component.serves {
            wait_until_it_serves(&plan, &mut started, serves, folder)?;
        }
    }
    let names = started.into_iter();
    let names = names.map(|(name, child)| (Pid::from_child(&child), name));
    bury(&names.collect(), folder)
}

fn spawn(plan: &NodePlan, component: &Component) -> anyhow::Result<Child> {
    let path = plan.logs.join(format!("{}.log", component.name));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    command(plan, &component.command)?
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", component.name))
}

fn command(plan: &NodePlan, command: &[String]) -> anyhow::Result<Command> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("a component of {} has no command", plan.name);
    };
    let folders = plan.programs.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", prerequisites::path_with(&folders)?);
    Ok(command)
}

/// Fails when any of what was started has ended: the one that is waited for may need it.
fn wait_until_it_serves(
    plan: &NodePlan,
    started: &mut [(String, Child)],
    serves: &[String],
    folder: &Path,
) -> anyhow::Result<()> {
    loop {
        for (name, child) in &mut *started {
            if let Some(status) = child.try_wait()? {
                note_end(folder, name, &status.to_string())?;
                bail!("{name} ended at the start of {}: {status}", plan.name);
            }
        }
        let asked = command(plan, serves)?.stdin(Stdio::null()).output()?;
        if asked.status.success() {
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits for ends: of components, which are noted, and of orphans that became this process's children.
fn bury(components: &HashMap<Pid, String>, folder: &Path) -> anyhow::Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((process, status))) => {
                if let Some(name) = components.get(&process) {
                    let how = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => format!("exit code {code}"),
                        (None, Some(signal)) => format!("signal {signal}"),
                        (None, None) => "an unknown cause".to_owned(),
                    };
                    note_end(folder, name, &how)?;
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Nothing left to wait for; the namespaces stay for a look until the cluster is ended.
            Err(rustix::io::Errno::CHILD) => thread::park(),
            Err(error) => return Err(error).context("waiting for the node's processes"),
        }
    }
}

fn note_end(folder: &Path, name: &str, how: &str) -> anyhow::Result<()> {
    let path = folder.join(ENDED);
    let earlier = files::read_if_there(&path)?.unwrap_or_default();
    files::write(&path, format!("{earlier}{name}: {how}\n"))
}
