//! Bursts: the levels of workloads, and the specs that ask the HPA to look.
//!
//! When one is asked for is decided in `burst`. Only a stream that is open asks: its own aggregator's step does.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use stillwake_proto::report::Workload;
use tokio::time::Instant;

use super::{Effect, Entry, ScaledObjectKey, State};
use crate::{
    burst::{Burst, Scale, Settled, Shared, Step, moved},
    history::{Moment, span},
    settings::Settings,
    trigger::Trigger,
};

/// How often it is looked again whether the load is known, where that alone is missing.
const KNOWLEDGE_INTERVAL: Duration = Duration::from_secs(1);

/// `StreamIsActive` streams opened, and time passed since the first, before it is said that KEDA opens none of specs. KEDA ≥
/// 2.21 opens both at once, though not always here.
const TELLING_STREAMS: u64 = 5;
const TELLING_TIME: Duration = Duration::from_mins(1);

/// Every `ScaledObject`'s memory, and what they share.
#[derive(Debug)]
pub(super) struct Bursts {
    objects: BTreeMap<ScaledObjectKey, Looks>,
    shared: Shared,
    /// Streams of activity opened so far, and since when.
    activity_streams: u64,
    activity_since: Option<Moment>,
    /// Whether one of specs was ever opened.
    specs_opened: bool,
    unopened_told: bool,
}

/// One `ScaledObject`'s.
#[derive(Debug, Default)]
struct Looks {
    burst: Burst,
    /// Streams of its specs that are open.
    streams: usize,
    unmovable_told: bool,
}

/// What a stream of specs does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SpecStep {
    /// Whether the target is the moved one.
    pub(crate) moved: bool,
    /// When to look again; without it when something changes.
    pub(crate) wait: Option<Instant>,
}

impl Bursts {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            objects: BTreeMap::new(),
            shared: Shared::new(settings.burst_interval, settings.bursts_per_second),
            activity_streams: 0,
            activity_since: None,
            specs_opened: false,
            unopened_told: false,
        }
    }

    /// Forgets a `ScaledObject` that is gone, unless a stream keeps it.
    pub(super) fn forget(&mut self, key: &ScaledObjectKey) {
        let Some(looks) = self.objects.get_mut(key) else {
            return;
        };
        looks.burst.abandon(&mut self.shared);
        if looks.streams == 0 {
            self.objects.remove(key);
        }
    }
}

impl State {
    /// A stream of activity was opened.
    pub(crate) fn activity_stream_opened(&mut self, now: Instant) {
        let now = self.advance(now);
        self.bursts.activity_streams += 1;
        self.bursts.activity_since.get_or_insert(now);
    }

    /// Returns whether it is to be said, for once, that KEDA opens streams of activity and none of specs.
    pub(crate) fn tells_of_missing_specs(&mut self, now: Instant) -> bool {
        let now = self.advance(now);
        let bursts = &mut self.bursts;
        let telling = bursts.activity_streams >= TELLING_STREAMS
            && bursts
                .activity_since
                .is_some_and(|since| now - since >= span(TELLING_TIME))
            && !bursts.specs_opened
            && !bursts.unopened_told;
        bursts.unopened_told |= telling;
        telling
    }

    /// A stream of a `ScaledObject`'s specs was opened.
    pub(crate) fn spec_stream_opened(&mut self, key: &ScaledObjectKey, trigger: &Trigger) {
        self.bursts.specs_opened = true;
        let looks = self.bursts.objects.entry(key.clone()).or_default();
        looks.streams += 1;
        let unmovable = trigger
            .concurrency
            .filter(|target| moved(*target).is_none());
        if let Some(target) = unmovable
            && !std::mem::replace(&mut looks.unmovable_told, true)
        {
            tracing::info!(
                namespace = key.namespace,
                name = key.name,
                target,
                "A target that cannot be moved by a thousandth: bursts of this ScaledObject wait for the HPA's own turn"
            );
        }
    }

    /// It ended.
    pub(crate) fn spec_stream_closed(&mut self, key: &ScaledObjectKey) {
        let known = self.scaled_objects.contains_key(key);
        let Bursts {
            objects, shared, ..
        } = &mut self.bursts;
        let Some(looks) = objects.get_mut(key) else {
            return;
        };
        looks.streams -= 1;
        if looks.streams == 0 {
            // Whoever was to look may be gone.
            looks.burst.abandon(shared);
            if !known {
                objects.remove(key);
            }
        }
    }

    /// Returns how many streams of specs are open.
    pub(crate) fn spec_streams(&self) -> usize {
        let objects = self.bursts.objects.values();
        objects.map(|looks| looks.streams).sum()
    }

    /// Returns whether a `ScaledObject`'s target is the moved one: the one truth for `GetMetricSpec` and the streams.
    pub(crate) fn is_target_moved(&self, key: &ScaledObjectKey) -> bool {
        let looks = self.bursts.objects.get(key);
        looks.is_some_and(|looks| looks.burst.is_moved())
    }

    /// Decides what a stream of specs does, and moves the target if the HPA should look.
    pub(crate) fn spec_step(
        &mut self,
        key: &ScaledObjectKey,
        trigger: &Trigger,
        now: Instant,
    ) -> SpecStep {
        let now = self.advance(now);
        let step = if self.settings.bursts {
            self.burst_step(key, trigger, now)
        } else {
            Step::Wait
        };
        let wait = match step {
            Step::WaitUntil(at) => Some(self.instant(at.max(now))),
            Step::Ask | Step::Wait => None,
        };
        SpecStep {
            moved: self.is_target_moved(key),
            wait,
        }
    }

    fn burst_step(&mut self, key: &ScaledObjectKey, trigger: &Trigger, now: Moment) -> Step {
        let Some(object) = self.scaled_objects.get(key) else {
            return Step::Wait;
        };
        let workload = object.workload.clone();
        let Some(entry) = self.workloads.get_mut(&workload) else {
            return Step::Wait;
        };
        entry.level.observe(now);
        let scale = Scale {
            target: trigger
                .concurrency
                .filter(|target| moved(*target).is_some()),
            pods: entry.existing,
            most: usize::try_from(object.max_replicas).unwrap_or(usize::MAX),
            paused: object.paused,
        };
        let Some(looks) = self.bursts.objects.get_mut(key) else {
            return Step::Wait;
        };
        let shared = &mut self.bursts.shared;
        let settled = looks.burst.settle(scale.pods, shared, now);
        let was_queued = looks.burst.queued(now).is_some();
        let mut step = looks.burst.step(&entry.level, scale, shared, now);
        let passes = was_queued && looks.burst.queued(now).is_none();
        self.settled(key, settled, now);
        let entry = &self.workloads[&workload];
        if step == Step::Ask && self.knowledge(&workload, entry, now).is_err() {
            // A look would find no answer.
            step = Step::WaitUntil(now + span(KNOWLEDGE_INTERVAL));
        }
        if step != Step::Ask {
            if passes {
                self.wake_queued(now);
            }
            return step;
        }
        if let Some(looks) = self.bursts.objects.get_mut(key) {
            let shared = &mut self.bursts.shared;
            looks.burst.ask(&entry.level, scale, shared, now);
            tracing::debug!(
                namespace = key.namespace,
                name = key.name,
                lasting = entry.level.lasting(now),
                pods = scale.pods,
                "Asking the HPA to look"
            );
            // Further streams of the same object have to say the same.
            self.effects.push(Effect::Wake(key.clone()));
        }
        Step::Ask
    }

    /// The HPA has looked, and found `value` if it asked here for that.
    pub(crate) fn looked(&mut self, key: &ScaledObjectKey, value: Option<f64>, now: Instant) {
        let now = self.advance(now);
        let entry = self
            .scaled_objects
            .get(key)
            .and_then(|object| self.workloads.get(&object.workload));
        if let (Some(entry), Some(looks)) = (entry, self.bursts.objects.get_mut(key)) {
            let (level, pods) = (&entry.level, entry.existing);
            tracing::debug!(
                namespace = key.namespace,
                name = key.name,
                found = value,
                level = level.now(),
                lasting = level.lasting(now),
                "The HPA has looked"
            );
            let settled = looks
                .burst
                .looked(level, value, pods, &mut self.bursts.shared, now);
            self.settled(key, settled, now);
        }
    }

    /// Says what is to be said, and lets those go on who waited for it.
    fn settled(&mut self, key: &ScaledObjectKey, settled: Settled, now: Moment) {
        match settled {
            Settled::Nothing => return,
            Settled::Followed | Settled::Unread => {}
            Settled::LostHere => tracing::warn!(
                namespace = key.namespace,
                name = key.name,
                "The HPA does not look when it is asked to; bursts of this ScaledObject wait for its own turn, up to 15 s"
            ),
            Settled::Lost => tracing::warn!(
                "HPAs do not look when they are asked to, as before Kubernetes 1.37 or without its gate HPAGeneration; bursts \
                 wait for their own turn, up to 15 s"
            ),
        }
        self.wake_queued(now);
    }

    /// Lets as many go on as there is room for: of those that have nothing else in their way, whose HPA would look last.
    fn wake_queued(&mut self, now: Moment) {
        let free = self.bursts.shared.free();
        let objects = self.bursts.objects.iter();
        let mut queued: Vec<_> = objects
            .filter_map(|(key, looks)| Some((Reverse(looks.burst.queued(now)?), key)))
            .collect();
        queued.sort_unstable();
        let woken = queued.into_iter().take(free);
        let woken = woken.map(|(_, key)| Effect::Wake(key.clone()));
        self.effects.extend(woken);
    }

    /// The number of a workload's requests may have changed.
    pub(super) fn note_level(&mut self, workload: &Workload, now: Moment) {
        let held = self.held(workload);
        let Some(entry) = self.workloads.get_mut(workload) else {
            return;
        };
        let level = entry.in_flight + held;
        if level == entry.level.now() {
            return;
        }
        entry.level.change(level, now);
        for key in &entry.objects {
            let looks = self.bursts.objects.get_mut(key);
            if looks.is_some_and(|looks| looks.streams > 0 && looks.burst.is_interested(level)) {
                self.effects.push(Effect::Wake(key.clone()));
            }
        }
    }

    /// Returns how often each outcome came about, by its name.
    pub(crate) fn burst_outcomes(&self) -> Vec<(&'static str, u64)> {
        self.bursts.shared.outcomes().collect()
    }

    /// Returns whether looks are not asked for any more, since none followed.
    pub(crate) fn bursts_stopped(&self) -> bool {
        self.bursts.shared.belief.is_lost()
    }

    /// Returns what bursts have in common, for people.
    pub(crate) fn describe_bursts(&self) -> Value {
        json!({
            "enabled": self.settings.bursts,
            "spec_streams": self.spec_streams(),
            "looks": self.bursts.shared.belief.name(),
            "outcomes": self.bursts.shared.outcomes().collect::<BTreeMap<_, _>>(),
        })
    }

    /// Returns what is known of a `ScaledObject`'s bursts, for people; nothing while no stream of its specs was opened here.
    pub(crate) fn describe_burst(&self, key: &ScaledObjectKey, now: Instant) -> Value {
        let now = span(now.saturating_duration_since(self.began)).max(self.latest);
        let entry = self
            .scaled_objects
            .get(key)
            .and_then(|object| self.workloads.get(&object.workload));
        let (
            Some(Entry {
                level, existing, ..
            }),
            Some(looks),
        ) = (entry, self.bursts.objects.get(key))
        else {
            return Value::Null;
        };
        let mut described = looks.burst.describe(level, now);
        described["spec_streams"] = looks.streams.into();
        described["pods"] = (*existing).into();
        described
    }
}
