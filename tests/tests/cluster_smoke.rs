//! The aggregator under a real KEDA and a real HPA, and the cluster they run in.
//!
//! Pods run the test app; their sidecars, and the activator, are played by the suite, so that what is reported is known
//! exactly. What the real ones count is the local suites' concern.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Service},
    jiff::{SignedDuration, Timestamp},
};
use stillwake_e2e::{
    aggregator::{Event, workload},
    client,
    cluster::{
        self, Failure, Namespace,
        aggregator::{Aggregator, WINDOW},
        dns, events,
        history::History,
        keda,
        reporters::Played,
        sidecars::Sidecars,
        watching,
    },
    ledger::Ledger,
    load::{Client, Kind},
    wait,
};
use stillwake_test_cluster::Tool;
use tokio::{process::Command, time::Instant};

/// Name of the Deployment and of its `ScaledObject`.
const WEB: &str = "web";

/// Requests in flight per replica.
const TARGET: usize = 5;

/// Far longer than a test: KEDA polls once when it gets to know the `ScaledObject`, and then no more.
const NEVER_AGAIN: Duration = Duration::from_mins(10);

/// What differs between the tests' `ScaledObject`s.
struct Scaling {
    polling: Duration,
    cooldown: Duration,
    /// Whether the HPA is answered with what KEDA's last poll saw.
    cached: bool,
}

async fn deploy(namespace: &Namespace, replicas: usize) -> anyhow::Result<History<i32>> {
    let manifest = include_str!("cluster/web.yaml");
    namespace
        .apply(manifest, &[("replicas", &replicas.to_string())])
        .await?;
    History::of_replicas(namespace, WEB).await
}

/// Starts an aggregator that knows the `ScaledObject` that is to come and no pod.
async fn aggregate(namespace: &Namespace, scaling: &Scaling) -> anyhow::Result<Aggregator> {
    let aggregator = Aggregator::start(namespace).await?;
    let object = Event::ScaledObject {
        namespace: namespace.name().to_owned(),
        name: WEB.to_owned(),
        deployment: WEB.to_owned(),
        polling_interval: scaling.polling,
    };
    aggregator.tell(&[object, Event::Synced]).await?;
    Ok(aggregator)
}

/// Creates the `ScaledObject`, and returns when KEDA listens to wake-ups for it, and has polled.
async fn scale(
    namespace: &Namespace,
    aggregator: &Aggregator,
    scaling: &Scaling,
) -> anyhow::Result<()> {
    let values = [
        ("polling", scaling.polling.as_secs().to_string()),
        ("cooldown", scaling.cooldown.as_secs().to_string()),
        ("cached", scaling.cached.to_string()),
        ("scaler", aggregator.scaler_address()),
        ("target", TARGET.to_string()),
        ("window", WINDOW.to_owned()),
    ];
    let values = values
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    namespace
        .apply(include_str!("cluster/scaled-object.yaml"), &values)
        .await?;
    // A wake-up that comes before the metric's name is in the status is dropped.
    watching::until(&namespace.scaled_objects(), WEB, "readiness", |object| {
        let object = object.ok_or("there is none")?;
        let names = object.data["status"]["externalMetricNames"].as_array();
        let is_named = names.is_some_and(|names| !names.is_empty());
        match keda::condition(object, "Ready") {
            Some(("True", _)) if is_named => Ok(()),
            _ => Err(object.data["status"].to_string()),
        }
    })
    .await?;
    let calls = aggregator.calls_until("KEDA's first poll and its stream", |calls| {
        calls.is_active > 0 && calls.streams > 0
    });
    calls.await?;
    Ok(())
}

/// Three replicas under exactly the load of three, scaled by KEDA.
async fn three_busy(
    namespace: &Namespace,
    scaling: &Scaling,
) -> anyhow::Result<(History<i32>, Aggregator, Sidecars)> {
    let replicas = deploy(namespace, 3).await?;
    let aggregator = aggregate(namespace, scaling).await?;
    let sidecars = Sidecars::follow(namespace, &aggregator, WEB);
    sidecars.until(3).await?;
    sidecars.carry(&aggregator, 3 * TARGET).await?;
    scale(namespace, &aggregator, scaling).await?;
    until_hpa(namespace, "True").await?;
    assert_eq!(replicas.values(), [3]);
    Ok((replicas, aggregator, sidecars))
}

async fn until_hpa(namespace: &Namespace, active: &str) -> anyhow::Result<()> {
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    let what = format!("the condition ScalingActive {active}");
    watching::until(&hpas, &keda::hpa_name(WEB), &what, |hpa| {
        let hpa = hpa.ok_or("there is none")?;
        match keda::hpa_condition(hpa, "ScalingActive") {
            Some((status, _)) if status == active => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[test]
fn a_deployment_at_zero_is_woken_through_the_push_and_not_by_a_poll() -> Result<(), Failure> {
    cluster::run("woken through the push", async |namespace| {
        let scaling = Scaling {
            polling: NEVER_AGAIN,
            cooldown: NEVER_AGAIN,
            // The HPA looks as soon as there is a replica. With this, `IsActive` is called by KEDA's polls alone.
            cached: true,
        };
        let replicas = deploy(namespace, 0).await?;
        let aggregator = aggregate(namespace, &scaling).await?;
        let activator = Played::activator(aggregator.ingest(), workload(namespace.name(), WEB));
        scale(namespace, &aggregator, &scaling).await?;

        let before = aggregator.calls().await?;
        let held = Instant::now();
        activator.set(1);
        let woken = replicas.until(&1).await?;
        eprintln!(
            "KEDA wrote 1 replica {:?} after the report of a held request; its polls are {:?} apart",
            woken.at.duration_since(held),
            scaling.polling
        );
        let after = aggregator.calls().await?;
        assert_eq!(before.pushes, 0, "something was held before");
        assert!(
            after.pushes > 0,
            "it was woken by something else than a push: {after:?}"
        );
        assert_eq!(
            after.is_active, before.is_active,
            "KEDA polled in between, so it may have been that"
        );
        assert_eq!(replicas.values(), [0, 1]);
        let writer = woken.writer.context("nobody wrote the replicas")?;
        assert_eq!(
            (writer.manager.as_str(), writer.subresource.as_str()),
            ("keda", "scale")
        );
        Ok(())
    })
}

#[test]
fn the_hpa_scales_to_what_the_concurrency_divided_by_the_target_gives_and_stays_there()
-> Result<(), Failure> {
    cluster::run("concurrency", async |namespace| {
        let scaling = Scaling {
            // So that each call of `IsActive` after the first is a look of the HPA.
            polling: NEVER_AGAIN,
            cooldown: NEVER_AGAIN,
            cached: false,
        };
        let replicas = deploy(namespace, 1).await?;
        let aggregator = aggregate(namespace, &scaling).await?;
        let sidecars = Sidecars::follow(namespace, &aggregator, WEB);
        sidecars.until(1).await?;
        sidecars.carry(&aggregator, TARGET - 2).await?;
        scale(namespace, &aggregator, &scaling).await?;
        until_hpa(namespace, "True").await?;
        assert_eq!(replicas.values(), [1]);

        sidecars.carry(&aggregator, 6 * TARGET + 3).await?;
        replicas.until(&7).await?;
        sidecars.until(7).await?;
        let (values, reached) = (replicas.values(), aggregator.calls().await?);
        // A look in the very moment of the change may have seen a part of it.
        assert!(values.is_sorted(), "{values:?}");
        let looks = aggregator.calls_until("three more looks of the HPA", |calls| {
            calls.is_active >= reached.is_active + 3
        });
        looks.await?;
        assert_eq!(replicas.values(), values, "it did not stay");
        Ok(())
    })
}

#[test]
fn silence_leads_to_one_replica_and_after_the_cooldown_to_none() -> Result<(), Failure> {
    cluster::run("silence", async |namespace| {
        let scaling = Scaling {
            polling: Duration::from_secs(10),
            cooldown: Duration::from_secs(10),
            cached: false,
        };
        let (replicas, aggregator, sidecars) = three_busy(namespace, &scaling).await?;

        sidecars.carry(&aggregator, 0).await?;
        replicas.until(&0).await?;
        let changes = replicas.changes();
        let values = replicas.values();
        // A look in the very moment of the change may have seen a part of it.
        let one_by_one = values.is_sorted_by(|before, after| before > after);
        assert!(one_by_one && values.ends_with(&[1, 0]), "{values:?}");
        let hpa = changes[values.len() - 2].writer.as_ref();
        let hpa = hpa.context("nobody wrote that there is to be one replica")?;
        assert_eq!(
            (hpa.manager.as_str(), hpa.subresource.as_str()),
            ("kube-controller-manager", "scale")
        );

        let slept = keda::event(namespace, WEB, "KEDAScaleTargetDeactivated").await?;
        let message = slept.message.as_deref().unwrap_or_default();
        assert!(message.ends_with("from 1 to 0"), "{message}");
        let slept = events::last_time(&slept).context("KEDA's event has no time")?;
        let object = namespace.scaled_objects().get(WEB).await?;
        let active = object.data["status"]["lastActiveTime"].as_str();
        let active: Timestamp = active.context("it was never active")?.parse()?;
        let cooled = active + SignedDuration::try_from(scaling.cooldown)?;
        assert!(
            slept >= cooled,
            "last active at {active}, asleep at {slept}"
        );
        Ok(())
    })
}

#[test]
fn without_the_aggregator_nothing_is_scaled() -> Result<(), Failure> {
    cluster::run("no aggregator", async |namespace| {
        let scaling = Scaling {
            polling: Duration::from_secs(5),
            // Shorter than what is waited for below: whoever took silence for idleness would scale to 0.
            cooldown: Duration::from_secs(5),
            cached: false,
        };
        let (replicas, aggregator, _sidecars) = three_busy(namespace, &scaling).await?;

        let before = keda::errors(namespace, WEB).await?;
        let looked = keda::failed_hpa_looks(namespace, WEB).await?;
        aggregator.remove().await?;
        until_hpa(namespace, "False").await?;
        wait::until(
            "failed looks of KEDA and of the HPA",
            watching::PATIENCE,
            async || {
                // The HPA's looks are errors of KEDA's as well, and are read last so that none is taken for a poll.
                let errors = keda::errors(namespace, WEB).await? - before;
                let looks = keda::failed_hpa_looks(namespace, WEB).await? - looked;
                let polls = errors.saturating_sub(looks);
                ensure!(
                    looks >= 2 && polls >= 4,
                    "{looks} looks of the HPA and {polls} polls of KEDA"
                );
                anyhow::Ok(())
            },
        )
        .await?;
        let object = namespace.scaled_objects().get(WEB).await?;
        assert_eq!(
            keda::condition(&object, "Ready"),
            Some(("False", "TriggerError"))
        );
        assert_eq!(replicas.values(), [3]);
        Ok(())
    })
}

#[test]
fn a_service_in_front_of_a_native_sidecar_answers_by_address_and_by_name() -> Result<(), Failure> {
    cluster::run("native sidecar", async |namespace| {
        namespace
            .apply(include_str!("cluster/native-sidecar.yaml"), &[])
            .await?;
        watching::until(
            &namespace.api::<Deployment>(),
            WEB,
            "a ready replica",
            |web| {
                let status = web.and_then(|web| web.status.as_ref());
                let ready = status.and_then(|status| status.ready_replicas);
                ready
                    .filter(|ready| *ready == 1)
                    .map(drop)
                    .ok_or("no ready replica")
            },
        )
        .await?;
        let service = namespace.api::<Service>().get(WEB).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let address: IpAddr = address.context("the Service has no address")?.parse()?;
        for port in [80, 81] {
            let address = SocketAddr::new(address, port);
            // kube-proxy takes its time.
            wait::until("the first answer", watching::PATIENCE, || {
                client::get(address, "/")
            })
            .await?;
            let ledger = Ledger::default();
            let mut client = Client::new(address, ledger.clone());
            for kind in [
                Kind::KeepAlive(100_000),
                Kind::Close(1),
                Kind::Upload(100_000),
                Kind::WebSocket(3),
            ] {
                client.once(kind).await;
            }
            ledger.verdict().assert_nothing_lost();
        }
        let name = format!("{WEB}.{}.svc.cluster.local", namespace.name());
        assert_eq!(dns::resolve(namespace.cluster(), &name).await?, [address]);
        Ok(())
    })
}

#[test]
fn helm_talks_to_the_cluster() -> Result<(), Failure> {
    cluster::run("helm", async |namespace| {
        let helm = async |arguments: &[&str]| {
            let mut command = Command::from(namespace.cluster().running()?.command(Tool::Helm));
            let output = command.args(arguments).output().await?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "helm {arguments:?}: {errors}");
            Ok(String::from_utf8(output.stdout)?)
        };
        let version = helm(&["version", "--template", "{{.Version}}"]).await?;
        assert!(version.starts_with("v3."), "{version}");
        let releases = helm(&["list", "--output", "json", "--namespace", namespace.name()]).await?;
        assert_eq!(releases.trim(), "[]");
        Ok(())
    })
}
