//! What the slices tell Prometheus. The gauges are read at the scrape, so they cannot drift from what is published.

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use crate::publisher::Shared;

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Create or change.
    Apply,
    /// Take away.
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What is counted as it happens. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    writes: Family<WriteLabels, Counter>,
    orphans_deleted: Counter,
}

impl Default for Metrics {
    /// Returns metrics in which every series is present from the start.
    fn default() -> Self {
        let metrics = Self {
            writes: Family::default(),
            orphans_deleted: Counter::default(),
        };
        for verb in [Verb::Apply, Verb::Delete] {
            for done in [true, false] {
                drop(metrics.writes.get_or_create(&labels(verb, done)));
            }
        }
        metrics
    }
}

impl Metrics {
    /// Registers everything, with gauges that look at `shared` when scraped.
    pub(crate) fn register(&self, shared: Weak<Shared>, registry: &mut Registry) {
        registry.register(
            "stillwake_activator_slice_writes",
            "EndpointSlices that were applied or deleted (done), or that the API server refused or did not answer for \
             (failed)",
            self.writes.clone(),
        );
        registry.register(
            "stillwake_activator_orphaned_slices_deleted",
            "EndpointSlices of other replicas that are gone, deleted by this one",
            self.orphans_deleted.clone(),
        );
        registry.register_collector(Box::new(Published(shared)));
    }

    /// Counts a write that was done or has failed.
    pub(crate) fn wrote(&self, verb: Verb, done: bool) {
        self.writes.get_or_create(&labels(verb, done)).inc();
    }

    /// Counts a slice of another replica that was deleted.
    pub(crate) fn orphan_deleted(&self) {
        self.orphans_deleted.inc();
    }
}

fn labels(verb: Verb, done: bool) -> WriteLabels {
    WriteLabels {
        verb: match verb {
            Verb::Apply => "apply",
            Verb::Delete => "delete",
        },
        outcome: if done { "done" } else { "failed" },
    }
}

/// Counts what is published at each scrape.
#[derive(Debug)]
struct Published(Weak<Shared>);

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shared = self.0.upgrade();
        let (ready, unready) = shared.map_or((0, 0), |shared| shared.published());
        let mut encoder = encoder.encode_descriptor(
            "stillwake_activator_slices",
            "EndpointSlices that this replica has published, by whether they draw connections",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [("ready", ready), ("unready", unready)] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_family(&StateLabel { state })?)?;
        }
        Ok(())
    }
}
