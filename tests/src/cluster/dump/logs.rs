//! Logs: of every container of the namespace, of KEDA and Stillwake's control plane since the test began, of the nodes.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use tokio::time::timeout;

use super::{Gaps, make, save};
use crate::cluster::{Namespace, keda, stillwake};

/// Most lines of one container.
const CONTAINER_LINES: i64 = 10_000;

/// A kubelet that cannot be reached must not keep the rest of the dump waiting.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of one component of a node, from its end.
const NODE_BYTES: u64 = 200_000;

/// Writes all logs and returns KEDA's.
pub(super) async fn write(namespace: &Namespace, folder: &Path, gaps: &mut Gaps) -> String {
    let cluster = namespace.cluster();
    let began = Some(cluster.began);
    let all = ListParams::default();
    let mut logs = Logs {
        namespace,
        folder: folder.join("logs"),
        gaps,
    };
    let own = namespace.api();
    logs.of_pods("the namespace's pods", &own, &all, None).await;
    let keda = Api::namespaced(cluster.client(), keda::NAMESPACE);
    let said = logs.of_pods("KEDA's pods", &keda, &all, began).await;
    let ours = Api::namespaced(cluster.client(), stillwake::NAMESPACE);
    logs.of_pods("Stillwake's pods", &ours, &all, began).await;
    if let Ok(running) = cluster.running() {
        for node in running.nodes() {
            let copied = copy_tails(&node.logs, &folder.join("nodes").join(&node.name));
            gaps.note(&format!("logs of {}", node.name), copied);
        }
    }
    said
}

/// Where logs of containers go.
struct Logs<'a> {
    namespace: &'a Namespace,
    folder: PathBuf,
    gaps: &'a mut Gaps,
}

impl Logs<'_> {
    /// Writes the logs of all pods that are selected, and returns those of the containers as they are now.
    async fn of_pods(
        &mut self,
        what: &str,
        pods: &Api<Pod>,
        selected: &ListParams,
        since: Option<Timestamp>,
    ) -> String {
        let mut said = String::new();
        let listed = pods.list(selected).await;
        for pod in self.gaps.note_answer(what, listed).into_iter().flatten() {
            let status = pod.status.clone().unwrap_or_default();
            let statuses = [status.init_container_statuses, status.container_statuses];
            for container in statuses.into_iter().flatten().flatten() {
                let has_begun = container.state.is_some_and(|state| state.waiting.is_none());
                if has_begun {
                    said += &self.of_container(&pod, &container.name, since, false).await;
                }
                if container.restart_count > 0 {
                    self.of_container(&pod, &container.name, None, true).await;
                }
            }
        }
        said
    }

    async fn of_container(
        &mut self,
        pod: &Pod,
        container: &str,
        since: Option<Timestamp>,
        previous: bool,
    ) -> String {
        let (pod, home) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let suffix = if previous { ".previous" } else { "" };
        let owner = if home == self.namespace.name() {
            String::new()
        } else {
            format!("{home}.")
        };
        let name = format!("{owner}{pod}.{container}{suffix}.log");
        let what = format!("log {name}");
        let parameters = LogParams {
            container: Some(container.to_owned()),
            previous,
            since_time: since,
            tail_lines: Some(CONTAINER_LINES),
            timestamps: true,
            ..LogParams::default()
        };
        let pods = Api::<Pod>::namespaced(self.namespace.cluster().client(), &home);
        let text = timeout(LOG_PATIENCE, pods.logs(&pod, &parameters)).await;
        let text = text.with_context(|| format!("did not come within {LOG_PATIENCE:?}"));
        let text = self.gaps.note(&what, text);
        let text = text.and_then(|text| self.gaps.note_answer(&what, text));
        let text = text.unwrap_or_default();
        if !text.is_empty() {
            let written = make(&self.folder).and_then(|()| save(&self.folder.join(&name), &text));
            self.gaps.note(&what, written);
        }
        text
    }
}

/// Copies the ends of all logs in a folder.
fn copy_tails(from: &Path, to: &Path) -> anyhow::Result<()> {
    make(to)?;
    let entries = from
        .read_dir()
        .with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let name = path.file_name().context("a log without a name")?;
            save(&to.join(name), &tail(&path)?)?;
        }
    }
    Ok(())
}

fn tail(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let length = file.metadata().with_context(failed)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(NODE_BYTES)))
        .with_context(failed)?;
    let mut bytes = Vec::new();
    file.take(NODE_BYTES)
        .read_to_end(&mut bytes)
        .with_context(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        let filler = "x".repeat(usize::try_from(NODE_BYTES).unwrap());
        std::fs::write(from.join("kubelet.log"), format!("first{filler}last")).unwrap();
        std::fs::write(from.join("state.json"), "{}").unwrap();
        copy_tails(&from, &to).unwrap();
        let copied = std::fs::read_to_string(to.join("kubelet.log")).unwrap();
        assert!(copied.ends_with("last") && !copied.contains("first"));
        assert!(!to.join("state.json").exists());
    }
}
