//! Who gets the sidecar: by a label of the namespace or of the pod, whatever made the pod; and nobody else.

use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use kube::runtime::watcher;
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, counts, creation, kubectl,
        pods::{self, INJECT},
        stillwake::{self, Stillwake},
        watching,
        web::Web,
    },
    wait,
};
use tokio::try_join;

use crate::compare::{differences, normal};

const ASKS: (&str, &str) = (INJECT, "enabled");

#[test]
fn whoever_asks_gets_the_sidecar_and_nobody_else() -> Result<(), Failure> {
    cluster::run("labels", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let asking = namespace.another("asking", &[ASKS], &[]).await?;
        try_join!(
            asked_by_namespace(&stillwake, &asking),
            asked_by_pod(&stillwake, namespace),
            refused_by_pod(&asking),
            asked_later(namespace),
            untouched(namespace, &asking),
            of_a_job(namespace, &asking),
            of_a_stateful_set(&asking),
        )?;
        Ok(())
    })
}

async fn asked_by_namespace(stillwake: &Stillwake, asking: &Namespace) -> anyhow::Result<()> {
    let web = Web::new("by-namespace");
    let (pods, _) = web.start(asking).await?;
    ensure!(
        pods.iter().all(|pod| pods::sidecar(pod).is_some()),
        "no sidecar"
    );
    counts::until_in_flight(stillwake, &pods, 0).await
}

async fn asked_by_pod(stillwake: &Stillwake, silent: &Namespace) -> anyhow::Result<()> {
    let web = Web::new("by-pod").label(INJECT, "enabled");
    let (pods, _) = web.start(silent).await?;
    ensure!(
        pods.iter().all(|pod| pods::sidecar(pod).is_some()),
        "no sidecar"
    );
    counts::until_in_flight(stillwake, &pods, 0).await
}

async fn refused_by_pod(asking: &Namespace) -> anyhow::Result<()> {
    let web = Web::new("refusing").label(INJECT, "disabled");
    let (pods, _) = web.start(asking).await?;
    ensure!(
        pods.iter().all(|pod| pods::sidecar(pod).is_none()),
        "a sidecar"
    );
    Ok(())
}

/// A label that comes later says nothing of pods that are there.
async fn asked_later(namespace: &Namespace) -> anyhow::Result<()> {
    let home = namespace.another("later", &[], &[]).await?;
    let web = Web::new("later");
    let (before, _) = web.start(&home).await?;
    ensure!(
        before.iter().all(|pod| pods::sidecar(pod).is_none()),
        "a sidecar"
    );
    home.label(&[ASKS]).await?;
    wait::until("the label to be known", watching::PATIENCE, async || {
        let pod = try_out(&home, None)
            .await
            .map_err(|error| format!("{error:#}"))?;
        pods::sidecar(&pod).map(drop).ok_or("no sidecar".to_owned())
    })
    .await?;
    let there = web.until_ready(&home).await?;
    let uid = |pods: &[Pod]| pods.first().and_then(|pod| pod.metadata.uid.clone());
    ensure!(uid(&there) == uid(&before), "the pod was replaced");
    home.api::<Deployment>().restart(&web.name).await?;
    let selected = watcher::Config::default().labels("app=later");
    watching::until_all(
        &home.api::<Pod>(),
        selected,
        "a new pod with the sidecar",
        |pods| {
            let mut ready = pods.values().filter(|pod| watching::is_ready(pod));
            let found = ready.any(|pod| pods::sidecar(pod).is_some());
            found.then_some(()).ok_or_else(|| watching::phases(pods))
        },
    )
    .await
}

/// Pods that nobody asked about are what they are where the API server asks no webhook of ours at all.
async fn untouched(silent: &Namespace, asking: &Namespace) -> anyhow::Result<()> {
    let without_us = silent.elsewhere(stillwake::NAMESPACE);
    for (home, label) in [
        (silent, None),
        (silent, Some("disabled")),
        (asking, Some("disabled")),
    ] {
        let wanted = creation::try_out(&without_us, &pod(label)).await?;
        let found = creation::try_out(home, &pod(label)).await?;
        let differences = differences(&normal(&wanted.object), &normal(&found.object));
        ensure!(
            differences.is_empty(),
            "with the label {label:?}: {}",
            differences.join("\n")
        );
        ensure!(found.of_stillwake().is_empty(), "{:?}", found.warnings);
    }
    Ok(())
}

/// A Job ends with the sidecar, and says what it would have said.
async fn of_a_job(silent: &Namespace, asking: &Namespace) -> anyhow::Result<()> {
    let run = async |home: &Namespace, has_sidecar: bool| {
        home.apply(include_str!("job.yaml"), &[]).await?;
        watching::until(&home.api::<Job>(), "once", "completion", |job| {
            let status = job.and_then(|job| job.status.as_ref());
            let succeeded = status.and_then(|status| status.succeeded);
            (succeeded == Some(1))
                .then_some(())
                .ok_or_else(|| format!("{status:?}"))
        })
        .await?;
        let selected = watcher::Config::default().labels("app=once");
        let pods = home.api::<Pod>();
        let pod = watching::until_all(&pods, selected, "its pod", |pods| {
            pods.values().next().cloned().ok_or("none")
        })
        .await?;
        let found = pods::sidecar(&pod).is_some();
        ensure!(found == has_sidecar, "it has a sidecar: {found}");
        kubectl::run(home, &["logs", "job/once"]).await
    };
    let (with, without) = try_join!(run(asking, true), run(silent, false))?;
    ensure!(without.contains("--port"), "the Job said {without:?}");
    ensure!(with == without, "with the sidecar, the Job said {with:?}");
    Ok(())
}

async fn of_a_stateful_set(asking: &Namespace) -> anyhow::Result<()> {
    asking.apply(include_str!("stateful-set.yaml"), &[]).await?;
    let pods = pods::until_ready(asking, "shard", 2).await?;
    let with = pods.iter().filter(|pod| pods::sidecar(pod).is_some());
    let names: Vec<_> = with
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    ensure!(
        names == ["shard-0", "shard-1"],
        "with the sidecar are {names:?}"
    );
    Ok(())
}

async fn try_out(home: &Namespace, label: Option<&str>) -> anyhow::Result<Pod> {
    let created = creation::try_out(home, &pod(label)).await?;
    serde_json::from_value(created.object).context("the API server answered with no pod")
}

fn pod(label: Option<&str>) -> Value {
    let mut labels = json!({"app": "untouched"});
    if let Some(label) = label {
        labels[INJECT] = json!(label);
    }
    json!({
        "metadata": {"generateName": "untouched-", "labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": cluster::IMAGE,
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"port": "http"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}
