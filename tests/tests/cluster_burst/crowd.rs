//! Many workloads that burst at the same moment: all get their replicas, at a rate that leaves the others able to answer.
//!
//! Each is a set whose first pod waits to be scheduled for ever, so that further ones are asked for and not made, and
//! what is in flight is told by reporters that the suite plays: it is about who writes and who answers. Hundreds of pods
//! would keep the processors busy that here run a whole control plane.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{apps::v1::StatefulSet, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use stillwake_e2e::{
    aggregator::{Event, workload},
    cluster::{self, Failure, Namespace, aggregator::Aggregator, reporters::Played, watching},
    settings::setting,
};
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::are_asked_for;

/// How many workloads burst, instead of [`FEW`].
const WORKLOADS: &str = "STILLWAKE_BURST_WORKLOADS";

const FEW: usize = 20;

/// Requests held before and in the burst, with a target of 10 for each replica.
const BEFORE: usize = 5;
const IN_IT: usize = 40;
const WANTED: i32 = 4;

/// The HPA's period, within which all are to have them, and as much again for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// How many new ones KEDA gets [`watching::PATIENCE`] for.
const AT_A_TIME: usize = 20;

const CROWD: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ${name}}
spec:
  serviceName: ''
  replicas: 1
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      schedulingGates: [{name: example.com/crowd}]
      containers: [{name: app, image: nothing}]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: ${name}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: ${name}}
  minReplicaCount: 1
  maxReplicaCount: 10
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {policies: [{type: Percent, value: 900, periodSeconds: 1}]}
  triggers:
  - type: external-push
    metadata: {scalerAddress: '${address}', targetConcurrency: '10'}
";

#[test]
fn many_workloads_that_burst_at_once_all_get_their_replicas() -> Result<(), Failure> {
    cluster::run("burst crowd", async |namespace| {
        let count = setting(WORKLOADS, FEW)?;
        let names: Vec<_> = (0..count).map(|number| format!("crowd-{number}")).collect();
        let aggregator = Aggregator::start(namespace).await?;
        aggregator.tell(&events(namespace, &names)).await?;
        let address = aggregator.scaler_address();
        stream::iter(&names)
            .map(|name| {
                let address = &address;
                async move {
                    let values = [("name", name.as_str()), ("address", address.as_str())];
                    namespace.apply(CROWD, &values).await
                }
            })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
        let crowd: Vec<_> = names
            .iter()
            .map(|name| {
                let workload = workload(namespace.name(), name);
                let played = Played::activator(aggregator.ingest(), workload);
                played.set(BEFORE);
                played
            })
            .collect();
        let generations = until_looked_at(namespace, count).await?;

        let stop = CancellationToken::new();
        let answers = probe(&aggregator, namespace, &names[0], stop.clone());
        let begun = Instant::now();
        for played in &crowd {
            played.set(IN_IT);
        }
        let times = grown(namespace, count, begun).await;
        stop.cancel();
        let (answers, objects) = answers.await?;
        let times = times?;
        eprintln!(
            "{count} bursts at once: replicas asked for after {:?} at the soonest, {:?} at the median, {:?} at the worst; GetMetrics p99 \
             {:?} of {}, the API server's answers p99 {:?} of {}",
            share(&times, 1),
            share(&times, 50),
            share(&times, 100),
            share(&answers, 99),
            answers.len(),
            share(&objects, 99),
            objects.len(),
        );
        let state = aggregator.state().await?;
        eprintln!("{}", state["bursts"]);
        ensure!(share(&times, 100) < LIMIT, "the last took too long");
        if are_asked_for(namespace)? {
            let now = hpas(namespace).await?;
            for (name, generation) in now {
                let before = generations.get(&name).copied().unwrap_or_default();
                let writes = generation - before;
                ensure!(writes <= 2, "{name} was written {writes} times");
            }
            let outcomes = &state["bursts"]["outcomes"];
            // On a machine that is too busy none follows in time; then that is said.
            let told = ["read", "unread"].map(|outcome| outcomes[outcome].as_u64());
            ensure!(told.iter().any(|count| *count > Some(0)), "{outcomes}");
        }
        Ok(())
    })
}

fn events(namespace: &Namespace, names: &[String]) -> Vec<Event> {
    let each = names.iter().flat_map(|name| {
        let object = Event::ScaledObject {
            namespace: namespace.name().to_owned(),
            name: name.clone(),
            deployment: name.clone(),
            polling_interval: Duration::from_secs(30),
        };
        let pod = Event::Pod {
            namespace: namespace.name().to_owned(),
            deployment: name.clone(),
            name: name.clone(),
            uid: name.clone(),
            ready: false,
        };
        [object, pod]
    });
    each.chain([Event::Synced]).collect()
}

/// Waits until each HPA has found its metric, and KEDA has nothing else to do. Returns how often each was written, by name.
async fn until_looked_at(
    namespace: &Namespace,
    count: usize,
) -> anyhow::Result<BTreeMap<String, i64>> {
    for part in 1..=count.div_ceil(AT_A_TIME) {
        until_found(namespace, count.min(part * AT_A_TIME)).await?;
    }
    cluster::keda::until_idle(namespace.cluster()).await?;
    hpas(namespace).await
}

async fn until_found(namespace: &Namespace, count: usize) -> anyhow::Result<()> {
    let all = watcher::Config::default();
    let what = "every HPA to find its metric";
    watching::until_all::<HorizontalPodAutoscaler, _, _>(&namespace.api(), all, what, |hpas| {
        let found = hpas.values().filter(|hpa| {
            cluster::keda::hpa_condition(hpa, "ScalingActive").map(|(status, _)| status)
                == Some("True")
        });
        let found = found.count();
        if found >= count {
            Ok(())
        } else {
            Err(format!("{found} of {count}"))
        }
    })
    .await
}

async fn hpas(namespace: &Namespace) -> anyhow::Result<BTreeMap<String, i64>> {
    let all = namespace.api::<HorizontalPodAutoscaler>();
    let found = all.list(&ListParams::default()).await?.into_iter();
    Ok(found
        .map(|hpa| {
            let generation = hpa.metadata.generation.unwrap_or_default();
            (hpa.name_any(), generation)
        })
        .collect())
}

/// Returns when each set was to have its replicas, in order.
async fn grown(
    namespace: &Namespace,
    count: usize,
    begun: Instant,
) -> anyhow::Result<Vec<Duration>> {
    // One object at a time: a view of all of them for each change would be work that the measured ones lack.
    let changes = watcher(namespace.api::<StatefulSet>(), watcher::Config::default());
    let mut changes = pin!(changes.default_backoff().applied_objects());
    let mut times = BTreeMap::new();
    let waiting = async {
        while times.len() < count {
            let changed = changes.next().await.context("the watch ended")?;
            // A watch that breaks is taken up again.
            let Ok(set) = changed else { continue };
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
            if replicas >= Some(WANTED) {
                times
                    .entry(set.name_any())
                    .or_insert_with(|| begun.elapsed());
            }
        }
        anyhow::Ok(())
    };
    let ended = timeout(watching::PATIENCE, waiting).await;
    ended.with_context(|| format!("{} of {count} got their replicas", times.len()))??;
    let mut times: Vec<_> = times.into_values().collect();
    times.sort();
    Ok(times)
}

/// Asks the aggregator and the API server again and again until it is told to stop. Returns how long they took, each in
/// order.
fn probe(
    aggregator: &Aggregator,
    namespace: &Namespace,
    name: &str,
    stop: CancellationToken,
) -> impl Future<Output = anyhow::Result<(Vec<Duration>, Vec<Duration>)>> {
    let (aggregator, namespace, name) = (aggregator.clone(), namespace.clone(), name.to_owned());
    let probing = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut answers, mut objects) = (Vec::new(), Vec::new());
        let sets = namespace.api::<StatefulSet>();
        let mut asking = aggregator.asking().await?;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            asking.concurrency(&name).await?;
            answers.push(begun.elapsed());
            let begun = Instant::now();
            sets.get(&name).await?;
            objects.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answers.sort();
        objects.sort();
        anyhow::Ok((answers, objects))
    }));
    async { probing.await? }
}

/// Returns the smallest that has so many per cent at or below it.
fn share(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1)
        .and_then(|index| sorted.get(index).copied())
        .unwrap_or_default()
}
