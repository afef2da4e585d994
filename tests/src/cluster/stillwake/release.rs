//! The chart's release: what it was made from, and whether it has to be made again.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stillwake_test_cluster::Tool;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{Component, Place};
use crate::{binaries, cluster::Cluster, payload::hex};

/// Relative to the folder of this crate, where its tests run.
const CHART: &str = "../charts/stillwake";

/// What `make cluster-images` writes of each image that the chart names: its digest among other things.
const IMAGES: [&str; 2] = ["stillwake.built", "stillwake-sidecar.built"];

/// How long helm waits for replicas.
const TIMEOUT: &str = "--timeout=3m";

/// Installs or upgrades, unless the release is what it would become.
pub(super) async fn ensure(cluster: &Cluster, place: &Place, values: &Value) -> anyhow::Result<()> {
    let _lock = lock(&format!("stillwake-e2e-{}.lock", place.release), Use::Alone).await?;
    let wanted = Origin::of(values)?;
    let found = status(cluster, place).await?;
    if let Some(found) = &found
        && found.is_deployed()
        && found.description == wanted.text()
    {
        return Ok(());
    }
    enforce_restricted(cluster, place).await?;
    let is_stuck = found
        .as_ref()
        .is_some_and(|found| found.status.starts_with("pending") || found.status == "uninstalling");
    if is_stuck {
        uninstall(cluster, place).await?;
    }
    upgrade(cluster, place, values, &wanted).await?;
    // Under the same name there may be another image now, which changes nothing in the pods' template.
    let is_old = found.is_some_and(|found| !found.description.ends_with(&wanted.images));
    if is_old && !is_stuck {
        restart(cluster, place).await?;
    }
    Ok(())
}

pub(super) async fn uninstall(cluster: &Cluster, place: &Place) -> anyhow::Result<()> {
    let arguments = [
        "uninstall",
        &place.release,
        "--namespace",
        &place.namespace,
        "--wait",
        TIMEOUT,
    ];
    helm(cluster, &arguments, "").await?;
    Ok(())
}

async fn upgrade(
    cluster: &Cluster,
    place: &Place,
    values: &Value,
    origin: &Origin,
) -> anyhow::Result<()> {
    let arguments = [
        "upgrade",
        "--install",
        &place.release,
        CHART,
        "--namespace",
        &place.namespace,
        "--create-namespace",
        "--wait",
        TIMEOUT,
        // Otherwise those of the release before are taken when there are none.
        "--reset-values",
        "--values=-",
        "--description",
        &origin.text(),
    ];
    helm(cluster, &arguments, &values.to_string()).await?;
    Ok(())
}

/// Runs helm and returns what it printed.
///
/// # Errors
///
/// With what it said when it failed.
pub async fn helm(cluster: &Cluster, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut helm = Command::from(cluster.running()?.command(Tool::Helm))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("running helm")?;
    if let Some(mut stdin) = helm.stdin.take() {
        // One that ends early says more on its standard error than a broken pipe does.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let done = helm.wait_with_output().await?;
    ensure!(
        done.status.success(),
        "helm {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    String::from_utf8(done.stdout).context("helm's output is no text")
}

/// What a release is made from.
#[derive(Debug)]
struct Origin {
    chart: String,
    images: String,
}

impl Origin {
    fn of(values: &Value) -> anyhow::Result<Self> {
        let mut chart = Sha256::new();
        for file in files(Path::new(CHART))? {
            let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            chart.update(file.as_os_str().as_encoded_bytes());
            chart.update(content.len().to_le_bytes());
            chart.update(content);
        }
        chart.update(values.to_string());
        let mut images = Sha256::new();
        let folder = binaries::target()?.join("images");
        for name in IMAGES {
            let path = folder.join(name);
            let built = fs::read(&path);
            images.update(built.with_context(|| {
                format!(
                    "reading {}, which `make cluster-images` writes",
                    path.display()
                )
            })?);
        }
        let short = |hash: Sha256| hex(&hash.finalize()[..8]);
        Ok(Self {
            chart: short(chart),
            images: short(images),
        })
    }

    /// Returns it as helm keeps it with the release.
    fn text(&self) -> String {
        format!("chart and values {}, images {}", self.chart, self.images)
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The newest revision of a release.
#[derive(Debug)]
struct Status {
    status: String,
    description: String,
}

impl Status {
    fn is_deployed(&self) -> bool {
        self.status == "deployed"
    }
}

async fn status(cluster: &Cluster, place: &Place) -> anyhow::Result<Option<Status>> {
    let arguments = [
        "status",
        &place.release,
        "--namespace",
        &place.namespace,
        "--output=json",
    ];
    let status = match helm(cluster, &arguments, "").await {
        Ok(status) => status,
        Err(error) if error.to_string().contains("release: not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let status: Value = serde_json::from_str(&status).context("helm's status is no JSON")?;
    let field = |name: &str| status["info"][name].as_str().unwrap_or_default().to_owned();
    Ok(Some(Status {
        status: field("status"),
        description: field("description"),
    }))
}

/// Of what the chart makes, nothing needs more than Pod Security allows at its strictest.
async fn enforce_restricted(cluster: &Cluster, place: &Place) -> anyhow::Result<()> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": place.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    });
    let all = Api::<k8s_openapi::api::core::v1::Namespace>::all(cluster.client());
    let parameters = PatchParams::apply("stillwake-e2e").force();
    let applied = all
        .patch(&place.namespace, &parameters, &Patch::Apply(namespace))
        .await;
    applied.with_context(|| format!("cannot apply the namespace {}", place.namespace))?;
    Ok(())
}

async fn restart(cluster: &Cluster, place: &Place) -> anyhow::Result<()> {
    let deployments = Api::<Deployment>::namespaced(cluster.client(), &place.namespace);
    for component in Component::ALL {
        deployments.restart(&place.deployment(component)).await?;
    }
    Ok(())
}

/// Who else may use the release in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Whoever shares it as well.
    Shared,
    /// Nobody.
    Alone,
}

/// Waits until the release may be used so, as far as other tests in this process and in others are concerned.
pub(super) async fn take(how: Use) -> anyhow::Result<File> {
    lock("stillwake-e2e-used.lock", how).await
}

async fn lock(name: &str, how: Use) -> anyhow::Result<File> {
    let path = std::env::temp_dir().join(name);
    let locked = move || -> anyhow::Result<File> {
        let locked = File::create(&path).and_then(|file| {
            match how {
                Use::Shared => file.lock_shared()?,
                Use::Alone => file.lock()?,
            }
            Ok(file)
        });
        locked.with_context(|| format!("cannot lock {}", path.display()))
    };
    tokio::task::spawn_blocking(locked).await?
}
