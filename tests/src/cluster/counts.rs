//! What the aggregators know of single pods, by the sidecars' own reports.
//!
//! What follows from it for a `ScaledObject` is in `cluster::scaling`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{
    stillwake::{Component, Stillwake},
    watching,
};
use crate::wait;

/// Returns what each ready aggregator knows of the sidecars of these pods, by its name.
///
/// # Errors
///
/// When one of them does not answer.
pub async fn reporters(
    stillwake: &Stillwake,
    pods: &[Pod],
) -> anyhow::Result<BTreeMap<String, Vec<Value>>> {
    let uids: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.metadata.uid.as_deref())
        .collect();
    let states = stillwake.states(Component::Aggregator).await?.into_iter();
    let known = states.map(|(replica, state)| {
        let reporters = state["reporters"].as_array().into_iter().flatten();
        let ours = reporters.filter(|reporter| {
            reporter["uid"]
                .as_str()
                .is_some_and(|uid| uids.contains(&uid))
        });
        (replica, ours.cloned().collect())
    });
    Ok(known.collect())
}

/// Waits until every aggregator has heard from the sidecars of all these pods that so many requests are in flight in them
/// together.
///
/// # Errors
///
/// When that does not come about, with what they know.
pub async fn until_in_flight(
    stillwake: &Stillwake,
    pods: &[Pod],
    count: u64,
) -> anyhow::Result<()> {
    let what = format!("{count} requests in flight");
    wait::until(&what, watching::PATIENCE, async || {
        let known = reporters(stillwake, pods)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let is_so = known.values().all(|reporters| {
            let counts = reporters
                .iter()
                .map(|reporter| reporter["in_flight"].as_u64());
            let sum: u64 = counts.flatten().sum();
            let heard = reporters
                .iter()
                .filter(|reporter| reporter["reported"] == true)
                .count();
            heard == pods.len() && sum == count
        });
        if is_so {
            Ok(())
        } else {
            Err(format!("{known:?}"))
        }
    })
    .await
}
