//! The aggregator's part of `/debug/state`.
//!
//! For people; its form may change with any release.

use serde_json::{Value, json};
use stillwake_proto::report::Role;
use tokio::time::Instant;

use crate::state::{ScaledObjectKey, State};

/// Most reporters and most `ScaledObject`s that are listed.
const MAX_LISTED: usize = 1_000;

pub(crate) fn state(state: &mut State, now: Instant) -> Value {
    let overview = state.overview(now);
    let objects: Vec<_> = overview
        .into_iter()
        .take(MAX_LISTED)
        .map(|(object, load, knowledge)| {
            let key = ScaledObjectKey {
                namespace: object.namespace.clone(),
                name: object.name.clone(),
            };
            json!({
                "namespace": object.namespace,
                "name": object.name,
                "workload": object.workload.to_string(),
                "active": load.active,
                "concurrency": load.concurrency,
                "request_rate": load.request_rate,
                "in_flight": load.in_flight,
                "held": load.held,
                "known": knowledge.is_ok(),
                "unknown_reason": knowledge.err().map(|unknown| unknown.to_string()),
                "unknown_pods": load.unknown_names,
                "uncounted_pods": state.uncounted_names(&object.workload),
                "ready_endpoints": load.ready_endpoints,
                "burst": state.describe_burst(&key, now),
            })
        })
        .collect();
    json!({
        "synced": state.is_synced(),
        "connected": {
            "sidecars": state.connected(Role::Sidecar),
            "activators": state.connected(Role::Activator),
        },
        "bursts": state.describe_bursts(),
        "reporters": state.reporters(MAX_LISTED),
        "scaled_objects": objects,
    })
}
