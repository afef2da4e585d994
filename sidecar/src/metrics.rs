//! The sidecar's metrics and its `/debug/state`, read from the live parts at each request.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use stillwake_proxy::relay::Relay;
use stillwake_reporting::Status;

use crate::source::State;

/// What the pages are made of.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) state: State,
    pub(crate) reporting: Status,
    pub(crate) relay: Arc<Relay>,
    /// The sockets that are listened on, each with the app's port behind it.
    pub(crate) ports: Vec<(std::net::SocketAddr, u16)>,
}

impl Pages {
    /// Returns the content of `/debug/state`.
    pub(crate) fn debug_state(&self) -> serde_json::Value {
        let snapshot = self.state.in_flight.snapshot();
        let ports = self.ports.iter();
        let ports: Vec<_> = ports
            .map(|(listen, app)| serde_json::json!({"listen": listen.to_string(), "app": app}))
            .collect();
        let addresses = self.reporting.addresses().into_iter();
        let addresses: Vec<_> = addresses
            .map(|status| {
                serde_json::json!({
                    "address": status.address.to_string(),
                    "connected": status.connected,
                    "since_seconds": status.since.elapsed().as_secs_f64(),
                    "last_error": status.last_error,
                })
            })
            .collect();
        let unresolved: serde_json::Map<_, _> = self
            .reporting
            .unresolved()
            .into_iter()
            .map(|(name, error)| (name, error.into()))
            .collect();
        let handovers = self.relay.handovers();
        serde_json::json!({
            "ports": ports,
            "in_flight": snapshot.in_flight,
            "in_flight_seconds": snapshot.in_flight_time.as_secs_f64(),
            "requests": snapshot.requests,
            "app_ready": *self.state.app_ready.borrow(),
            "draining": self.state.drain.is_draining(),
            "handovers": {"taken": handovers.taken, "failed": handovers.failed},
            "aggregators": addresses,
            "unresolved": unresolved,
        })
    }
}

impl Collector for Pages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.state.in_flight.snapshot();
        let totals = self.reporting.totals();
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn Metric| {
            metric.put(
                &mut encoder,
                &format!("stillwake_sidecar_{name}"),
                help,
                unit,
            )
        };
        put(
            "requests_in_flight",
            "Requests in flight",
            None,
            &gauge(snapshot.in_flight),
        )?;
        put(
            "requests",
            "Requests begun, without ignored ones",
            None,
            &ConstCounter::new(snapshot.requests),
        )?;
        put(
            "in_flight",
            "Integral of the requests in flight over time",
            Some(&Unit::Seconds),
            &ConstCounter::new(snapshot.in_flight_time.as_secs_f64()),
        )?;
        put(
            "app_ready",
            "1 if the app passes its readiness check",
            None,
            &gauge(u64::from(*self.state.app_ready.borrow())),
        )?;
        put(
            "draining",
            "1 once the sidecar was told to drain",
            None,
            &gauge(u64::from(self.state.drain.is_draining())),
        )?;
        let handovers = self.relay.handovers();
        put(
            "handovers",
            "Connections that went to the activator because the app did not take them any more, or soon would not",
            None,
            &ConstCounter::new(handovers.taken),
        )?;
        put(
            "handover_failures",
            "Connections that no activator took in the app's place: the app did, if it still listened",
            None,
            &ConstCounter::new(handovers.failed),
        )?;
        put(
            "report_connections",
            "Connections to aggregators that stand",
            None,
            &gauge(self.reporting.connected() as u64),
        )?;
        put(
            "report_connections_opened",
            "Connections to aggregators established",
            None,
            &ConstCounter::new(totals.connections),
        )?;
        put(
            "report_failures",
            "Connections to aggregators, and attempts, that ended in an error",
            None,
            &ConstCounter::new(totals.failures),
        )?;
        put(
            "reports",
            "Reports sent",
            None,
            &ConstCounter::new(totals.reports),
        )
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A metric of any type, so that one closure can write them all.
trait Metric {
    fn put(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> fmt::Result;
}

impl<M: EncodeMetric> Metric for M {
    fn put(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, unit, self.metric_type())?)
    }
}
