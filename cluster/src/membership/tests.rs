//! The watches under membership, against a scripted API server.

use http::StatusCode;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::scripted::{PATIENCE, Server, next};

const SCALED_OBJECTS: &str = "/apis/keda.sh/v1alpha1/scaledobjects";
const PODS: &str = "/api/v1/pods";
const REPLICA_SETS: &str = "/apis/apps/v1/replicasets";

struct Followed {
    told: UnboundedReceiver<Change>,
    registry: Registry,
}

fn start(server: &Server, scope: Scope) -> Followed {
    let service = ScalerService {
        name: "scaler".to_owned(),
        namespace: "system".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
    };
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (tell, told) = unbounded_channel();
    let following = follow(server.client(), scope, service, metrics, move |change| {
        // The test may have seen enough.
        let _ = tell.send(change);
    });
    tokio::spawn(following);
    Followed { told, registry }
}

impl Followed {
    async fn next(&mut self) -> Change {
        next(&mut self.told).await
    }

    async fn pod(&mut self) -> Pod {
        match self.next().await {
            Change::Pod(pod) => pod,
            other => panic!("{other:?} instead of a pod"),
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn scaled_object() -> Value {
    json!({"metadata": {"name": "so", "namespace": "shop", "uid": "uid-so"},
           "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [
               {"type": "external-push", "metadata": {"scalerAddress": "scaler.system:9090"}}]}})
}

fn replica_set() -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true});
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
           "metadata": {"name": "web-1", "namespace": "shop", "ownerReferences": [owner]}})
}

fn pod(name: &str) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": true});
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "ownerReferences": [owner]},
           "spec": {"initContainers": [{"name": "stillwake-sidecar"}]},
           "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// Takes everything until `Synced`.
async fn until_synced(followed: &mut Followed) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        match followed.next().await {
            Change::Synced => return changes,
            change => changes.push(change),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_exists_is_told_before_synced_and_what_changes_after_it() {
    let server = Server::default();
    server.put(SCALED_OBJECTS, scaled_object());
    server.put(REPLICA_SETS, replica_set());
    server.put(PODS, pod("a"));
    let mut followed = start(&server, Scope::All);
    let first = until_synced(&mut followed).await;
    assert!(
        first
            .iter()
            .any(|change| matches!(change, Change::ScaledObject(object) if object.name == "so"))
    );
    let told = first.iter().find_map(|change| match change {
        Change::Pod(pod) => Some(pod),
        _ => None,
    });
    let told = told.expect("the pod is told before synced");
    assert_eq!(
        (told.uid.as_str(), told.ready, told.injection.sidecar),
        ("uid-a", true, true)
    );
    assert_eq!(told.workload.to_string(), "shop/Deployment/web");

    server.put(PODS, pod("b"));
    assert_eq!(followed.pod().await.uid, "uid-b");
    server.delete(PODS, "a");
    assert_eq!(
        followed.next().await,
        Change::PodGone {
            uid: "uid-a".to_owned()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn what_vanished_while_the_watch_was_broken_is_told() {
    let server = Server::default();
    server.put(SCALED_OBJECTS, scaled_object());
    server.put(REPLICA_SETS, replica_set());
    server.put(PODS, pod("a"));
    server.put(PODS, pod("b"));
    let mut followed = start(&server, Scope::All);
    until_synced(&mut followed).await;
    server.delete_unseen(PODS, "a");
    assert_eq!(
        followed.next().await,
        Change::PodGone {
            uid: "uid-a".to_owned()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let server = Server::default();
    let mut broken = scaled_object();
    broken["metadata"]["name"] = json!("broken");
    broken["spec"]["triggers"] = json!("none");
    server.put(SCALED_OBJECTS, broken);
    server.put(SCALED_OBJECTS, scaled_object());
    let mut followed = start(&server, Scope::All);
    let first = until_synced(&mut followed).await;
    assert!(
        matches!(&first[..], [Change::ScaledObject(object)] if object.uid == "uid-so"),
        "{first:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_watch_is_tried_again_counted_and_keeps_everything_unsynced() {
    let server = Server::default();
    server.refuse(PODS, StatusCode::FORBIDDEN);
    let mut followed = start(&server, Scope::All);
    let nothing = tokio::time::timeout(PATIENCE, followed.told.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let page = followed.metrics();
    let failures = page
        .lines()
        .find(|line| line.starts_with("stillwake_cluster_watch_failures_total{kind=\"Pod\"}"));
    let failures = failures.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    assert!(failures.is_some_and(|failures: u64| failures > 2), "{page}");
    server.allow(PODS);
    assert_eq!(followed.next().await, Change::Synced);
}

#[tokio::test(start_paused = true)]
async fn without_keda_there_is_no_scaled_object_until_there_is() {
    let server = Server::default();
    server.refuse(SCALED_OBJECTS, StatusCode::NOT_FOUND);
    server.put(REPLICA_SETS, replica_set());
    server.put(PODS, pod("a"));
    let mut followed = start(&server, Scope::All);
    assert_eq!(followed.next().await, Change::Synced);
    server.put(SCALED_OBJECTS, scaled_object());
    server.allow(SCALED_OBJECTS);
    assert_eq!(followed.pod().await.uid, "uid-a");
    assert!(matches!(followed.next().await, Change::ScaledObject(_)));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_namespaces_sends_requests_to_those_only() {
    let server = Server::default();
    server.put(
        "/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects",
        scaled_object(),
    );
    server.put("/apis/apps/v1/namespaces/shop/replicasets", replica_set());
    server.put("/api/v1/namespaces/shop/pods", pod("a"));
    let mut followed = start(&server, Scope::of(["shop".to_owned(), "bank".to_owned()]));
    assert_eq!(until_synced(&mut followed).await.len(), 2);
    let asked = server.asked();
    for line in &asked {
        assert!(
            line.contains("/namespaces/shop/") || line.contains("/namespaces/bank/"),
            "{line}"
        );
    }
    for kind in [
        "scaledobjects",
        "pods",
        "replicasets",
        "deployments",
        "statefulsets",
    ] {
        assert!(
            asked
                .iter()
                .any(|line| line.contains(&format!("/namespaces/bank/{kind}?"))),
            "{kind}: {asked:?}"
        );
    }
}
