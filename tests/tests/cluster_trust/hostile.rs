//! What strangers get at the port for reports while a real workload is counted.

mod floods;
mod sources;
mod speech;
mod tokens;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::LogParams};
use serde_json::{Value, json};
use stillwake_e2e::cluster::{
    self, Failure, IMAGE, Namespace, creation,
    stillwake::{Component, Stillwake},
    watching,
};

use self::{sources::Sources, tokens::Tokens};
use crate::steady::Steady;

/// A pod that is no replica of the workload.
const STRANGER: &str = "stranger";

#[test]
fn strangers_are_refused_and_bounded_and_no_number_moves() -> Result<(), Failure> {
    cluster::run("strangers", async |namespace| {
        let home = namespace.another("home of strangers", &[], &[]).await?;
        let values = json!({"log": {"format": "json"}});
        let stillwake = Stillwake::apart(&home, namespace, &values).await?;
        let stranger = stranger(namespace).await?;
        let steady = Steady::begin(namespace, &stillwake, None).await?;
        let victims = steady.pods().await?;
        let victim = victims.first().context("the workload has no pod")?;
        let tokens = Tokens::of(namespace, &stranger).await?;
        let sources = Sources::new(&stillwake).await?;
        let attacks = async {
            tokens::attack(&stillwake, &tokens, &stranger, victim, &sources).await?;
            floods::attack(&stillwake, &tokens, &stranger, &sources).await
        };
        steady.during(Box::pin(attacks)).await?;
        steady.right().await?;
        steady.end().await?;
        stillwake.uninstall().await
    })
}

/// Starts a pod without a sidecar.
async fn stranger(namespace: &Namespace) -> anyhow::Result<Pod> {
    let pod = json!({
        "metadata": {"name": STRANGER},
        "spec": {"containers": [{
            "name": "app",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "args": ["--address=0.0.0.0", "--port=8080"],
        }]},
    });
    creation::create(namespace, &pod).await?;
    watching::until(&namespace.api::<Pod>(), STRANGER, "a start", |pod| {
        let pod = pod.filter(|pod| watching::is_ready(pod));
        pod.cloned().ok_or("it is not ready")
    })
    .await
}

/// Connections that were refused, by reason: how many each aggregator has counted, and how many it has told.
type Refusals = BTreeMap<String, (u64, usize)>;

/// Returns what each aggregator says of refusals for one of these reasons, by its name.
async fn refusals(
    stillwake: &Stillwake,
    namespace: &Namespace,
    reason: &str,
) -> anyhow::Result<Refusals> {
    let name = "stillwake_aggregator_connections_refused_total";
    let logs = Api::<Pod>::namespaced(namespace.cluster().client(), stillwake.namespace());
    let mut found = Refusals::new();
    for (replica, page) in stillwake.metrics(Component::Aggregator).await? {
        // There is none before the first.
        let count = page.count(name, &[("reason", reason)]).unwrap_or(0);
        let log = logs.logs(&replica, &LogParams::default()).await?;
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = lines.filter(|line| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.starts_with("Refused a reporter") && line["fields"]["reason"] == reason
        });
        found.insert(replica, (count, told.count()));
    }
    Ok(found)
}

/// Fails unless a reason was counted so often and told so often at each aggregator.
fn ensure_refused(
    refusals: &Refusals,
    reason: &str,
    counted: u64,
    told: usize,
) -> anyhow::Result<()> {
    for (replica, found) in refusals {
        ensure!(
            *found == (counted, told),
            "{replica} has counted {} refusals for {reason} and told {}, not {counted} and {told}",
            found.0,
            found.1
        );
    }
    Ok(())
}

fn name(pod: &Pod) -> (String, String) {
    (pod.name_any(), pod.uid().unwrap_or_default())
}
