//! Activators that go while workloads sleep: clients are refused at once or notice nothing, and nothing stays behind.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace,
        scene::WEB,
        stillwake::{Component, Stillwake},
        watching, zero,
    },
    ledger::Ledger,
    load::{Kind, Load},
    wait,
};
use tokio::time::Instant;

/// How long slices of a replica that was killed may outlive it.
const CLEAN: Duration = Duration::from_secs(5);

#[test]
fn without_activators_clients_are_refused_and_with_them_they_are_served_again()
-> Result<(), Failure> {
    cluster::run("no activator", async |namespace| {
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        one_killed(namespace, &stillwake, service).await?;
        zero::until_asleep(namespace, WEB).await?;
        set_activators(namespace, &stillwake, 0).await?;
        let outcome = async {
            zero::until_no_slice(namespace).await?;
            zero::until_refused(service).await
        }
        .await;
        // Others want to use it after this.
        set_activators(namespace, &stillwake, 2).await?;
        outcome?;
        stillwake.rolled_out(Component::Activator).await?;
        zero::until_served(namespace, WEB, true).await?;
        wait::until("an answer", watching::PATIENCE, async || {
            let answer = client::get(service, "/").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.text());
            anyhow::Ok(())
        })
        .await
    })
}

/// Kills one of two without a word. Who has a connection to the other notices nothing, and neither does who comes later.
async fn one_killed(
    namespace: &Namespace,
    stillwake: &Stillwake,
    service: SocketAddr,
) -> anyhow::Result<()> {
    let pods = Api::<Pod>::namespaced(namespace.cluster().client(), stillwake.namespace());
    let replicas = stillwake.replicas(Component::Activator).await?;
    let killed = replicas.first().context("no activator is ready")?;
    let uid = killed.metadata.uid.clone().context("a pod without a UID")?;
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&killed.name_any(), &at_once).await?;
    let gone = Instant::now();
    wait::until("the end of its slices", CLEAN * 6, async || {
        let slices = zero::slices(namespace).await?;
        let left = slices.iter().filter(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get("stillwake.dev/activator")) == Some(&uid)
                && zero::is_ready(slice)
        });
        let left = left.count();
        ensure!(left == 0, "{left} left after {:?}", gone.elapsed());
        anyhow::Ok(())
    })
    .await?;
    let took = gone.elapsed();
    ensure!(took < CLEAN, "its slices were there for {took:?}");
    // kube-proxy hears of it within its own pace.
    wait::until("answers only", watching::PATIENCE, async || {
        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        load.clients(8, Kind::Close(10));
        tokio::time::sleep(Duration::from_millis(500)).await;
        load.finish().await;
        let verdict = ledger.verdict();
        ensure!(verdict.is_lossless_so_far(), "{verdict}");
        anyhow::Ok(())
    })
    .await
}

async fn set_activators(
    namespace: &Namespace,
    stillwake: &Stillwake,
    count: usize,
) -> anyhow::Result<()> {
    let client = namespace.cluster().client();
    let deployments = Api::<Deployment>::namespaced(client, stillwake.namespace());
    let name = stillwake.deployment(Component::Activator);
    let patch = json!({"spec": {"replicas": count}});
    deployments
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}
