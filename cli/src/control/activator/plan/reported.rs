//! Endpoints that aggregators told of, and whether the `EndpointSlice`s bear them out. A connection to an aggregator may
//! break just when it would have said that an endpoint is gone, and the address then belong to another pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use stillwake_proto::report::Workload;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Reported {
    unconfirmed: Duration,
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Debug)]
struct Endpoint {
    workload: Workload,
    /// Until when it may be missing in the slices; none once it has been there.
    missing_until: Option<Instant>,
}

impl Reported {
    /// Believes what no slice bears out for `unconfirmed`.
    pub(super) fn new(unconfirmed: Duration) -> Self {
        Self {
            unconfirmed,
            endpoints: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(super) fn ready(&mut self, workload: &Workload, uid: &str, now: Instant) {
        let missing_until = now + self.unconfirmed;
        self.endpoints
            .entry(uid.to_owned())
            .or_insert_with(|| Endpoint {
                workload: workload.clone(),
                missing_until: Some(missing_until),
            });
    }

    pub(super) fn gone(&mut self, uid: &str) {
        self.endpoints.remove(uid);
    }

    /// Takes in all endpoints that the slices list. Returns those that were listed once and are not any more.
    pub(super) fn listed(&mut self, listed: &BTreeSet<&str>) -> Vec<(Workload, String)> {
        for (uid, endpoint) in &mut self.endpoints {
            if listed.contains(uid.as_str()) {
                endpoint.missing_until = None;
            }
        }
        self.take(|uid, endpoint| endpoint.missing_until.is_none() && !listed.contains(uid))
    }

    /// Returns those that were missing for too long.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Workload, String)> {
        self.take(|_, endpoint| endpoint.missing_until.is_some_and(|until| until <= now))
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let endpoints = self.endpoints.values();
        endpoints
            .filter_map(|endpoint| endpoint.missing_until)
            .min()
    }

    fn take(&mut self, is_gone: impl Fn(&str, &Endpoint) -> bool) -> Vec<(Workload, String)> {
        self.endpoints
            .extract_if(.., |uid, endpoint| is_gone(uid, endpoint))
            .map(|(uid, endpoint)| (endpoint.workload, uid))
            .collect()
    }
}
