//! Parts of the installed product that are gone for a while: what they scaled stays as it is, no request and no pod is held
//! up, and afterwards they know again what is.
//!
//! Has the release alone, as no other suite could work meanwhile.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, counts, keda,
        pods::{self, INJECT, SIDECAR},
        scaling::{self, Scaling},
        scene::{Scene, WEB},
        stillwake::{Component, Stillwake},
        watching,
        web::Web,
    },
    wait,
};
use tokio::{time::Instant, try_join};

/// How long both aggregators are gone.
const OUTAGE: Duration = Duration::from_mins(1);

/// What the product promises of aggregators that run again.
const BACK: Duration = Duration::from_secs(10);

/// Requests in flight per replica.
const TARGET: u32 = 5;

/// Reason of the Event that names pods without a sidecar.
const UNCOUNTED: &str = "StillwakeUncountedPods";

#[test]
fn what_is_gone_scales_nothing_loses_nothing_and_knows_again_when_it_is_back() -> Result<(), Failure>
{
    cluster::run("outage", async |namespace| {
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let target = TARGET.to_string();
        let scaling = Scene::scaling(&[("targetConcurrency", &target)], &[]);
        let scene = Scene::set(namespace, &stillwake, &scaling).await?;
        scene.load.steady(3 * TARGET - 1, Duration::from_secs(4));
        scene.grown(3).await?;
        let metrics = scaling.metrics(namespace).await?;
        scene.right(&metrics).await?;

        let outcome = outages(namespace, &stillwake, &scene, &metrics).await;
        if outcome.is_err() {
            // Others want to use it after this.
            let deployments = in_system(namespace, &stillwake);
            for component in Component::ALL {
                set_replicas(&deployments, &stillwake.deployment(component), 2).await?;
            }
        }
        outcome?;
        scene.shrunk(1).await
    })
}

async fn outages(
    namespace: &Namespace,
    stillwake: &Stillwake,
    scene: &Scene,
    metrics: &[String],
) -> anyhow::Result<()> {
    let elsewhere = namespace.another("uncounted", &[], &[]).await?;
    let uncounted = without_webhook(&elsewhere, stillwake).await?;
    // What follows needs the aggregators, and comes when they are back.
    try_join!(named(&elsewhere, stillwake, uncounted), async {
        one_aggregator_killed(namespace, stillwake, scene, metrics).await?;
        no_aggregator(namespace, stillwake, scene, metrics).await
    })?;
    Ok(())
}

/// Returns the pods that were started.
async fn without_webhook(
    namespace: &Namespace,
    stillwake: &Stillwake,
) -> anyhow::Result<BTreeSet<String>> {
    let deployments = in_system(namespace, stillwake);
    let name = stillwake.deployment(Component::Webhook);
    set_replicas(&deployments, &name, 0).await?;
    let selector = stillwake.selector(Component::Webhook);
    until_run(&in_system(namespace, stillwake), &selector, 0).await?;
    let web = Web {
        replicas: 2,
        ..Web::new(WEB).label(INJECT, "enabled")
    };
    let (pods, _) = web.start(namespace).await?;
    ensure!(
        pods.iter().all(|pod| pods::sidecar(pod).is_none()),
        "the webhook is there"
    );
    set_replicas(&deployments, &name, 2).await?;
    stillwake.rolled_out(Component::Webhook).await?;
    Ok(pods.iter().map(ResourceExt::name_any).collect())
}

/// Those pods are named in all places, until others take theirs.
async fn named(
    namespace: &Namespace,
    stillwake: &Stillwake,
    pods: BTreeSet<String>,
) -> anyhow::Result<()> {
    let scaling = Scaling {
        min: pods.len(),
        ..Scene::scaling(&[("targetConcurrency", "5")], &[])
    };
    scaling.start(namespace, stillwake).await?;
    let event = pods::event(namespace, UNCOUNTED, |message| {
        pods.iter().all(|pod| message.contains(pod))
    })
    .await?;
    let regarding = &event.involved_object;
    ensure!(
        regarding.kind.as_deref() == Some("ScaledObject")
            && regarding.name.as_deref() == Some(WEB)
            && event.type_.as_deref() == Some("Warning"),
        "{event:?}"
    );
    let what = "the aggregators to name the pods";
    wait::until(what, watching::PATIENCE, async || {
        for seen in scaling::seen(stillwake, namespace, WEB).await? {
            let names: BTreeSet<String> = serde_json::from_value(seen["uncounted_pods"].clone())?;
            // Nobody asks them anything: they are active as they are unknown.
            ensure!(names == pods && seen["active"] == true, "{seen}");
        }
        for (replica, metrics) in stillwake.metrics(Component::Aggregator).await? {
            let count = metrics.sum("stillwake_aggregator_uncounted_pods", &[])?;
            ensure!(count >= pods.len() as f64, "{replica} counts {count}");
        }
        anyhow::Ok(())
    })
    .await?;

    namespace.api::<Deployment>().restart(WEB).await?;
    let what = "the aggregators to know the new pods";
    wait::until(what, watching::PATIENCE, async || {
        for seen in scaling::seen(stillwake, namespace, WEB).await? {
            let is_known = seen["known"] == true && seen["uncounted_pods"] == json!([]);
            ensure!(is_known && seen["active"] == false, "{seen}");
        }
        anyhow::Ok(())
    })
    .await
}

async fn one_aggregator_killed(
    namespace: &Namespace,
    stillwake: &Stillwake,
    scene: &Scene,
    metrics: &[String],
) -> anyhow::Result<()> {
    let before = scene.replicas.values();
    let doomed = stillwake.replicas(Component::Aggregator).await?;
    let doomed = doomed.first().context("there is no aggregator")?;
    let api = in_system(namespace, stillwake);
    kill(&api, doomed).await?;
    watching::until(&api, &doomed.name_any(), "the end", |pod| {
        pod.is_none().then_some(()).ok_or("it is there")
    })
    .await?;
    stillwake.rolled_out(Component::Aggregator).await?;
    scene.right(metrics).await?;
    let after = scene.replicas.values();
    ensure!(after == before, "{after:?} replicas");
    Ok(())
}

async fn no_aggregator(
    namespace: &Namespace,
    stillwake: &Stillwake,
    scene: &Scene,
    metrics: &[String],
) -> anyhow::Result<()> {
    let before = scene.replicas.values();
    let served = pods::until_ready(namespace, WEB, 3).await?;
    let looked = keda::failed_hpa_looks(namespace, WEB).await?;
    let gone = stillwake.replicas(Component::Aggregator).await?;
    let (api, deployments) = (
        in_system(namespace, stillwake),
        in_system(namespace, stillwake),
    );
    let name = stillwake.deployment(Component::Aggregator);
    let selector = stillwake.selector(Component::Aggregator);
    set_replicas(&deployments, &name, 0).await?;
    for pod in &gone {
        kill(&api, pod).await?;
    }
    until_run(&api, &selector, 0).await?;
    let (begun, answered) = (Instant::now(), scene.ledger.verdict().answered());
    wait::until("the end of the outage", watching::PATIENCE, async || {
        let looks = keda::failed_hpa_looks(namespace, WEB).await? - looked;
        ensure!(looks >= 3, "{looks} looks of the HPA that found nothing");
        ensure!(begun.elapsed() >= OUTAGE, "{:?}", begun.elapsed());
        anyhow::Ok(())
    })
    .await?;
    let after = scene.replicas.values();
    ensure!(after == before, "{after:?} replicas");
    let verdict = scene.ledger.verdict();
    ensure!(
        verdict.is_lossless_so_far(),
        "requests were lost: {verdict}"
    );
    ensure!(verdict.answered() > answered, "nothing was answered");
    let serving = pods::until_ready(namespace, WEB, 3).await?;
    ensure!(
        lives(&serving) == lives(&served),
        "a sidecar has not lived through it"
    );

    // Nobody but the sidecars can tell them of these.
    scene.load.steady(2 * TARGET, Duration::from_secs(4));
    set_replicas(&deployments, &name, 2).await?;
    let run = until_run(&api, &selector, 2).await?;
    counts::until_in_flight(stillwake, &serving, (5 * TARGET - 1).into()).await?;
    let back = run.elapsed();
    eprintln!("the numbers are right {back:?} after both aggregators run");
    ensure!(back <= BACK, "that is not in time");
    scene.right(metrics).await?;
    eprintln!("KEDA has them after {:?}", run.elapsed());
    scene.grown(5).await
}

/// Returns which life of which sidecar serves.
fn lives(pods: &[Pod]) -> BTreeSet<(Option<String>, Option<i32>)> {
    let life = |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let mut containers = status.init_container_statuses.iter().flatten();
        let is_ours = |container: &&ContainerStatus| container.name == SIDECAR;
        containers.find(is_ours).map(|found| found.restart_count)
    };
    let lives = pods.iter().map(|pod| (pod.metadata.uid.clone(), life(pod)));
    lives.collect()
}

fn in_system<K>(namespace: &Namespace, stillwake: &Stillwake) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    namespace.elsewhere(stillwake.namespace()).api()
}

async fn set_replicas(
    deployments: &Api<Deployment>,
    name: &str,
    count: usize,
) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": count}}));
    deployments
        .patch(name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// As a crash does: without a word to anybody.
async fn kill(pods: &Api<Pod>, pod: &Pod) -> anyhow::Result<()> {
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&pod.name_any(), &at_once).await?;
    Ok(())
}

/// Waits until so many pods run, ready or not, and no other is there; returns when.
async fn until_run(pods: &Api<Pod>, selector: &str, count: usize) -> anyhow::Result<Instant> {
    let selected = watcher::Config::default().labels(selector);
    let what = format!("{count} running pods");
    watching::until_all(pods, selected, &what, |pods| {
        let phase = |pod: &Pod| pod.status.as_ref()?.phase.clone();
        let mut phases = pods.values().map(phase);
        if pods.len() == count && phases.all(|phase| phase.as_deref() == Some("Running")) {
            Ok(Instant::now())
        } else {
            Err(watching::phases(pods))
        }
    })
    .await
}
