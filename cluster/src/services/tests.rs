//! The watches under the index, against a scripted API server.

use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::scripted::{Server, next};

#[tokio::test(start_paused = true)]
async fn everything_is_watched_and_told() {
    let server = Server::default();
    server.put(
        "/apis/keda.sh/v1alpha1/scaledobjects",
        json!({"metadata": {"name": "so", "namespace": "shop", "uid": "uid-so"},
               "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [
                   {"type": "external-push", "metadata": {"scalerAddress": "scaler.system:9090"}}]}}),
    );
    server.put(
        "/apis/apps/v1/deployments",
        json!({"metadata": {"name": "web", "namespace": "shop"},
               "spec": {"replicas": 0, "template": {"metadata": {"labels": {"app": "web"}}}}}),
    );
    server.put(
        "/api/v1/services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "s"},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    );
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    let slice = json!({
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}],
    });
    server.put(slices, slice);
    let service = ScalerService {
        name: "scaler".to_owned(),
        namespace: "system".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
    };
    let metrics = Metrics::register(&mut Registry::default());
    let (tell, mut told) = unbounded_channel();
    let client = server.client();
    tokio::spawn(follow(
        client,
        Scope::All,
        service,
        metrics,
        move |change| {
            // The test may have seen enough.
            let _ = tell.send(change);
        },
    ));

    assert!(matches!(next(&mut told).await, Change::ScaledObject(_)));
    assert!(matches!(next(&mut told).await, Change::Service(_)));
    let Change::Backends(backends) = next(&mut told).await else {
        panic!("no backends");
    };
    assert_eq!(backends.backends[0].uid, "address 10.0.0.1");
    assert_eq!(next(&mut told).await, Change::Synced);
    server.delete(slices, "web-x");
    let Change::Backends(backends) = next(&mut told).await else {
        panic!("no backends");
    };
    assert_eq!(backends.backends, []);
    let asked = server.asked();
    let of_others = |asked: &String| {
        asked.contains("endpointslices") && asked.contains("managed-by%21%3Dstillwake.dev")
    };
    assert!(asked.iter().any(of_others), "ours are asked for: {asked:?}");
}
