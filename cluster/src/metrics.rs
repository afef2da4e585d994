//! Metrics named `stillwake_cluster_*`. Labels are kinds and fixed words, never a name from the cluster.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is counted as it happens. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    watch_failures: Family<KindLabel, Counter>,
    events_lost: Family<ReasonLabel, Counter>,
    pub(crate) key_failures: Counter,
}

impl Metrics {
    /// Registers the metrics, once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            watch_failures: Family::default(),
            events_lost: Family::default(),
            key_failures: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("stillwake_cluster");
        registry.register(
            "watch_failures",
            "Lists and watches that the API server refused or that broke off, by kind",
            metrics.watch_failures.clone(),
        );
        registry.register(
            "events_lost",
            "Events that were not published, because too many waited (full) or the API server did not take them (refused)",
            metrics.events_lost.clone(),
        );
        registry.register(
            "key_failures",
            "Times that the API server's token keys could not be fetched",
            metrics.key_failures.clone(),
        );
        metrics
    }

    pub(crate) fn watch_failures(&self, kind: &str) -> Counter {
        let label = KindLabel {
            kind: kind.to_owned(),
        };
        self.watch_failures.get_or_create_owned(&label)
    }

    pub(crate) fn events_lost(&self, reason: &'static str) -> Counter {
        self.events_lost
            .get_or_create_owned(&ReasonLabel { reason })
    }
}
