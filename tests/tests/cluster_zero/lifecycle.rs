//! What a user does to a workload that sleeps, and what its clients meet then.

use anyhow::ensure;
use http::StatusCode;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{self, Service},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace, pods, scene::WEB, stillwake::Stillwake, watching, web, zero,
    },
    wait,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

#[test]
fn a_paused_workload_answers_at_once_with_the_reason_and_wakes_when_it_goes_on()
-> Result<(), Failure> {
    cluster::run("paused", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        pause(namespace, Some("true")).await?;
        wait::until(
            "the word that it is paused",
            watching::PATIENCE,
            async || {
                let asked = Instant::now();
                let answer = client::get(service, "/").await?;
                ensure!(
                    answer.status == StatusCode::SERVICE_UNAVAILABLE
                        && answer.text().contains("paused"),
                    "{} {}",
                    answer.status,
                    answer.text()
                );
                ensure!(
                    asked.elapsed() < zero::AT_ONCE,
                    "after {:?}",
                    asked.elapsed()
                );
                anyhow::Ok(())
            },
        )
        .await?;
        zero::ensure_asleep(namespace, WEB).await?;
        pause(namespace, None).await?;
        wait::until("an answer", watching::PATIENCE, async || {
            let answer = client::get(service, "/").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.text());
            anyhow::Ok(())
        })
        .await
    })
}

async fn pause(namespace: &Namespace, value: Option<&str>) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused": value}}});
    let objects = namespace.scaled_objects();
    objects
        .patch(WEB, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

#[test]
fn what_is_deleted_at_zero_leaves_plain_kubernetes() -> Result<(), Failure> {
    cluster::run("deleted at zero", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        // The Service goes and comes back.
        let services = namespace.api::<Service>();
        services.delete(WEB, &DeleteParams::default()).await?;
        zero::until_no_slice(namespace).await?;
        web_without_replicas(namespace).await?;
        zero::until_served(namespace, WEB, true).await?;
        let again = web::cluster_address(namespace, WEB).await?;
        let answer = client::get(again, "/").await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        zero::until_asleep(namespace, WEB).await?;
        // Nobody would wake it any more.
        let objects = namespace.scaled_objects();
        objects.delete(WEB, &DeleteParams::default()).await?;
        zero::until_no_slice(namespace).await?;
        zero::until_refused(again).await?;
        Ok(())
    })
}

/// Applies the app and its Service with no replica, as they are while it sleeps.
async fn web_without_replicas(namespace: &Namespace) -> anyhow::Result<()> {
    let mut web = zero::app(WEB);
    web.replicas = 0;
    web.apply(namespace).await
}

#[test]
fn a_namespace_that_is_deleted_at_zero_goes_and_takes_the_slices_with_it() -> Result<(), Failure> {
    cluster::run("deleted namespace", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let leaving = namespace.another("leaving", &[], &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let service = zero::put_to_sleep(&leaving, &stillwake, &zero::app(WEB), &scaling).await?;
        let all = Api::<v1::Namespace>::all(namespace.cluster().client());
        let name = leaving.name().to_owned();
        leaving.discard().await?;
        watching::until(&all, &name, "the end", |found| match found {
            None => Ok(()),
            Some(found) => Err(format!("{:?}", found.status)),
        })
        .await?;
        // Its address is nobody's: what comes then is for the cluster's network to say, but nobody accepts.
        let dialled = timeout(zero::AT_ONCE, TcpStream::connect(service)).await;
        ensure!(!matches!(dialled, Ok(Ok(_))), "somebody accepts");
        Ok(())
    })
}

#[test]
fn a_workload_that_gives_up_its_label_at_zero_is_served_and_left_as_it_is() -> Result<(), Failure> {
    cluster::run("unlabelled", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let template = json!({"metadata": {"labels": {pods::INJECT: null}}});
        let patch = Patch::Strategic(json!({"spec": {"template": template}}));
        let deployments = namespace.api::<Deployment>();
        deployments
            .patch(WEB, &PatchParams::default(), &patch)
            .await?;
        let answer = client::get(service, "/").await?;
        zero::ensure_waited(&answer)?;
        zero::until_served(namespace, WEB, false).await?;
        let plain = pods::until_ready(namespace, WEB, 1).await?;
        ensure!(
            plain.iter().all(|pod| pods::sidecar(pod).is_none()),
            "it has a sidecar"
        );
        // Nobody counts its requests, so nobody may take it for idle.
        pods::event(namespace, "StillwakeUncountedPods", |_| true).await?;
        let deployment = deployments.get(WEB).await?;
        let wanted = deployment.spec.and_then(|spec| spec.replicas);
        ensure!(wanted == Some(1), "{wanted:?} replicas");
        Ok(())
    })
}

#[test]
fn an_uninstall_at_zero_leaves_no_slice_and_no_black_hole() -> Result<(), Failure> {
    cluster::run("uninstalled at zero", async |namespace| {
        let home = namespace.another("home", &[], &[]).await?;
        let stillwake = Stillwake::apart(&home, namespace, &json!({})).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let answer = client::get(service, "/").await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        zero::until_asleep(namespace, WEB).await?;
        // Takes away the right to write before the activators have ended.
        stillwake.uninstall().await?;
        zero::until_no_slice(namespace).await?;
        zero::until_refused(service).await
    })
}

#[test]
fn what_cannot_be_served_says_so() -> Result<(), Failure> {
    cluster::run("not served", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let others = format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: headless}}
spec: {{clusterIP: None, selector: {{app: {WEB}}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: datagrams}}
spec: {{selector: {{app: {WEB}}}, ports: [{{port: 53, protocol: UDP}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: local}}
spec: {{internalTrafficPolicy: Local, selector: {{app: {WEB}}}, ports: [{{port: 80, targetPort: http}}]}}"
        );
        namespace.apply(&others, &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        for (name, reason, words) in [
            ("headless", "StillwakeNotServed", "headless"),
            ("datagrams", "StillwakeNotServed", "no TCP port"),
            ("local", "StillwakeLocalTraffic", "DaemonSet"),
        ] {
            let event = pods::event(namespace, reason, |message| message.contains(words)).await?;
            let regarding = &event.involved_object;
            ensure!(
                regarding.kind.as_deref() == Some("Service")
                    && regarding.name.as_deref() == Some(name)
                    && regarding.uid.is_some(),
                "{event:?}"
            );
        }
        mistaken(namespace, &stillwake).await?;
        let names: Vec<_> = zero::slices(namespace)
            .await?
            .into_iter()
            .filter_map(|slice| slice.metadata.name)
            .collect();
        ensure!(
            names
                .iter()
                .all(|name| !name.starts_with("headless") && !name.starts_with("datagrams")),
            "{names:?}"
        );
        Ok(())
    })
}

/// A trigger that makes no sense. KEDA says only that it got no metrics.
async fn mistaken(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    zero::app("mistaken").apply(namespace).await?;
    let scaling = zero::scaling("mistaken", &[("targetConcurrency", "many")]);
    scaling.apply(namespace, stillwake).await?;
    let meant = |message: &str| message.contains("targetConcurrency") && message.contains("many");
    let event = pods::event(namespace, "StillwakeBadTrigger", meant).await?;
    let regarding = &event.involved_object;
    ensure!(
        regarding.kind.as_deref() == Some("ScaledObject")
            && regarding.name.as_deref() == Some("mistaken")
            && regarding.uid.is_some(),
        "{event:?}"
    );
    Ok(())
}
