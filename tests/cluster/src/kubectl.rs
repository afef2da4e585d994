//! Runs the cluster's own kubectl inside the first node's network, as its administrator.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::network;

/// Where and as whom to run it.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// A process in the first node's network.
    pub(crate) process: u32,
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

    /// Waits for a condition by `kubectl wait`.
    pub(crate) fn wait(&self, arguments: &[&str], patience: Duration) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", patience.as_secs());
        let mut all = vec!["wait", &timeout];
        all.extend(arguments);
        self.run(&all).map(drop)
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
        let mut command = network::in_network(self.process, &self.program);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}
