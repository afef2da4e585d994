//! Leaves and the authority replaced while requests flow, sidecars report, and pods are admitted.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace, counts, creation, pods,
        stillwake::{Component, Stillwake},
        watching,
    },
    wait,
};
use stillwake_runtime::tls::Trust;
use tokio::try_join;

use crate::{
    keda, ports,
    repeated::{Repeated, asking},
    steady::{REPLICAS, Steady, WEB},
};

/// As the sidecars' admin pages listen.
const SIDECAR_ADMIN: u16 = 15090;

/// Annotation that tells which authority signs.
const AUTHORITY: &str = "stillwake.dev/authority";

/// Annotation that wishes one replaced.
const RETIRE: &str = "stillwake.dev/retire-authority";

/// Annotation of a pod that tells which authorities its sidecar was given.
const GIVEN: &str = "stillwake.dev/authorities";

#[test]
fn leaves_and_the_authority_are_replaced_under_load_without_a_failure() -> Result<(), Failure> {
    cluster::run("rotation", async |namespace| {
        let home = namespace.another("home of rotation", &[], &[]).await?;
        // A leaf's life is the least that this settle time allows, and the authority's one at which the only rotation is
        // the one that is asked for.
        let values = json!({
            "certificates": {"self": {
                "authorityLifetime": "40m",
                "leafLifetime": "72s",
                "settle": "20s",
                "clockSkew": "2s",
            }},
            "aggregator": {"requireTls": true},
            // What is not admitted as it should be is then not created.
            "webhook": {"failurePolicy": "Fail"},
            "sidecar": {"adminAddress": format!("[::]:{SIDECAR_ADMIN}")},
        });
        let stillwake = Stillwake::apart(&home, namespace, &values).await?;
        Box::pin(rotated(namespace, &home, &stillwake)).await?;
        stillwake.uninstall().await
    })
}

async fn rotated(
    namespace: &Namespace,
    home: &Namespace,
    stillwake: &Stillwake,
) -> anyhow::Result<()> {
    let bundle = stillwake.authorities().await?;
    keda::authenticate(namespace, "stillwake", &[("caCert", &bundle)]).await?;
    let steady = Steady::begin(namespace, stillwake, Some("stillwake")).await?;
    let (first, leaves, replicas) = (
        signer(home, stillwake).await?,
        leaves(stillwake).await?,
        replicas(stillwake).await?,
    );
    let admitted = Repeated::admissions(namespace, stillwake);
    let verified = Repeated::handshakes(stillwake, &bundle)?;
    let opened = opened(&steady.pods().await?).await?;

    let retired = async {
        try_join!(
            keda::refused(namespace, stillwake, "plain", None),
            renewed(stillwake, &leaves),
        )?;
        retire(home, stillwake, &first).await?;
        switched(home, stillwake, &first).await
    };
    let second = steady.during(Box::pin(retired)).await?;
    let after = self::opened(&steady.pods().await?).await?;
    ensure!(
        after == opened,
        "the sidecars' connections before {opened:?} and after {after:?}"
    );
    ensure!(
        replicas == self::replicas(stillwake).await?,
        "a replica was replaced or restarted"
    );
    published(namespace, stillwake, 2).await?;

    // One that comes now is known by the link alone to those who were told of the first authority.
    replace_an_aggregator(home, stillwake).await?;
    let old = steady.pods().await?;
    for pod in &old {
        let given = pods::annotation(pod, GIVEN);
        ensure!(given == Some(first.as_str()), "a pod was given {given:?}");
    }
    connected(stillwake, &old).await?;
    steady.right().await?;
    steady.unscaled()?;

    // With the last pod that knows only the first authority goes the authority.
    verified.finish(50).await?;
    namespace.api::<Deployment>().restart(WEB).await?;
    connected(stillwake, &steady.pods().await?).await?;
    completed(stillwake).await?;
    published(namespace, stillwake, 1).await?;
    let (old, new) = (Trust::from_pem(&bundle)?, stillwake.authorities().await?);
    let new = Trust::from_pem(&new)?;
    wait::until("leaves without a link", watching::PATIENCE, async || {
        for (address, host) in ports::certified(stillwake).await? {
            ports::connect(&new, &host, address).await?;
            let still = ports::connect(&old, &host, address).await;
            ensure!(
                still.is_err(),
                "{address} is still trusted by the first authority"
            );
        }
        anyhow::Ok(())
    })
    .await?;
    let last = signer(home, stillwake).await?;
    ensure!(last == second, "{last} signs after {second}");
    steady.unscaled()?;
    admitted.finish(100).await?;
    steady.end().await
}

/// Returns which authority signs.
async fn signer(home: &Namespace, stillwake: &Stillwake) -> anyhow::Result<String> {
    let secrets = home.api::<Secret>();
    let secret = secrets
        .get_metadata(&stillwake.authorities_secret())
        .await?;
    let mut annotations = secret.metadata.annotations.unwrap_or_default();
    annotations.remove(AUTHORITY).context("nobody signs")
}

/// Wishes an authority replaced.
async fn retire(home: &Namespace, stillwake: &Stillwake, authority: &str) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {RETIRE: authority}}}));
    let secrets = home.api::<Secret>();
    let name = stillwake.authorities_secret();
    secrets
        .patch_metadata(&name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Waits until another authority than the `first` signs what every replica serves, and returns which.
async fn switched(home: &Namespace, stillwake: &Stillwake, first: &str) -> anyhow::Result<String> {
    let what = format!("a successor of {first} at all replicas");
    wait::until(&what, watching::PATIENCE, async || {
        let now = signer(home, stillwake).await?;
        ensure!(now != first, "it signs");
        for component in Component::CERTIFIED {
            for (replica, state) in stillwake.states(component).await? {
                let certificates = &state["certificates"];
                ensure!(
                    certificates["leaf_issuer"] == now,
                    "{replica}: {certificates}"
                );
            }
        }
        anyhow::Ok(now)
    })
    .await
}

/// Waits until the predecessor is trusted no more.
async fn completed(stillwake: &Stillwake) -> anyhow::Result<()> {
    wait::until(
        "the end of the rotation",
        2 * watching::PATIENCE,
        async || {
            let bundle = stillwake.authorities().await?;
            let count = bundle.matches("BEGIN CERTIFICATE").count();
            ensure!(count == 1, "{count} authorities");
            anyhow::Ok(())
        },
    )
    .await
}

/// Waits until the API server and new pods are given so many authorities.
async fn published(
    namespace: &Namespace,
    stillwake: &Stillwake,
    count: usize,
) -> anyhow::Result<()> {
    let all = Api::<MutatingWebhookConfiguration>::all(namespace.cluster().client());
    let what = format!("{count} authorities");
    watching::until(&all, stillwake.name(), &what, |configuration| {
        let webhooks = configuration.and_then(|found| found.webhooks.as_ref());
        let bundles = webhooks.ok_or("there is none")?.iter().map(|webhook| {
            let bundle = webhook.client_config.ca_bundle.clone().unwrap_or_default();
            let bundle = String::from_utf8_lossy(&bundle.0).into_owned();
            bundle.matches("BEGIN CERTIFICATE").count()
        });
        let counts: Vec<_> = bundles.collect();
        if counts.iter().all(|found| *found == count) {
            Ok(())
        } else {
            Err("others")
        }
    })
    .await?;
    wait::until(&what, watching::PATIENCE, async || {
        let created = creation::try_out(namespace, &asking()).await?;
        let pod: Pod = serde_json::from_value(created.object)?;
        let given = pods::annotation(&pod, GIVEN).unwrap_or_default();
        ensure!(
            given.split('.').count() == count,
            "a pod is given {given:?}"
        );
        anyhow::Ok(())
    })
    .await
}

/// Returns when the leaf of each replica ends.
async fn leaves(stillwake: &Stillwake) -> anyhow::Result<BTreeMap<String, String>> {
    let mut leaves = BTreeMap::new();
    for component in Component::CERTIFIED {
        for (replica, state) in stillwake.states(component).await? {
            let expires = state["certificates"]["leaf_expires"].as_str();
            leaves.insert(replica, expires.unwrap_or_default().to_owned());
        }
    }
    Ok(leaves)
}

/// Waits until every replica serves another leaf than before.
async fn renewed(stillwake: &Stillwake, before: &BTreeMap<String, String>) -> anyhow::Result<()> {
    wait::until("other leaves", watching::PATIENCE, async || {
        let now = leaves(stillwake).await?;
        let is_new = |(replica, leaf)| before.get(replica).is_some_and(|old| old != leaf);
        ensure!(now.iter().all(is_new), "{now:?}");
        anyhow::Ok(())
    })
    .await
}

/// Returns how often each container of the installation was restarted, by its pod.
async fn replicas(stillwake: &Stillwake) -> anyhow::Result<BTreeMap<String, i32>> {
    let mut found = BTreeMap::new();
    for component in Component::ALL {
        for pod in stillwake.replicas(component).await? {
            let name = pod.name_any();
            let status = pod.status.and_then(|status| status.container_statuses);
            let restarts = status
                .into_iter()
                .flatten()
                .map(|status| status.restart_count);
            found.insert(name, restarts.sum());
        }
    }
    Ok(found)
}

/// Returns how many connections to aggregators each sidecar has opened, and how many failed.
async fn opened(pods: &[Pod]) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
    let mut found = BTreeMap::new();
    for pod in pods {
        let page = client::get(ports::at(pod, SIDECAR_ADMIN)?, "/metrics")
            .await?
            .text();
        let value = |name: &str| -> anyhow::Result<u64> {
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value = line.with_context(|| format!("no {name} in:\n{page}"))?;
            Ok(value.parse()?)
        };
        let opened = value("stillwake_sidecar_report_connections_opened_total")?;
        let failed = value("stillwake_sidecar_report_failures_total")?;
        found.insert(pod.name_any(), (opened, failed));
    }
    Ok(found)
}

async fn replace_an_aggregator(home: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    let aggregators = stillwake.replicas(Component::Aggregator).await?;
    let name = aggregators
        .first()
        .context("there is no aggregator")?
        .name_any();
    home.api::<Pod>()
        .delete(&name, &DeleteParams::default())
        .await?;
    wait::until("another aggregator", watching::PATIENCE, async || {
        let now = stillwake.replicas(Component::Aggregator).await?;
        let is_another = now.iter().all(|pod| pod.name_any() != name);
        ensure!(
            is_another && now.len() == aggregators.len(),
            "{} ready",
            now.len()
        );
        anyhow::Ok(())
    })
    .await
}

/// Waits until each aggregator is connected with the sidecars of all these pods.
async fn connected(stillwake: &Stillwake, pods: &[Pod]) -> anyhow::Result<()> {
    wait::until(
        "reports to every aggregator",
        watching::PATIENCE,
        async || {
            for (replica, known) in counts::reporters(stillwake, pods).await? {
                let connected = known.iter().filter(|reporter| {
                    reporter["connected"] == true && reporter["reported"] == true
                });
                ensure!(connected.count() == REPLICAS, "{replica}: {known:?}");
            }
            anyhow::Ok(())
        },
    )
    .await
}
