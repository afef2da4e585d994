//! What follows from what is told.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use stillwake_cluster::services::SERVICE_NAME;

use super::*;

fn replica() -> Replica {
    Replica {
        namespace: "system".to_owned(),
        pod: "me-pod".to_owned(),
        uid: "me".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        node: None,
        zone: None,
        owner: Some(owner("role")),
    }
}

fn owner(uid: &str) -> Owner {
    Owner {
        name: "activator".to_owned(),
        uid: uid.to_owned(),
    }
}

fn port(service: &str) -> ServicePort {
    ServicePort {
        namespace: "shop".to_owned(),
        service: service.to_owned(),
        port: "http".to_owned(),
    }
}

fn listening(number: u16) -> Listening {
    Listening {
        app_protocol: None,
        families: vec![Family::IPv4],
        port: number,
    }
}

/// Returns the slice of a Service as the watch shows it.
fn slice(service: &str, number: u16, ready: bool) -> EndpointSlice {
    let desired = Desired {
        port: port(service),
        listening: listening(number),
        family: Family::IPv4,
        ready: None,
    };
    let mut slice = slice::render(&replica(), &desired, ready).unwrap();
    slice.metadata.resource_version = Some("1".to_owned());
    slice
}

struct Fixture {
    state: State,
    now: Instant,
    version: u64,
}

const HOLD_DOWN: Duration = Duration::from_secs(2);

impl Fixture {
    fn new() -> Self {
        Self {
            state: State::new(replica(), HOLD_DOWN, Pace::default()),
            now: Instant::now(),
            version: 100,
        }
    }

    fn synced() -> Self {
        let mut fixture = Self::new();
        fixture.tell(Change::Synced);
        fixture
    }

    fn tell(&mut self, change: Change) {
        self.state.published(change, self.now);
    }

    fn show(&mut self, slice: EndpointSlice) {
        self.tell(Change::Slice(Box::new(slice)));
    }

    fn backends(&mut self, service: &str, families: &[Family]) {
        let families = families.iter().copied().collect();
        self.state.backends(&port(service), &families, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Does all that is to be done, as the API server and the watch at once do and show. Returns it.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(work) = self.state.next(self.now) {
            match work {
                Work::Write(Write::Apply(name, slice)) => {
                    self.version += 1;
                    let mut shown = slice.as_ref().clone();
                    let number = shown.ports.as_ref().unwrap()[0].port.unwrap();
                    let ready = slice::is_ready(&shown);
                    done.push(format!("{} {number} {ready}", service(&shown)));
                    shown.metadata.resource_version = Some(self.version.to_string());
                    let version = shown.metadata.resource_version.clone();
                    self.state.wrote(&name, Outcome::Applied(version), self.now);
                    self.show(shown);
                }
                Work::Write(Write::Delete(name, _)) => {
                    done.push(format!("delete {}", name.name.split('-').next().unwrap()));
                    self.state.wrote(&name, Outcome::Deleted, self.now);
                    let SliceName { namespace, name } = name;
                    self.tell(Change::Gone { namespace, name });
                }
                Work::Ask(question) => {
                    done.push(format!("ask {}", question.pod));
                    self.state.answered(&question, Answer::NoPod, self.now);
                }
            }
        }
        done
    }
}

fn service(slice: &EndpointSlice) -> &str {
    &slice.metadata.labels.as_ref().unwrap()[SERVICE_NAME]
}

fn foreign(service: &str) -> EndpointSlice {
    let mut slice = slice(service, 20000, true);
    slice.metadata.name = Some(format!("{service}-of-it"));
    let labels = slice.metadata.labels.as_mut().unwrap();
    labels.insert(slice::REPLICA.to_owned(), "it".to_owned());
    let annotations = slice.metadata.annotations.as_mut().unwrap();
    annotations.insert(slice::REPLICA_POD.to_owned(), "it-pod".to_owned());
    slice
}

#[test]
fn a_port_is_ready_while_nobody_serves_and_for_a_moment_longer() {
    let mut fixture = Fixture::synced();
    fixture.state.listen(port("web"), listening(20000));
    assert_eq!(fixture.settle(), ["web 20000 false"]);
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    fixture.backends("web", &[Family::IPv4]);
    assert_eq!(fixture.settle(), [""; 0]);
    assert_eq!(fixture.state.next_due(), Some(fixture.now + HOLD_DOWN));
    fixture.pass(2);
    assert_eq!(fixture.settle(), ["web 20000 false"]);
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    fixture.state.withdraw(&port("web"));
    assert_eq!(fixture.settle(), ["delete web"]);
    assert_eq!(
        fixture.state.next_due(),
        Some(fixture.now + LEFTOVERS - HOLD_DOWN)
    );
}

#[test]
fn nothing_is_published_without_an_owner_and_all_of_it_names_a_new_one() {
    let mut fixture = Fixture::synced();
    fixture.state.replica.owner = None;
    fixture.state.listen(port("web"), listening(20000));
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), [""; 0]);
    fixture.state.set_owner(owner("role"));
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    fixture.state.listen(port("gone"), listening(20001));
    fixture.backends("gone", &[]);
    assert_eq!(fixture.settle(), ["gone 20001 true"]);
    fixture.state.set_owner(owner("another"));
    fixture.state.withdraw(&port("gone"));
    let mut done = fixture.settle();
    done.sort_unstable();
    assert_eq!(done, ["delete gone", "web 20000 true"]);
    fixture.pass(60);
    assert_eq!(fixture.settle(), [""; 0]);
}

#[test]
fn what_is_known_in_time_is_written_once() {
    let mut fixture = Fixture::synced();
    fixture.state.listen(port("web"), listening(20000));
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    fixture.state.listen(port("web"), listening(20001));
    assert_eq!(fixture.settle(), ["web 20001 true"], "another port");
}

#[test]
fn nothing_is_written_before_it_is_known_what_is_published() {
    let mut fixture = Fixture::new();
    fixture.state.listen(port("web"), listening(20000));
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), [""; 0]);
    fixture.show(slice("web", 20000, true));
    fixture.tell(Change::Synced);
    assert_eq!(fixture.settle(), [""; 0], "it is as it should be");
}

#[test]
fn a_container_that_starts_again_leaves_what_it_finds_until_it_knows_better() {
    let mut fixture = Fixture::new();
    for service in ["web", "cart", "gone"] {
        fixture.show(slice(service, 20000, true));
    }
    fixture.tell(Change::Synced);
    assert_eq!(fixture.settle(), [""; 0]);
    fixture.state.listen(port("web"), listening(20000));
    assert_eq!(fixture.settle(), [""; 0], "still ready");
    fixture.state.listen(port("cart"), listening(20005));
    assert_eq!(
        fixture.settle(),
        ["cart 20005 true"],
        "where it can be reached"
    );
    fixture.backends("web", &[Family::IPv4]);
    assert_eq!(fixture.settle(), ["web 20000 false"]);
    fixture.pass(10);
    assert_eq!(fixture.settle(), ["delete gone"]);
    fixture.show(slice("back", 20000, true));
    assert_eq!(
        fixture.settle(),
        ["delete back"],
        "what comes later is nobody's"
    );
}

#[test]
fn who_ends_takes_everything_away() {
    let mut fixture = Fixture::new();
    fixture.show(slice("left", 20000, true));
    fixture.state.listen(port("web"), listening(20000));
    fixture.tell(Change::Synced);
    assert_eq!(fixture.settle(), ["web 20000 false"]);
    assert!(!fixture.state.is_drained(fixture.now));
    fixture.state.withdraw_all(fixture.now);
    assert!(!fixture.state.is_drained(fixture.now));
    assert_eq!(fixture.settle(), ["delete left", "delete web"]);
    assert!(fixture.state.is_drained(fixture.now));
}

#[test]
fn who_ends_before_it_knows_what_is_published_does_not_say_that_nothing_is() {
    let mut fixture = Fixture::new();
    fixture.show(slice("left", 20000, true));
    fixture.state.withdraw_all(fixture.now);
    assert_eq!(fixture.settle(), [""; 0]);
    assert!(!fixture.state.is_drained(fixture.now));
    fixture.tell(Change::Synced);
    assert_eq!(fixture.settle(), ["delete left"]);
    assert!(fixture.state.is_drained(fixture.now));
}

#[test]
fn slices_of_a_replica_that_is_gone_are_deleted_and_others_left() {
    let mut fixture = Fixture::synced();
    fixture.show(foreign("web"));
    let mut nobodys = foreign("cart");
    nobodys
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .remove(slice::REPLICA);
    fixture.show(nobodys);
    let known = |uid: &str| replicas::Replica {
        uid: uid.to_owned(),
        name: format!("{uid}-pod"),
        running: true,
        terminating: false,
    };
    let live = fixture
        .state
        .replicas(vec![known("me"), known("it")], fixture.now);
    assert_eq!(live.unwrap(), ["it", "me"]);
    assert_eq!(fixture.settle(), [""; 0]);
    fixture.state.replicas(vec![known("me")], fixture.now);
    assert_eq!(fixture.settle(), ["ask it-pod", "delete web"]);
    assert_eq!(fixture.state.count(fixture.now), (0, 0), "it was not ours");
}

#[test]
fn a_slice_of_ours_that_somebody_labels_as_anothers_is_put_right() {
    let mut fixture = Fixture::synced();
    fixture.state.replicas(Vec::new(), fixture.now);
    fixture.state.listen(port("web"), listening(20000));
    fixture.backends("web", &[]);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    assert_eq!(fixture.state.count(fixture.now), (1, 0));
    let mut stolen = slice("web", 20000, true);
    let labels = stolen.metadata.labels.as_mut().unwrap();
    labels.insert(slice::REPLICA.to_owned(), "it".to_owned());
    fixture.show(stolen);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
}

#[test]
fn a_family_without_an_address_is_not_published() {
    let mut fixture = Fixture::synced();
    let both = Listening {
        families: vec![Family::IPv6, Family::IPv4],
        ..listening(20000)
    };
    fixture.state.listen(port("web"), both);
    assert_eq!(fixture.settle(), ["web 20000 false"]);
}

#[test]
fn people_see_what_is_published_and_what_troubles_it() {
    let mut fixture = Fixture::synced();
    fixture.state.listen(port("web"), listening(20000));
    fixture.backends("web", &[]);
    let Some(Work::Write(write)) = fixture.state.next(fixture.now) else {
        panic!("nothing to write");
    };
    fixture
        .state
        .wrote(write.name(), Outcome::Failed, fixture.now);
    let seen = fixture.state.debug(fixture.now);
    assert_eq!(seen["published"][0]["failures"], 1);
    assert_eq!(seen["published"][0]["published"], false);
    fixture.pass(1);
    assert_eq!(fixture.settle(), ["web 20000 true"]);
    let seen = fixture.state.debug(fixture.now);
    assert_eq!(seen["published"][0]["failures"], 0);
    assert_eq!(seen["published"][0]["ready"], true);
    assert_eq!((&seen["ready"], &seen["unready"]), (&1.into(), &0.into()));
}
