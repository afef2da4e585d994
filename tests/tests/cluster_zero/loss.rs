//! Numbered requests of many kinds while the workload sleeps, wakes, grows and rolls, and while parts of Stillwake and of
//! the cluster are replaced: each is answered, once and rightly.
//!
//! A short form is for every run; `make soak` is the long one.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace,
        history::History,
        keda,
        scene::WEB,
        stillwake::{Component, Stillwake},
        zero,
    },
    ledger::Ledger,
    load::{Client, Kind, Load},
    settings::setting,
    wait,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;

/// How many requests are sent at least, instead of 50,000.
const REQUESTS: &str = "STILLWAKE_SOAK_REQUESTS";

/// How often the workload wakes at least, instead of 8 times.
const CYCLES: &str = "STILLWAKE_SOAK_CYCLES";

/// How long a cycle is in which the workload grows: the HPA looks every 15 s.
const BUSY: Duration = Duration::from_secs(25);

#[test]
fn nothing_is_lost_while_everything_comes_and_goes() -> Result<(), Failure> {
    cluster::run("soak", async |namespace| {
        let cycles = setting(CYCLES, 8_u64)?;
        let requests = setting(REQUESTS, 50_000_u64)?;
        // Alone: parts of the release are killed.
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "5")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let replicas = History::of_replicas(namespace, WEB).await?;
        let ledger = Ledger::default();
        let gateway = Gateway::start(service).await?;
        let trickles = Trickles::start([service, gateway.address], &ledger);
        for cycle in 0..cycles {
            let load = Load::new(service, ledger.clone());
            let through = Load::new(gateway.address, ledger.clone());
            for load in [&load, &through] {
                load.clients(2, Kind::KeepAlive(100));
                load.clients(2, Kind::Close(1000));
            }
            load.clients(1, Kind::Upload(20_000));
            let grows = cycle % 4 == 1;
            if grows {
                load.steady(12, Duration::from_secs(1));
            }
            tokio::try_join!(
                disturb(namespace, &stillwake, cycle),
                enough(
                    &ledger,
                    &replicas,
                    cycle,
                    requests * (cycle + 1) / cycles,
                    grows
                )
            )?;
            load.finish().await;
            through.finish().await;
            asleep(&replicas, cycle).await?;
            eprintln!(
                "{} of {cycles}: {} requests so far",
                cycle + 1,
                ledger.sent()
            );
        }
        trickles.end().await?;
        let verdict = ledger.verdict();
        let counts = replicas.values();
        let most = counts.iter().max();
        let woke = wakes(&counts);
        eprintln!("{verdict}; woke {woke} times, {most:?} replicas at most");
        verdict.assert_nothing_lost();
        ensure!(most.is_some_and(|most| *most > 1), "{counts:?} replicas");
        Ok(())
    })
}

/// Waits until so many requests were sent and the workload woke so often; for [`BUSY`] at least where it is to grow.
async fn enough(
    ledger: &Ledger,
    replicas: &History<i32>,
    cycle: u64,
    requests: u64,
    grows: bool,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let what = format!("the wake and the requests of cycle {cycle}");
    wait::until(&what, Duration::from_mins(5), async || {
        let (sent, woke) = (ledger.sent(), wakes(&replicas.values()));
        ensure!(sent >= requests, "{sent} of {requests} requests");
        // As long as pods that end still answer, nobody has to wake.
        ensure!(woke > cycle, "it woke {woke} times");
        ensure!(
            !grows || begun.elapsed() >= BUSY,
            "busy for {:?}",
            begun.elapsed()
        );
        anyhow::Ok(())
    })
    .await
}

/// Returns how often a number of replicas rose from 0.
fn wakes(replicas: &[i32]) -> u64 {
    let pairs = replicas.windows(2);
    pairs.filter(|pair| pair[0] == 0 && pair[1] > 0).count() as u64
}

async fn asleep(replicas: &History<i32>, cycle: u64) -> anyhow::Result<()> {
    let what = format!("sleep after cycle {cycle}");
    wait::until(&what, Duration::from_mins(2), async || {
        let values = replicas.values();
        ensure!(values.last() == Some(&0), "{values:?} replicas");
        anyhow::Ok(())
    })
    .await
}

/// Does something to the cluster that its users' requests are not to notice.
async fn disturb(namespace: &Namespace, stillwake: &Stillwake, cycle: u64) -> anyhow::Result<()> {
    let client = namespace.cluster().client();
    let system = Api::<Pod>::namespaced(client.clone(), stillwake.namespace());
    match cycle % 8 {
        0 | 4 => {
            namespace.api::<Deployment>().restart(WEB).await?;
        }
        1 | 5 => one_less(&system, &stillwake.selector(Component::Activator), 1).await?,
        2 => one_less(&system, &stillwake.selector(Component::Aggregator), 2).await?,
        3 => {
            let keda = Api::<Pod>::namespaced(client, keda::NAMESPACE);
            one_less(&keda, "app=keda-operator", 1).await?;
        }
        6 => {
            let dns = Api::<Pod>::namespaced(client, "kube-system");
            one_less(&dns, "k8s-app=kube-dns", 1).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Deletes so many of the pods that are selected.
async fn one_less(pods: &Api<Pod>, selector: &str, count: usize) -> anyhow::Result<()> {
    let list = pods.list(&ListParams::default().labels(selector)).await?;
    ensure!(!list.items.is_empty(), "no pod is {selector}");
    for pod in list.iter().take(count) {
        pods.delete(&pod.name_any(), &DeleteParams::default())
            .await?;
    }
    Ok(())
}

/// Clients that ask now and then, so that some requests come in the very moment in which the workload goes.
struct Trickles {
    clients: JoinSet<()>,
    stop: CancellationToken,
}

impl Trickles {
    fn start(targets: [SocketAddr; 2], ledger: &Ledger) -> Self {
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for number in 0..4 {
            let (ledger, stop) = (ledger.clone(), stop.clone());
            clients.spawn(async move {
                let mut client = Client::new(targets[number / 2], ledger);
                let kind = if number % 2 == 0 {
                    Kind::Close(10)
                } else {
                    Kind::KeepAlive(10)
                };
                loop {
                    let pause = Duration::from_millis(rand::random_range(0..28_000));
                    let paused = stop.run_until_cancelled(tokio::time::sleep(pause));
                    if paused.await.is_none() {
                        return;
                    }
                    client.once(kind).await;
                }
            });
        }
        Self { clients, stop }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}
