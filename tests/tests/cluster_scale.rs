//! Labelled Deployments that KEDA and the HPA scale by what their sidecars count of real requests.
//!
//! The HPA may scale down at once in all of them, so that each wrong number would be seen.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::{
    api::autoscaling::v2::HorizontalPodAutoscaler,
    jiff::{SignedDuration, Timestamp},
};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, keda,
        scene::{Scene, WEB, WINDOW},
        stillwake::Stillwake,
    },
    settings::setting,
};
use tokio::try_join;

/// How long nothing may change under a steady load, instead of [`FOUR_LOOKS`]: a duration such as `5m`.
const STEADY: &str = "STILLWAKE_STEADY";

/// The HPA looks every 15 s.
const FOUR_LOOKS: Duration = Duration::from_mins(1);

#[test]
fn forty_requests_in_flight_at_five_each_are_eight_replicas_for_as_long_as_they_last()
-> Result<(), Failure> {
    cluster::run("forty in flight", async |namespace| {
        let time: Duration = setting(STEADY, humantime::Duration::from(FOUR_LOOKS))?.into();
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = Scene::scaling(&[("targetConcurrency", "5")], &[]);
        let scene = Scene::set(namespace, &stillwake, &scaling).await?;
        let metrics = scaling.metrics(namespace).await?;
        ensure!(metrics.len() == 1, "{metrics:?}");
        // So long that the moments between two requests of a client are next to nothing.
        scene.load.steady(40, Duration::from_secs(8));
        scene.grown(8).await?;
        scene.stays(&metrics, time).await?;
        scene.shrunk(1).await
    })
}

#[test]
fn other_targets_and_other_triggers_have_their_say() -> Result<(), Failure> {
    cluster::run("other targets", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let with_cron = namespace.another("cron", &[], &[]).await?;
        let with_cpu = namespace.another("cpu", &[], &[]).await?;
        try_join!(
            the_larger_target_wins(namespace, &stillwake),
            beside_a_cron_trigger(&with_cron, &stillwake),
            beside_a_cpu_trigger(&with_cpu, &stillwake),
        )?;
        Ok(())
    })
}

/// 38 requests in flight, and more than 9 per second.
async fn the_larger_target_wins(
    namespace: &Namespace,
    stillwake: &Stillwake,
) -> anyhow::Result<()> {
    let target = |concurrency, rate| {
        Scene::scaling(
            &[
                ("targetConcurrency", concurrency),
                ("targetRequestRate", rate),
            ],
            &[],
        )
    };
    // 3 by the first, 2 by the second.
    let scene = Scene::set(namespace, stillwake, &target("13", "5")).await?;
    scene.load.steady(38, Duration::from_secs(4));
    scene.grown(3).await?;
    scene.settled(stillwake, 9.5).await?;
    // 2 by the first, 4 by the second.
    let both = target("20", "2.5");
    both.start(namespace, stillwake).await?;
    scene.grown(4).await?;
    let metrics = both.metrics(namespace).await?;
    ensure!(metrics.len() == 2, "{metrics:?}");
    let rate = metrics
        .into_iter()
        .filter(|metric| metric.ends_with("request-rate"));
    scene.stays(&rate.collect::<Vec<_>>(), WINDOW).await?;
    // 5 by the only one.
    let rate = Scene::scaling(&[("targetRequestRate", "2.1")], &[]);
    rate.start(namespace, stillwake).await?;
    scene.grown(5).await?;
    scene.shrunk(1).await
}

async fn beside_a_cron_trigger(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let minute = |shift: i64| -> anyhow::Result<String> {
        let time = (now + SignedDuration::from_mins(shift)).strftime("%M %H * * *");
        Ok(time.to_string())
    };
    let cron = json!({"type": "cron", "metadata": {
        "timezone": "UTC",
        "start": minute(-10)?,
        "end": minute(60)?,
        "desiredReplicas": "3",
    }});
    let scaling = Scene::scaling(&[("targetConcurrency", "5")], &[cron]);
    let scene = Scene::set(namespace, stillwake, &scaling).await?;
    scene.grown(3).await?;
    scene.load.steady(19, Duration::from_secs(4));
    scene.grown(4).await?;
    scene.shrunk(3).await
}

/// The test cluster measures no CPU, so that this trigger has no value. The HPA then scales up by what it has, and never
/// down.
async fn beside_a_cpu_trigger(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    // KEDA takes such a trigger only where containers request CPU.
    let requests = "
apiVersion: v1
kind: LimitRange
metadata: {name: requests}
spec: {limits: [{type: Container, defaultRequest: {cpu: 10m}}]}";
    namespace.apply(requests, &[]).await?;
    let cpu = json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}});
    let scaling = Scene::scaling(&[("targetConcurrency", "5")], &[cpu]);
    let scene = Scene::set(namespace, stillwake, &scaling).await?;
    scene.load.steady(19, Duration::from_secs(4));
    scene.grown(4).await?;
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    let hpa = hpas.get(&keda::hpa_name(WEB)).await?;
    let metrics = hpa.spec.and_then(|spec| spec.metrics).unwrap_or_default();
    let kinds: Vec<_> = metrics.iter().map(|metric| metric.type_.as_str()).collect();
    ensure!(
        kinds.contains(&"Resource") && kinds.contains(&"External"),
        "the HPA looks at {kinds:?}"
    );
    scene.shrunk(4).await
}
