//! The installed chart with default values: KEDA with and without TLS on one port, and whoever trusts another authority.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod,
};
use kube::{
    ResourceExt,
    api::{LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, counts, creation,
        history::History,
        keda as operator,
        pods::{self, INJECT, SIDECAR},
        scaling,
        stillwake::Stillwake,
        watching,
        web::Web,
    },
    ledger::Ledger,
    load::Load,
    wait,
};
use stillwake_runtime::tls::{ConnectError, Trust};
use tokio::{net::TcpStream, try_join};

use crate::{authority::Authority, keda, ports};

/// The `TriggerAuthentication` with the right authority, and the one with another.
const RIGHT: &str = "right-authority";
const WRONG: &str = "wrong-authority";

#[test]
fn keda_comes_with_and_without_tls_and_another_authority_opens_nothing() -> Result<(), Failure> {
    cluster::run("trust", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let wrong = Authority::new("somebody else's")?.pem();
        let right = stillwake.authorities().await?;
        keda::authenticate(namespace, RIGHT, &[("caCert", &right)]).await?;
        keda::authenticate(namespace, WRONG, &[("caCert", &wrong)]).await?;
        try_join!(
            scaled(namespace, &stillwake, "plain", None, 3),
            scaled(namespace, &stillwake, "secured", Some(RIGHT), 5),
            keda::refused(namespace, &stillwake, "mistaken", Some(WRONG)),
            distrusted(&stillwake, &right, &wrong),
            misled(namespace, &stillwake, &wrong),
        )?;
        Ok(())
    })
}

/// KEDA and the HPA see so many requests in flight, which are one replica's.
async fn scaled(
    namespace: &Namespace,
    stillwake: &Stillwake,
    name: &str,
    authentication: Option<&str>,
    in_flight: u32,
) -> anyhow::Result<()> {
    let web = Web::new(name).label(INJECT, "enabled");
    let (pods, service) = web.start(namespace).await?;
    counts::until_in_flight(stillwake, &pods, 0).await?;
    let scaling = keda::scaling(name, authentication);
    scaling.start(namespace, stillwake).await?;
    let metrics = scaling.metrics(namespace).await?;
    let metric = metrics.first().context("KEDA has no metric")?;
    let ledger = Ledger::default();
    let load = Load::new(service, ledger.clone());
    load.steady(in_flight, Duration::from_secs(2));
    let what = format!("{in_flight} requests in flight of {name} at KEDA");
    wait::until(&what, watching::PATIENCE, async || {
        let value = scaling::external_metric(namespace, name, metric).await?;
        // The two workloads differ by 2.
        let is_so = (value - f64::from(in_flight)).abs() < 0.9;
        ensure!(is_so, "{value}");
        anyhow::Ok(())
    })
    .await?;
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    watching::until(&hpas, &operator::hpa_name(name), "a metric", |hpa| {
        let hpa = hpa.ok_or("there is none")?;
        match operator::hpa_condition(hpa, "ScalingActive") {
            Some(("True", "ValidMetricFound")) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    load.finish().await;
    ledger.verdict().assert_nothing_lost();
    Ok(())
}

/// Whoever trusts another authority than the aggregators' does not talk to them.
async fn distrusted(stillwake: &Stillwake, right: &str, wrong: &str) -> anyhow::Result<()> {
    let (right, wrong) = (Trust::from_pem(right)?, Trust::from_pem(wrong)?);
    for (address, host) in ports::certified(stillwake).await? {
        ports::connect(&right, &host, address).await?;
        let stream = TcpStream::connect(address).await?;
        let refusal = wrong.connect(&host, stream).await.err();
        ensure!(
            matches!(refusal, Some(ConnectError::UnknownAuthority)),
            "{host} at {address} with another authority: {refusal:?}"
        );
    }
    Ok(())
}

/// Sidecars that were given another authority report to nobody. What is in flight in them is not known then, and so nothing
/// is scaled.
async fn misled(namespace: &Namespace, stillwake: &Stillwake, wrong: &str) -> anyhow::Result<()> {
    const NAME: &str = "misled";
    let web = Web {
        replicas: 2,
        ..Web::new(NAME).label(INJECT, "enabled")
    };
    // Its pods are made of what the webhook makes of one, with another bundle.
    web.foresee(namespace, |_, _| Ok(())).await?;
    let deployment = namespace.api::<Deployment>().get(NAME).await?;
    let mut template = json!(
        deployment
            .spec
            .context("a Deployment without a spec")?
            .template
    );
    template["metadata"]["name"] = json!(NAME);
    let mut pod = creation::try_out(namespace, &template).await?.object;
    let count = mislead(&mut pod, wrong);
    ensure!(count == 1, "{count} variables with a bundle: {pod}");
    let metadata = &pod["metadata"];
    let patch = Patch::Merge(json!({"spec": {"replicas": 2, "template": {
        "metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]},
        "spec": pod["spec"],
    }}}));
    let deployments = namespace.api::<Deployment>();
    deployments
        .patch(NAME, &PatchParams::default(), &patch)
        .await?;
    let pods = web.until_ready(namespace).await?;
    for pod in &pods {
        let pems = pods::sidecar(pod).and_then(|sidecar| sidecar.env.clone());
        let pems = json!(pems.unwrap_or_default()).to_string();
        ensure!(
            pems.contains(&json!(wrong).to_string()),
            "it was not misled: {pems}"
        );
    }
    let read = |web: &Deployment| web.spec.as_ref().and_then(|spec| spec.replicas);
    let replicas = History::of(&namespace.api(), NAME, &["spec", "replicas"], read).await?;
    keda::scaling(NAME, None)
        .apply(namespace, stillwake)
        .await?;
    for pod in &pods {
        let name = pod.name_any();
        wait::until("a sidecar's refusal", watching::PATIENCE, async || {
            let parameters = LogParams {
                container: Some(SIDECAR.to_owned()),
                ..LogParams::default()
            };
            let log = namespace.api::<Pod>().logs(&name, &parameters).await?;
            ensure!(log.contains("no authority that is trusted"), "{log}");
            anyhow::Ok(())
        })
        .await?;
    }
    // Until then they may be late.
    wait::until(
        "knowledge that it is not known",
        watching::PATIENCE,
        async || {
            for seen in scaling::seen(stillwake, namespace, NAME).await? {
                let unknown = seen["unknown_pods"].as_array().map(Vec::len);
                let is_active = seen["active"] == true;
                ensure!(unknown == Some(2) && is_active, "{seen}");
            }
            anyhow::Ok(())
        },
    )
    .await?;
    for (replica, known) in counts::reporters(stillwake, &pods).await? {
        let said = known.iter().any(|reporter| reporter["reported"] == true);
        ensure!(!said, "{replica} was told something: {known:?}");
    }
    let values = replicas.values();
    ensure!(values == [Some(2)], "it was scaled: {values:?}");
    Ok(())
}

/// Puts another bundle into an injected pod; returns how often.
fn mislead(pod: &mut Value, bundle: &str) -> usize {
    let containers = pod["spec"]["initContainers"].as_array_mut();
    let variables = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["env"].as_array_mut())
        .flatten();
    let bundles =
        variables.filter(|variable| variable["name"] == "STILLWAKE_SIDECAR_AGGREGATOR_CA");
    let misled = bundles.map(|variable| variable["value"] = json!(bundle));
    misled.count()
}
