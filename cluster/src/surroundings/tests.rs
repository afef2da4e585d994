//! What is known when, and what the watches ask for.

use http::StatusCode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::scripted::{PATIENCE, Server};

const NAMESPACES: &str = "/api/v1/namespaces";
const SERVICES: &str = "/api/v1/services";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const RANGES: &str = "/api/v1/limitranges";
const QUOTAS: &str = "/api/v1/resourcequotas";

fn start(server: &Server, scope: Scope) -> Surroundings {
    let surroundings = Surroundings::new(scope);
    let metrics = Metrics::register(&mut Registry::default());
    let (following, client) = (surroundings.clone(), server.client());
    tokio::spawn(async move { following.follow(client, metrics).await });
    surroundings
}

fn namespace(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name, "labels": {"stillwake.dev/inject": "enabled"}, "annotations": {"a": "b"}}})
}

fn service(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"l": "l"},
                        "managedFields": [{"manager": "somebody"}]},
           "spec": {"selector": {"app": name}}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}})
}

fn names(around: &Around) -> Vec<String> {
    let services = around
        .services
        .iter()
        .map(|service| service.metadata.name.clone().unwrap());
    let policies = around
        .network_policies
        .iter()
        .map(|policy| policy.metadata.name.clone().unwrap());
    let ranges = around
        .limit_ranges
        .iter()
        .map(|range| range.metadata.name.clone().unwrap());
    let quotas = around
        .resource_quotas
        .iter()
        .map(|quota| quota.metadata.name.clone().unwrap());
    services
        .chain(policies)
        .chain(ranges)
        .chain(quotas)
        .collect()
}

async fn until(surroundings: &Surroundings, wanted: &[&str]) {
    let look = async {
        loop {
            if let Answer::Known(around) = surroundings.namespace("shop")
                && names(&around) == wanted
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, look).await;
    seen.unwrap_or_else(|_| panic!("{:?} instead of {wanted:?}", surroundings.namespace("shop")));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_known_with_all_that_is_in_it_once_everything_has_listed() {
    let server = Server::default();
    server.put(NAMESPACES, namespace("shop"));
    server.put(SERVICES, service("web"));
    server.put(SERVICES, service("api"));
    server.put(
        POLICIES,
        json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}}),
    );
    server.put(
        RANGES,
        json!({"metadata": {"name": "least", "namespace": "shop"},
               "spec": {"limits": [{"type": "Container", "min": {"cpu": "50m"}}]}}),
    );
    server.put(
        QUOTAS,
        json!({"metadata": {"name": "team", "namespace": "shop"}, "spec": {"hard": {"limits.cpu": "4"}},
               "status": {"hard": {"limits.cpu": "4"}, "used": {"limits.cpu": "1"}}}),
    );
    server.refuse(POLICIES, StatusCode::FORBIDDEN);
    let surroundings = start(&server, Scope::All);
    tokio::time::sleep(PATIENCE).await;
    assert!(!surroundings.is_synced());
    assert_eq!(
        surroundings.namespace("shop"),
        Answer::NotYet,
        "a policy may be missing"
    );

    server.allow(POLICIES);
    surroundings.synced().await;
    let Answer::Known(around) = surroundings.namespace("shop") else {
        panic!("{:?}", surroundings.namespace("shop"));
    };
    assert_eq!(around.labels["stillwake.dev/inject"], "enabled");
    assert_eq!(around.annotations["a"], "b");
    assert_eq!(names(&around), ["api", "web", "deny", "least", "team"]);
    let api = &around.services[0];
    assert_eq!(
        api.spec.as_ref().unwrap().selector.as_ref().unwrap()["app"],
        "api"
    );
    assert_eq!(
        (
            &api.status,
            &api.metadata.managed_fields,
            &api.metadata.labels
        ),
        (&None, &None, &None)
    );
    let range = around.limit_ranges[0].spec.as_ref().unwrap();
    assert_eq!(range.limits[0].min.as_ref().unwrap()["cpu"].0, "50m");
    let quota = &around.resource_quotas[0];
    let hard = quota.spec.as_ref().unwrap().hard.as_ref().unwrap();
    assert_eq!(
        (hard["limits.cpu"].0.as_str(), &quota.status),
        ("4", &None),
        "the status changes with every pod"
    );
    assert_eq!(surroundings.namespace("bank"), Answer::NotYet);
}

#[tokio::test(start_paused = true)]
async fn changes_are_followed_and_a_namespace_that_is_gone_is_not_known() {
    let server = Server::default();
    let surroundings = start(&server, Scope::All);
    surroundings.synced().await;
    server.put(NAMESPACES, namespace("shop"));
    server.put(SERVICES, service("web"));
    until(&surroundings, &["web"]).await;
    server.delete_unseen(SERVICES, "web");
    until(&surroundings, &[]).await;
    server.delete(NAMESPACES, "shop");
    let gone = async {
        while surroundings.namespace("shop") != Answer::NotYet {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(surroundings.shared.namespaces.read().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_namespaces_needs_permissions_in_those_only() {
    let server = Server::default();
    server.put("/api/v1/namespaces/shop/services", service("web"));
    server.put(NAMESPACES, namespace("shop"));
    let surroundings = start(&server, Scope::of(["shop".to_owned()]));
    surroundings.synced().await;
    until(&surroundings, &["web"]).await;
    assert_eq!(surroundings.namespace("bank"), Answer::OutOfScope);
    for asked in server.asked() {
        let named =
            asked.contains("/namespaces?") && asked.contains("fieldSelector=metadata.name%3Dshop");
        assert!(named || asked.contains("/namespaces/shop/"), "{asked}");
    }
}
