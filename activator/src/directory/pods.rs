//! Which workload a pod belongs to, also for a while after it takes no more requests: sidecars hand connections over when
//! their pods are on the way out.
//!
//! Only that; whether one may be dialled is in [`crate::endpoints`].

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::route::Route;

/// How long a pod is remembered that no source has any longer. A pod may take as long to end as its grace period lets it,
/// but connections are led to it only for the first seconds of that.
const REMEMBERED: Duration = Duration::from_mins(2);

/// Most pods that are remembered so; more than go away within the time where 10,000 are rolled out at once.
const MOST_REMEMBERED: usize = 16 * 1024;

/// Every pod there is, with what owns it, such as its workload's queue.
#[derive(Debug)]
pub(crate) struct Pods<O> {
    known: HashMap<Arc<str>, Pod<O>>,
    listed: BTreeMap<Route, HashSet<Arc<str>>>,
    /// Those that have left, by when; one that is back, or has left again since, is here in vain.
    left: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Pod<O> {
    owner: O,
    /// The app's ports that its sidecar has told.
    ports: Vec<u16>,
    reported: bool,
    /// On how many routes it is listed.
    listings: usize,
    /// When the last source lost it.
    left: Option<Instant>,
}

impl<O> Default for Pods<O> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            listed: BTreeMap::new(),
            left: VecDeque::new(),
        }
    }
}

impl<O: Clone> Pods<O> {
    /// An aggregator has the pod, whose sidecar takes over these ports of the app.
    pub(crate) fn reported(&mut self, uid: &str, owner: &O, ports: Vec<u16>, now: Instant) {
        let (uid, pod) = self.entry(uid, owner);
        pod.reported = true;
        pod.ports = ports;
        self.look(uid, now);
    }

    /// Aggregators do not have the pod any longer, or say so of one that nobody knew.
    pub(crate) fn gone(&mut self, uid: &str, owner: &O, now: Instant) {
        let (uid, pod) = self.entry(uid, owner);
        pod.reported = false;
        self.look(uid, now);
    }

    /// These and no others are listed for the route.
    pub(crate) fn listed<'a>(
        &mut self,
        route: &Route,
        uids: impl Iterator<Item = &'a str>,
        owner: &O,
        now: Instant,
    ) {
        let before = self.listed.remove(route).unwrap_or_default();
        let mut after = HashSet::new();
        for uid in uids {
            let (uid, pod) = self.entry(uid, owner);
            if after.insert(Arc::clone(&uid)) && !before.contains(&uid) {
                pod.listings += 1;
            }
            self.look(uid, now);
        }
        for uid in before.difference(&after) {
            if let Some(pod) = self.known.get_mut(uid) {
                pod.listings -= 1;
                self.look(Arc::clone(uid), now);
            }
        }
        if !after.is_empty() {
            self.listed.insert(route.clone(), after);
        }
    }

    /// Returns the owner of a pod that is there, or was not long ago, and the app's ports that its sidecar has told.
    pub(crate) fn find(&self, uid: &str, now: Instant) -> Option<(&O, &[u16])> {
        let pod = self.known.get(uid)?;
        let is_forgotten = pod.left.is_some_and(|left| now >= left + REMEMBERED);
        (!is_forgotten).then_some((&pod.owner, pod.ports.as_slice()))
    }

    fn entry(&mut self, uid: &str, owner: &O) -> (Arc<str>, &mut Pod<O>) {
        let known = self.known.get_key_value(uid);
        let uid = known.map_or_else(|| Arc::from(uid), |(uid, _)| Arc::clone(uid));
        let pod = self.known.entry(Arc::clone(&uid)).or_insert_with(|| Pod {
            owner: owner.clone(),
            ports: Vec::new(),
            reported: false,
            listings: 0,
            left: None,
        });
        (uid, pod)
    }

    /// Notes whether the pod has left, and forgets those that have done so long ago.
    fn look(&mut self, uid: Arc<str>, now: Instant) {
        if let Some(pod) = self.known.get_mut(&uid) {
            if pod.reported || pod.listings > 0 {
                pod.left = None;
            } else if pod.left.is_none() {
                pod.left = Some(now);
                self.left.push_back((now, uid));
            }
        }
        while let Some((left, uid)) = self.left.front()
            && (self.left.len() > MOST_REMEMBERED || now >= *left + REMEMBERED)
        {
            if self
                .known
                .get(uid)
                .is_some_and(|pod| pod.left == Some(*left))
            {
                self.known.remove(uid);
            }
            self.left.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwake_proto::report::Workload;

    use super::*;

    fn route(name: &str) -> Route {
        Route {
            name: name.to_owned(),
            ..Route::only(Workload::default())
        }
    }

    /// Returns whose a pod is.
    fn owner(pods: &Pods<u32>, uid: &str, now: Instant) -> Option<u32> {
        pods.find(uid, now).map(|(owner, _)| *owner)
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_pod_is_known_while_any_source_has_it_and_for_two_minutes_after_that() {
        let start = Instant::now();
        let mut pods = Pods::default();
        pods.reported("a", &1, vec![8080], start);
        pods.listed(&route("web"), ["a", "a"].into_iter(), &1, start);
        pods.listed(&route("metrics"), ["a"].into_iter(), &1, start);
        assert_eq!(pods.find("a", start), Some((&1, &[8080][..])));
        pods.gone("a", &1, start);
        pods.listed(&route("web"), [].into_iter(), &1, start);
        let later = start + REMEMBERED * 10;
        assert_eq!(owner(&pods, "a", later), Some(1));

        pods.listed(&route("metrics"), [].into_iter(), &1, later);
        pods.listed(&route("metrics"), [].into_iter(), &1, later + MOMENT);
        assert_eq!(owner(&pods, "a", later + REMEMBERED - MOMENT), Some(1));
        assert_eq!(owner(&pods, "a", later + REMEMBERED), None);
        pods.reported("b", &2, Vec::new(), later + REMEMBERED);
        assert_eq!(pods.known.len(), 1);
        assert!(pods.left.is_empty() && pods.listed.is_empty());
    }

    #[test]
    fn a_pod_that_comes_back_stays() {
        let start = Instant::now();
        let mut pods = Pods::default();
        pods.reported("a", &1, Vec::new(), start);
        pods.gone("a", &1, start);
        pods.reported("a", &1, Vec::new(), start + REMEMBERED / 2);
        pods.reported("b", &2, Vec::new(), start + REMEMBERED * 2);
        assert_eq!(owner(&pods, "a", start + REMEMBERED * 2), Some(1));
        // And is remembered from when it left last.
        let left = start + REMEMBERED * 3;
        pods.gone("a", &1, left);
        assert_eq!(owner(&pods, "a", left + REMEMBERED - MOMENT), Some(1));
        assert_eq!(owner(&pods, "a", left + REMEMBERED), None);
    }

    #[test]
    fn a_pod_that_is_said_to_be_gone_was_there() {
        let start = Instant::now();
        let mut pods = Pods::default();
        pods.gone("a", &1, start);
        assert_eq!(owner(&pods, "a", start), Some(1));
        assert_eq!(owner(&pods, "b", start), None);
    }

    #[test]
    fn only_so_many_are_remembered_and_the_oldest_go_first() {
        let start = Instant::now();
        let mut pods = Pods::default();
        pods.reported("there", &0, Vec::new(), start);
        for number in 0..=MOST_REMEMBERED {
            pods.gone(&number.to_string(), &1, start);
        }
        assert_eq!(pods.known.len(), MOST_REMEMBERED + 1);
        assert_eq!(owner(&pods, "0", start), None);
        assert_eq!(owner(&pods, "1", start), Some(1));
        assert_eq!(owner(&pods, "there", start), Some(0));
    }
}
