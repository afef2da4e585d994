//! The answers: what a workload's load is, and whether that is known.
//!
//! Changes nothing but the time.

use std::time::Duration;

use stillwake_proto::report::Workload;
use tokio::time::Instant;

use super::{Entry, Member, ScaledObjectKey, State, reporters::Sidecar};
use crate::{
    history::{History, Moment, span},
    membership::{Pod, ScaledObject},
};

/// A reporter is silent after this many of its intervals.
const SILENT_INTERVALS: u32 = 3;

/// The short window that notices a burst is this part of the whole one: 6 s of 60 s, Knative's
/// `panic-window-percentage` of 10.
const PANIC_DIVISOR: u32 = 10;

/// What the short window has to exceed the whole one by to be a burst: the HPA's tolerance, within which it does not scale.
/// Less is noise. A short average follows each report, which may be a second old; the higher of both would be above the
/// truth under a steady load.
const BURST: f64 = 1.1;

/// Rates are never taken over less than this, or the window where that is less, since a process began: clients that come all
/// at once are no rate, and a young workload's first requests are no more than that. Their number is seen in flight.
const LEAST_RATE_SPAN: Duration = Duration::from_secs(10);

/// The same for a process that was there before us. What it served is not known, so that over 10 s too little would be
/// seen of it.
const LEAST_KNOWN_SPAN: Duration = Duration::from_secs(1);

/// Names of pods that an answer lists at most.
pub(super) const MAX_NAMES: usize = 10;

/// What is known about a workload's load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    /// Whether there is work, was lately, or may be.
    pub(crate) active: bool,
    /// Requests in flight, averaged over the window, or over its last tenth where that is clearly more, and those held
    /// now; or what lasts of both in a clear rise.
    pub(crate) concurrency: f64,
    /// Requests begun per second over the window.
    pub(crate) request_rate: f64,
    /// Requests in flight, as last reported.
    pub(crate) in_flight: u64,
    /// Requests held, as last reported.
    pub(crate) held: u64,
    /// Ready pods whose load is not known now.
    pub(crate) unknown_pods: usize,
    /// Names of the first of them.
    pub(crate) unknown_names: Vec<String>,
    /// Pods that take requests.
    pub(crate) ready_endpoints: usize,
}

/// Reasons why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unknown {
    /// Membership has not been told in full.
    #[error(
        "the aggregator has just started and does not know yet which ScaledObjects and pods exist"
    )]
    NotSynced,
    /// There is no such `ScaledObject`.
    #[error("there is no ScaledObject {namespace}/{name} with a Stillwake trigger")]
    NoScaledObject {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Ready pods have not reported since the aggregator began.
    #[error(
        "{count} ready pods of {workload} have not reported yet, such as {}; their load is unknown",
        names.join(", ")
    )]
    Unreported {
        /// Whose pods.
        workload: String,
        /// How many.
        count: usize,
        /// The first of them.
        names: Vec<String>,
    },
}

impl Unknown {
    fn no_such(key: &ScaledObjectKey) -> Self {
        Self::NoScaledObject {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

/// Whether the load of a workload can be told.
pub(crate) type Knowledge = Result<(), Unknown>;

/// What a push stream must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wake {
    /// How often the workload went from inactive to active.
    pub(crate) activations: u64,
    /// Requests are held, and there is no pod that takes them or may do so soon. Where there is one KEDA has heard, and writes
    /// for each time that it hears it again.
    pub(crate) starved: bool,
}

impl State {
    /// Returns the load of a `ScaledObject`'s workload, with averages over `window`.
    ///
    /// # Errors
    ///
    /// Says what is missing while the load is not known.
    pub(crate) fn load(
        &mut self,
        key: &ScaledObjectKey,
        window: Duration,
        now: Instant,
    ) -> Result<Load, Unknown> {
        let now = self.advance(now);
        let workload = self.prepare(key, window, now)?;
        Ok(self.measure(&workload, &self.workloads[&workload], now))
    }

    /// Lets time pass for a `ScaledObject`'s workload, and sets what averages of it are taken over. Returns which it is.
    fn prepare(
        &mut self,
        key: &ScaledObjectKey,
        window: Duration,
        now: Moment,
    ) -> Result<Workload, Unknown> {
        let workload = self.workload(key)?.clone();
        let Some(entry) = self.workloads.get_mut(&workload) else {
            return Err(Unknown::no_such(key));
        };
        entry.window = window;
        entry.level.remember_for(window / PANIC_DIVISOR);
        entry.level.observe(now);
        entry
            .departed
            .retain(|history| now - history.last_moment() <= span(window));
        self.knowledge(&workload, &self.workloads[&workload], now)?;
        Ok(workload)
    }

    /// Returns when it will be known whether a rise of this moment lasts, and how far it goes, and so what [`load`](Self::load) is;
    /// none if nothing is in doubt.
    pub(crate) fn doubtful_until(
        &mut self,
        key: &ScaledObjectKey,
        window: Duration,
        now: Instant,
    ) -> Option<Instant> {
        if !self.settings.bursts {
            return None;
        }
        let now = self.advance(now);
        let workload = self.prepare(key, window, now).ok()?;
        let entry = &self.workloads[&workload];
        let average = self.average(&workload, entry, now);
        let at = entry.level.doubtful_until(average, now)?;
        Some(self.instant(at))
    }

    /// Returns each `ScaledObject` with its load, known or not.
    pub(crate) fn overview(&mut self, now: Instant) -> Vec<(ScaledObject, Load, Knowledge)> {
        let now = self.advance(now);
        let objects = self.scaled_objects.values().filter_map(|object| {
            let entry = self.workloads.get(&object.workload)?;
            let load = self.measure(&object.workload, entry, now);
            let knowledge = self.knowledge(&object.workload, entry, now);
            Some((object.clone(), load, knowledge))
        });
        objects.collect()
    }

    /// Returns what decides on a push. A `ScaledObject` that is not known is not starved.
    pub(crate) fn wake_state(&mut self, key: &ScaledObjectKey, now: Instant) -> Wake {
        self.advance(now);
        let Some(object) = self.scaled_objects.get(key) else {
            return Wake::default();
        };
        let Some(entry) = self.workloads.get(&object.workload) else {
            return Wake::default();
        };
        Wake {
            activations: entry.activations,
            starved: entry.endpoints.is_empty()
                && entry.existing == 0
                && self.held(&object.workload) > 0,
        }
    }

    /// Returns each reporter for people: role, pod, uid, connected, and what it last said.
    pub(crate) fn reporters(&self, most: usize) -> Vec<serde_json::Value> {
        let activators = self.activators.iter().map(|(uid, activator)| {
            serde_json::json!({
                "role": "activator",
                "pod": activator.pod,
                "uid": uid,
                "connected": activator.connection.is_some(),
            })
        });
        let sidecars = self.sidecars.iter().map(|(uid, sidecar)| {
            serde_json::json!({
                "role": "sidecar",
                "pod": sidecar.pod,
                "uid": uid,
                "connected": sidecar.connection.is_some(),
                "workload": self.pods.get(uid).map(|known| known.pod.workload.to_string()),
                "reported": sidecar.current.is_some(),
                "in_flight": sidecar.in_flight,
                "app_ready": sidecar.app_ready,
                "draining": sidecar.draining,
            })
        });
        activators.chain(sidecars).take(most).collect()
    }

    fn workload(&self, key: &ScaledObjectKey) -> Result<&Workload, Unknown> {
        if !self.synced {
            return Err(Unknown::NotSynced);
        }
        let object = self.scaled_objects.get(key);
        object
            .map(|object| &object.workload)
            .ok_or_else(|| Unknown::no_such(key))
    }

    fn pods_of<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> impl Iterator<Item = (&'a Member, Option<&'a Sidecar>)> {
        let known = entry
            .pods
            .iter()
            .filter_map(|uid| Some((uid, self.pods.get(uid)?)));
        known.map(|(uid, member)| (member, self.sidecars.get(uid)))
    }

    pub(super) fn knowledge(&self, workload: &Workload, entry: &Entry, now: Moment) -> Knowledge {
        if !self.synced {
            return Err(Unknown::NotSynced);
        }
        let patience = 2 * self.settings.busy_interval;
        let grace = span(self.settings.grace);
        let missing = self.pods_of(entry).filter(|(member, sidecar)| {
            let settled = sidecar.is_some_and(|sidecar| {
                let current = sidecar.current.as_ref();
                !sidecar.past.is_empty()
                    || current
                        .is_some_and(|history| history.is_settled(now, LEAST_KNOWN_SPAN, patience))
            });
            let in_grace = member.ready_since.is_some_and(|since| now - since < grace);
            member.pod.ready && member.pod.reports && in_grace && !settled
        });
        let missing: Vec<_> = missing.map(|(member, _)| &member.pod.name).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Unknown::Unreported {
            workload: workload.to_string(),
            count: missing.len(),
            names: missing.into_iter().take(MAX_NAMES).cloned().collect(),
        })
    }

    /// A pod is unknown that takes traffic and never reported, or that reported and fell silent.
    fn is_unknown(&self, pod: &Pod, sidecar: Option<&Sidecar>, now: Moment) -> bool {
        let reported = sidecar.filter(|sidecar| sidecar.current.is_some() && pod.reports);
        let Some(sidecar) = reported else {
            return pod.ready;
        };
        let interval = if sidecar.in_flight > 0 {
            self.settings.busy_interval
        } else {
            self.settings.idle_interval
        };
        now - sidecar.heard > span(interval * SILENT_INTERVALS)
    }

    fn measure(&self, workload: &Workload, entry: &Entry, now: Moment) -> Load {
        let held = self.held(workload);
        let mut unknown = self
            .pods_of(entry)
            .filter(|(member, sidecar)| self.is_unknown(&member.pod, *sidecar, now))
            .map(|(member, _)| &member.pod.name);
        let unknown_names: Vec<_> = unknown.by_ref().take(MAX_NAMES).cloned().collect();
        let unknown_pods = unknown_names.len() + unknown.count();
        let mut concurrency = self.average(workload, entry, now);
        if self.settings.bursts {
            concurrency = entry.level.raise(concurrency, now);
        }
        let busy = entry.in_flight > 0 || held > 0;
        Load {
            active: busy || entry.active_lately(now) || unknown_pods > 0,
            concurrency,
            request_rate: self.rate_over(entry, entry.window, now),
            in_flight: entry.in_flight,
            held,
            unknown_pods,
            unknown_names,
            ready_endpoints: entry.endpoints.len(),
        }
    }

    /// Returns requests in flight on average, or lately where that is clearly more, and those held now.
    fn average(&self, workload: &Workload, entry: &Entry, now: Moment) -> f64 {
        let average = self.concurrency_over(entry, entry.window, now);
        let short = entry.window / PANIC_DIVISOR;
        let lately = self.concurrency_over(entry, short, now);
        let mut concurrency = if lately > average * BURST {
            lately
        } else {
            average
        };
        if self.is_pieced_together(entry, short, now) {
            concurrency = concurrency.max(entry.in_flight as f64);
        }
        concurrency + self.held(workload) as f64
    }

    fn histories<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a History> {
        let sidecars = self.pods_of(entry).filter_map(|(_, sidecar)| sidecar);
        let living = sidecars.flat_map(|sidecar| sidecar.past.iter().chain(&sidecar.current));
        living.chain(&entry.departed)
    }

    /// Whether some pods are known for less than the short window although they were there before, as after our start.
    ///
    /// Requests that moved between pods in that time are then missing where they were, and only partly where they are.
    fn is_pieced_together(&self, entry: &Entry, short: Duration, now: Moment) -> bool {
        let sidecars = self.pods_of(entry).filter_map(|(_, sidecar)| sidecar);
        let mut living = sidecars.filter_map(|sidecar| sidecar.current.as_ref());
        living.any(|history| {
            !history.is_from_birth() && history.covered_since(entry.known) > now - span(short)
        })
    }

    /// Averages over the window, or over as much of it as a reporter is known for.
    fn concurrency_over(&self, entry: &Entry, window: Duration, now: Moment) -> f64 {
        let averages = self.histories(entry).map(|history| {
            let from = (now - span(window)).max(history.covered_since(entry.known));
            if from >= now {
                // Known for no time at all: what it says now is the best average there is.
                return history.in_flight() as f64;
            }
            history.between(from, now).in_flight_time / (now - from) as f64
        });
        // The sum of nothing is -0, which people would ask about.
        0.0 + averages.sum::<f64>()
    }

    fn rate_over(&self, entry: &Entry, window: Duration, now: Moment) -> f64 {
        let rates = self.histories(entry).map(|history| {
            // What a busy process has begun since its last report is not known, and is not taken for nothing.
            let to = if history.in_flight() > 0 {
                history.last_moment().min(now)
            } else {
                now
            };
            let from = (to - span(window)).max(history.covered_since(entry.known));
            let least = if history.is_from_birth() {
                LEAST_RATE_SPAN.min(window)
            } else {
                LEAST_KNOWN_SPAN
            };
            let covered = (to - from).max(span(least));
            let per_microsecond = history.between(from, to).requests / covered as f64;
            per_microsecond * span(Duration::from_secs(1)) as f64
        });
        0.0 + rates.sum::<f64>()
    }
}
