//! Any order of the same facts ends in what an index says that was only ever told the last state of everything.
//!
//! Each kind has a watch of its own, which tells its objects' changes in order; between kinds any order is possible, and
//! everything may have been listed at any moment.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::{
    tests::{named, runs, scaler, scales, selecting, service, slice, template},
    *,
};
use crate::services::{Backends, ScaledObject, Service};

/// Histories of few objects with few names, so that they meet often.
#[derive(Clone, Debug)]
struct History {
    watches: Vec<Vec<Observation>>,
    /// Which watch tells next.
    order: Vec<prop::sample::Index>,
    /// After how many facts everything has been listed.
    listed: usize,
}

fn app() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b"])
}

fn scaled_object(kinds: &'static [&'static str]) -> impl Strategy<Value = Observation> {
    let named_services = prop::sample::select(vec!["", "", "s0", "s0,s1,s2"]);
    let address = prop::sample::select(vec!["scaler.system:9090", "scaler.system:9090", "other:1"]);
    let target = (prop::sample::select(kinds), 0..2_u8);
    let facts =
        (target, named_services, address).prop_map(|((kind, number), services, address)| {
            let metadata = json!({"service": services, "scalerAddress": address});
            scales(&format!("{kind}/t{number}"), &metadata)
        });
    (0..3_u8, prop::option::weighted(0.8, facts))
        .prop_map(|(number, facts)| Observation::ScaledObject(named(&format!("so{number}")), facts))
}

fn target(kind: &'static str) -> impl Strategy<Value = Observation> {
    let facts = app().prop_map(runs);
    (0..2_u8, prop::option::weighted(0.8, facts)).prop_map(move |(number, facts)| {
        Observation::Target(kind, named(&format!("t{number}")), facts)
    })
}

/// Pods of a kind that is not watched.
fn pod() -> impl Strategy<Value = Observation> {
    let facts = (0..2_u8, app()).prop_map(|(number, app)| PodFacts {
        controller: Link::new("example.com/v1", "Web", &format!("t{number}")),
        labels: template(app).labels,
    });
    (0..3_u8, prop::option::weighted(0.7, facts))
        .prop_map(|(number, facts)| Observation::Pod(named(&format!("p{number}")), facts))
}

fn a_service() -> impl Strategy<Value = Observation> {
    let spec = (app(), 0..4_u8).prop_map(|(app, form)| {
        let mut spec = selecting(app);
        match form {
            0 => spec["clusterIP"] = json!("None"),
            1 => {
                spec["ports"] =
                    json!([{"name": "http", "port": 80}, {"name": "admin", "port": 81}]);
            }
            _ => {}
        }
        spec
    });
    (0..3_u8, prop::option::weighted(0.8, spec)).prop_map(|(number, spec)| {
        let name = format!("s{number}");
        match spec {
            Some(spec) => service(&name, &spec),
            None => Observation::Service(named(&name), None),
        }
    })
}

fn a_slice() -> impl Strategy<Value = Observation> {
    let facts = (0..3_u8, 0..3_usize);
    (0..4_u8, prop::option::weighted(0.8, facts)).prop_map(|(number, facts)| {
        let name = format!("e{number}");
        let Some((of, serve)) = facts else {
            return Observation::Slice(named(&name), None);
        };
        let backends = [("u0", [10, 0, 0, 0]), ("u1", [10, 0, 0, 1])];
        let (service, port) = (format!("s{of}"), 8080 + u16::from(number));
        slice(&name, &service, port, &backends[..serve])
    })
}

fn history(kinds: &'static [&'static str]) -> impl Strategy<Value = History> {
    let several = |most| prop::collection::SizeRange::from(0..=most);
    let watches = (
        prop::collection::vec(scaled_object(kinds), several(6)),
        prop::collection::vec(target("Deployment"), several(5)),
        prop::collection::vec(target("StatefulSet"), several(2)),
        prop::collection::vec(pod(), several(5)),
        prop::collection::vec(a_service(), several(8)),
        prop::collection::vec(a_slice(), several(8)),
    );
    let watches = watches.prop_map(|(a, b, c, d, e, f)| vec![a, b, c, d, e, f]);
    let order = prop::collection::vec(any::<prop::sample::Index>(), 34);
    (watches, order, 0..34_usize).prop_map(|(watches, order, listed)| History {
        watches,
        order,
        listed,
    })
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

    /// Returns the last fact of each object.
    fn last(&self) -> Vec<Observation> {
        let all = self.watches.iter().flatten();
        let last: BTreeMap<_, _> = all
            .map(|observation| (which(observation), observation.clone()))
            .collect();
        last.into_values().collect()
    }
}

fn which(observation: &Observation) -> (&'static str, String) {
    match observation {
        Observation::ScaledObject(name, _) => ("ScaledObject", name.name.clone()),
        Observation::Target(kind, name, _) => (kind, name.name.clone()),
        Observation::Pod(name, _) => ("Pod", name.name.clone()),
        Observation::Service(name, _) => ("Service", name.name.clone()),
        Observation::Slice(name, _) => ("EndpointSlice", name.name.clone()),
    }
}

/// What a listener holds after having heard everything.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    scaled_objects: BTreeMap<String, ScaledObject>,
    services: BTreeMap<String, Service>,
    backends: BTreeMap<(String, String), Backends>,
}

impl Heard {
    fn hear(&mut self, change: Change) {
        match change {
            Change::ScaledObject(object) => {
                let name = object.name.clone();
                let before = self.scaled_objects.insert(name, object.clone());
                assert_ne!(before, Some(object), "told without a change");
            }
            Change::ScaledObjectGone { name, .. } => {
                let gone = self.scaled_objects.remove(&name);
                assert!(gone.is_some(), "{name} was not there");
            }
            Change::Service(service) => {
                let mut objects = self.scaled_objects.values();
                assert!(
                    objects.any(|object| object.workload == service.workload),
                    "told before what it leads to"
                );
                self.backends.retain(|(name, port), _| {
                    let mut ports = service.ports.iter();
                    let has = service.refused.is_none() && ports.any(|has| has.name == *port);
                    *name != service.name || has
                });
                let name = service.name.clone();
                let before = self.services.insert(name, service.clone());
                assert_ne!(before, Some(service), "told without a change");
            }
            Change::ServiceGone { name, .. } => {
                let gone = self.services.remove(&name);
                assert!(gone.is_some(), "{name} was not there");
                self.backends.retain(|(service, _), _| *service != name);
            }
            Change::Backends(backends) => {
                let service = &self.services[&backends.service];
                assert_eq!(service.refused, None);
                let key = (backends.service.clone(), backends.port.clone());
                let before = self.backends.insert(key, backends.clone());
                assert_ne!(before, Some(backends), "told without a change");
            }
            Change::Synced => {}
        }
    }

    /// Whether every port that is served has been told who serves it.
    fn is_whole(&self) -> bool {
        let services = self.services.values();
        let mut ports = services
            .filter(|service| service.refused.is_none())
            .flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        ports.all(|(service, port)| {
            let key = (service.name.clone(), port.name.clone());
            self.backends.contains_key(&key)
        })
    }
}

fn run(observations: Vec<Observation>, listed: usize) -> (Index, Heard) {
    let (mut index, mut heard) = (Index::new(scaler()), Heard::default());
    for (number, observation) in observations.into_iter().enumerate() {
        if number == listed {
            index.synced();
        }
        index.observe(observation);
        let changes = index.changes().into_iter();
        changes.for_each(|change| heard.hear(change));
        assert!(heard.is_whole(), "a port without a word on its backends");
    }
    if !index.synced {
        index.synced();
    }
    let changes = index.changes().into_iter();
    changes.for_each(|change| heard.hear(change));
    (index, heard)
}

/// Returns facts that everything is gone.
fn ends(history: &History) -> Vec<Observation> {
    let all = history.watches.iter().flatten().cloned();
    all.map(|observation| match observation {
        Observation::ScaledObject(name, _) => Observation::ScaledObject(name, None),
        Observation::Target(kind, name, _) => Observation::Target(kind, name, None),
        Observation::Pod(name, _) => Observation::Pod(name, None),
        Observation::Service(name, _) => Observation::Service(name, None),
        Observation::Slice(name, _) => Observation::Slice(name, None),
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    // Not with a kind that is not watched: what is remembered of it depends on what was there before.
    #[test]
    fn any_order_ends_in_what_the_last_state_says(history in history(&["Deployment", "StatefulSet"])) {
        let (_, heard) = run(history.merged(), history.listed);
        let (_, expected) = run(history.last(), usize::MAX);
        prop_assert_eq!(heard, expected);
    }

    #[test]
    fn when_everything_is_gone_nothing_is_held(history in history(&["Deployment", "Web"])) {
        let mut observations = history.merged();
        observations.extend(ends(&history));
        let (index, heard) = run(observations, history.listed);
        prop_assert_eq!(heard, Heard::default());
        prop_assert!(index.namespaces.is_empty(), "{:?}", index.namespaces);
    }
}
