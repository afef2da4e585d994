//! Metrics named `stillwake_webhook_*`. Labels are the fixed words of our own decisions, never a name from the cluster.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::warning::Reason;

/// From what the work takes (well below a millisecond) over the budget of 10 ms to what the API server gives up at.
const BUCKETS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// What became of an admission.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answered {
    Injected,
    Left,
    Trouble,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdmissionLabels {
    result: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is counted as it happens.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    admissions: Family<AdmissionLabels, Counter>,
    warnings: Family<ReasonLabel, Counter>,
    duration: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            admissions: Family::default(),
            warnings: Family::default(),
            duration: Histogram::new(BUCKETS),
        };
        let registry = registry.sub_registry_with_prefix("stillwake_webhook");
        registry.register(
            "admissions",
            "Admissions answered, by result and the reason where nothing was injected",
            metrics.admissions.clone(),
        );
        registry.register(
            "warnings",
            "Warnings given, by their reason",
            metrics.warnings.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time from a request that was read to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, result: Answered, reason: &'static str) {
        let result = match result {
            Answered::Injected => "injected",
            Answered::Left => "left",
            Answered::Trouble => "trouble",
        };
        let labels = AdmissionLabels { result, reason };
        self.admissions.get_or_create(&labels).inc();
    }

    pub(crate) fn warned(&self, reason: Reason) {
        let reason = reason.as_str();
        self.warnings.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }
}
