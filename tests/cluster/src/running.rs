//! A cluster that runs: where it is and how to use it. Neither starts nor ends one.

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use procfs::process::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Shape,
    components,
    entry::{Namespace, inside},
    files,
    kubectl::Kubectl,
    layout::Layout,
    node,
    pki::Pki,
};

/// What is written down of a cluster that has started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) kubernetes: String,
    pub(crate) keda: String,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) helm: PathBuf,
    pub(crate) ctr: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) nodes: Vec<NodeState>,
    /// Whether KEDA served at the end of the start.
    pub(crate) complete: bool,
}

/// A node of a running cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeState {
    /// Its name in Kubernetes.
    pub name: String,
    /// Its addresses, of IPv4 first, and of IPv6 where the cluster has both.
    pub addresses: Vec<IpAddr>,
    /// The first process of its namespaces, as the machine counts.
    pub process: u32,
    /// The folder of its components' logs, `<component>.log`.
    pub logs: PathBuf,
}

impl NodeState {
    /// Fails when a component of the node has ended, and says which and how.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let ended = files::read_if_there(&self.logs.with_file_name(node::ENDED))?;
        match ended {
            None => Ok(()),
            Some(ended) => bail!(
                "ended on {}: {}",
                self.name,
                ended.trim().replace('\n', ", ")
            ),
        }
    }
}

/// A cluster whose nodes live.
#[derive(Clone, Debug)]
pub struct Running {
    state: State,
}

impl Running {
    /// The machine's cluster, if one runs.
    ///
    /// # Errors
    ///
    /// When what it wrote down can't be read.
    pub fn find() -> anyhow::Result<Option<Self>> {
        Self::find_in(&Layout::of_environment()?)
    }

    pub(crate) fn find_in(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = layout.state();
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let state: State = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} describes no cluster; make cluster-down removes it",
                path.display()
            )
        })?;
        let lives = state
            .nodes
            .iter()
            .all(|node| is_first_process(node, layout));
        Ok(lives.then_some(Self { state }))
    }

    /// The machine's cluster.
    ///
    /// # Errors
    ///
    /// When none runs, with how to get one.
    pub fn expect() -> anyhow::Result<Self> {
        Self::find()?
            .context("no test cluster runs on this machine: start one with `make cluster`, as root")
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Fails when it is of no use: when its start was cut off, or a component has ended.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.state.complete, "its start has not come to its end");
        self.nodes().iter().try_for_each(NodeState::check)
    }

    /// The file that names the cluster and its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.state.kubeconfig
    }

    /// The file of the key that signs the tokens of service accounts.
    pub fn service_account_key(&self) -> PathBuf {
        Pki::at(&self.state.kubeconfig.with_file_name("pki")).service_account_key()
    }

    /// Its nodes; the first carries the control plane.
    pub fn nodes(&self) -> &[NodeState] {
        &self.state.nodes
    }

    /// The version of Kubernetes, without a `v`.
    pub fn kubernetes(&self) -> &str {
        &self.state.kubernetes
    }

    /// The version of KEDA, without a `v`.
    pub fn keda(&self) -> &str {
        &self.state.keda
    }

    /// Whether one of Kubernetes' feature gates was switched off, whatever it is by default.
    pub fn is_switched_off(&self, gate: &str) -> bool {
        let gates = self.state.shape.feature_gates.as_deref();
        let mut gates = gates.unwrap_or_default().split(',');
        gates.any(|told| told.split_once('=') == Some((gate, "false")))
    }

    /// Moves the calling thread, and threads that it starts from now on, into the first node's network: only there
    /// the API server, pods and Services can be reached.
    ///
    /// # Errors
    ///
    /// Without root, or when the node has ended.
    pub fn enter_network(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/ns/net", self.first().process);
        let namespace = File::open(&path).with_context(|| format!("opening {path}, as root"))?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&namespace),
            Some(LinkNameSpaceType::Network),
        )
        .with_context(|| {
            format!(
                "entering the network of {}: this needs root",
                self.first().name
            )
        })
    }

    /// A tool, ready to get arguments: in the first node's network, as administrator.
    pub fn command(&self, tool: Tool) -> Command {
        let program = self.program(tool);
        let mut command = inside(self.first().process, Namespace::Network, program);
        command.env("KUBECONFIG", &self.state.kubeconfig);
        command
    }

    /// Where a tool is, for those who are in the first node's network already and want it as a child of their own.
    pub fn program(&self, tool: Tool) -> &Path {
        match tool {
            Tool::Kubectl => &self.state.kubectl,
            Tool::Helm => &self.state.helm,
        }
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl {
            program: self.state.kubectl.clone(),
            kubeconfig: self.state.kubeconfig.clone(),
            nodes: self.state.nodes.clone(),
        }
    }

    /// Brings an OCI archive to every node, for pods with `imagePullPolicy: Never`.
    ///
    /// # Errors
    ///
    /// When a node refuses it, with what containerd says.
    pub fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        for node in &self.state.nodes {
            let file =
                File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
            // containerd's socket is in the node's own /run.
            let imported = inside(node.process, Namespace::Files, &self.state.ctr)
                .args([
                    "--address",
                    components::CONTAINERD,
                    "--namespace",
                    "k8s.io",
                    "images",
                    "import",
                    "-",
                ])
                .stdin(file)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output()
                .context("running ctr")?;
            ensure!(
                imported.status.success(),
                "bringing {} to {}: {}",
                archive.display(),
                node.name,
                String::from_utf8_lossy(&imported.stderr).trim()
            );
        }
        Ok(())
    }

    fn first(&self) -> &NodeState {
        &self.state.nodes[0]
    }
}

/// What a cluster is asked with.
#[derive(Clone, Copy, Debug)]
pub enum Tool {
    /// The cluster's own, of the same version.
    Kubectl,
    /// Helm 3.
    Helm,
}

/// Process ids come back: this one must still be called as a node's first process is.
fn is_first_process(node: &NodeState, layout: &Layout) -> bool {
    let folder = layout.node(&node.name);
    i32::try_from(node.process)
        .ok()
        .and_then(|id| Process::new(id).ok())
        .and_then(|process| process.cmdline().ok())
        .is_some_and(|arguments| node::folder_of(&arguments) == Some(&folder))
}

/// How to use the cluster, as a person would type it.
pub(crate) fn usage(running: &Running) -> String {
    let state = running.state();
    let nodes = state
        .nodes
        .iter()
        .map(|node| {
            let addresses = node.addresses.iter().map(ToString::to_string);
            format!(
                "{} {} (process {}, logs in {})",
                node.name,
                addresses.collect::<Vec<_>>().join(", "),
                node.process,
                node.logs.display()
            )
        })
        .collect::<Vec<_>>()
        .join("\n  ");
    format!(
        "Kubernetes {} with KEDA {} runs:\n  {nodes}\n\n\
         It is reached from inside its network only. A shell in there:\n\n  \
         nsenter --target {} --net env KUBECONFIG={} PATH={}:{}:$PATH bash\n\n\
         or one command from here: make kubectl ARGS=\"get pods -A\". make cluster-down ends it.",
        state.kubernetes,
        state.keda,
        state.nodes[0].process,
        state.kubeconfig.display(),
        folder(&state.kubectl),
        folder(&state.helm),
    )
}

fn folder(program: &Path) -> String {
    program.parent().unwrap_or(program).display().to_string()
}

#[expect(clippy::print_stdout, reason = "the answer is this command's result")]
pub(crate) fn print_status() -> anyhow::Result<()> {
    let running = Running::expect()?;
    println!("{}", usage(&running));
    running.check()
}

/// Runs a tool with the caller's terminal; its failure is ours.
pub(crate) fn pass_to(tool: Tool, arguments: &[String]) -> anyhow::Result<()> {
    let status = Running::expect()?.command(tool).args(arguments).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
