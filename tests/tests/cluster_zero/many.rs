//! Many workloads at zero at once: each wakes, and what Stillwake and KEDA cost meanwhile.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams};
use rand::seq::SliceRandom;
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace, keda,
        stillwake::{Component, Stillwake},
        web, zero,
    },
    settings::setting,
};
use tokio::time::Instant;

/// How many there are, instead of 30.
const MANY: &str = "STILLWAKE_MANY";

/// How many are set up, and woken, at once: a node has room for 110 pods.
const AT_ONCE: usize = 12;

/// Slices that are written for one wake and the sleep after it: each of two activators flips one, twice.
const WRITES: f64 = 4.0;

/// For how long nobody asks, while it is counted what KEDA uses, instead of [`IDLE`]. Once as it is with Stillwake's trigger
/// and once as it is with one of KEDA's own.
const WATCHED: &str = "STILLWAKE_MANY_IDLE";

const IDLE: Duration = Duration::from_secs(15);

/// What KEDA may use more than with its own trigger, as a factor.
const MORE: f64 = 1.1;

/// From when on the time is long enough for a factor as close as [`MORE`].
const LONG: Duration = Duration::from_mins(3);

#[test]
fn each_of_many_wakes_at_little_cost() -> Result<(), Failure> {
    cluster::run("many at zero", async |namespace| {
        let count = setting(MANY, 30_usize)?;
        // Alone: what is written for others would be counted as well.
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let mut names: Vec<_> = (0..count).map(|number| format!("web-{number}")).collect();
        let empty = Costs::of(&stillwake).await?;
        let begun = stream::iter(&names).map(|name| asleep(namespace, &stillwake, name));
        begun
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let before = Costs::of(&stillwake).await?;
        eprintln!("Stillwake, with none: {}", empty.memory());
        before.tell("while they are set up", &empty);
        names.shuffle(&mut rand::rng());
        let woken = stream::iter(&names).map(|name| wake(namespace, name));
        woken
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let after = Costs::of(&stillwake).await?;
        after.tell("while they wake and sleep again", &before);
        let woke = after.at - before.at;
        let writes = after.writes - before.writes;
        let per_wake = writes / count as f64;
        eprintln!(
            "{count} workloads, all woken and asleep again within {woke:?}: {per_wake:.2} slices written for each"
        );
        ensure!(
            per_wake <= WRITES,
            "{writes} slices were written for {count} wakes"
        );
        idle(namespace, &stillwake, &names).await
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
    zero::ensure_waited(&answer).with_context(|| name.to_owned())?;
    zero::until_asleep(namespace, name).await
}

/// Compares what idle workloads cost with Stillwake's trigger and with one of KEDA's own that is as idle.
async fn idle(
    namespace: &Namespace,
    stillwake: &Stillwake,
    names: &[String],
) -> anyhow::Result<()> {
    let time = Duration::from(setting(WATCHED, humantime::Duration::from(IDLE))?);
    let before = Costs::of(stillwake).await?;
    let ours = keda_cores(namespace, time).await?;
    let after = Costs::of(stillwake).await?;
    after.tell("while they sleep", &before);
    ensure!(
        after.writes <= before.writes,
        "{} slices were written while nobody asked",
        after.writes - before.writes
    );
    let objects = namespace.scaled_objects();
    // On no day that there is.
    let cron = json!({"type": "cron", "metadata": {
        "timezone": "Etc/UTC", "start": "0 0 30 2 *", "end": "1 0 30 2 *", "desiredReplicas": "1",
    }});
    let cron = json!({"spec": {"triggers": [cron]}});
    for name in names {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&cron));
        objects.patch(name, &parameters, &patch).await?;
    }
    zero::until_no_slice(namespace).await?;
    let before = Costs::of(stillwake).await?;
    let theirs = keda_cores(namespace, time).await?;
    Costs::of(stillwake).await?.tell("without them", &before);
    eprintln!(
        "{} of them idle for {time:?}: KEDA's operator takes {ours:.4} cores, {:.2} times what it takes with as many cron \
         triggers ({theirs:.4})",
        names.len(),
        ours / theirs
    );
    ensure!(
        time < LONG || ours <= theirs * MORE,
        "KEDA takes {ours} cores, {theirs} with cron triggers"
    );
    Ok(())
}

/// Returns how many cores KEDA's operator takes from now on for so long.
async fn keda_cores(namespace: &Namespace, time: Duration) -> anyhow::Result<f64> {
    let before = keda::operator_cpu(namespace).await?;
    // What is measured is what happens in it.
    tokio::time::sleep(time).await;
    let used = keda::operator_cpu(namespace).await? - before;
    Ok(used / time.as_secs_f64())
}

/// What Stillwake's replicas have used so far.
#[derive(Debug)]
struct Costs {
    at: Instant,
    /// Slices written, by all activators.
    writes: f64,
    /// MiB of the largest replica, by component.
    memory: BTreeMap<Component, f64>,
    /// Seconds of processors, of all replicas, by component.
    processor: BTreeMap<Component, f64>,
}

impl Costs {
    async fn of(stillwake: &Stillwake) -> anyhow::Result<Self> {
        let at = Instant::now();
        let mut memory = BTreeMap::new();
        let mut processor = BTreeMap::new();
        for component in [Component::Activator, Component::Aggregator] {
            for metrics in stillwake.metrics(component).await?.into_values() {
                let bytes = metrics.sum("process_resident_memory_bytes", &[])?;
                let largest = memory.entry(component).or_insert(0.0);
                *largest = f64::max(*largest, (bytes / 1024.0 / 1024.0).round());
                *processor.entry(component).or_insert(0.0) +=
                    metrics.sum("process_cpu_seconds_total", &[])?;
            }
        }
        let mut writes = 0.0;
        for metrics in stillwake.metrics(Component::Activator).await?.into_values() {
            writes += metrics.sum("stillwake_activator_slice_writes_total", &[])?;
        }
        Ok(Self {
            at,
            writes,
            memory,
            processor,
        })
    }

    /// Says what was taken since, and how much memory there is now.
    fn tell(&self, when: &str, earlier: &Self) {
        let time = (self.at - earlier.at).as_secs_f64();
        let cores = self.processor.iter().map(|(component, seconds)| {
            let before = earlier.processor.get(component).copied();
            let used = seconds - before.unwrap_or_default();
            format!("{component:?} {:.4}", used / time)
        });
        let cores: Vec<_> = cores.collect();
        let (cores, memory) = (cores.join(", "), self.memory());
        eprintln!("Stillwake, {when}: cores: {cores}; {memory}");
    }

    fn memory(&self) -> String {
        let memory = self.memory.iter();
        let memory = memory.map(|(component, size)| format!("{component:?} {size}"));
        let memory: Vec<_> = memory.collect();
        format!("MiB of the largest replica: {}", memory.join(", "))
    }
}
