//! One namespace: its pods, the chains above them, and what of those is a scale target.
//!
//! Every link of a pod's chain knows the pod. So what a change concerns is found without looking at the other pods, and
//! the chain need not be kept: before a link changes, its pods are taken out along the chain as it was, and afterwards
//! put in along the chain as it is.

use std::collections::{BTreeSet, HashMap};

use stillwake_proto::report::Workload;

use crate::membership::{
    Change, Pod, ScaledObject, link::Link, pod::PodFacts, scaled_object::ScaledObjectFacts,
};

/// Longest chain above a pod. Three links are common; what is beyond this is a circle of owners that name each other.
const LONGEST: usize = 8;

#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    links: HashMap<Link, Node>,
    pods: HashMap<String, Held>,
    scaled_objects: HashMap<String, Aimed>,
}

/// A link of some chain, an object that is watched, or a scale target; often all three.
#[derive(Debug, Default)]
struct Node {
    owner: Option<Owner>,
    /// Pods whose chain goes through here.
    pods: BTreeSet<String>,
    /// `ScaledObject`s that scale it. KEDA sees to it that there is one at most.
    scaled_objects: BTreeSet<String>,
}

/// An owner that was seen.
#[derive(Debug, PartialEq)]
struct Owner {
    controller: Option<Link>,
    /// Whether it is gone, and only remembered for the pods below it.
    gone: bool,
}

#[derive(Debug)]
struct Held {
    facts: PodFacts,
    told: Option<Pod>,
}

#[derive(Debug, PartialEq)]
struct Aimed {
    target: Link,
    told: ScaledObject,
}

impl Namespace {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            links: HashMap::new(),
            pods: HashMap::new(),
            scaled_objects: HashMap::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.pods.is_empty() && self.scaled_objects.is_empty()
    }

    /// Takes in a `ScaledObject` of ours, `None` when there is none of that name.
    pub(super) fn scaled_object(
        &mut self,
        name: String,
        facts: Option<ScaledObjectFacts>,
        changes: &mut Vec<Change>,
    ) {
        let aimed = facts.map(|facts| Aimed {
            told: ScaledObject {
                namespace: self.name.clone(),
                name: name.clone(),
                uid: facts.uid,
                workload: self.workload(&facts.target),
                polling_interval: facts.polling_interval,
                max_replicas: facts.max_replicas,
                paused: facts.paused,
            },
            target: facts.target,
        });
        if aimed.as_ref() == self.scaled_objects.get(&name) {
            return;
        }
        let before = self.scaled_objects.remove(&name);
        let left = before.map(|aimed| aimed.target);
        if let Some(node) = left.as_ref().and_then(|target| self.links.get_mut(target)) {
            node.scaled_objects.remove(&name);
        }
        if let Some(aimed) = aimed {
            let node = self.links.entry(aimed.target.clone()).or_default();
            node.scaled_objects.insert(name.clone());
            self.tell_below(&aimed.target, changes);
            changes.push(Change::ScaledObject(aimed.told.clone()));
            self.scaled_objects.insert(name, aimed);
        } else {
            let namespace = self.name.clone();
            changes.push(Change::ScaledObjectGone { namespace, name });
        }
        if let Some(left) = left {
            self.tell_below(&left, changes);
            self.drop_unused(&left);
        }
    }

    /// Takes in an owner and what controls it.
    pub(super) fn owner(
        &mut self,
        link: Link,
        controller: Option<Link>,
        changes: &mut Vec<Change>,
    ) {
        let node = self.links.entry(link.clone()).or_default();
        if let Some(owner) = &mut node.owner
            && owner.controller == controller
        {
            owner.gone = false;
            return;
        }
        let below = node.pods.clone();
        for pod in &below {
            self.detach(pod);
        }
        let gone = false;
        self.links.entry(link).or_default().owner = Some(Owner { controller, gone });
        for pod in &below {
            self.attach(pod);
            self.tell(pod, changes);
        }
    }

    /// Takes in that an owner is gone.
    pub(super) fn owner_gone(&mut self, link: &Link) {
        if let Some(owner) = self
            .links
            .get_mut(link)
            .and_then(|node| node.owner.as_mut())
        {
            owner.gone = true;
            self.drop_unused(link);
        }
    }

    /// Takes in a pod, `None` when there is none of that name.
    pub(super) fn pod(&mut self, name: &str, facts: Option<PodFacts>, changes: &mut Vec<Change>) {
        let moved = self.pods.get(name).map(|held| &held.facts.controller)
            != facts.as_ref().map(|facts| &facts.controller);
        if moved {
            self.detach(name);
        }
        let told = self.pods.remove(name).and_then(|held| held.told);
        let uid = facts.as_ref().map(|facts| &facts.uid);
        // A name can be taken again before the watch has said that the first of that name is gone.
        let (told, other) = match told {
            Some(told) if uid != Some(&told.uid) => (None, Some(told.uid)),
            told => (told, None),
        };
        changes.extend(other.map(|uid| Change::PodGone { uid }));
        if let Some(facts) = facts {
            self.pods.insert(name.to_owned(), Held { facts, told });
            if moved {
                self.attach(name);
            }
            self.tell(name, changes);
        }
    }

    /// Tells what is new about the pods whose chain goes through `link`.
    fn tell_below(&mut self, link: &Link, changes: &mut Vec<Change>) {
        let below = self.links.get(link).map(|node| node.pods.clone());
        for pod in below.iter().flatten() {
            self.tell(pod, changes);
        }
    }

    fn tell(&mut self, name: &str, changes: &mut Vec<Change>) {
        let Some(held) = self.pods.get(name) else {
            return;
        };
        let facts = &held.facts;
        let target = (!facts.ended).then(|| self.target(facts)).flatten();
        let pod = target.map(|target| Pod {
            uid: facts.uid.clone(),
            name: name.to_owned(),
            workload: self.workload(&target),
            ready: facts.ready && !facts.terminating,
            terminating: facts.terminating,
            injection: facts.injection.clone(),
        });
        if pod == held.told {
            return;
        }
        let gone = held.facts.uid.clone();
        changes.push(match &pod {
            Some(pod) => Change::Pod(pod.clone()),
            None => Change::PodGone { uid: gone },
        });
        if let Some(held) = self.pods.get_mut(name) {
            held.told = pod;
        }
    }

    /// Returns the first link above a pod that is scaled.
    fn target(&self, facts: &PodFacts) -> Option<Link> {
        let mut chain = self.chain(facts).into_iter();
        chain.find(|link| {
            self.links
                .get(link)
                .is_some_and(|node| !node.scaled_objects.is_empty())
        })
    }

    /// Returns the links above a pod, as far as they are known.
    fn chain(&self, facts: &PodFacts) -> Vec<Link> {
        let above = |link: &Link| self.links.get(link)?.owner.as_ref()?.controller.clone();
        std::iter::successors(facts.controller.clone(), above)
            .take(LONGEST)
            .collect()
    }

    fn attach(&mut self, name: &str) {
        let Some(held) = self.pods.get(name) else {
            return;
        };
        for link in self.chain(&held.facts) {
            self.links
                .entry(link)
                .or_default()
                .pods
                .insert(name.to_owned());
        }
    }

    fn detach(&mut self, name: &str) {
        let Some(held) = self.pods.get(name) else {
            return;
        };
        for link in self.chain(&held.facts) {
            if let Some(node) = self.links.get_mut(&link) {
                node.pods.remove(name);
            }
            self.drop_unused(&link);
        }
    }

    /// Forgets a link that neither exists nor is needed for a pod or as a target.
    fn drop_unused(&mut self, link: &Link) {
        let unused = self.links.get(link).is_some_and(|node| {
            let exists = node.owner.as_ref().is_some_and(|owner| !owner.gone);
            !exists && node.pods.is_empty() && node.scaled_objects.is_empty()
        });
        if unused {
            self.links.remove(link);
        }
    }

    fn workload(&self, target: &Link) -> Workload {
        Workload {
            namespace: self.name.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
        }
    }
}
