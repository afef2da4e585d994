//! What people do with pods by kubectl: look at logs, run programs, forward ports.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, ensure};
use stillwake_test_cluster::Tool;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::{Namespace, watching};

fn command(namespace: &Namespace) -> anyhow::Result<Command> {
    let running = namespace.cluster().running()?;
    // The test's threads are in the network; what is killed with them has to be kubectl itself.
    let mut kubectl = Command::new(running.program(Tool::Kubectl));
    kubectl
        .env("KUBECONFIG", running.kubeconfig())
        .args(["--namespace", namespace.name()])
        .kill_on_drop(true);
    Ok(kubectl)
}

/// Runs it in a namespace and returns what it printed.
///
/// # Errors
///
/// With what it said when it failed.
pub async fn run(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<String> {
    let mut kubectl = command(namespace)?;
    let done = kubectl.args(arguments).output().await?;
    ensure!(
        done.status.success(),
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    String::from_utf8(done.stdout).context("kubectl's output is no text")
}

/// A port that is forwarded for as long as this lives.
#[derive(Debug)]
pub struct Forwarding {
    /// Where to connect.
    pub address: SocketAddr,
    _kubectl: Child,
    /// It ends when nobody can hear it any more.
    _said: Lines<BufReader<ChildStdout>>,
}

/// Forwards a port of `what`, such as `deployment/web`.
///
/// # Errors
///
/// When kubectl does not say where to connect.
pub async fn forward(namespace: &Namespace, what: &str, port: u16) -> anyhow::Result<Forwarding> {
    let mut kubectl = command(namespace)?
        .args([
            "port-forward",
            "--address=127.0.0.1",
            what,
            &format!(":{port}"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = kubectl.stdout.take().context("kubectl has no output")?;
    let mut lines = BufReader::new(output).lines();
    let line = timeout(watching::PATIENCE, lines.next_line()).await;
    let line = line.context("kubectl says nothing")??.unwrap_or_default();
    let address = line.strip_prefix("Forwarding from ");
    let address = address.and_then(|rest| rest.split(' ').next()?.parse().ok());
    Ok(Forwarding {
        address: address.with_context(|| format!("kubectl forwards nothing: {line:?}"))?,
        _kubectl: kubectl,
        _said: lines,
    })
}
