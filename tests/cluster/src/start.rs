//! The start of a cluster: what is missing is built, then nodes, images and add-ons, each waited for.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::{
    addons,
    arguments::{Shape, VersionArguments},
    cgroups,
    components::{self, NodePlan},
    configuration::Files,
    files, isolation,
    kubectl::Kubectl,
    layout::Layout,
    leftovers,
    network::{self, Families, NodeNetwork},
    node,
    parts::{self, Built},
    pki::Pki,
    prerequisites,
    running::{self, NodeState, Running, State},
    waiting::Clock,
};

/// For the control plane of an idle machine it takes seconds.
const PATIENCE: Duration = Duration::from_mins(3);

/// Starts a cluster and prints how to use it; one that runs already with the same versions and nodes is left as it is.
#[expect(
    clippy::print_stdout,
    reason = "how to use the cluster is this command's result"
)]
pub(crate) fn up(
    layout: &Layout,
    versions: &VersionArguments,
    shape: &Shape,
) -> anyhow::Result<()> {
    prerequisites::check_build()?;
    prerequisites::check_root("make cluster")?;
    isolation::check_folder(&layout.run())?;
    let _lock = layout.lock()?;
    let versions = versions.resolve()?;
    let start = Clock::now();
    let built = parts::build(layout, &versions)?;
    if let Some(running) = Running::find_in(layout)? {
        match running.check() {
            Ok(()) => {
                check_same(&running, &built, shape)?;
                println!("{}", running::usage(&running));
                return Ok(());
            }
            Err(crash) => eprintln!("A cluster is there but of no use: {crash:#}"),
        }
    }
    prerequisites::install_missing()?;
    if !leftovers::Leftovers::find(layout)?.is_nothing() {
        eprintln!("Removing what an earlier cluster left");
        leftovers::remove(layout)?;
    }
    eprintln!(
        "Starting Kubernetes {} on {shape}",
        built.kubernetes.version
    );
    let running = start_nodes(layout, &built, shape)?;
    let kubectl = running.kubectl();
    let start_up = || {
        // While the control plane starts; containerd is there first.
        kubectl.until("containerd to serve", PATIENCE, || {
            running.load_image(&built.images[0])
        })?;
        for image in &built.images[1..] {
            running.load_image(image)?;
        }
        wait_for_nodes(&kubectl, usize::from(shape.nodes))?;
        eprintln!("Installing CoreDNS and KEDA {}", built.keda.version);
        addons::install(&kubectl, &versions, &built.keda_manifests)?;
        addons::wait(&kubectl)
    };
    start_up().with_context(|| {
        format!(
            "the cluster did not start; logs are in {}",
            logs_of(running.nodes())
        )
    })?;
    let mut state = running.state().clone();
    state.complete = true;
    write_state(layout, &state)?;
    eprintln!("Ready after {} s", start.elapsed().as_secs());
    println!("{}", running::usage(&running));
    Ok(())
}

fn check_same(running: &Running, built: &Built, shape: &Shape) -> anyhow::Result<()> {
    let (kubernetes, keda) = (&built.kubernetes.version, &built.keda.version);
    let there = &running.state().shape;
    if running.kubernetes() != kubernetes || running.keda() != keda || there != shape {
        bail!(
            "another cluster runs: Kubernetes {} with KEDA {} on {there}, not Kubernetes {kubernetes} with KEDA {keda} on \
             {shape}; end it with `make cluster-down` first",
            running.kubernetes(),
            running.keda(),
        );
    }
    Ok(())
}

fn start_nodes(layout: &Layout, built: &Built, shape: &Shape) -> anyhow::Result<Running> {
    let families = Families::of_machine()?;
    if families == Families::One {
        eprintln!("This machine has no IPv6, or it is off: the cluster has IPv4 alone");
    }
    let networks = NodeNetwork::plan(shape.nodes, families);
    let pki = Pki::at(&layout.pki());
    pki.make(&networks)?;
    let api_server = format!("https://{}:6443", networks[0].address());
    let mut nodes = Vec::new();
    for (index, network) in networks.into_iter().enumerate() {
        let first = (index == 0).then_some(shape);
        let plan = plan_node(layout, built, &pki, &network, &api_server, first)?;
        cgroups::make(&layout.group(), &network.name)?;
        let (process, go) = spawn(layout, &plan)?;
        nodes.push((network, process, go, plan.logs));
    }
    let processes = nodes
        .iter()
        .map(|(network, process, ..)| (network.clone(), *process))
        .collect::<Vec<_>>();
    network::connect(&processes)?;
    let state = State {
        kubernetes: built.kubernetes.version.clone(),
        keda: built.keda.version.clone(),
        kubeconfig: layout.kubeconfig(),
        kubectl: built.kubernetes.program("kubectl"),
        helm: built.helm.program("helm"),
        ctr: built.containerd.program("ctr"),
        shape: shape.clone(),
        nodes: nodes
            .iter()
            .map(|(network, process, _, logs)| NodeState {
                name: network.name.clone(),
                addresses: network.addresses.clone(),
                process: *process,
                logs: logs.clone(),
            })
            .collect(),
        complete: false,
    };
    write_state(layout, &state)?;
    for (network, _, go, _) in &mut nodes {
        writeln!(go, "the network is there")
            .with_context(|| format!("{} has ended at its start", network.name))?;
    }
    Running::find_in(layout)?.context("a node has ended at its start; see its node.log")
}

/// The first node, which has the control plane, is planned with the cluster's shape.
fn plan_node(
    layout: &Layout,
    built: &Built,
    pki: &Pki,
    network: &NodeNetwork,
    api_server: &str,
    first: Option<&Shape>,
) -> anyhow::Result<NodePlan> {
    let folder = layout.node(&network.name);
    let files = Files::new(folder.clone(), layout.kubeconfig(), layout.group());
    let runc = prerequisites::find("runc").context("runc is missing")?;
    let kubernetes = &built.kubernetes.version;
    files.write_worker(
        pki,
        network,
        kubernetes,
        api_server,
        built.network.folder(),
        &runc,
    )?;
    let mut components = components::worker(built, &files, network);
    if let Some(shape) = first {
        files.write_control_plane(pki, api_server)?;
        // containerd first: images come in while the control plane starts.
        let rest = components.split_off(1);
        components.extend(components::control_plane(
            built, pki, &files, network, shape,
        ));
        components.extend(rest);
    }
    let logs = folder.join("logs");
    files::make_folder(&logs)?;
    let plan = NodePlan {
        name: network.name.clone(),
        logs,
        programs: vec![
            built.containerd.folder().to_owned(),
            built.network.folder().to_owned(),
        ],
        components,
    };
    let text = serde_json::to_string_pretty(&plan).context("writing the plan of a node")?;
    files::write(&folder.join(node::PLAN), text)?;
    Ok(plan)
}

/// Starts the first process of a node in namespaces of its own. Returns its id and what lets it go on.
fn spawn(layout: &Layout, plan: &NodePlan) -> anyhow::Result<(u32, ChildStdin)> {
    let log = File::create(plan.logs.join("node.log")).context("making the node's log")?;
    // A session of its own: the node goes on when the terminal that started it is gone.
    let mut unshare = Command::new("setsid")
        .arg("unshare")
        .args([
            "--mount",
            "--propagation=private",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
        ])
        .args(["--fork", "--kill-child=SIGKILL", "--"])
        .arg(std::env::current_exe().context("where this program is")?)
        .args(node::ARGUMENTS)
        .arg(layout.node(&plan.name))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("running unshare")?;
    let mut line = String::new();
    BufReader::new(unshare.stdout.take().context("no output of unshare")?).read_line(&mut line)?;
    let process = line.trim().parse().with_context(|| {
        let log = fs::read_to_string(plan.logs.join("node.log")).unwrap_or_default();
        format!("{} did not start: {}", plan.name, log.trim())
    })?;
    let go = unshare.stdin.take().context("no input of unshare")?;
    Ok((process, go))
}

fn write_state(layout: &Layout, state: &State) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(state).context("writing the cluster's state")?;
    files::write(&layout.state(), text)
}

/// Waits until every node has registered, then until all are Ready.
fn wait_for_nodes(kubectl: &Kubectl, count: usize) -> anyhow::Result<()> {
    kubectl.until("the nodes to register", PATIENCE, || {
        let names = kubectl.run(&["get", "nodes", "--output=name"])?;
        let seen = names.lines().count();
        ensure!(seen == count, "{seen} of {count} are there");
        Ok(())
    })?;
    kubectl.wait(&["--for=condition=Ready", "node", "--all"], PATIENCE)
}

fn logs_of(nodes: &[NodeState]) -> String {
    let folders = nodes.iter().map(|node| node.logs.display().to_string());
    folders.collect::<Vec<_>>().join(" and ")
}
