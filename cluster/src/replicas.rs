//! The pods of one of our own Deployments or `DaemonSet`s, for replicas that share work or clean up after each other.
//!
//! Looks at nothing but pods with certain labels in one namespace, for which a Role there is enough. There is no Lease
//! for each replica: the kubelet and the API server say already who runs, and nobody has to write to be known.

use std::{collections::BTreeMap, convert::Infallible};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, runtime::watcher};
use serde::Deserialize;

use crate::{
    Metrics,
    object::{ObjectName, resource, slim},
    scope::Scope,
    watch::{Told, Watched, Watches},
};

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The pod's UID.
    pub uid: String,
    /// The pod's name.
    pub name: String,
    /// Whether one of its containers runs, so that it may be at work.
    pub running: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A pod's fields that matter here.
#[derive(Clone, Debug, Deserialize)]
struct PodObject {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ContainerState {
    running: Option<Running>,
}

#[derive(Clone, Debug, Deserialize)]
struct Running {}

resource!(PodObject, "", "v1", "pods", "Pod");

impl Watched for PodObject {
    type Kept = Replica;

    fn keep(self) -> Result<Self::Kept, String> {
        let mut containers = self.status.container_statuses.iter().flatten();
        Ok(Replica {
            uid: self.metadata.uid.ok_or("the pod has no UID")?,
            name: self.metadata.name.unwrap_or_default(),
            running: containers.any(|container| container.state.running.is_some()),
            terminating: self.metadata.deletion_timestamp.is_some(),
        })
    }
}

/// Watches the pods that `labels` select (such as `app.kubernetes.io/component=activator`) in `namespace` for ever, and
/// calls `tell` with all of them, in the order of their names: once they are known, and whenever one has changed.
///
/// `tell` is called between two awaits and should not block.
///
/// # Cancel safety
///
/// Dropping the future ends the watch.
pub async fn follow(
    client: Client,
    namespace: String,
    labels: &str,
    metrics: Metrics,
    mut tell: impl FnMut(Vec<Replica>),
) -> Infallible {
    let selected = watcher::Config::default().labels(labels);
    let mut watches = Watches::new(client, Scope::of([namespace]), metrics)
        .namespaced::<PodObject>(&selected, |name: ObjectName, replica| (name.name, replica));
    let mut known = BTreeMap::new();
    let mut synced = false;
    loop {
        let changed = match watches.next().await {
            Told::Observed((name, Some(replica))) => {
                known.insert(name, replica.clone()) != Some(replica)
            }
            Told::Observed((name, None)) => known.remove(&name).is_some(),
            Told::Synced => {
                synced = true;
                true
            }
        };
        if synced && changed {
            tell(known.values().cloned().collect());
        }
    }
}

/// Asks for one pod, past whatever a watch has told. Returns nothing if there is none of that name.
///
/// # Errors
///
/// When the API server does not answer or refuses.
pub async fn ask(client: Client, namespace: &str, name: &str) -> kube::Result<Option<Replica>> {
    let pod = Api::<PodObject>::namespaced(client, namespace)
        .get_opt(name)
        .await?;
    Ok(pod.and_then(|pod| pod.keep().ok()))
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::scripted::{Server, next};

    const PODS: &str = "/api/v1/namespaces/system/pods";

    fn pod(name: &str, state: &Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "system", "uid": format!("uid-{name}")},
               "status": {"containerStatuses": [{"name": "activator", "state": state}]}})
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_are_told_once_known_and_at_each_change() {
        let server = Server::default();
        server.put(
            PODS,
            pod(
                "a",
                &json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            ),
        );
        server.put(PODS, pod("b", &json!({"waiting": {}})));
        let metrics = Metrics::register(&mut Registry::default());
        let (tell, mut told) = unbounded_channel();
        let client = server.client();
        tokio::spawn(async move {
            follow(
                client,
                "system".to_owned(),
                "app=x",
                metrics,
                move |replicas| {
                    // The test may have seen enough.
                    let _ = tell.send(replicas);
                },
            )
            .await
        });
        let running = |replicas: Vec<Replica>| {
            let running = replicas.into_iter();
            let running = running.map(|replica| (replica.uid, replica.running));
            running.collect::<Vec<_>>()
        };
        let both = [("uid-a".to_owned(), true), ("uid-b".to_owned(), false)];
        assert_eq!(running(next(&mut told).await), both);
        server.put(PODS, pod("a", &json!({"terminated": {"exitCode": 137}})));
        assert!(!next(&mut told).await[0].running);
        server.delete(PODS, "a");
        assert_eq!(running(next(&mut told).await), both[1..]);
        let asked = server.asked();
        assert!(asked[0].contains("labelSelector=app%3Dx"), "{asked:?}");
    }
}
