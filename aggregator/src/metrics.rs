//! Metrics named `stillwake_aggregator_*`.
//!
//! Labels are bounded: never a pod, at most one series per `ScaledObject`.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use stillwake_proto::report::Role;
use tonic::Code;

use crate::{aggregator::Aggregator, history::Rejected};

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    reports: Counter,
    rejected: Family<ReasonLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    unidentified: Gauge,
    refused_scalers: Family<ReasonLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    pushes: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    namespace: String,
    scaled_object: String,
}

impl Metrics {
    pub(crate) fn register(&self, aggregator: &Aggregator, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("stillwake_aggregator");
        registry.register("reports", "Reports taken in", self.reports.clone());
        registry.register(
            "reports_rejected",
            "Reports ignored, by reason",
            self.rejected.clone(),
        );
        registry.register(
            "connections_refused",
            "Reporters' connections that broke or were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "unidentified_connections",
            "Reporters' connections that have not said yet who they are",
            self.unidentified.clone(),
        );
        registry.register(
            "scaler_connections_refused",
            "KEDA's connections that were refused, by reason",
            self.refused_scalers.clone(),
        );
        registry.register(
            "calls",
            "Calls of KEDA's external scaler, by method and the gRPC code of the answer",
            self.calls.clone(),
        );
        registry.register("pushes", "Wake-ups sent on streams", self.pushes.clone());
        registry.register_collector(Box::new(LoadCollector(aggregator.clone())));
    }

    pub(crate) fn took_report(&self) {
        self.reports.inc();
    }

    pub(crate) fn rejected(&self, rejected: Rejected) {
        let reason = match rejected {
            Rejected::Stale => "stale",
            Rejected::Inconsistent => "inconsistent",
            Rejected::Replaced => "replaced",
            Rejected::TooMany => "too_many",
        };
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a reporter's connection that broke or was refused. The reasons are few and ours.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a gRPC connection that was refused. The reasons are few and ours.
    pub(crate) fn refused_scaler(&self, reason: &'static str) {
        let label = ReasonLabel { reason };
        self.refused_scalers.get_or_create(&label).inc();
    }

    /// Returns how many reporters' connections have not said yet who they are.
    pub(crate) fn unidentified(&self) -> &Gauge {
        &self.unidentified
    }

    pub(crate) fn called(&self, method: &'static str, code: Code) {
        let code = format!("{code:?}");
        self.calls.get_or_create(&CallLabels { method, code }).inc();
    }

    pub(crate) fn pushed(&self) {
        self.pushes.inc();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads the loads at each scrape.
#[derive(Debug)]
struct LoadCollector(Aggregator);

type Loads = Family<ObjectLabels, Gauge<f64, AtomicU64>>;

impl LoadCollector {
    fn encode_bursts(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (outcomes, streams, stopped) = self.0.update(|state, _| {
            let streams = gauge(state.spec_streams());
            (state.burst_outcomes(), streams, state.bursts_stopped())
        });
        let bursts = Family::<OutcomeLabel, Counter>::default();
        for (outcome, count) in outcomes {
            bursts
                .get_or_create(&OutcomeLabel { outcome })
                .inc_by(count);
        }
        let help = "Clear rises of load on which the HPA was or should have been asked to look, by outcome";
        let described = encoder.encode_descriptor("bursts", help, None, bursts.metric_type())?;
        bursts.encode(described)?;
        for (name, help, value) in [
            (
                "spec_streams",
                "Streams of metric specs that KEDA has open here",
                streams,
            ),
            (
                "bursts_stopped",
                "1 while HPAs are not asked to look, since they do not when they are",
                i64::from(stopped),
            ),
        ] {
            let value = ConstGauge::new(value);
            let described = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(described)?;
        }
        Ok(())
    }
}

impl Collector for LoadCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_bursts(&mut encoder)?;
        let (overview, sidecars, activators, uncounted) = self.0.update(|state, now| {
            let connected = |role| gauge(state.connected(role));
            let (sidecars, activators) = (connected(Role::Sidecar), connected(Role::Activator));
            let uncounted = gauge(state.uncounted_pods());
            (state.overview(now), sidecars, activators, uncounted)
        });
        let reporters = Family::<RoleLabel, Gauge>::default();
        for (role, count) in [("sidecar", sidecars), ("activator", activators)] {
            reporters.get_or_create(&RoleLabel { role }).set(count);
        }
        let described = encoder.encode_descriptor(
            "reporters",
            "Reporters connected, by role",
            None,
            reporters.metric_type(),
        )?;
        reporters.encode(described)?;
        let pods = ConstGauge::new(uncounted);
        let described = encoder.encode_descriptor(
            "uncounted_pods",
            "Ready pods of scaled workloads that have no sidecar",
            None,
            pods.metric_type(),
        )?;
        pods.encode(described)?;

        let [in_flight, held, concurrency, rate, unknown] =
            std::array::from_fn::<_, 5, _>(|_| Loads::default());
        for (object, load, _) in overview {
            let labels = ObjectLabels {
                namespace: object.namespace,
                scaled_object: object.name,
            };
            in_flight.get_or_create(&labels).set(load.in_flight as f64);
            held.get_or_create(&labels).set(load.held as f64);
            concurrency.get_or_create(&labels).set(load.concurrency);
            rate.get_or_create(&labels).set(load.request_rate);
            unknown.get_or_create(&labels).set(load.unknown_pods as f64);
        }
        for (name, help, family) in [
            (
                "in_flight_requests",
                "Requests in flight, as last reported",
                in_flight,
            ),
            ("held_requests", "Requests that activators hold", held),
            (
                "concurrency_requests",
                "Requests in flight, averaged, and held",
                concurrency,
            ),
            (
                "request_rate_hertz",
                "Requests begun per second, averaged",
                rate,
            ),
            (
                "unknown_pods",
                "Ready pods whose load is not known",
                unknown,
            ),
        ] {
            let described = encoder.encode_descriptor(name, help, None, family.metric_type())?;
            family.encode(described)?;
        }
        Ok(())
    }
}
