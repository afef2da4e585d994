//! What an HPA has in its spec, and how often that was written.

use anyhow::{Context, ensure};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use stillwake_e2e::cluster::{Namespace, history::History, keda};

/// How far a target may be from the user's.
const MOVED: f64 = 0.001;

/// Returns how often the spec of a `ScaledObject`'s HPA was changed since it was created.
pub(crate) async fn writes(namespace: &Namespace, scaled_object: &str) -> anyhow::Result<i64> {
    let hpa = get(namespace, scaled_object).await?;
    // Releases before 1.37 keep none.
    Ok(hpa.metadata.generation.unwrap_or_default())
}

/// Follows the spec of a `ScaledObject`'s HPA.
pub(crate) async fn specs(
    namespace: &Namespace,
    scaled_object: &str,
) -> anyhow::Result<History<HorizontalPodAutoscalerSpec>> {
    let read = |hpa: &HorizontalPodAutoscaler| hpa.spec.clone().unwrap_or_default();
    let name = keda::hpa_name(scaled_object);
    History::of(&namespace.api(), &name, &["spec"], read).await
}

/// Fails unless the target of a `ScaledObject`'s HPA is the user's, or moved by so little.
pub(crate) async fn ensure_target(
    namespace: &Namespace,
    scaled_object: &str,
    expected: f64,
) -> anyhow::Result<()> {
    let spec = get(namespace, scaled_object).await?.spec;
    let metrics = spec.and_then(|spec| spec.metrics).unwrap_or_default();
    let external = metrics.into_iter().find_map(|metric| metric.external);
    let target = external.and_then(|metric| metric.target.average_value);
    let text = target.context("the HPA has no external target")?.0;
    let target: f64 = match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>()? / 1_000.0,
        None => text.parse()?,
    };
    ensure!(
        (target / expected - 1.0).abs() <= MOVED + 1e-9,
        "the HPA's target is {text} instead of {expected}"
    );
    Ok(())
}

async fn get(
    namespace: &Namespace,
    scaled_object: &str,
) -> anyhow::Result<HorizontalPodAutoscaler> {
    let hpas = namespace.api::<HorizontalPodAutoscaler>();
    Ok(hpas.get(&keda::hpa_name(scaled_object)).await?)
}
