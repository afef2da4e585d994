//! What the index says, fact by fact.

use std::net::SocketAddr;

use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use stillwake_proto::report::Workload;

use super::*;
use crate::{
    membership::scaled_object::ScaledObjectObject,
    services::{Backend, Backends, Family, Refusal, Trouble, objects::Template},
    watch::Watched as _,
};

pub(super) fn scaler() -> ScalerService {
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

/// A `ScaledObject` for a target, such as `Deployment/web`, whose trigger has these metadata.
pub(super) fn scales(target: &str, metadata: &Value) -> ScaledObjectFacts {
    let (kind, name) = target.split_once('/').unwrap();
    let api_version = match kind {
        "Web" => "example.com/v1",
        "Rollout" => "argoproj.io/v1alpha1",
        "Job" => "batch/v1",
        _ => "apps/v1",
    };
    let mut metadata = metadata.clone();
    if metadata["scalerAddress"].is_null() {
        metadata["scalerAddress"] = json!("scaler.system:9090");
    }
    let object = json!({
        "metadata": {"name": "so", "uid": "uid-so"},
        "spec": {"scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": name},
                 "triggers": [{"type": "external-push", "metadata": metadata}]},
    });
    let object: DeserializeGuard<ScaledObjectObject> = serde_json::from_value(object).unwrap();
    object.keep().unwrap()
}

pub(super) fn template(app: &str) -> Template {
    Template {
        labels: [("app".to_owned(), app.to_owned())].into(),
        ports: [("http".to_owned(), 8080)].into(),
    }
}

pub(super) fn runs(app: &str) -> TargetFacts {
    TargetFacts {
        controller: None,
        template: template(app),
    }
}

pub(super) fn service(name: &str, spec: &Value) -> Observation {
    let object = json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": spec});
    let object = serde_json::from_value(object).unwrap();
    Observation::Service(named(name), Some(Arc::new(object)))
}

pub(super) fn selecting(app: &str) -> Value {
    json!({"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]})
}

pub(super) fn slice(
    name: &str,
    service: &str,
    port: u16,
    backends: &[(&str, [u8; 4])],
) -> Observation {
    let backends = backends.iter();
    let backends = backends.map(|(uid, address)| ((*uid).to_owned(), (*address).into()));
    let facts = SliceFacts {
        service: service.to_owned(),
        ports: vec![("http".to_owned(), port)],
        backends: backends.collect(),
    };
    Observation::Slice(named(name), Some(facts))
}

fn workload(name: &str) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: name.to_owned(),
    }
}

struct Fixture(Index);

impl Fixture {
    /// Starts with everything listed that there is: nothing.
    fn synced() -> Self {
        let mut index = Index::new(scaler());
        index.synced();
        assert_eq!(index.changes(), [Change::Synced]);
        Self(index)
    }

    /// Starts with a Deployment `web` at zero, which a `ScaledObject` scales, and its Service.
    fn at_zero() -> Self {
        let mut fixture = Self::synced();
        fixture.scales("so", "Deployment/web", &json!({}));
        fixture.runs("web", "web");
        fixture.tells(service("web", &selecting("web")));
        fixture
    }

    fn tells(&mut self, observation: Observation) -> Vec<Change> {
        self.0.observe(observation);
        self.0.changes()
    }

    fn scales(&mut self, name: &str, target: &str, metadata: &Value) -> Vec<Change> {
        let facts = scales(target, metadata);
        self.tells(Observation::ScaledObject(named(name), Some(facts)))
    }

    fn runs(&mut self, name: &str, app: &str) -> Vec<Change> {
        let facts = Some(runs(app));
        self.tells(Observation::Target("Deployment", named(name), facts))
    }
}

/// Returns the changes in short.
fn brief(changes: &[Change]) -> Vec<String> {
    let brief = changes.iter().map(|change| match change {
        Change::ScaledObject(object) => format!("{} → {}", object.name, object.services.join(",")),
        Change::ScaledObjectGone { name, .. } | Change::ServiceGone { name, .. } => {
            format!("no {name}")
        }
        Change::Service(service) => format!("{} → {}", service.name, service.workload.name),
        Change::Backends(served) => {
            let uids = served.backends.iter().map(|backend| backend.uid.as_str());
            let uids: Vec<_> = uids.collect();
            format!("{}/{}: {}", served.service, served.port, uids.join(","))
        }
        Change::Synced => "synced".to_owned(),
    });
    brief.collect()
}

/// Returns the trouble of the `ScaledObject` among the changes.
fn trouble(changes: &[Change]) -> Option<Trouble> {
    let mut objects = changes.iter().filter_map(|change| match change {
        Change::ScaledObject(object) => Some(object),
        _ => None,
    });
    objects.next().unwrap().trouble.clone()
}

#[test]
fn nothing_is_told_before_everything_was_listed() {
    let mut index = Index::new(scaler());
    let scaled_object = scales("Deployment/web", &json!({}));
    index.observe(Observation::ScaledObject(named("so"), Some(scaled_object)));
    index.observe(service("web", &selecting("web")));
    let web = Observation::Target("Deployment", named("web"), Some(runs("web")));
    index.observe(web);
    assert_eq!(index.changes(), []);
    index.observe(slice("web-x", "web", 8080, &[("u", [10, 0, 0, 1])]));
    index.synced();
    let told = ["so → web", "web → web", "web/http: u", "synced"];
    assert_eq!(brief(&index.changes()), told);
}

#[test]
fn a_service_is_ours_while_it_selects_the_pods_of_a_target() {
    let mut fixture = Fixture::synced();
    assert_eq!(fixture.tells(service("web", &selecting("web"))), []);
    assert_eq!(fixture.runs("web", "web"), []);
    let told = fixture.scales("so", "Deployment/web", &json!({}));
    assert_eq!(brief(&told), ["so → web", "web → web", "web/http: "]);
    let Change::Service(told) = &told[1] else {
        panic!("{told:?}");
    };
    assert_eq!(told.workload, workload("web"));
    assert_eq!(
        (told.uid.as_str(), told.refused.as_ref()),
        ("uid-web", None)
    );
    assert_eq!(told.ports[0].app_port, Some(8080));

    let told = fixture.tells(service("web", &selecting("other")));
    assert_eq!(brief(&told), ["no web", "so → "]);
    let told = fixture.tells(service("web", &selecting("web")));
    assert_eq!(brief(&told), ["so → web", "web → web", "web/http: "]);
    let told = fixture.runs("web", "renamed");
    assert_eq!(brief(&told), ["no web", "so → "]);
    fixture.runs("web", "web");
    let told = fixture.tells(Observation::ScaledObject(named("so"), None));
    assert_eq!(brief(&told), ["no web", "no so"]);
    assert_eq!(fixture.tells(Observation::Service(named("web"), None)), []);
}

#[test]
fn a_scaled_object_of_somebody_else_is_not_told() {
    let mut fixture = Fixture::at_zero();
    let theirs = json!({"scalerAddress": "other.system:9090"});
    let told = fixture.scales("so", "Deployment/web", &theirs);
    assert_eq!(brief(&told), ["no web", "no so"]);
}

#[test]
fn what_changes_of_a_target_is_told() {
    let mut fixture = Fixture::at_zero();
    assert_eq!(fixture.runs("web", "web"), [], "nothing is new");
    let mut moved = runs("web");
    moved.template.ports.insert("http".to_owned(), 9090);
    let moved = Observation::Target("Deployment", named("web"), Some(moved));
    let told = fixture.tells(moved);
    let [Change::Service(service)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(service.ports[0].app_port, Some(9090));
}

#[test]
fn backends_are_told_for_each_port_over_all_slices() {
    let mut fixture = Fixture::at_zero();
    let told = fixture.tells(slice("web-1", "web", 8080, &[("u1", [10, 0, 0, 1])]));
    assert_eq!(brief(&told), ["web/http: u1"]);
    let told = fixture.tells(slice("web-2", "web", 9090, &[("u0", [10, 0, 0, 2])]));
    let backend = |uid: &str, address: [u8; 4], port| Backend {
        uid: uid.to_owned(),
        addresses: vec![SocketAddr::from((address, port))],
    };
    let expected = Backends {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: "http".to_owned(),
        backends: vec![
            backend("u0", [10, 0, 0, 2], 9090),
            backend("u1", [10, 0, 0, 1], 8080),
        ],
    };
    assert!(expected.serve(Family::IPv4) && !expected.serve(Family::IPv6));
    assert_eq!(told, [Change::Backends(expected)]);
    let told = fixture.tells(Observation::Slice(named("web-1"), None));
    assert_eq!(brief(&told), ["web/http: u0"]);
    assert_eq!(fixture.tells(slice("o", "other", 1, &[("u", [1; 4])])), []);
    let told = fixture.tells(slice("web-2", "other", 9090, &[]));
    assert_eq!(brief(&told), ["web/http: "], "it is another's slice now");
}

#[test]
fn a_port_that_is_not_in_the_slices_has_no_backend() {
    let mut fixture = Fixture::at_zero();
    fixture.tells(slice("web-1", "web", 8080, &[("u1", [10, 0, 0, 1])]));
    let two = json!({"selector": {"app": "web"},
                     "ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]});
    let told = fixture.tells(service("web", &two));
    assert_eq!(brief(&told), ["web → web", "web/admin: "]);
    let told = fixture.tells(service("web", &selecting("web")));
    assert_eq!(brief(&told), ["web → web"]);
    let told = fixture.tells(service("web", &two));
    assert_eq!(
        brief(&told),
        ["web → web", "web/admin: "],
        "it is new again"
    );
}

#[test]
fn a_refused_service_is_told_with_its_reason_and_without_backends() {
    let mut fixture = Fixture::at_zero();
    let mut headless = selecting("web");
    headless["clusterIP"] = json!("None");
    let told = fixture.tells(service("web", &headless));
    let [Change::Service(told)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(told.refused, Some(Refusal::Headless));
    assert_eq!(fixture.tells(slice("s", "web", 1, &[("u", [1; 4])])), []);
    let told = fixture.tells(service("web", &selecting("web")));
    assert_eq!(brief(&told), ["web → web", "web/http: u"]);
}

#[test]
fn a_trigger_that_names_services_has_these_and_no_others() {
    let mut fixture = Fixture::at_zero();
    fixture.tells(service("other", &selecting("other")));
    let names = json!({"service": "other,missing"});
    let told = fixture.scales("so", "Deployment/web", &names);
    assert_eq!(
        brief(&told),
        ["no web", "so → other", "other → web", "other/http: "]
    );
    let missing = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned());
        Some(Trouble::MissingServices(names.collect()))
    };
    assert_eq!(trouble(&told), missing(&["missing"]));
    let told = fixture.tells(Observation::Service(named("other"), None));
    assert_eq!(brief(&told), ["no other", "so → "]);
    assert_eq!(trouble(&told), missing(&["missing", "other"]));
    let names = json!({"service": "web"});
    assert_eq!(
        trouble(&fixture.scales("so", "Deployment/web", &names)),
        None
    );
}

#[test]
fn a_service_of_several_workloads_is_refused_until_one_names_it() {
    let mut fixture = Fixture::at_zero();
    fixture.runs("blue", "web");
    let told = fixture.scales("blue", "Deployment/blue", &json!({}));
    assert_eq!(brief(&told), ["blue → web", "web → blue"]);
    let Change::Service(told) = &told[1] else {
        panic!("{told:?}");
    };
    let both = vec![workload("blue"), workload("web")];
    assert_eq!(told.refused, Some(Refusal::SeveralWorkloads(both)));

    let told = fixture.scales("so", "Deployment/web", &json!({"service": "web"}));
    assert_eq!(brief(&told), ["web → web", "web/http: "]);
    assert!(matches!(&told[0], Change::Service(told) if told.refused.is_none()));
    let told = fixture.tells(Observation::ScaledObject(named("so"), None));
    assert_eq!(brief(&told), ["web → blue", "no so"]);
}

#[test]
fn of_a_kind_that_is_not_watched_the_pods_tell_and_are_remembered() {
    let mut fixture = Fixture::synced();
    fixture.tells(service("web", &selecting("web")));
    let told = fixture.scales("so", "Web/web", &json!({}));
    assert!(matches!(trouble(&told), Some(Trouble::UnknownPods { .. })));
    let pod = PodFacts {
        controller: Link::new("example.com/v1", "Web", "web"),
        labels: template("web").labels,
    };
    let told = fixture.tells(Observation::Pod(named("p"), Some(pod)));
    assert_eq!(brief(&told), ["so → web", "web → web", "web/http: "]);
    assert_eq!(fixture.tells(Observation::Pod(named("p"), None)), []);

    let told = fixture.scales("so", "Web/other", &json!({}));
    assert_eq!(brief(&told), ["no web", "so → "]);
    let told = fixture.scales("so", "Web/web", &json!({}));
    assert_eq!(brief(&told), ["so → "], "nobody needed it any more");
}

#[test]
fn of_a_rollout_its_replica_sets_tell() {
    let mut fixture = Fixture::synced();
    fixture.tells(service("web", &selecting("web")));
    fixture.scales("so", "Rollout/web", &json!({}));
    let facts = TargetFacts {
        controller: Some(Link::new("argoproj.io/v1alpha1", "Rollout", "web")),
        ..runs("web")
    };
    let told = fixture.tells(Observation::Target(
        "ReplicaSet",
        named("web-1"),
        Some(facts),
    ));
    assert_eq!(brief(&told), ["so → web", "web → web", "web/http: "]);
    let Change::Service(told) = &told[1] else {
        panic!("{told:?}");
    };
    assert_eq!(told.ports[0].app_port, Some(8080));
}

#[test]
fn a_target_without_services_or_without_itself_is_trouble() {
    let mut fixture = Fixture::synced();
    let told = fixture.scales("so", "Deployment/web", &json!({}));
    assert!(matches!(trouble(&told), Some(Trouble::NoTarget { .. })));
    assert_eq!(
        trouble(&fixture.runs("web", "web")),
        Some(Trouble::NoService)
    );
    let told = fixture.tells(service("web", &selecting("web")));
    assert_eq!(trouble(&told), None);
    let told = fixture.tells(Observation::Target("Deployment", named("web"), None));
    assert_eq!(brief(&told), ["no web", "so → "]);
    assert!(matches!(trouble(&told), Some(Trouble::NoTarget { .. })));
}

#[test]
fn a_target_that_cannot_be_scaled_is_trouble_whatever_its_trigger_names() {
    let mut fixture = Fixture::synced();
    fixture.tells(service("once", &selecting("once")));
    for (metadata, leading) in [
        (json!({}), "so → "),
        (json!({"service": "once"}), "so → once"),
    ] {
        let told = fixture.scales("so", "Job/once", &metadata);
        assert_eq!(brief(&told)[0], leading);
        let (kind, name) = ("Job".to_owned(), "once".to_owned());
        assert_eq!(trouble(&told), Some(Trouble::NoReplicas { kind, name }));
    }
}
