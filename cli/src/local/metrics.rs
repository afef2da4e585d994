//! The metrics of local mode's own parts.
//!
//! Those of the aggregator and the activator are theirs.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::local::{fleet::Phase, supervisor::View};

/// Counters and gauges of one local run. Clones share the values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Replicas that were started.
    pub replicas_started: Counter,
    /// Replicas that fell over or never became ready.
    pub replicas_failed: Counter,
    /// Replicas that the scaler asks for.
    pub desired: Gauge,
    replicas: Family<PhaseLabel, Gauge>,
    connections: Family<BackendLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: &'static str,
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("stillwake_local");
        registry.register(
            "replicas_started",
            "Replicas that were started",
            self.replicas_started.clone(),
        );
        registry.register(
            "replicas_failed",
            "Replicas that fell over or never became ready",
            self.replicas_failed.clone(),
        );
        registry.register(
            "desired_replicas",
            "Replicas that the scaler asks for",
            self.desired.clone(),
        );
        registry.register("replicas", "Replicas by state", self.replicas.clone());
        registry.register(
            "connections",
            "Connections of clients by where they were sent",
            self.connections.clone(),
        );
        self.show(&View::default());
        for backend in ["replica", "activator", "none"] {
            drop(self.connections.get_or_create(&BackendLabel { backend }));
        }
    }

    /// Counts a connection that was sent to `backend`: `replica`, `activator` or `none`.
    pub fn connection(&self, backend: &'static str) {
        self.connections
            .get_or_create(&BackendLabel { backend })
            .inc();
    }

    /// Takes in how many replicas there are.
    pub fn show(&self, view: &View) {
        for phase in [Phase::Starting, Phase::Ready, Phase::Draining] {
            let count = view
                .replicas
                .iter()
                .filter(|replica| replica.member.phase == phase)
                .count();
            let label = PhaseLabel {
                state: phase.name(),
            };
            self.replicas
                .get_or_create(&label)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
