//! What `/debug/state` says of local mode.

use std::net::SocketAddr;

use serde_json::{Value, json};
use stillwake_activator::Activator;
use stillwake_aggregator::Aggregator;
use tokio::sync::watch;

use crate::local::{scaler, supervisor};

/// Where to look when asked.
#[derive(Debug)]
pub(super) struct State {
    pub(super) scaler_address: SocketAddr,
    pub(super) scaler: watch::Receiver<scaler::View>,
    pub(super) fleet: watch::Receiver<supervisor::View>,
    pub(super) aggregator: Aggregator,
    pub(super) activator: Activator,
}

impl State {
    /// Returns the state of this moment.
    pub(super) fn json(&self) -> Value {
        let fleet = self.fleet.borrow().clone();
        let replicas: Vec<_> = fleet.replicas.iter().map(replica).collect();
        json!({
            "scaler": self.scaler(),
            "replicas": replicas,
            "replicas_started": fleet.started,
            "replicas_failed": fleet.failures,
            "last_failure": fleet.last_failure,
            "aggregator": self.aggregator.debug_state(),
            "activator": self.activator.debug_state(),
        })
    }

    fn scaler(&self) -> Value {
        let view = self.scaler.borrow().clone();
        let metrics: Vec<_> = view.metrics.iter().map(metric).collect();
        let since = view
            .last_active
            .map(|moment| moment.elapsed().as_secs_f64());
        json!({
            "address": self.scaler_address.to_string(),
            "desired": view.desired,
            "active": view.active,
            "seconds_since_active": since,
            "metrics": metrics,
            "last_error": view.last_error,
        })
    }
}

fn metric((name, target, total): &(String, f64, Option<f64>)) -> Value {
    json!({ "name": name, "target": target, "total": total })
}

fn replica(view: &supervisor::ReplicaView) -> Value {
    let (pid, sidecar_pid) = view.ids;
    json!({
        "name": *view.identity.name,
        "uid": view.identity.uid,
        "pid": pid,
        "sidecar_pid": sidecar_pid,
        "port": view.identity.port,
        "sidecar_port": view.identity.sidecar_port,
        "state": view.member.phase.name(),
    })
}
