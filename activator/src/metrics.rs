//! What the activator tells Prometheus. Gauges are read at the scrape, so they cannot drift from the queues.

use std::{fmt, sync::Weak, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::activator::Shared;

/// How a request ended for the activator. Each request ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An endpoint answered it.
    Forwarded,
    /// A bound was reached when it came.
    Overflow,
    /// No endpoint came in time.
    Deadline,
    /// Nobody would wake its workload.
    Unavailable,
    /// Its client left before the answer.
    ClientLeft,
    /// Its endpoint took it and gave no answer.
    Failed,
    /// The activator was stopped.
    Stopped,
}

impl Outcome {
    /// All of them, in the order of their declaration.
    const ALL: [Self; 7] = [
        Self::Forwarded,
        Self::Overflow,
        Self::Deadline,
        Self::Unavailable,
        Self::ClientLeft,
        Self::Failed,
        Self::Stopped,
    ];

    /// Returns the outcome as metrics and the debug state spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Overflow => "overflow",
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::ClientLeft => "client_left",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Requests ended so far, by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals([u64; Outcome::ALL.len()]);

impl Totals {
    /// Counts one.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// Returns every total with the name of its outcome.
    pub(crate) fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = move |outcome: Outcome| (outcome.name(), self.0[outcome as usize]);
        Outcome::ALL.into_iter().map(named)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// Handles of the metrics that events move.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    wait: Histogram,
    first_byte: Histogram,
}

impl Default for Metrics {
    /// Returns metrics in which every outcome is present from the start.
    fn default() -> Self {
        // 1 ms to 65 s, which holds the default deadline.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let metrics = Self {
            requests: Family::default(),
            wait: seconds(),
            first_byte: seconds(),
        };
        for outcome in Outcome::ALL {
            let outcome = outcome.name();
            drop(metrics.requests.get_or_create(&Labels { outcome }));
        }
        metrics
    }
}

impl Metrics {
    /// Registers everything, with gauges that look at `shared` when scraped.
    pub(crate) fn register(&self, shared: Weak<Shared>, registry: &mut Registry) {
        registry.register(
            "stillwake_activator_requests",
            "Requests and opaque connections that ended, by outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "stillwake_activator_wait",
            "Time a request was held before its backend took over",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register_with_unit(
            "stillwake_activator_first_byte",
            "Time from a request's release to the first of its answer",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        registry.register_collector(Box::new(Held(shared)));
    }

    /// Counts a request that ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        let outcome = outcome.name();
        self.requests.get_or_create(&Labels { outcome }).inc();
    }

    /// Notes how long a request was held that its backend took over.
    pub(crate) fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    /// Notes how long after the release the first of an answer came.
    pub(crate) fn first_byte(&self, time: Duration) {
        self.first_byte.observe(time.as_secs_f64());
    }
}

/// Sums over the queues at each scrape.
#[derive(Debug)]
struct Held(Weak<Shared>);

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (requests, bytes) = self.0.upgrade().map_or((0, 0), |shared| shared.held());
        let described = [
            (
                "stillwake_activator_held_requests",
                "Requests and opaque connections held now",
                None,
                requests,
            ),
            (
                "stillwake_activator_held",
                "Bytes of request heads held now",
                Some(&Unit::Bytes),
                bytes,
            ),
        ];
        for (name, help, unit, value) in described {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}
