//! A Service whose ports lead to different pods: each is at zero or not for itself.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, discovery::v1::EndpointSlice};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stillwake_e2e::{
    client::{self, Answer},
    cluster::{
        self, Failure, Namespace, pods,
        scene::WEB,
        stillwake::{Component, Stillwake},
        watching, web, zero,
    },
    ledger::Ledger,
    load::Load,
    wait,
};

/// What selects the pods of both workloads.
const SELECTED: (&str, &str) = ("shop", "enabled");

/// The second workload, which has a port that the first has not. It is nobody's to scale.
const TOOLS: &str = "
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  selector: {shop: enabled}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: admin, port: 81, targetPort: admin}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tools}
spec:
  replicas: 1
  selector: {matchLabels: {app: tools}}
  template:
    metadata: {labels: {app: tools, shop: enabled}}
    spec:
      containers:
      - name: app
        image: ${image}
        imagePullPolicy: Never
        args: [--address=0.0.0.0, --port=8080]
        ports: [{name: admin, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: admin}, periodSeconds: 1}
";

#[test]
fn of_a_service_with_two_ports_the_one_without_a_pod_is_held_and_the_other_is_not()
-> Result<(), Failure> {
    cluster::run("two ports", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        namespace.apply(TOOLS, &[]).await?;
        pods::until_ready(namespace, "tools", 1).await?;
        let web = zero::app(WEB).label(SELECTED.0, SELECTED.1);
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let http = web::cluster_address(namespace, "both").await?;
        let admin = SocketAddr::new(http.ip(), 81);

        until_held(namespace, &["http"]).await?;
        goes_straight(namespace, &stillwake, admin).await?;
        zero::ensure_asleep(namespace, WEB).await?;
        let woken = client::get(http, "/bytes?length=100").await?;
        zero::ensure_waited(&woken)?;

        // From here on the one is busy, and the other at zero.
        let ledger = Ledger::default();
        let load = Load::new(http, ledger.clone());
        load.steady(1, Duration::from_secs(1));
        replicas(namespace, "tools", 0).await?;
        until_held(namespace, &["admin"]).await?;
        let held = tokio::spawn(async move { client::get(admin, "/bytes?length=100").await });
        until_holding(namespace, &stillwake).await?;
        goes_straight(namespace, &stillwake, http).await?;
        ensure!(!held.is_finished(), "nobody could have answered");
        replicas(namespace, "tools", 1).await?;
        zero::ensure_waited(&held.await??)?;
        until_held(namespace, &[]).await?;
        load.finish().await;
        ledger.verdict().assert_nothing_lost();

        // Now it is not clear any more which one a request is to wake.
        let scaling = zero::scaling("tools", &[("targetConcurrency", "10")]);
        scaling.start(namespace, &stillwake).await?;
        let meant = |message: &str| message.contains("several workloads");
        let event = pods::event(namespace, "StillwakeNotServed", meant).await?;
        let regarding = event.involved_object.name.as_deref();
        ensure!(regarding == Some("both"), "{event:?}");
        wait::until("no activator", watching::PATIENCE, async || {
            let slices = zero::slices(namespace).await?;
            let left = slices.iter().filter(|slice| is_of_both(slice)).count();
            ensure!(left == 0, "{left} slices are left");
            anyhow::Ok(())
        })
        .await
    })
}

/// Waits until activators take the connections of these ports, and of no others.
async fn until_held(namespace: &Namespace, held: &[&str]) -> anyhow::Result<()> {
    let held: BTreeSet<_> = held.iter().map(|name| (*name).to_owned()).collect();
    let what = format!("activators for the ports {held:?}");
    wait::until(&what, watching::PATIENCE, async || {
        let slices = zero::slices(namespace).await?;
        let slices = slices.iter().filter(|slice| is_of_both(slice));
        let (ready, others): (Vec<_>, Vec<_>) = slices.partition(|slice| zero::is_ready(slice));
        let ready: BTreeSet<_> = ready.into_iter().flat_map(names).collect();
        let others: BTreeSet<_> = others.into_iter().flat_map(names).collect();
        ensure!(
            ready == held && others.is_disjoint(&held) && ready.len() + others.len() == 2,
            "ready for {ready:?}, not ready for {others:?}"
        );
        anyhow::Ok(())
    })
    .await
}

fn is_of_both(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    service.is_some_and(|service| service == "both")
}

fn names(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.iter().flatten();
    ports.filter_map(|port| port.name.clone()).collect()
}

/// Waits until requests for a port are answered without an activator.
async fn goes_straight(
    namespace: &Namespace,
    stillwake: &Stillwake,
    address: SocketAddr,
) -> anyhow::Result<()> {
    // kube-proxy takes its time.
    wait::until(
        "answers without an activator",
        watching::PATIENCE,
        async || {
            let before = ended(namespace, stillwake).await?;
            for _ in 0..5 {
                let answer = client::get(address, "/bytes?length=100").await?;
                ensure_straight(&answer)?;
            }
            let passed = ended(namespace, stillwake).await? - before;
            ensure!(passed == 0, "{passed} of 5 came by an activator");
            anyhow::Ok(())
        },
    )
    .await
}

fn ensure_straight(answer: &Answer) -> anyhow::Result<()> {
    ensure!(
        answer.status.is_success() && answer.cold_start().is_none(),
        "{} {:?} {}",
        answer.status,
        answer.headers,
        answer.text()
    );
    Ok(())
}

/// Returns how many of the workload's requests have ended at activators.
async fn ended(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<u64> {
    let workloads = workload(namespace, stillwake).await?;
    let totals = workloads.iter().map(|workload| &workload["totals"]);
    let totals = totals
        .filter_map(Value::as_object)
        .flat_map(|totals| totals.values());
    Ok(totals.filter_map(Value::as_u64).sum())
}

/// Waits until an activator holds a request of the workload.
async fn until_holding(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    wait::until("a held request", watching::PATIENCE, async || {
        let workloads = workload(namespace, stillwake).await?;
        let held = workloads
            .iter()
            .filter_map(|workload| workload["held"].as_u64());
        let held: u64 = held.sum();
        ensure!(held == 1, "{held} are held");
        anyhow::Ok(())
    })
    .await
}

/// Returns what each activator says of the workload.
async fn workload(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<Vec<Value>> {
    let name = format!("{}/Deployment/{WEB}", namespace.name());
    let states = stillwake.states(Component::Activator).await?.into_values();
    let workloads = states.map(|state| {
        let workloads = state["workloads"].as_array().into_iter().flatten();
        let mut ours = workloads.filter(|workload| workload["workload"] == name);
        ours.next().cloned()
    });
    let workloads: Option<Vec<_>> = workloads.collect();
    workloads.with_context(|| format!("an activator does not know {name}"))
}

/// Has so many replicas of a Deployment.
async fn replicas(namespace: &Namespace, deployment: &str, count: i32) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": count}}));
    let deployments = namespace.api::<Deployment>();
    deployments
        .patch(deployment, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}
