use std::net::SocketAddr;

use stillwake_cluster::services::{Backend, Paused, Port, Refusal, Trouble};

use super::*;

const US: &str = "us";

fn settings() -> Settings {
    Settings {
        replica: US.to_owned(),
        copies: 3,
        every_node: false,
    }
}

fn alone() -> Plan {
    let mut plan = Plan::new(settings());
    plan.replicas(vec![US.to_owned()]);
    plan
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: "web".to_owned(),
    }
}

fn object(name: &str) -> ScaledObject {
    ScaledObject {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: "o".to_owned(),
        workload: workload(),
        paused: Paused::default(),
        services: vec!["web".to_owned()],
        trouble: None,
    }
}

fn service(ports: &[(&str, Option<u16>)]) -> Service {
    Service {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: "s".to_owned(),
        workload: workload(),
        families: vec![Family::IPv4],
        ports: ports
            .iter()
            .map(|(name, app_port)| Port {
                name: (*name).to_owned(),
                number: 80,
                app_protocol: None,
                app_port: *app_port,
            })
            .collect(),
        internal_local: false,
        external_local: false,
        refused: None,
    }
}

fn port(name: &str) -> ServicePort {
    ServicePort {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: name.to_owned(),
    }
}

fn route(name: &str, target: TargetPort) -> Route {
    Route {
        workload: workload(),
        name: format!("web/{name}"),
        target,
    }
}

fn address() -> SocketAddr {
    "10.1.0.7:15080".parse().unwrap()
}

fn backends(name: &str, uids: &[&str]) -> Change {
    Change::Backends(Backends {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: name.to_owned(),
        backends: uids
            .iter()
            .map(|uid| Backend {
                uid: (*uid).to_owned(),
                addresses: vec![address()],
            })
            .collect(),
    })
}

/// Returns what is opened and closed, by names.
fn opened_and_closed(steps: &[Step]) -> (Vec<&str>, Vec<&str>) {
    let opened = steps.iter().filter_map(|step| match step {
        Step::Listen(port, _) => Some(port.port.as_str()),
        _ => None,
    });
    let closed = steps.iter().filter_map(|step| match step {
        Step::Close(port) => Some(port.port.as_str()),
        _ => None,
    });
    (opened.collect(), closed.collect())
}

#[test]
fn a_service_is_listened_for_on_each_port_and_told_who_serves_it() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::ScaledObject(object("web")), now);
    let ports = [("http", Some(8080)), ("admin", None)];
    plan.apply(Change::Service(service(&ports)), now);
    plan.apply(backends("http", &[]), now);
    plan.apply(backends("admin", &["p"]), now);
    let listener = |name, target| Listener {
        route: route(name, target),
        app_protocol: None,
        families: vec![Family::IPv4],
    };
    let http = listener("http", TargetPort::App(8080));
    let admin = listener("admin", TargetPort::Unresolved);
    let listed = ListedEndpoint {
        uid: "p".to_owned(),
        addresses: vec![address()],
    };
    assert_eq!(
        plan.steps(now),
        [
            Step::Workload(workload(), Availability::Available),
            Step::Listen(port("admin"), admin.clone()),
            Step::Listen(port("http"), http.clone()),
            Step::Listed(http.route, Vec::new()),
            Step::Serving(port("http"), BTreeSet::new()),
            Step::Listed(admin.route, vec![listed]),
            Step::Serving(port("admin"), [Family::IPv4].into()),
        ]
    );
    assert_eq!(plan.steps(now), [], "each once");
}

#[test]
fn nothing_is_listened_for_before_the_replicas_are_known() {
    let (mut plan, now) = (Plan::new(settings()), Instant::now());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    plan.apply(backends("http", &[]), now);
    assert_eq!(plan.steps(now), []);
    plan.replicas(vec![US.to_owned()]);
    let steps = plan.steps(now);
    assert_eq!(opened_and_closed(&steps), (vec!["http"], vec![]));
    // What was known before is told then.
    assert!(matches!(steps.last(), Some(Step::Serving(_, serving)) if serving.is_empty()));
}

#[test]
fn a_service_is_left_to_others_when_there_are_enough() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    assert_eq!(opened_and_closed(&plan.steps(now)).0, ["http"]);
    // Some number of others is enough to push this one out, whatever their names are worth.
    let others = |count: usize| (0..count).map(|number| format!("other-{number}"));
    let mut left = Vec::new();
    for count in 1..60 {
        plan.replicas(others(count).collect());
        left.push(plan.steps(now));
    }
    let closed: Vec<_> = left
        .iter()
        .flat_map(|steps| opened_and_closed(steps).1)
        .collect();
    assert_eq!(closed, ["http"]);
    plan.replicas(Vec::new());
    assert_eq!(opened_and_closed(&plan.steps(now)).0, ["http"]);
}

#[test]
fn where_there_is_one_on_every_node_nothing_is_left_to_others() {
    let every_node = Settings {
        every_node: true,
        ..settings()
    };
    let (mut plan, now) = (Plan::new(every_node), Instant::now());
    plan.replicas((0..60).map(|number| format!("other-{number}")).collect());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    assert_eq!(opened_and_closed(&plan.steps(now)).0, ["http"]);
}

#[test]
fn a_port_that_leads_elsewhere_gets_a_listener_of_its_own() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    plan.apply(backends("http", &["p"]), now);
    plan.steps(now);
    plan.apply(Change::Service(service(&[("http", Some(9090))])), now);
    let new = Listener {
        route: route("http", TargetPort::App(9090)),
        app_protocol: None,
        families: vec![Family::IPv4],
    };
    let listed = ListedEndpoint {
        uid: "p".to_owned(),
        addresses: vec![address()],
    };
    assert_eq!(
        plan.steps(now),
        [
            Step::Listed(route("http", TargetPort::App(8080)), Vec::new()),
            Step::Close(port("http")),
            Step::Listen(port("http"), new.clone()),
            Step::Listed(new.route, vec![listed]),
            Step::Serving(port("http"), [Family::IPv4].into()),
        ]
    );
}

#[test]
fn a_service_made_anew_keeps_its_listener() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    plan.steps(now);
    let anew = Service {
        uid: "s2".to_owned(),
        families: vec![Family::IPv4, Family::IPv6],
        ..service(&[("http", Some(8080))])
    };
    plan.apply(Change::Service(anew), now);
    let steps = plan.steps(now);
    assert_eq!(opened_and_closed(&steps), (vec!["http"], vec![]));
    assert!(matches!(&steps[0], Step::Listen(_, listener) if listener.families.len() == 2));
}

#[test]
fn ports_that_go_are_closed_and_so_is_a_service_that_is_refused_or_gone() {
    let (mut plan, now) = (alone(), Instant::now());
    let both = [("http", Some(8080)), ("admin", Some(9000))];
    plan.apply(Change::Service(service(&both)), now);
    plan.steps(now);
    plan.apply(Change::Service(service(&both[..1])), now);
    assert_eq!(opened_and_closed(&plan.steps(now)), (vec![], vec!["admin"]));
    let refused = Service {
        refused: Some(Refusal::Headless),
        ..service(&both)
    };
    plan.apply(Change::Service(refused), now);
    assert_eq!(opened_and_closed(&plan.steps(now)), (vec![], vec!["http"]));
    plan.apply(Change::Service(service(&both)), now);
    plan.steps(now);
    let (namespace, name) = ("shop".to_owned(), "web".to_owned());
    plan.apply(Change::ServiceGone { namespace, name }, now);
    let closed = (vec![], vec!["admin", "http"]);
    assert_eq!(opened_and_closed(&plan.steps(now)), closed);
}

#[test]
fn a_workload_can_be_woken_while_one_of_its_scaled_objects_can() {
    let (mut plan, now) = (alone(), Instant::now());
    let paused = ScaledObject {
        paused: Paused {
            entirely: true,
            ..Paused::default()
        },
        ..object("paused")
    };
    let lost = ScaledObject {
        trouble: Some(Trouble::NoTarget {
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
        }),
        ..object("lost")
    };
    let gone = |name: &str| Change::ScaledObjectGone {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    let unavailable = |reason: &str| {
        let reason = reason.to_owned();
        [Step::Workload(
            workload(),
            Availability::Unavailable { reason },
        )]
    };
    plan.apply(Change::ScaledObject(paused), now);
    assert_eq!(
        plan.steps(now),
        unavailable("its ScaledObject paused is paused")
    );
    plan.apply(Change::ScaledObject(object("web")), now);
    let available = [Step::Workload(workload(), Availability::Available)];
    assert_eq!(plan.steps(now), available);
    plan.apply(gone("paused"), now);
    plan.apply(Change::ScaledObject(lost), now);
    plan.steps(now);
    plan.apply(gone("web"), now);
    assert_eq!(plan.steps(now), unavailable("there is no Deployment web"));
    let job = ScaledObject {
        trouble: Some(Trouble::NoReplicas {
            kind: "Job".to_owned(),
            name: "web".to_owned(),
        }),
        ..object("lost")
    };
    plan.apply(Change::ScaledObject(job), now);
    assert_eq!(
        plan.steps(now),
        unavailable("a Job has no number of replicas")
    );
    plan.apply(gone("lost"), now);
    assert_eq!(plan.steps(now), [Step::WorkloadGone(workload())]);
}

#[test]
fn a_workload_that_a_scaled_object_leaves_for_another_is_gone() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::ScaledObject(object("web")), now);
    plan.steps(now);
    let other = Workload {
        name: "other".to_owned(),
        ..workload()
    };
    let moved = ScaledObject {
        workload: other.clone(),
        ..object("web")
    };
    plan.apply(Change::ScaledObject(moved), now);
    assert_eq!(
        plan.steps(now),
        [
            Step::WorkloadGone(workload()),
            Step::Workload(other, Availability::Available)
        ]
    );
}

#[test]
fn what_an_aggregator_told_is_believed_until_the_slices_drop_it() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.apply(Change::Service(service(&[("http", Some(8080))])), now);
    plan.apply(backends("http", &[]), now);
    plan.reported(&workload(), "p", now);
    plan.apply(backends("http", &[]), now);
    plan.steps(now);
    assert_eq!(plan.steps(now + UNCONFIRMED / 2), [], "not listed yet");
    plan.apply(backends("http", &["p"]), now);
    plan.steps(now);
    assert_eq!(plan.steps(now + UNCONFIRMED), [], "listed");
    assert_eq!(plan.next_due(), None);
    plan.apply(backends("http", &[]), now);
    let steps = plan.steps(now);
    assert!(
        steps.contains(&Step::Gone(workload(), "p".to_owned())),
        "{steps:?}"
    );
}

#[test]
fn what_no_slice_ever_lists_is_dropped_in_the_end() {
    let (mut plan, now) = (alone(), Instant::now());
    plan.reported(&workload(), "p", now);
    plan.reported(&workload(), "q", now);
    plan.withdrawn("q");
    assert_eq!(plan.next_due(), Some(now + UNCONFIRMED));
    let gone = [Step::Gone(workload(), "p".to_owned())];
    assert_eq!(plan.steps(now + UNCONFIRMED), gone);
}

#[test]
fn people_are_told_once_of_what_lasts() {
    let (mut plan, now) = (alone(), Instant::now());
    let refused = || Service {
        refused: Some(Refusal::Headless),
        ..service(&[])
    };
    plan.apply(Change::Service(refused()), now);
    let local = Service {
        name: "local".to_owned(),
        internal_local: true,
        ..service(&[("http", Some(8080))])
    };
    plan.apply(Change::Service(local), now);
    let lost = ScaledObject {
        trouble: Some(Trouble::NoService),
        ..object("web")
    };
    plan.apply(Change::ScaledObject(lost), now);
    assert_eq!(plan.notices(now), [], "it may be about to change");
    let due = plan.next_due().unwrap();
    // Said again, it is the same.
    plan.apply(Change::Service(refused()), due);
    let reasons = |notices: Vec<Notice>| {
        let notices = notices.into_iter();
        let told = notices.map(|notice| (notice.reason, notice.name, notice.uid));
        told.collect::<Vec<_>>()
    };
    let told = |reason, name: &str, uid: &str| (reason, name.to_owned(), uid.to_owned());
    assert_eq!(
        reasons(plan.notices(due)),
        [
            told("StillwakeNoService", "web", "o"),
            told("StillwakeLocalTraffic", "local", "s"),
            told("StillwakeNotServed", "web", "s"),
        ]
    );
    assert_eq!(plan.notices(due), []);
    assert_eq!(plan.next_due(), None);
    // What is put right and wrong again is told again.
    plan.apply(Change::ScaledObject(object("web")), due);
    assert_eq!(plan.next_due(), None);
}

#[test]
fn of_several_replicas_one_tells() {
    let replicas = ["a", "b", "c", "d"].map(str::to_owned);
    let now = Instant::now();
    let told = replicas.iter().filter(|replica| {
        let mut plan = Plan::new(Settings {
            replica: (*replica).clone(),
            ..settings()
        });
        plan.replicas(replicas.to_vec());
        let refused = Service {
            refused: Some(Refusal::Headless),
            ..service(&[])
        };
        plan.apply(Change::Service(refused), now);
        !plan.notices(now + Duration::from_mins(1)).is_empty()
    });
    assert_eq!(told.count(), 1);
}
