//! How KEDA comes to the scaler's port: with what it is given, and what becomes of it when it is refused.

use anyhow::ensure;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{
        Namespace,
        history::History,
        keda,
        scaling::Scaling,
        stillwake::{Component, Stillwake},
        watching,
        web::Web,
    },
    wait,
};

/// Replicas of what must not be scaled: neither what idleness nor what load would ask for.
const REPLICAS: usize = 2;

/// Refused handshakes that are waited for: KEDA has then come more than once.
const REFUSALS: u64 = 3;

/// Gives KEDA a `TriggerAuthentication` with parameters such as `caCert`.
pub(crate) async fn authenticate(
    namespace: &Namespace,
    name: &str,
    parameters: &[(&str, &str)],
) -> anyhow::Result<()> {
    let data: serde_json::Map<_, _> = parameters
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": data,
    });
    let references: Vec<Value> = parameters
        .iter()
        .map(|(key, _)| json!({"parameter": key, "name": name, "key": key}))
        .collect();
    let authentication = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": name},
        "spec": {"secretTargetRef": references},
    });
    for object in [secret, authentication] {
        namespace
            .apply_object(serde_json::from_value(object)?)
            .await?;
    }
    Ok(())
}

/// Returns a `ScaledObject` of 5 requests in flight per replica, for which KEDA comes in plaintext; with TLS if it has an
/// authentication.
pub(crate) fn scaling(name: &str, authentication: Option<&str>) -> Scaling {
    let mut scaling = Scaling {
        // So that a wrong number would soon be seen.
        behavior: json!({"scaleDown": {"stabilizationWindowSeconds": 0}}),
        authentication: authentication.map(str::to_owned),
        ..Scaling::new(name, &[("targetConcurrency", "5"), ("window", "10s")])
    };
    if authentication.is_some() {
        let tls = ("enableTLS".to_owned(), "true".to_owned());
        scaling.metadata.extend([tls]);
    }
    scaling
}

/// Has KEDA come in a way in which it must be refused, and sees to it that it gets no answer and scales nothing. The
/// Deployment has no sidecar: it would count as busy, if anybody were told.
pub(crate) async fn refused(
    namespace: &Namespace,
    stillwake: &Stillwake,
    name: &str,
    authentication: Option<&str>,
) -> anyhow::Result<()> {
    let web = Web {
        replicas: REPLICAS,
        ..Web::new(name)
    };
    web.start(namespace).await?;
    let read = |web: &Deployment| web.spec.as_ref().and_then(|spec| spec.replicas);
    let path = &["spec", "replicas"];
    let replicas = History::of(&namespace.api(), name, path, read).await?;
    let before = handshakes_refused(stillwake).await?;
    let scaling = scaling(name, authentication);
    scaling.apply(namespace, stillwake).await?;
    let objects = namespace.scaled_objects();
    let path = &["status", "conditions"];
    let ready = History::of(&objects, name, path, |object| {
        keda::condition(object, "Ready").map(|(status, reason)| format!("{status} {reason}"))
    })
    .await?;
    watching::until(&objects, name, "refusal", |object| {
        let condition = object.and_then(|object| keda::condition(object, "Ready"));
        match condition {
            Some(("False", reason)) => Ok(reason.to_owned()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let what = format!("{REFUSALS} refused connections of {name}");
    wait::until(&what, watching::PATIENCE, async || {
        let refused = handshakes_refused(stillwake).await? - before;
        ensure!(refused >= REFUSALS, "{refused}");
        anyhow::Ok(())
    })
    .await?;
    let said = ready.values();
    let is_ready =
        |said: &Option<String>| said.as_ref().is_some_and(|said| said.starts_with("True"));
    ensure!(!said.iter().any(is_ready), "{name} was ready: {said:?}");
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    let hpa = hpas.get_opt(&keda::hpa_name(name)).await?;
    let looks = hpa
        .as_ref()
        .and_then(|hpa| keda::hpa_condition(hpa, "ScalingActive"));
    ensure!(
        looks.is_none_or(|(status, _)| status != "True"),
        "{name} is scaled: {looks:?}"
    );
    let values = replicas.values();
    ensure!(values == [Some(2)], "{name} was scaled: {values:?}");
    Ok(())
}

/// Returns how many of KEDA's connections were refused in the handshake, at all replicas.
async fn handshakes_refused(stillwake: &Stillwake) -> anyhow::Result<u64> {
    let pages = stillwake.metrics(Component::Aggregator).await?;
    let name = "stillwake_aggregator_scaler_connections_refused_total";
    let counts = pages.values().map(|page| {
        // There is none before the first.
        page.count(name, &[("reason", "handshake")]).unwrap_or(0)
    });
    Ok(counts.sum())
}
