//! One namespace: which Services lead to which target, and who serves them.
//!
//! What is told is worked out from what is known, and only what differs from what was told before becomes a change. So
//! the order of facts cannot matter; what does is which parts have to be worked out anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service as ServiceObject;
use stillwake_proto::report::Workload;

use crate::{
    membership::{link::Link, scaled_object::ScaledObjectFacts},
    services::{
        Backend, Backends, Change, ScaledObject, Service, Trouble,
        objects::{PodFacts, SliceFacts, TargetFacts, Template},
        service::{read, selector, selects},
    },
};

#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    scaled_objects: BTreeMap<String, Aimed>,
    targets: HashMap<Link, TargetFacts>,
    pods: BTreeMap<String, PodFacts>,
    services: BTreeMap<String, Arc<ServiceObject>>,
    slices: BTreeMap<String, SliceFacts>,
    /// What templates of targets that are not watched were last known to be.
    remembered: HashMap<Link, Template>,
    told_services: BTreeMap<String, Service>,
    told_backends: BTreeMap<(String, String), Backends>,
    stale_objects: BTreeSet<String>,
    stale_services: BTreeSet<String>,
    stale_backends: BTreeSet<String>,
    /// Objects whose going has to be told.
    gone_objects: BTreeSet<String>,
}

/// A `ScaledObject` of ours.
#[derive(Debug)]
struct Aimed {
    facts: ScaledObjectFacts,
    /// Services that its triggers name.
    named: Vec<String>,
    template: Template,
    told: Option<ScaledObject>,
}

impl Aimed {
    fn services(&self) -> &[String] {
        self.told.as_ref().map_or(&[], |told| &told.services)
    }
}

impl Namespace {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scaled_objects: BTreeMap::new(),
            targets: HashMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            remembered: HashMap::new(),
            told_services: BTreeMap::new(),
            told_backends: BTreeMap::new(),
            stale_objects: BTreeSet::new(),
            stale_services: BTreeSet::new(),
            stale_backends: BTreeSet::new(),
            gone_objects: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scaled_objects.is_empty()
            && self.targets.is_empty()
            && self.pods.is_empty()
            && self.services.is_empty()
            && self.slices.is_empty()
    }

    /// Takes in a `ScaledObject` of ours and the Services it names, `None` when there is none of that name.
    pub(super) fn scaled_object(
        &mut self,
        name: String,
        ours: Option<(ScaledObjectFacts, Vec<String>)>,
    ) {
        if let Some(aimed) = self.scaled_objects.get(&name) {
            // Naming a Service that is led to anyway changes whose it is.
            self.stale_services.extend(aimed.services().iter().cloned());
        }
        let Some((facts, named)) = ours else {
            if let Some(aimed) = self.scaled_objects.remove(&name) {
                self.forget(&aimed.facts.target);
                if aimed.told.is_some() {
                    self.gone_objects.insert(name);
                }
            }
            return;
        };
        self.stale_objects.insert(name.clone());
        if let Some(aimed) = self.scaled_objects.get_mut(&name) {
            let before = std::mem::replace(&mut aimed.facts, facts);
            aimed.named = named;
            self.forget(&before.target);
            return;
        }
        let aimed = Aimed {
            facts,
            named,
            template: Template::default(),
            told: None,
        };
        self.scaled_objects.insert(name, aimed);
    }

    /// Takes in a Deployment, `StatefulSet` or `ReplicaSet`, `None` when it is gone.
    pub(super) fn target(&mut self, link: Link, facts: Option<TargetFacts>) {
        // The many old ReplicaSets of Deployments are nobody's target.
        let facts = facts.filter(|facts| {
            let above = facts.controller.as_ref().map(Link::parts);
            !matches!(above, Some(("apps", "Deployment", _)))
        });
        let before = self.targets.get(&link);
        if before == facts.as_ref() {
            return;
        }
        let mut touched = vec![link.clone()];
        touched.extend(before.and_then(|before| before.controller.clone()));
        touched.extend(facts.iter().filter_map(|facts| facts.controller.clone()));
        match facts {
            Some(facts) => drop(self.targets.insert(link, facts)),
            None => drop(self.targets.remove(&link)),
        }
        for target in &touched {
            self.aimed_at(target);
            self.remember(target);
        }
    }

    /// Takes in a pod that no template speaks for, `None` when it is gone.
    pub(super) fn pod(&mut self, name: String, facts: Option<PodFacts>) {
        let before = match facts.clone() {
            Some(facts) => self.pods.insert(name, facts),
            None => self.pods.remove(&name),
        };
        if before == facts {
            return;
        }
        for pod in [before, facts].into_iter().flatten() {
            self.aimed_at(&pod.controller);
            self.remember(&pod.controller);
        }
    }

    /// Takes in a Service, `None` when it is gone.
    pub(super) fn service(&mut self, name: String, object: Option<Arc<ServiceObject>>) {
        let before = self.services.get(&name);
        if before == object.as_ref() {
            return;
        }
        let selects =
            |object: Option<&Arc<ServiceObject>>| object.map(|object| selector(object).cloned());
        if selects(before) != selects(object.as_ref()) {
            self.stale_objects
                .extend(self.scaled_objects.keys().cloned());
        }
        self.stale_services.insert(name.clone());
        match object {
            Some(object) => drop(self.services.insert(name, object)),
            None => drop(self.services.remove(&name)),
        }
    }

    /// Takes in an `EndpointSlice` that is not ours, `None` when it is gone.
    pub(super) fn slice(&mut self, name: String, facts: Option<SliceFacts>) {
        let before = match facts.clone() {
            Some(facts) => self.slices.insert(name, facts),
            None => self.slices.remove(&name),
        };
        if before == facts {
            return;
        }
        let services = [before, facts].into_iter().flatten();
        self.stale_backends
            .extend(services.map(|slice| slice.service));
    }

    /// Works out what has changed, and says so.
    pub(super) fn work_out(&mut self, changes: &mut Vec<Change>) {
        let mut told_objects = Vec::new();
        for name in std::mem::take(&mut self.stale_objects) {
            told_objects.extend(self.scaled_object_now(&name));
        }
        let mut told_services = Vec::new();
        for name in std::mem::take(&mut self.stale_services) {
            let service = self.service_now(&name);
            if service.as_ref() == self.told_services.get(&name) {
                continue;
            }
            self.stale_backends.insert(name.clone());
            let namespace = self.name.clone();
            if let Some(service) = service {
                told_services.push(Change::Service(service.clone()));
                self.told_services.insert(name, service);
            } else {
                self.told_services.remove(&name);
                changes.push(Change::ServiceGone { namespace, name });
            }
        }
        changes.extend(told_objects.into_iter().map(Change::ScaledObject));
        changes.extend(told_services);
        for name in std::mem::take(&mut self.stale_backends) {
            self.backends_now(&name, changes);
        }
        for name in std::mem::take(&mut self.gone_objects) {
            let namespace = self.name.clone();
            if !self.scaled_objects.contains_key(&name) {
                changes.push(Change::ScaledObjectGone { namespace, name });
            }
        }
    }

    /// Works out a `ScaledObject`. Returns it if it is not as it was told.
    fn scaled_object_now(&mut self, name: &str) -> Option<ScaledObject> {
        let aimed = self.scaled_objects.get(name)?;
        let target = &aimed.facts.target;
        let facts = self.targets.get(target);
        let template = facts.map(|facts| &facts.template);
        let template = template.or_else(|| self.remembered.get(target));
        let template = template.cloned();
        let (_, kind, target_name) = target.parts();
        let services = self.led_by(aimed, template.as_ref());
        let object = ScaledObject {
            namespace: self.name.clone(),
            name: name.to_owned(),
            uid: aimed.facts.uid.clone(),
            workload: Workload {
                namespace: self.name.clone(),
                kind: kind.to_owned(),
                name: target_name.to_owned(),
            },
            paused: aimed.facts.paused,
            trouble: self.trouble(aimed, template.as_ref(), &services),
            services,
        };
        let template = template.unwrap_or_default();
        let aimed = self.scaled_objects.get_mut(name)?;
        if aimed.told.as_ref() == Some(&object) && aimed.template == template {
            return None;
        }
        let touched = aimed.services().iter().chain(&object.services);
        self.stale_services.extend(touched.cloned());
        aimed.template = template;
        let before = aimed.told.replace(object.clone());
        (before.as_ref() != Some(&object)).then_some(object)
    }

    /// Returns the Services that lead to a `ScaledObject`'s target.
    fn led_by(&self, aimed: &Aimed, template: Option<&Template>) -> Vec<String> {
        if !aimed.named.is_empty() {
            let named = aimed.named.iter();
            let exist = named.filter(|service| self.services.contains_key(*service));
            return exist.cloned().collect();
        }
        let Some(Template { labels, .. }) = template else {
            return Vec::new();
        };
        let services = self.services.iter();
        services
            .filter(|(_, object)| selects(object, labels))
            .map(|(service, _)| service.clone())
            .collect()
    }

    fn trouble(
        &self,
        aimed: &Aimed,
        template: Option<&Template>,
        services: &[String],
    ) -> Option<Trouble> {
        let (group, kind, name) = aimed.facts.target.parts();
        let is_watched =
            group == "apps" && matches!(kind, "Deployment" | "StatefulSet" | "ReplicaSet");
        let has_replicas = has_replicas(group, kind);
        let (kind, name) = (kind.to_owned(), name.to_owned());
        if !has_replicas {
            return Some(Trouble::NoReplicas { kind, name });
        }
        if is_watched && template.is_none() {
            return Some(Trouble::NoTarget { kind, name });
        }
        let named = aimed.named.iter();
        let missing: Vec<_> = named
            .filter(|service| !self.services.contains_key(*service))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Some(Trouble::MissingServices(missing));
        }
        match (services, template) {
            ([_, ..], _) => None,
            ([], None) => Some(Trouble::UnknownPods { kind, name }),
            ([], Some(_)) => Some(Trouble::NoService),
        }
    }

    /// Works out a Service, if it leads to a target of ours.
    fn service_now(&self, name: &str) -> Option<Service> {
        let object = self.services.get(name)?;
        let leads = |aimed: &&Aimed| aimed.services().iter().any(|service| service == name);
        let leading: Vec<_> = self.scaled_objects.values().filter(leads).collect();
        // Whoever names it has said that it is theirs.
        let naming: Vec<_> = leading
            .iter()
            .copied()
            .filter(|aimed| !aimed.named.is_empty())
            .collect();
        let leading = if naming.is_empty() { leading } else { naming };
        let template = &leading.first()?.template;
        let mut workloads: Vec<_> = leading
            .iter()
            .filter_map(|aimed| aimed.told.as_ref())
            .map(|told| told.workload.clone())
            .collect();
        workloads.sort_unstable();
        workloads.dedup();
        Some(read(&self.name, object, template, workloads))
    }

    /// Works out who serves a Service's ports, and says what has changed.
    fn backends_now(&mut self, name: &str, changes: &mut Vec<Change>) {
        let service = self.told_services.get(name);
        let served = service.filter(|service| service.refused.is_none());
        let ports = served.into_iter().flat_map(|service| &service.ports);
        let ports: BTreeSet<_> = ports.map(|port| port.name.clone()).collect();
        self.told_backends
            .retain(|(service, port), _| service != name || ports.contains(port));
        let slices: Vec<_> = if ports.is_empty() {
            Vec::new()
        } else {
            let slices = self.slices.values();
            slices.filter(|slice| slice.service == name).collect()
        };
        for port in ports {
            let now = Backends {
                namespace: self.name.clone(),
                service: name.to_owned(),
                port: port.clone(),
                backends: backends(&slices, &port),
            };
            let key = (name.to_owned(), port);
            if self.told_backends.get(&key) != Some(&now) {
                changes.push(Change::Backends(now.clone()));
                self.told_backends.insert(key, now);
            }
        }
    }

    /// Notes that the `ScaledObject`s of a target have to be worked out.
    fn aimed_at(&mut self, target: &Link) {
        let aimed = self.scaled_objects.iter();
        let aimed = aimed.filter(|(_, aimed)| aimed.facts.target == *target);
        self.stale_objects
            .extend(aimed.map(|(name, _)| name.clone()));
    }

    /// Notes the template of a target that is not watched, if anything tells it now.
    fn remember(&mut self, target: &Link) {
        let replica_sets = self.targets.iter();
        // As there may be several, the first by name.
        let replica_set = replica_sets
            .filter(|(_, facts)| facts.controller.as_ref() == Some(target))
            .min_by_key(|(link, _)| link.parts());
        let mut pods = self.pods.values();
        let template = match replica_set {
            Some((_, facts)) => Some(facts.template.clone()),
            None => pods
                .find(|pod| pod.controller == *target)
                .map(|pod| Template {
                    labels: pod.labels.clone(),
                    ports: BTreeMap::new(),
                }),
        };
        match template {
            Some(template) => drop(self.remembered.insert(target.clone(), template)),
            None => self.forget(target),
        }
    }

    /// Forgets what was remembered of a target if it is nobody's, and nothing tells it any more.
    fn forget(&mut self, target: &Link) {
        let mut aimed = self.scaled_objects.values();
        let mut targets = self.targets.values();
        let mut pods = self.pods.values();
        let is_needed = aimed.any(|aimed| aimed.facts.target == *target)
            || targets.any(|facts| facts.controller.as_ref() == Some(target))
            || pods.any(|pod| pod.controller == *target);
        if !is_needed {
            self.remembered.remove(target);
        }
    }
}

/// Returns whether there may be a number of replicas to scale, which there is not in all kinds of Kubernetes' own.
fn has_replicas(group: &str, kind: &str) -> bool {
    !matches!(
        (group, kind),
        ("batch", "Job" | "CronJob") | ("apps", "DaemonSet") | ("", "Pod")
    )
}

/// Returns who serves the port of this name in these slices.
fn backends(slices: &[&SliceFacts], port: &str) -> Vec<Backend> {
    let mut found: BTreeMap<&str, BTreeSet<SocketAddr>> = BTreeMap::new();
    for slice in slices {
        for (_, number) in slice.ports.iter().filter(|(name, _)| name == port) {
            for (uid, address) in &slice.backends {
                let address = SocketAddr::new(*address, *number);
                found.entry(uid).or_default().insert(address);
            }
        }
    }
    let found = found.into_iter();
    found
        .map(|(uid, addresses)| Backend {
            uid: uid.to_owned(),
            addresses: addresses.into_iter().collect(),
        })
        .collect()
}
