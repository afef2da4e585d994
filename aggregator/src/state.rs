//! The synchronous heart: what exists, what was reported, and what follows from both.
//!
//! Fed with events and the time they happened; no sockets, no locks, no timers. What others must hear is queued as
//! [`Effect`]s. Questions are answered in `state/reading.rs`.

mod bursts;
mod held;
mod reading;
mod refused;
mod reporters;
mod uncounted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use stillwake_proto::report::{Endpoint, Port, Role, Workload};
use tokio::time::Instant;

pub(crate) use self::reading::{Load, Unknown, Wake};
use self::{
    bursts::Bursts, held::Activator, refused::Refused, reporters::Sidecar, uncounted::Told,
};
use crate::{
    burst::Level,
    history::{History, Moment, span},
    membership::{MembershipEvent, Pod, ScaledObject},
    settings::Settings,
    trigger::DEFAULT_WINDOW,
};

/// Names one connection of a reporter for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Names a `ScaledObject`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScaledObjectKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Something that must reach a connection or a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Tell an activator.
    Endpoint(ConnectionId, Endpoint),
    /// Close a connection that a newer one replaced.
    Close(ConnectionId),
    /// Look again what the streams of a `ScaledObject` have to say.
    Wake(ScaledObjectKey),
}

/// All that the aggregator knows.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    began: Instant,
    /// The latest time that was told; earlier ones are taken as this one.
    latest: Moment,
    synced: bool,
    connections: HashMap<ConnectionId, Connection>,
    /// By pod UID. Without a pod of that UID, kept only while connected.
    sidecars: HashMap<String, Sidecar>,
    /// By pod UID. There are a handful.
    activators: BTreeMap<String, Activator>,
    pods: HashMap<String, Member>,
    scaled_objects: BTreeMap<ScaledObjectKey, ScaledObject>,
    workloads: HashMap<Workload, Entry>,
    refused: BTreeMap<ScaledObjectKey, Refused>,
    bursts: Bursts,
    effects: Vec<Effect>,
    /// What was said of pods without a sidecar.
    told: BTreeMap<ScaledObjectKey, Told>,
}

#[derive(Clone, Debug)]
struct Connection {
    role: Role,
    uid: String,
}

/// A pod that exists.
#[derive(Clone, Debug)]
struct Member {
    pod: Pod,
    /// When it was first told to be ready; what readiness it lost in between does not matter.
    ready_since: Option<Moment>,
}

/// What belongs to one workload.
#[derive(Debug)]
struct Entry {
    /// Since when it is watched.
    known: Moment,
    window: Duration,
    objects: BTreeSet<ScaledObjectKey>,
    pods: BTreeSet<String>,
    /// How many of its pods are not terminating.
    existing: usize,
    /// Sum over its pods.
    in_flight: u64,
    /// That and what is held, over the last moments.
    level: Level,
    endpoints: BTreeMap<String, (String, Vec<Port>)>,
    /// Of pods that are gone, until they leave the window.
    departed: Vec<History>,
    last_activity: Option<Moment>,
    /// Twice the longest polling interval of its `ScaledObject`s.
    activity_window: Duration,
    /// How often it went from inactive to active.
    activations: u64,
}

impl Entry {
    fn new(known: Moment, lasting: Duration) -> Self {
        Self {
            known,
            level: Level::new(lasting, known),
            window: DEFAULT_WINDOW,
            objects: BTreeSet::new(),
            pods: BTreeSet::new(),
            existing: 0,
            in_flight: 0,
            endpoints: BTreeMap::new(),
            departed: Vec::new(),
            last_activity: None,
            activity_window: 2 * DEFAULT_POLLING_INTERVAL,
            activations: 0,
        }
    }

    /// Notes that it had work at `at`.
    fn touch(&mut self, at: Moment) {
        self.last_activity = self.last_activity.max(Some(at));
    }

    fn active_lately(&self, now: Moment) -> bool {
        self.last_activity
            .is_some_and(|last| now - last <= span(self.activity_window))
    }
}

/// KEDA's default `pollingInterval`.
const DEFAULT_POLLING_INTERVAL: Duration = Duration::from_secs(30);

impl State {
    /// Creates a state that knows nothing yet.
    pub(crate) fn new(settings: Settings, began: Instant) -> Self {
        Self {
            bursts: Bursts::new(&settings),
            settings,
            began,
            latest: 0,
            synced: false,
            connections: HashMap::new(),
            sidecars: HashMap::new(),
            activators: BTreeMap::new(),
            pods: HashMap::new(),
            scaled_objects: BTreeMap::new(),
            workloads: HashMap::new(),
            refused: BTreeMap::new(),
            effects: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    /// Takes in a change of what exists.
    pub(crate) fn apply(&mut self, event: MembershipEvent, now: Instant) {
        let now = self.advance(now);
        match event {
            MembershipEvent::ScaledObject(object) => self.scaled_object(object, now),
            MembershipEvent::ScaledObjectGone { namespace, name } => {
                self.forget_scaled_object(&ScaledObjectKey { namespace, name });
            }
            MembershipEvent::Pod(pod) => self.pod(pod, now),
            MembershipEvent::PodGone { uid } => self.forget_pod(&uid, now),
            MembershipEvent::Synced => {
                self.synced = true;
                let objects = self.scaled_objects.keys().cloned();
                self.effects.extend(objects.map(Effect::Wake));
            }
        }
    }

    /// Takes what has to be told to others since the last call, in order.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Returns how many reporters of a role are connected.
    pub(crate) fn connected(&self, role: Role) -> usize {
        let connections = self.connections.values();
        connections
            .filter(|connection| connection.role == role)
            .count()
    }

    /// Maps a time to ours, never going back, and lets what ran out by then run out.
    fn advance(&mut self, now: Instant) -> Moment {
        let moment = span(now.saturating_duration_since(self.began));
        self.latest = self.latest.max(moment);
        self.expire_held(self.latest);
        self.latest
    }

    /// Maps one of our times back.
    fn instant(&self, moment: Moment) -> Instant {
        self.began + Duration::from_micros(u64::try_from(moment).unwrap_or(0))
    }

    fn scaled_object(&mut self, object: ScaledObject, now: Moment) {
        let key = ScaledObjectKey {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        };
        let moved = self
            .scaled_objects
            .get(&key)
            .is_some_and(|known| known.workload != object.workload);
        if moved {
            self.forget_scaled_object(&key);
        }
        let workload = object.workload.clone();
        self.scaled_objects.insert(key.clone(), object);
        self.entry(&workload, now).objects.insert(key.clone());
        self.adopt_polling_interval(&workload);
        self.effects.push(Effect::Wake(key));
    }

    fn forget_scaled_object(&mut self, key: &ScaledObjectKey) {
        let Some(object) = self.scaled_objects.remove(key) else {
            return;
        };
        self.refused.remove(key);
        self.bursts.forget(key);
        if let Some(entry) = self.workloads.get_mut(&object.workload) {
            entry.objects.remove(key);
        }
        self.adopt_polling_interval(&object.workload);
        self.drop_unused(&object.workload);
    }

    fn adopt_polling_interval(&mut self, workload: &Workload) {
        let Some(entry) = self.workloads.get_mut(workload) else {
            return;
        };
        let objects = entry
            .objects
            .iter()
            .filter_map(|key| self.scaled_objects.get(key));
        let longest = objects.map(|object| object.polling_interval).max();
        entry.activity_window = 2 * longest.unwrap_or(DEFAULT_POLLING_INTERVAL);
    }

    fn pod(&mut self, pod: Pod, now: Moment) {
        let known = self.pods.get(&pod.uid);
        let moved = known.is_some_and(|known| known.pod.workload != pod.workload);
        let existed = known.is_some_and(|known| !known.pod.terminating) && !moved;
        let ready_since = known
            .and_then(|known| known.ready_since)
            .or_else(|| pod.ready.then_some(now));
        if moved {
            self.detach(&pod.uid, now);
        }
        let (uid, workload) = (pod.uid.clone(), pod.workload.clone());
        let exists = !pod.terminating;
        let member = Member { pod, ready_since };
        let is_new = self.pods.insert(uid.clone(), member).is_none() || moved;
        let in_flight = self
            .sidecars
            .get(&uid)
            .map_or(0, |sidecar| sidecar.in_flight);
        let load = self.entry(&workload, now);
        load.existing = load.existing - usize::from(existed) + usize::from(exists);
        if is_new {
            load.pods.insert(uid.clone());
            load.in_flight += in_flight;
            self.adopt_reports(&uid, &workload, now);
            self.publish(&uid);
            self.note_level(&workload, now);
        }
        if existed != exists {
            self.wake(&workload);
        }
    }

    /// The pod object is gone, and with it its requests; what it served stays in the window.
    fn forget_pod(&mut self, uid: &str, now: Moment) {
        let workload = self.pods.get(uid).map(|known| known.pod.workload.clone());
        self.detach(uid, now);
        self.pods.remove(uid);
        let sidecar = self.sidecars.remove(uid);
        let Some(workload) = workload else { return };
        if let (Some(mut sidecar), Some(entry)) = (sidecar, self.workloads.get_mut(&workload)) {
            if sidecar.in_flight > 0 {
                entry.touch(now);
            }
            sidecar.end_epoch(now);
            let window = span(entry.window);
            entry.departed.extend(sidecar.past);
            entry
                .departed
                .retain(|history| now - history.last_moment() <= window);
        }
        self.drop_unused(&workload);
    }

    /// Takes a pod out of its workload's sums.
    fn detach(&mut self, uid: &str, now: Moment) {
        self.unpublish(uid);
        let in_flight = self
            .sidecars
            .get(uid)
            .map_or(0, |sidecar| sidecar.in_flight);
        let Some(Member { pod, .. }) = self.pods.get(uid) else {
            return;
        };
        let (workload, existed) = (pod.workload.clone(), !pod.terminating);
        if let Some(entry) = self.workloads.get_mut(&workload)
            && entry.pods.remove(uid)
        {
            entry.in_flight -= in_flight;
            entry.existing -= usize::from(existed);
        }
        self.note_level(&workload, now);
        self.wake(&workload);
    }

    fn entry(&mut self, workload: &Workload, now: Moment) -> &mut Entry {
        let lasting = self.settings.burst_lasting;
        self.workloads
            .entry(workload.clone())
            .or_insert_with(|| Entry::new(now, lasting))
    }

    /// Forgets a workload that nothing belongs to. One that only departed pods remember is kept for its `ScaledObject`.
    fn drop_unused(&mut self, workload: &Workload) {
        let unused = self
            .workloads
            .get(workload)
            .is_some_and(|entry| entry.objects.is_empty() && entry.pods.is_empty());
        if unused {
            self.workloads.remove(workload);
        }
    }

    /// Notes that the workload had work at `at`, and wakes it if it had none lately.
    fn note_activity(&mut self, workload: &Workload, was_busy: bool, at: Moment, now: Moment) {
        let Some(entry) = self.workloads.get_mut(workload) else {
            return;
        };
        let was_active = was_busy || entry.active_lately(now);
        entry.touch(at);
        if !was_active {
            entry.activations += 1;
            self.wake(workload);
        }
    }

    fn wake(&mut self, workload: &Workload) {
        if let Some(entry) = self.workloads.get(workload) {
            self.effects
                .extend(entry.objects.iter().cloned().map(Effect::Wake));
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
