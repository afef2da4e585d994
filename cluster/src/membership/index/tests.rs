//! What single changes are told as.

use std::time::Duration;

use super::*;
use crate::membership::{Injection, Paused, Pod, ScaledObject, scaled_object::Scaler};
use stillwake_proto::report::Workload;

pub(super) fn service() -> ScalerService {
    ScalerService {
        name: "scaler".to_owned(),
        namespace: "system".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
    }
}

pub(super) fn named(name: &str) -> ObjectName {
    ObjectName {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn apps(kind: &str, name: &str) -> Link {
    Link::new("apps/v1", kind, name)
}

fn asking(address: &str) -> Scaler {
    Scaler {
        address: address.to_owned(),
        ..Scaler::default()
    }
}

pub(super) fn scales(target: Link) -> ScaledObjectFacts {
    ScaledObjectFacts {
        uid: "uid-so".to_owned(),
        target,
        polling_interval: Duration::from_secs(5),
        max_replicas: 100,
        paused: Paused::default(),
        scalers: vec![asking("scaler.system:9090")],
    }
}

pub(super) fn pod_of(uid: &str, controller: Option<Link>) -> PodFacts {
    PodFacts {
        uid: uid.to_owned(),
        controller,
        ready: true,
        terminating: false,
        ended: false,
        injection: Injection {
            sidecar: true,
            ..Injection::default()
        },
    }
}

pub(super) fn under(controller: Option<Link>) -> OwnerFacts {
    OwnerFacts { controller }
}

/// An index whose changes are written as short words.
struct World(Index);

impl World {
    fn new() -> Self {
        Self(Index::new(service()))
    }

    fn observe(&mut self, observation: Observation) -> Vec<String> {
        self.0.observe(observation);
        self.0.changes().into_iter().map(word).collect()
    }

    fn scaled_object(&mut self, name: &str, facts: Option<ScaledObjectFacts>) -> Vec<String> {
        self.observe(Observation::ScaledObject(named(name), facts))
    }

    fn pod(&mut self, name: &str, facts: Option<PodFacts>) -> Vec<String> {
        self.observe(Observation::Pod(named(name), facts))
    }

    fn replica_set(&mut self, name: &str, facts: Option<OwnerFacts>) -> Vec<String> {
        self.observe(Observation::Owner("ReplicaSet", named(name), facts))
    }

    fn deployment(&mut self, name: &str, facts: Option<OwnerFacts>) -> Vec<String> {
        self.observe(Observation::Owner("Deployment", named(name), facts))
    }

    /// A Deployment `web` with its `ReplicaSet` and a pod, scaled by `so`.
    fn with_web() -> Self {
        let mut world = Self::new();
        world.deployment("web", Some(under(None)));
        world.replica_set("web-1", Some(under(Some(apps("Deployment", "web")))));
        world.scaled_object("so", Some(scales(apps("Deployment", "web"))));
        let told = world.pod("web-1-a", Some(web_pod("a")));
        assert_eq!(told, ["a of Deployment/web"]);
        world
    }
}

fn web_pod(uid: &str) -> PodFacts {
    pod_of(uid, Some(apps("ReplicaSet", "web-1")))
}

fn word(change: Change) -> String {
    match change {
        Change::ScaledObject(object) => {
            format!("{} scales {}", object.name, short(&object.workload))
        }
        Change::ScaledObjectGone { name, .. } => format!("{name} gone"),
        Change::Pod(pod) if pod.ready => format!("{} of {}", pod.uid, short(&pod.workload)),
        Change::Pod(pod) => format!("{} of {}, not ready", pod.uid, short(&pod.workload)),
        Change::PodGone { uid } => format!("{uid} gone"),
        Change::Synced => "synced".to_owned(),
    }
}

fn short(workload: &Workload) -> String {
    format!("{}/{}", workload.kind, workload.name)
}

#[test]
fn a_change_says_the_whole_of_its_subject() {
    let mut index = Index::new(service());
    index.observe(Observation::ScaledObject(
        named("so"),
        Some(scales(apps("StatefulSet", "db"))),
    ));
    index.observe(Observation::Pod(
        named("db-0"),
        Some(pod_of("u", Some(apps("StatefulSet", "db")))),
    ));
    index.synced();
    let workload = Workload {
        namespace: "shop".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: "db".to_owned(),
    };
    let scaled_object = ScaledObject {
        namespace: "shop".to_owned(),
        name: "so".to_owned(),
        uid: "uid-so".to_owned(),
        workload: workload.clone(),
        polling_interval: Duration::from_secs(5),
        max_replicas: 100,
        paused: Paused::default(),
    };
    let pod = Pod {
        uid: "u".to_owned(),
        name: "db-0".to_owned(),
        workload,
        ready: true,
        terminating: false,
        injection: Injection {
            sidecar: true,
            ..Injection::default()
        },
    };
    let expected = [
        Change::ScaledObject(scaled_object),
        Change::Pod(pod),
        Change::Synced,
    ];
    assert_eq!(index.changes(), expected);
    assert_eq!(index.changes(), []);
}

#[test]
fn a_pod_waits_for_what_is_above_it() {
    let mut world = World::new();
    assert!(world.pod("p", Some(web_pod("a"))).is_empty());
    assert_eq!(
        world.scaled_object("so", Some(scales(apps("Deployment", "web")))),
        ["so scales Deployment/web"]
    );
    let told = world.replica_set("web-1", Some(under(Some(apps("Deployment", "web")))));
    assert_eq!(
        told,
        ["a of Deployment/web"],
        "the Deployment itself need not be known"
    );
    assert!(world.deployment("web", Some(under(None))).is_empty());
}

#[test]
fn pods_are_told_before_the_workload_and_taken_away_after_it() {
    let mut world = World::with_web();
    assert_eq!(world.scaled_object("so", None), ["so gone", "a gone"]);
    let told = world.scaled_object("so", Some(scales(apps("Deployment", "web"))));
    assert_eq!(told, ["a of Deployment/web", "so scales Deployment/web"]);
}

#[test]
fn what_is_told_again_is_no_change() {
    let mut world = World::with_web();
    assert!(world.pod("web-1-a", Some(web_pod("a"))).is_empty());
    assert!(
        world
            .scaled_object("so", Some(scales(apps("Deployment", "web"))))
            .is_empty()
    );
    assert!(
        world
            .replica_set("web-1", Some(under(Some(apps("Deployment", "web")))))
            .is_empty()
    );
    let paused = ScaledObjectFacts {
        paused: Paused {
            scale_out: true,
            ..Paused::default()
        },
        ..scales(apps("Deployment", "web"))
    };
    assert_eq!(
        world.scaled_object("so", Some(paused.clone())),
        ["so scales Deployment/web"]
    );
    let made_again = ScaledObjectFacts {
        uid: "another".to_owned(),
        ..paused
    };
    assert_eq!(
        world.scaled_object("so", Some(made_again)),
        ["so scales Deployment/web"]
    );
}

#[test]
fn a_terminating_pod_is_not_ready_and_still_a_member() {
    let mut world = World::with_web();
    let terminating = PodFacts {
        terminating: true,
        ..web_pod("a")
    };
    assert_eq!(
        world.pod("web-1-a", Some(terminating)),
        ["a of Deployment/web, not ready"]
    );
    let ended = PodFacts {
        terminating: true,
        ended: true,
        ..web_pod("a")
    };
    assert_eq!(world.pod("web-1-a", Some(ended)), ["a gone"]);
    assert!(world.pod("web-1-a", None).is_empty());
}

#[test]
fn a_name_that_is_taken_again_is_another_pod() {
    let mut world = World::with_web();
    assert_eq!(
        world.pod("web-1-a", Some(web_pod("b"))),
        ["a gone", "b of Deployment/web"]
    );
    assert_eq!(world.pod("web-1-a", None), ["b gone"]);
}

#[test]
fn a_scaled_object_of_others_is_none_of_ours() {
    let mut world = World::with_web();
    let others = ScaledObjectFacts {
        scalers: vec![asking("other.system:9090")],
        ..scales(apps("Deployment", "web"))
    };
    assert!(
        world
            .scaled_object("other", Some(others.clone()))
            .is_empty()
    );
    assert_eq!(
        world.scaled_object("so", Some(others)),
        ["so gone", "a gone"]
    );
}

#[test]
fn a_changed_target_moves_the_pods() {
    let mut world = World::with_web();
    let api = pod_of("b", Some(apps("ReplicaSet", "api-1")));
    assert!(world.pod("api-1-b", Some(api)).is_empty());
    world.replica_set("api-1", Some(under(Some(apps("Deployment", "api")))));
    let told = world.scaled_object("so", Some(scales(apps("Deployment", "api"))));
    assert_eq!(
        told,
        ["b of Deployment/api", "so scales Deployment/api", "a gone"]
    );
    let told = world.scaled_object("so", Some(scales(apps("ReplicaSet", "web-1"))));
    assert_eq!(
        told,
        [
            "a of ReplicaSet/web-1",
            "so scales ReplicaSet/web-1",
            "b gone"
        ]
    );
}

#[test]
fn the_first_target_above_a_pod_counts() {
    let mut world = World::with_web();
    let told = world.scaled_object("lower", Some(scales(apps("ReplicaSet", "web-1"))));
    assert_eq!(
        told,
        ["a of ReplicaSet/web-1", "lower scales ReplicaSet/web-1"]
    );
    assert_eq!(
        world.scaled_object("lower", None),
        ["lower gone", "a of Deployment/web"]
    );
}

#[test]
fn a_kind_that_is_not_watched_is_a_target_at_the_end_of_a_chain() {
    let mut world = World::new();
    let rollout = Link::new("argoproj.io/v1alpha1", "Rollout", "web");
    world.scaled_object("so", Some(scales(rollout.clone())));
    world.pod("p", Some(web_pod("a")));
    let told = world.replica_set("web-1", Some(under(Some(rollout.clone()))));
    assert_eq!(told, ["a of Rollout/web"]);
    assert_eq!(
        world.pod("q", Some(pod_of("b", Some(rollout)))),
        ["b of Rollout/web"]
    );
    let namesake = Link::new("example.com/v1", "Rollout", "web");
    assert!(world.pod("r", Some(pod_of("c", Some(namesake)))).is_empty());
}

#[test]
fn pods_outlive_their_owners() {
    let mut world = World::with_web();
    assert!(world.replica_set("web-1", None).is_empty());
    assert!(world.deployment("web", None).is_empty());
    let draining = PodFacts {
        terminating: true,
        ..web_pod("a")
    };
    assert_eq!(
        world.pod("web-1-a", Some(draining)),
        ["a of Deployment/web, not ready"]
    );
    assert_eq!(world.pod("web-1-a", None), ["a gone"]);
    assert!(
        world.pod("web-1-b", Some(web_pod("b"))).is_empty(),
        "nobody remembers what was above"
    );
}

#[test]
fn a_pod_that_is_let_go_belongs_to_nobody_until_it_is_adopted() {
    let mut world = World::with_web();
    assert_eq!(world.pod("web-1-a", Some(pod_of("a", None))), ["a gone"]);
    assert_eq!(
        world.pod("web-1-a", Some(web_pod("a"))),
        ["a of Deployment/web"]
    );
    assert_eq!(
        world.replica_set("web-1", Some(under(None))),
        ["a gone"],
        "as when a Deployment orphans it"
    );
    let adopted = world.replica_set("web-1", Some(under(Some(apps("Deployment", "web")))));
    assert_eq!(adopted, ["a of Deployment/web"]);
}

#[test]
fn namespaces_are_worlds_of_their_own() {
    let mut world = World::with_web();
    let elsewhere = ObjectName {
        namespace: "bank".to_owned(),
        name: "web-1".to_owned(),
    };
    assert!(
        world
            .observe(Observation::Pod(elsewhere.clone(), Some(web_pod("z"))))
            .is_empty()
    );
    let controller = Some(under(Some(apps("Deployment", "web"))));
    assert!(
        world
            .observe(Observation::Owner("ReplicaSet", elsewhere, controller))
            .is_empty()
    );
}

#[test]
fn owners_in_a_circle_end() {
    let mut world = World::new();
    world.pod("p", Some(web_pod("a")));
    world.replica_set("web-1", Some(under(Some(apps("Deployment", "web")))));
    world.deployment("web", Some(under(Some(apps("ReplicaSet", "web-1")))));
    let told = world.scaled_object("so", Some(scales(apps("Deployment", "web"))));
    assert_eq!(told, ["a of Deployment/web", "so scales Deployment/web"]);
    world.pod("p", None);
    world.replica_set("web-1", None);
    world.deployment("web", None);
    world.scaled_object("so", None);
    assert!(world.0.namespaces.is_empty());
}
