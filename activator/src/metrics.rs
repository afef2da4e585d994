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
use tokio::time::Instant;

use crate::{activator::Shared, event::ColdStart};

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
    /// Those before it were held in vain.
    Broken,
    /// Its client left before the answer.
    ClientLeft,
    /// Its endpoint took it and gave no answer.
    Failed,
    /// The activator was stopped.
    Stopped,
}

impl Outcome {
    /// All of them, in the order of their declaration.
    const ALL: [Self; 8] = [
        Self::Forwarded,
        Self::Overflow,
        Self::Deadline,
        Self::Unavailable,
        Self::Broken,
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
            Self::Broken => "broken",
            Self::ClientLeft => "client_left",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What became of a connection on the port where sidecars hand theirs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// It is known where it leads.
    Taken,
    /// It is of a pod or a port that is not known.
    Unknown,
    /// It says something else than whose it is.
    Malformed,
    /// It ended, or its time did, before it was said whose it is.
    Incomplete,
}

impl Handover {
    const ALL: [Self; 4] = [
        Self::Taken,
        Self::Unknown,
        Self::Malformed,
        Self::Incomplete,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Incomplete => "incomplete",
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

/// A part of a cold start. All but the total follow one upon the other and add up to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

/// From the arrival of the first request to the first report that tells of it.
const SIGNAL: Phase = Phase { phase: "signal" };
/// From there to the first endpoint.
const READY: Phase = Phase { phase: "ready" };
/// From there to the first byte of the answer.
const FIRST_BYTE: Phase = Phase {
    phase: "first_byte",
};
/// From the arrival to the first byte of the answer.
const TOTAL: Phase = Phase { phase: "total" };

/// Handles of the metrics that events move.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    retries: Counter,
    handovers: Family<Labels, Counter>,
    wait: Histogram,
    first_byte: Histogram,
    cold_start: Family<Phase, Histogram>,
}

/// Returns a histogram from 1 ms to 65 s, which holds the default deadline.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    /// Returns metrics in which every outcome and every phase is present from the start.
    fn default() -> Self {
        let metrics = Self {
            requests: Family::default(),
            retries: Counter::default(),
            handovers: Family::default(),
            wait: seconds(),
            first_byte: seconds(),
            cold_start: Family::new_with_constructor(seconds),
        };
        for phase in [SIGNAL, READY, FIRST_BYTE, TOTAL] {
            drop(metrics.cold_start.get_or_create(&phase));
        }
        for outcome in Outcome::ALL {
            let outcome = outcome.name();
            drop(metrics.requests.get_or_create(&Labels { outcome }));
        }
        for handover in Handover::ALL {
            let outcome = handover.name();
            drop(metrics.handovers.get_or_create(&Labels { outcome }));
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
        registry.register(
            "stillwake_activator_handovers",
            "Connections that sidecars of leaving pods handed over, by outcome",
            self.handovers.clone(),
        );
        registry.register(
            "stillwake_activator_retries",
            "Requests that an endpoint left unanswered and that were held again",
            self.retries.clone(),
        );
        registry.register_with_unit(
            "stillwake_activator_cold_start",
            "Time of wakes from zero, each as its first request lived through it, by phase",
            Unit::Seconds,
            self.cold_start.clone(),
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

    /// Counts a connection that a sidecar has handed over, or was meant to.
    pub(crate) fn handed_over(&self, handover: Handover) {
        let outcome = handover.name();
        self.handovers.get_or_create(&Labels { outcome }).inc();
    }

    /// Counts a request that is held again.
    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    /// Notes the times of a wake. One that needed no report has no signal, and was ready from its arrival on.
    pub(crate) fn cold_start(&self, times: &ColdStart) {
        let observe = |phase: &Phase, from: Instant, to: Instant| {
            let time = to.saturating_duration_since(from);
            let histogram = self.cold_start.get_or_create(phase);
            histogram.observe(time.as_secs_f64());
        };
        // What was reported may have been another request, which has left since.
        let signalled = times
            .signalled
            .map(|signalled| signalled.max(times.arrived));
        if let Some(signalled) = signalled {
            observe(&SIGNAL, times.arrived, signalled);
        }
        observe(&READY, signalled.unwrap_or(times.arrived), times.ready);
        observe(&FIRST_BYTE, times.ready, times.first_byte);
        observe(&TOTAL, times.arrived, times.first_byte);
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
        let shared = self.0.upgrade();
        let (requests, bytes) = shared.as_ref().map_or((0, 0), |shared| shared.held());
        let breakers = shared.map_or(0, |shared| shared.open_breakers());
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
            (
                "stillwake_activator_open_breakers",
                "Ports of workloads whose requests are answered at once because holding others was in vain",
                None,
                breakers,
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
