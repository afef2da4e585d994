//! A running Kubernetes with KEDA as a fixture: one namespace per test, and an account of what was in it when it failed.
//!
//! Starts no cluster and builds no image; `make cluster` and `make cluster-images` do. The threads of a test are inside
//! the first node's network, so that pods and Services are reached by their addresses.

mod access;
pub mod aggregator;
pub mod bare;
pub mod counts;
pub mod creation;
pub mod dns;
mod dump;
pub mod events;
pub mod history;
pub mod http_add_on;
pub mod keda;
pub mod kubectl;
mod manifest;
mod namespace;
pub mod pods;
pub mod reporters;
pub mod scaling;
pub mod scene;
pub mod sidecars;
pub mod stillwake;
pub mod watching;
pub mod web;
pub mod zero;

use std::{
    any::Any,
    fmt::{self, Write as _},
    panic::AssertUnwindSafe,
};

use anyhow::{Context, anyhow, bail};
use futures_util::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use stillwake_test_cluster::Running;

use self::access::Access;
pub use self::namespace::Namespace;

/// The image of all pods of the suites, which `make cluster-images` loads into every node.
pub const IMAGE: &str = "docker.io/stillwake/stillwake-e2e:test";

/// A test's connection to the cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    access: Access,
    began: Timestamp,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    async fn connect(access: Access) -> anyhow::Result<Self> {
        let path = access.kubeconfig();
        let kubeconfig = Kubeconfig::read_from(path);
        let kubeconfig = kubeconfig.with_context(|| format!("cannot read {}", path.display()))?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let config = config.with_context(|| format!("{} is of no use", path.display()))?;
        let client = Client::try_from(config)?;
        let version = client.apiserver_version().await;
        version.with_context(|| {
            format!(
                "the API server of {} does not answer; `make cluster` starts one",
                path.display()
            )
        })?;
        Ok(Self {
            client,
            access,
            began: Timestamp::now(),
        })
    }

    /// Returns a client of the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns what is known of the cluster beyond its API.
    ///
    /// # Errors
    ///
    /// When it is not the one that `make cluster` started.
    pub fn running(&self) -> anyhow::Result<&Running> {
        self.access.running().context(
            "this needs the cluster that `make cluster` starts, and KUBECONFIG names another one",
        )
    }
}

/// Why a test failed, for people: without the backtraces that errors carry.
pub struct Failure(String);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Debug for Failure {
    /// Writes the text as it is, since this is what the test runner prints.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Runs a test in a namespace of its own.
///
/// When `body` has returned `Ok`, the namespace is deleted. When it failed or panicked, the namespace stays, and what
/// is in it is written to a folder that the error names.
///
/// # Errors
///
/// What `body` says, with the folder; or why there is no cluster to run it on, and what to do about it.
pub fn run(
    test: &str,
    body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let access = Access::of_environment()?;
    // Before the runtime, whose threads inherit the network.
    access.enter_network()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the test's runtime")?;
    Ok(runtime.block_on(run_in(access, test, body))?)
}

async fn run_in(
    access: Access,
    test: &str,
    body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster::connect(access).await?;
    let namespace = Namespace::create(cluster, test).await?;
    let outcome = AssertUnwindSafe(body(&namespace)).catch_unwind().await;
    let failure = match outcome {
        Ok(Ok(())) => return namespace.delete().await,
        Ok(Err(error)) => error,
        Err(panic) => anyhow!("{}", panic_message(&*panic)),
    };
    let mut told = String::new();
    for namespace in namespace.all() {
        let dumped = match dump::write(&namespace, test, &failure).await {
            Ok(folder) => format!("is told in {}", folder.join(dump::SUMMARY).display()),
            Err(error) => format!("could not be written down: {error:#}"),
        };
        let name = namespace.name();
        let _ = write!(
            told,
            "\nThe namespace {name} was left as it is; what was in it {dumped}"
        );
    }
    bail!("\"{test}\" failed: {failure:#}{told}")
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
}
