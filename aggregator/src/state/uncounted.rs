//! Ready pods without a sidecar: how many there are, and when somebody is told.
//!
//! That they keep their workload active follows in `reading.rs`.

use std::{collections::BTreeSet, time::Duration};

use stillwake_proto::report::Workload;
use tokio::time::Instant;

use super::{Member, ScaledObjectKey, State, reading::MAX_NAMES};
use crate::{
    history::{Moment, span},
    notice::Notice,
};

/// How often a `ScaledObject` is said at most to have such pods. A rollout replaces them one by one.
const REPEAT: Duration = Duration::from_mins(5);

/// What was said of one `ScaledObject`.
#[derive(Debug)]
pub(super) struct Told {
    /// When it was last said to have such pods.
    at: Moment,
    /// UIDs of those pods; none after it was said that there are none any more.
    pods: BTreeSet<String>,
}

impl State {
    /// Returns how many ready pods of scaled workloads have no sidecar.
    pub(crate) fn uncounted_pods(&self) -> usize {
        let scaled = self
            .workloads
            .iter()
            .filter(|(_, entry)| !entry.objects.is_empty());
        scaled
            .map(|(workload, _)| self.uncounted(workload).count())
            .sum()
    }

    /// Returns the names of the first of a workload's ready pods that have no sidecar.
    pub(crate) fn uncounted_names(&self, workload: &Workload) -> Vec<String> {
        first_names(self.uncounted(workload))
    }

    /// Returns what is to be told by now; each thing once. Has to be asked again in a while, as time alone brings news.
    pub(crate) fn notices(&mut self, now: Instant) -> Vec<Notice> {
        let now = self.advance(now);
        if !self.synced {
            return Vec::new();
        }
        let repeat = span(REPEAT);
        let mut told = std::mem::take(&mut self.told);
        told.retain(|key, told| {
            let is_over = told.pods.is_empty() && now - told.at >= repeat;
            !is_over && self.scaled_objects.contains_key(key)
        });
        let mut notices = Vec::new();
        for (key, object) in &self.scaled_objects {
            let workload = &object.workload;
            // What is there for a moment is not worth an alarm: the last pod of an old rollout, say.
            let grace = span(self.settings.grace);
            let lasts = |member: &&Member| member.ready_since.is_some_and(|at| now - at >= grace);
            let pods: BTreeSet<_> = self
                .uncounted(workload)
                .filter(lasts)
                .map(|member| member.pod.uid.clone())
                .collect();
            let before = told.get(key);
            let changed = before.map_or(!pods.is_empty(), |told| told.pods != pods);
            if !changed {
                continue;
            }
            if pods.is_empty() {
                notices.push(counted(key, workload));
                if let Some(told) = told.get_mut(key) {
                    told.pods.clear();
                }
            } else if before.is_none_or(|told| now - told.at >= repeat) {
                let members = pods.iter().filter_map(|uid| self.pods.get(uid));
                notices.push(uncounted(key, workload, first_names(members), pods.len()));
                told.insert(key.clone(), Told { at: now, pods });
            }
        }
        self.told = told;
        notices.extend(self.refused_triggers());
        notices
    }

    fn uncounted(&self, workload: &Workload) -> impl Iterator<Item = &Member> {
        let pods = self.workloads.get(workload).map(|entry| &entry.pods);
        let members = pods.into_iter().flatten();
        members
            .filter_map(|uid| self.pods.get(uid))
            .filter(|member| member.pod.ready && !member.pod.reports)
    }
}

fn first_names<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<String> {
    let names: BTreeSet<_> = members.map(|member| &member.pod.name).collect();
    names.into_iter().take(MAX_NAMES).cloned().collect()
}

fn uncounted(
    key: &ScaledObjectKey,
    workload: &Workload,
    pods: Vec<String>,
    total: usize,
) -> Notice {
    Notice::Uncounted {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        workload: workload.clone(),
        pods,
        total,
    }
}

fn counted(key: &ScaledObjectKey, workload: &Workload) -> Notice {
    Notice::Counted {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        workload: workload.clone(),
    }
}
