//! Many workloads at zero at once: each wakes, and what Stillwake costs meanwhile.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use rand::seq::SliceRandom;
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace,
        stillwake::{Component, Stillwake},
        web, zero,
    },
    settings::setting,
};

/// How many there are, instead of 30.
const MANY: &str = "STILLWAKE_MANY";

/// How many are set up, and woken, at once: a node has room for 110 pods.
const AT_ONCE: usize = 12;

/// Slices that are written for one wake and the sleep after it: each of two activators flips one, twice.
const WRITES: f64 = 4.0;

#[test]
fn each_of_many_wakes_at_little_cost() -> Result<(), Failure> {
    cluster::run("many at zero", async |namespace| {
        let count = setting(MANY, 30_usize)?;
        // Alone: what is written for others would be counted as well.
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let mut names: Vec<_> = (0..count).map(|number| format!("web-{number}")).collect();
        let begun = stream::iter(&names).map(|name| asleep(namespace, &stillwake, name));
        begun
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let before = Costs::of(&stillwake).await?;
        names.shuffle(&mut rand::rng());
        let woken = stream::iter(&names).map(|name| wake(namespace, name));
        woken
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let after = Costs::of(&stillwake).await?;
        let writes = after.writes - before.writes;
        let per_wake = writes / count as f64;
        eprintln!(
            "{count} workloads: {per_wake:.2} slices written for each wake and sleep; memory {:?} MiB before, {:?} after",
            before.memory, after.memory
        );
        ensure!(
            per_wake <= WRITES,
            "{writes} slices were written for {count} wakes"
        );
        Ok(())
    })
}

/// Sets one up that sleeps from the start.
async fn asleep(namespace: &Namespace, stillwake: &Stillwake, name: &str) -> anyhow::Result<()> {
    let mut web = zero::app(name);
    web.replicas = 0;
    web.apply(namespace).await?;
    let scaling = zero::scaling(name, &[("targetConcurrency", "10")]);
    scaling.start(namespace, stillwake).await?;
    zero::until_served(namespace, name, true).await
}

async fn wake(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let service = web::cluster_address(namespace, name).await?;
    let answer = client::get(service, "/bytes?length=100").await;
    let answer = answer.with_context(|| name.to_owned())?;
    ensure!(
        answer.status == StatusCode::OK && answer.cold_start().is_some(),
        "{name}: {} {}",
        answer.status,
        answer.text()
    );
    zero::until_asleep(namespace, name).await
}

/// What Stillwake's replicas have used so far.
#[derive(Debug)]
struct Costs {
    /// Slices written, by all activators.
    writes: f64,
    /// MiB of the largest replica, by component.
    memory: BTreeMap<Component, f64>,
}

impl Costs {
    async fn of(stillwake: &Stillwake) -> anyhow::Result<Self> {
        let mut memory = BTreeMap::new();
        for component in [Component::Activator, Component::Aggregator] {
            for metrics in stillwake.metrics(component).await?.into_values() {
                let bytes = metrics.sum("process_resident_memory_bytes", &[])?;
                let largest = memory.entry(component).or_insert(0.0);
                *largest = f64::max(*largest, (bytes / 1024.0 / 1024.0).round());
            }
        }
        let mut writes = 0.0;
        for metrics in stillwake.metrics(Component::Activator).await?.into_values() {
            writes += metrics.sum("stillwake_activator_slice_writes_total", &[])?;
        }
        Ok(Self { writes, memory })
    }
}
