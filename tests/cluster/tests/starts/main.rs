//! Starts clusters, ends their parts by SIGKILL, stops them, and compares the machine before and after.
//!
//! Needs root and no cluster on the machine. `STILLWAKE_STARTS` says how many starts in a row, 1 if it isn't set: in
//! the first round every component is killed, in each further one another.

mod machine;

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use machine::Machine;
use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, kill_process};
use stillwake_test_cluster::{NodeState, Running, Tool};

/// A component of a node, and the node's own processes.
const VICTIMS: [&str; 10] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim",
    FIRST_PROCESS,
    HOLDER,
];

/// How often what has to come is looked for, and how many times before it hangs.
const INTERVAL: Duration = Duration::from_millis(50);
const LOOKS: usize = 600;

const FIRST_PROCESS: &str = "the node's first process";
const HOLDER: &str = "the process that holds the node's namespaces";

#[test]
fn a_cluster_starts_again_and_again_and_leaves_nothing_whatever_was_killed() -> anyhow::Result<()> {
    let _alone = alone()?;
    for round in 0..rounds()? {
        let before = Machine::look()?;
        tool("up")?;
        let running = Running::expect()?;
        assert_serves(&running)?;
        let during = Machine::look()?.added_since(&before);
        for what in ["process", "namespace", "control group", "file"] {
            assert!(
                during.iter().any(|thing| thing.starts_with(what)),
                "the look at the machine sees no {what} of a cluster that runs, so that it would see none left"
            );
        }
        let victims = match round {
            0 => &VICTIMS[..],
            _ => std::slice::from_ref(&VICTIMS[(round - 1) % VICTIMS.len()]),
        };
        for victim in victims {
            kill(&running.nodes()[0], victim)?;
        }
        tool("down")?;
        assert_nothing_since(&before, &format!("SIGKILL of {}", victims.join(", ")))?;
        eprintln!(
            "round {round}: started, lost {}, ended without a trace",
            victims.join(", ")
        );
    }
    Ok(())
}

#[test]
fn a_start_that_was_killed_leaves_nothing_either() -> anyhow::Result<()> {
    let _alone = alone()?;
    let before = Machine::look()?;
    let mut start = tool_command("up")?.stderr(Stdio::piped()).spawn()?;
    // Nodes run from then on, and nothing is complete.
    let output = start.stderr.take().context("no output of the start")?;
    let found = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.starts_with("Installing CoreDNS"));
    assert!(found, "the start said nothing of what it installs");
    start.kill()?;
    start.wait()?;
    tool("down")?;
    assert_nothing_since(&before, "SIGKILL of a start")
}

#[test]
fn a_start_replaces_a_cluster_that_has_crashed_and_leaves_alone_one_that_runs() -> anyhow::Result<()>
{
    let _alone = alone()?;
    let before = Machine::look()?;
    tool("up")?;
    let crashed = Running::expect()?;
    kill(&crashed.nodes()[0], "etcd")?;
    wait_until_status_fails()?;
    tool("up")?;
    let running = Running::expect()?;
    assert_ne!(running.nodes()[0].process, crashed.nodes()[0].process);
    assert_serves(&running)?;
    tool("up")?;
    let same = Running::expect()?;
    assert_eq!(same.nodes()[0].process, running.nodes()[0].process);
    tool("down")?;
    assert_nothing_since(&before, "a crash and three starts")
}

/// The node's first process notes an end when it hears of it.
fn wait_until_status_fails() -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        let status = tool_command("status")?.output()?;
        if !status.status.success() {
            let errors = String::from_utf8_lossy(&status.stderr);
            ensure!(errors.contains("etcd: signal 9"), "status says: {errors}");
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
    bail!("status does not say that etcd has ended");
}

/// KEDA is the last that serves at the end of a start.
fn assert_serves(running: &Running) -> anyhow::Result<()> {
    let available = kubectl(
        running,
        &[
            "get",
            "apiservice/v1beta1.external.metrics.k8s.io",
            "--output=jsonpath={.status.conditions[?(@.type==\"Available\")].status}",
        ],
    )?;
    assert_eq!(available, "True", "KEDA's API is not there after `up`");
    Ok(())
}

/// Waits for the other tests of this suite, and for what needs to be there to be there.
fn alone() -> anyhow::Result<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock();
    assert!(
        Running::find()?.is_none(),
        "a cluster runs on this machine, and this suite starts its own: make cluster-down first"
    );
    // What is built or installed once is no leftover.
    tool("build")?;
    tool("down")?;
    Ok(guard)
}

fn assert_nothing_since(before: &Machine, what: &str) -> anyhow::Result<()> {
    let added = Machine::look()?.added_since(before);
    assert!(
        added.is_empty(),
        "left behind after {what}:\n{}",
        added.join("\n")
    );
    Ok(())
}

fn rounds() -> anyhow::Result<usize> {
    match env::var_os("STILLWAKE_STARTS") {
        None => Ok(1),
        Some(rounds) => rounds
            .to_str()
            .and_then(|rounds| rounds.parse().ok())
            .context("STILLWAKE_STARTS is not a number"),
    }
}

fn kubectl(running: &Running, arguments: &[&str]) -> anyhow::Result<String> {
    let done = running.command(Tool::Kubectl).args(arguments).output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8(done.stdout)?)
}

fn tool(command: &str) -> anyhow::Result<()> {
    let status = tool_command(command)?.status()?;
    ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
}

fn tool_command(command: &str) -> anyhow::Result<Command> {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_stillwake-test-cluster"));
    tool.arg(command).current_dir(checkout()?);
    Ok(tool)
}

/// Two folders above this package, wherever the checkout is now.
fn checkout() -> anyhow::Result<PathBuf> {
    let package = env::current_dir()?;
    let checkout = package.ancestors().nth(2);
    checkout.map(Path::to_owned).context("no checkout above")
}

/// Kills a part of the node by SIGKILL, unless an earlier kill took it along.
fn kill(node: &NodeState, victim: &str) -> anyhow::Result<()> {
    let processes = machine::processes()?;
    let first = i32::try_from(node.process)?;
    let holder = processes
        .iter()
        .find(|process| process.id == first)
        .map(|process| process.parent);
    let id = match victim {
        FIRST_PROCESS => holder.map(|_| first),
        HOLDER => holder,
        component => processes
            .iter()
            .find(|process| process.parent == first && process.is(component))
            .map(|process| process.id),
    };
    let taken_along = victim == HOLDER && holder.is_none();
    ensure!(
        id.is_some() || taken_along,
        "no {victim} runs on {}",
        node.name
    );
    if let Some(id) = id.and_then(Pid::from_raw) {
        kill_process(id, Signal::KILL)?;
    }
    Ok(())
}
