//! Any order of the same facts ends in the same membership: that of a model which looks at the last state of everything
//! and knows nothing of events.
//!
//! Each kind has a watch of its own, which tells its objects' changes in order; between kinds any order is possible.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use stillwake_proto::report::Workload;

use super::{
    tests::{apps, named, pod_of, scales, service, under},
    *,
};
use crate::membership::{Pod, ScaledObject};

/// Histories of few objects with few names, so that they meet often.
#[derive(Clone, Debug)]
struct History {
    watches: Vec<Vec<Observation>>,
    /// Which watch tells next.
    order: Vec<prop::sample::Index>,
}

fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    (0..3_u8).prop_map(move |number| format!("{prefix}{number}"))
}

/// What can be above a pod or an owner, and what can be scaled.
fn link() -> impl Strategy<Value = Link> {
    let rollout = name("r").prop_map(|name| Link::new("argoproj.io/v1alpha1", "Rollout", &name));
    prop_oneof![
        4 => name("rs").prop_map(|name| apps("ReplicaSet", &name)),
        3 => name("d").prop_map(|name| apps("Deployment", &name)),
        1 => name("ss").prop_map(|name| apps("StatefulSet", &name)),
        1 => rollout,
    ]
}

fn above(weights: (u32, u32)) -> impl Strategy<Value = Option<Link>> {
    prop_oneof![weights.0 => link().prop_map(Some), weights.1 => Just(None)]
}

fn scaled_object() -> impl Strategy<Value = Observation> {
    let facts = (link(), any::<bool>()).prop_map(|(target, ours)| {
        let mut facts = scales(target);
        if !ours {
            facts.scalers.clear();
        }
        facts
    });
    (name("so"), prop::option::weighted(0.8, facts))
        .prop_map(|(name, facts)| Observation::ScaledObject(named(&name), facts))
}

fn pod() -> impl Strategy<Value = Observation> {
    let facts = (
        0..4_u8,
        above((6, 1)),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let facts = facts.prop_map(|(uid, controller, ready, ended)| PodFacts {
        ready,
        ended,
        ..pod_of(&uid.to_string(), controller)
    });
    (0..5_u8, prop::option::weighted(0.8, facts)).prop_map(|(number, facts)| {
        // UIDs are never used again for another name.
        let facts = facts.map(|facts| PodFacts {
            uid: format!("p{number}-{}", facts.uid),
            ..facts
        });
        Observation::Pod(named(&format!("p{number}")), facts)
    })
}

fn owner(prefix: &'static str, kind: &'static str) -> impl Strategy<Value = Observation> {
    (name(prefix), prop::option::weighted(0.85, above((3, 1)))).prop_map(
        move |(name, controller)| Observation::Owner(kind, named(&name), controller.map(under)),
    )
}

fn history() -> impl Strategy<Value = History> {
    let several = |most| prop::collection::SizeRange::from(0..=most);
    let watches = (
        prop::collection::vec(scaled_object(), several(6)),
        prop::collection::vec(pod(), several(12)),
        prop::collection::vec(owner("rs", "ReplicaSet"), several(6)),
        prop::collection::vec(owner("d", "Deployment"), several(4)),
        prop::collection::vec(owner("ss", "StatefulSet"), several(2)),
    );
    let watches = watches.prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e]);
    (
        watches,
        prop::collection::vec(any::<prop::sample::Index>(), 30),
    )
        .prop_map(|(watches, order)| History { watches, order })
}

impl History {
    /// Merges the watches as `order` says, keeping the order within each.
    fn merged(&self) -> Vec<Observation> {
        let mut left: Vec<_> = self.watches.iter().map(|watch| watch.iter()).collect();
        let mut order = self.order.iter();
        let mut merged = Vec::new();
        loop {
            left.retain(|watch| watch.len() > 0);
            if left.is_empty() {
                return merged;
            }
            let chosen = order.next().map_or(0, |index| index.index(left.len()));
            merged.extend(left[chosen].next().cloned());
        }
    }
}

/// What a listener holds after having heard everything.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    scaled_objects: BTreeMap<String, ScaledObject>,
    pods: BTreeMap<String, Pod>,
}

impl Heard {
    fn hear(&mut self, change: Change) {
        match change {
            Change::ScaledObject(object) => {
                let before = self
                    .scaled_objects
                    .insert(object.name.clone(), object.clone());
                assert_ne!(before, Some(object), "told without a change");
            }
            Change::ScaledObjectGone { name, .. } => {
                assert!(
                    self.scaled_objects.remove(&name).is_some(),
                    "{name} was not there"
                );
            }
            Change::Pod(pod) => {
                let before = self.pods.insert(pod.uid.clone(), pod.clone());
                assert_ne!(before, Some(pod), "told without a change");
            }
            Change::PodGone { uid } => {
                assert!(self.pods.remove(&uid).is_some(), "{uid} was not there");
            }
            Change::Synced => panic!("nobody said so"),
        }
    }
}

/// The last state of everything.
#[derive(Default)]
struct Model {
    scaled_objects: BTreeMap<String, ScaledObjectFacts>,
    pods: BTreeMap<String, PodFacts>,
    owners: HashMap<Link, Option<Link>>,
    /// Owners that were seen and are gone. Whether they are remembered depends on when their pods were seen.
    departed: HashSet<Link>,
}

impl Model {
    fn of(history: &History) -> Self {
        let mut model = Self::default();
        for observation in history.watches.iter().flatten().cloned() {
            match observation {
                Observation::ScaledObject(name, facts) => {
                    model.scaled_objects.remove(&name.name);
                    let ours = facts.filter(|facts| !facts.scalers.is_empty());
                    model
                        .scaled_objects
                        .extend(ours.map(|facts| (name.name, facts)));
                }
                Observation::Pod(name, facts) => {
                    model.pods.remove(&name.name);
                    model.pods.extend(facts.map(|facts| (name.name, facts)));
                }
                Observation::Owner(kind, name, facts) => model.owner(kind, &name, facts),
            }
        }
        model
    }

    fn owner(&mut self, kind: &str, name: &ObjectName, facts: Option<OwnerFacts>) {
        let link = apps(kind, &name.name);
        match facts {
            Some(facts) => {
                self.departed.remove(&link);
                self.owners.insert(link, facts.controller);
            }
            // One that was never seen leaves nothing to remember; one that is told as gone twice is still departed.
            None if self.owners.remove(&link).is_some() => drop(self.departed.insert(link)),
            None => {}
        }
    }

    /// Returns the target above a pod, and whether that is certain.
    fn target(&self, pod: &PodFacts) -> (Option<Link>, bool) {
        let mut next = pod.controller.clone();
        for _ in 0..20 {
            let Some(link) = next else { break };
            if self
                .scaled_objects
                .values()
                .any(|facts| facts.target == link)
            {
                return (Some(link), true);
            }
            if self.departed.contains(&link) {
                return (None, false);
            }
            next = self.owners.get(&link).cloned().flatten();
        }
        (None, true)
    }
}

fn run(observations: Vec<Observation>) -> (Index, Heard) {
    let (mut index, mut heard) = (Index::new(service()), Heard::default());
    for observation in observations {
        index.observe(observation);
        index
            .changes()
            .into_iter()
            .for_each(|change| heard.hear(change));
    }
    (index, heard)
}

/// Returns facts that everything is gone.
fn ends(history: &History) -> Vec<Observation> {
    let all = history.watches.iter().flatten().cloned();
    all.map(|observation| match observation {
        Observation::ScaledObject(name, _) => Observation::ScaledObject(name, None),
        Observation::Pod(name, _) => Observation::Pod(name, None),
        Observation::Owner(kind, name, _) => Observation::Owner(kind, name, None),
    })
    .collect()
}

fn workload(target: &Link) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        kind: target.kind.clone(),
        name: target.name.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_order_ends_in_the_membership_of_the_last_state(history in history()) {
        let model = Model::of(&history);
        let (_, mut heard) = run(history.merged());
        let told: BTreeMap<_, _> = heard.scaled_objects.iter().map(|(name, object)| (name, &object.workload)).collect();
        let wanted: Vec<_> = model.scaled_objects.iter().map(|(name, facts)| (name, workload(&facts.target))).collect();
        prop_assert_eq!(told, wanted.iter().map(|(name, workload)| (*name, workload)).collect());

        for (name, facts) in model.pods.iter().filter(|(_, facts)| !facts.ended) {
            let told = heard.pods.remove(&facts.uid);
            if let (target, true) = model.target(facts) {
                let wanted = target.map(|target| Pod {
                    uid: facts.uid.clone(),
                    name: name.clone(),
                    workload: workload(&target),
                    ready: facts.ready,
                    terminating: false,
                    injection: facts.injection.clone(),
                });
                prop_assert_eq!(told, wanted);
            }
        }
        prop_assert_eq!(heard.pods, BTreeMap::new());
    }

    #[test]
    fn when_everything_is_gone_nothing_is_held(history in history()) {
        let mut observations = history.merged();
        observations.extend(ends(&history));
        let (index, heard) = run(observations);
        prop_assert_eq!(heard, Heard::default());
        prop_assert!(index.namespaces.is_empty(), "{:?}", index.namespaces);
    }
}
