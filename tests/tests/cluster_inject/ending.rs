//! A pod that ends while it works: its sidecar sends its clients elsewhere while it still answers, and no request is lost.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams, runtime::watcher};
use stillwake_e2e::{
    cluster::{
        self, Failure, counts,
        pods::{self, COUNTED, INJECT},
        stillwake::Stillwake,
        watching,
        web::{By, Web},
    },
    ledger::Ledger,
    load::{Client, Kind, Load},
    wait,
};

/// Slow requests that are in flight all the time.
const STEADY: u32 = 6;

#[test]
fn a_pod_that_is_deleted_under_load_loses_no_request_and_no_count() -> Result<(), Failure> {
    cluster::run("ending", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let web = Web {
            replicas: 2,
            // While the Service still leads to it, an app has to answer.
            linger: Duration::from_secs(8),
            target: By::Name,
            ..Web::new("web").label(INJECT, "enabled")
        };
        let (before, service) = web.start(namespace).await?;
        counts::until_in_flight(&stillwake, &before, 0).await?;
        let (doomed, other) = (&before[0], &before[1]);

        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        load.steady(STEADY, Duration::from_secs(1));
        counts::until_in_flight(&stillwake, &before, STEADY.into()).await?;
        load.clients(4, Kind::KeepAlive(1_000));
        load.clients(2, Kind::Close(1_000));
        load.clients(1, Kind::Upload(10_000));
        // Only what is in flight at the end tells that the sidecar drains before its app has ended.
        let address = pods::address(doomed).context("the pod has no address")?;
        let direct = SocketAddr::new(address, listen_port(doomed)?);
        let mut last = Client::new(direct, ledger.clone());
        let last = tokio::spawn(async move { last.once(Kind::Slow(Duration::from_secs(6))).await });

        let api = namespace.api::<Pod>();
        api.delete(&doomed.name_any(), &DeleteParams::default())
            .await?;
        wait::until(
            "a sidecar that drains while its app works",
            watching::PATIENCE,
            async || {
                let known = counts::reporters(&stillwake, std::slice::from_ref(doomed)).await?;
                let drains = known.values().all(|reporters| {
                    reporters.iter().any(|reporter| {
                        reporter["draining"] == true && reporter["in_flight"].as_u64() > Some(0)
                    })
                });
                ensure!(drains, "{known:?}");
                anyhow::Ok(())
            },
        )
        .await?;
        last.await?;
        let selected = watcher::Config::default().labels("app=web");
        let gone = doomed.name_any();
        watching::until_all(&api, selected, "the end of the pod", |pods| {
            (!pods.contains_key(&gone))
                .then_some(())
                .ok_or_else(|| watching::phases(pods))
        })
        .await?;
        let after = web.until_ready(namespace).await?;
        load.finish().await;
        ensure!(
            after.iter().any(|pod| pod.name_any() == other.name_any()),
            "both were replaced"
        );
        ledger.verdict().assert_nothing_lost();
        eprintln!("a pod of two was deleted under load: {}", ledger.verdict());
        counts::until_in_flight(&stillwake, &after, 0).await
    })
}

/// Returns the port that a pod's sidecar listens on.
fn listen_port(pod: &Pod) -> anyhow::Result<u16> {
    let counted = pods::annotation(pod, COUNTED).context("nothing is counted")?;
    let listen = counted.split(':').next().unwrap_or_default();
    listen
        .parse()
        .with_context(|| format!("{counted} is no pair of ports"))
}
