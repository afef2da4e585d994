//! Pods of a Job. They have the sidecar and are served like others; there is no number of them to scale, and who asks for
//! that is told so.

use anyhow::ensure;
use http::StatusCode;
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, batch::v1::Job, core::v1::Pod};
use kube::{
    api::{Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{self, Failure, Namespace, keda, pods, stillwake::Stillwake, watching, web, zero},
    wait,
};
use tokio::time::Instant;

/// What the Job, its Service and its `ScaledObject` are called.
const NAME: &str = "once";

const JOB: &str = "
apiVersion: v1
kind: Service
metadata: {name: once}
spec: {selector: {app: once}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    metadata: {labels: {app: once, stillwake.dev/inject: enabled}}
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: ${image}
        imagePullPolicy: Never
        args: [--address=0.0.0.0, --port=8080]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
";

const SCALED: &str = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: once}
spec:
  scaleTargetRef: {apiVersion: batch/v1, kind: Job, name: once}
  minReplicaCount: 0
  triggers:
  - type: external-push
    metadata: {scalerAddress: '${scaler}', targetConcurrency: '10'${more}}
";

#[test]
fn who_would_scale_a_job_is_told_why_not_and_its_clients_never_hang() -> Result<(), Failure> {
    cluster::run("job", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        namespace.apply(JOB, &[]).await?;
        let pods = pods::until_ready(namespace, NAME, 1).await?;
        ensure!(pods::sidecar(&pods[0]).is_some(), "it has no sidecar");
        let service = web::address(namespace, NAME).await?;

        scale(namespace, &stillwake, "").await?;
        let event = keda::event(namespace, NAME, "ScaledObjectCheckFailed").await?;
        eprintln!("KEDA: {}", event.message.unwrap_or_default());
        is_refused_by_keda(namespace).await?;
        let meant = |message: &str| message.contains("Job once has no number of replicas");
        let event = pods::event(namespace, "StillwakeNoService", meant).await?;
        eprintln!("Stillwake: {}", event.message.unwrap_or_default());
        ensure!(event.involved_object.name.as_deref() == Some(NAME));
        let answer = client::get(service, "/bytes?length=100").await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        suspend(namespace, true).await?;
        zero::until_refused(service).await?;
        ensure!(
            zero::slices(namespace).await?.is_empty(),
            "activators stand in for pods that nobody starts"
        );

        // Also if its trigger says that the Service is to be taken.
        scale(namespace, &stillwake, ", service: once").await?;
        wait::until("the reason as an answer", watching::PATIENCE, async || {
            let asked = Instant::now();
            let answer = client::get(service, "/").await?;
            let told = answer.text();
            ensure!(
                answer.status == StatusCode::SERVICE_UNAVAILABLE && told.contains("replicas"),
                "{} {told}",
                answer.status
            );
            let took = asked.elapsed();
            ensure!(took < zero::AT_ONCE, "after {took:?}");
            anyhow::Ok(())
        })
        .await?;
        suspend(namespace, false).await?;
        pods::until_ready(namespace, NAME, 1).await?;
        zero::until_served(namespace, NAME, false).await?;
        wait::until("an answer", watching::PATIENCE, async || {
            let answer = client::get(service, "/bytes?length=100").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.text());
            anyhow::Ok(())
        })
        .await
    })
}

/// Has a `ScaledObject` for it, with `more` of the trigger's metadata.
async fn scale(namespace: &Namespace, stillwake: &Stillwake, more: &str) -> anyhow::Result<()> {
    let scaler = stillwake.scaler_address();
    let values = [("scaler", scaler.as_str()), ("more", more)];
    namespace.apply(SCALED, &values).await
}

async fn is_refused_by_keda(namespace: &Namespace) -> anyhow::Result<()> {
    let objects = namespace.scaled_objects();
    watching::until(&objects, NAME, "a refusal", |object| {
        let object = object.ok_or("there is none")?;
        match keda::condition(object, "Ready") {
            Some(("False", _)) => Ok(()),
            _ => Err(object.data["status"].to_string()),
        }
    })
    .await?;
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    let hpa = hpas.get_opt(&keda::hpa_name(NAME)).await?;
    ensure!(hpa.is_none(), "there is {hpa:?}");
    Ok(())
}

/// Takes the Job's pods away until it goes on.
async fn suspend(namespace: &Namespace, suspended: bool) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": {"suspend": suspended}}));
    let jobs = namespace.api::<Job>();
    jobs.patch(NAME, &PatchParams::default(), &patch).await?;
    if !suspended {
        return Ok(());
    }
    let selected = watcher::Config::default().labels("app=once");
    let what = "the end of the Job's pods";
    watching::until_all::<Pod, _, _>(&namespace.api(), selected, what, |pods| {
        pods.is_empty()
            .then_some(())
            .ok_or_else(|| watching::phases(pods))
    })
    .await
}
