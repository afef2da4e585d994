//! Runs the cluster's own kubectl inside the first node's network, as its administrator.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{
    entry::{Namespace, inside},
    running::NodeState,
    waiting,
};

/// How often what is waited for is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long `kubectl wait` waits at a time: between two, the nodes' components are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where and as whom to run it.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// The cluster's; it runs in the network of the first.
    pub(crate) nodes: Vec<NodeState>,
}

impl Kubectl {
    /// Runs it and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with_input(arguments, "")
    }

    /// Applies manifests by server-side apply: KEDA's definitions are too large for any other.
    pub(crate) fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        self.run_with_input(
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--filename=-",
            ],
            manifests,
        )
        .map(drop)
    }

    /// Deletes what is there of the objects of manifests, and waits until it is gone.
    pub(crate) fn delete(&self, manifests: &str) -> anyhow::Result<()> {
        self.run_with_input(&["delete", "--ignore-not-found", "--filename=-"], manifests)
            .map(drop)
    }

    /// Waits for a condition by `kubectl wait`.
    pub(crate) fn wait(&self, arguments: &[&str], patience: Duration) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", LOOK.as_secs());
        let mut all = vec!["wait", &timeout];
        all.extend(arguments);
        self.until(&arguments.join(" "), patience, || self.run(&all).map(drop))
    }

    /// Tries until it succeeds, but not longer than all components live.
    pub(crate) fn until(
        &self,
        what: &str,
        patience: Duration,
        mut attempt: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        waiting::until(what, patience, INTERVAL, || {
            match self.nodes.iter().try_for_each(NodeState::check) {
                Ok(()) => attempt().map(Ok),
                ended => Ok(ended),
            }
        })?
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut kubectl = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("running kubectl")?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            // One that ends early says more on its standard error than a broken pipe does.
            let _ = stdin.write_all(input.as_bytes());
        }
        let done = kubectl.wait_with_output()?;
        ensure!(
            done.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
        String::from_utf8(done.stdout).context("kubectl's output is no text")
    }

    /// It, ready to get arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = inside(self.nodes[0].process, Namespace::Network, &self.program);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}
