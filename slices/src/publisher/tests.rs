//! The publisher against an API server in this process.

use http::StatusCode;
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use stillwake_cluster::scripted::{PATIENCE, Server};
use tokio::time::{sleep, timeout};

use super::*;
use crate::slice;

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const PODS: &str = "/api/v1/namespaces/system/pods";

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

fn path(namespace: &str, name: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}")
}

/// Waits until it holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, look).await.is_ok(), "never: {what}");
}

/// Waits so long that whatever would happen has happened.
async fn for_good() {
    sleep(Duration::from_secs(30)).await;
}

struct Fixture {
    server: Server,
    handle: Handle,
    registry: Registry,
}

fn owner(uid: &str) -> Owner {
    Owner {
        name: "activator".to_owned(),
        uid: uid.to_owned(),
    }
}

impl Fixture {
    /// Returns a publisher that runs, in a pod that does as well.
    fn new() -> Self {
        let server = Server::default();
        pod(&server, "me", true);
        let mut registry = Registry::default();
        let cluster = stillwake_cluster::Metrics::register(&mut registry);
        let settings = Settings {
            replica: Replica {
                namespace: "system".to_owned(),
                pod: "me-pod".to_owned(),
                uid: "me".to_owned(),
                addresses: vec!["10.0.0.1".parse().unwrap()],
                node: Some("node".to_owned()),
                zone: None,
                owner: None,
            },
            replica_labels: "app=activator".to_owned(),
            ..Settings::default()
        };
        let publisher = Publisher::new(server.client(), settings, cluster, &mut registry);
        let handle = publisher.handle();
        handle.set_owner(owner("role"));
        tokio::spawn(publisher.run());
        Self {
            server,
            handle,
            registry,
        }
    }

    fn serve(&self, service: &str, families: &[Family]) {
        let families = families.iter().copied().collect();
        self.handle.backends(&port(service), &families);
    }

    /// Listens for a Service that nobody serves.
    fn listen(&self, service: &str) {
        self.handle.listen(port(service), listening(20000));
        self.serve(service, &[]);
    }

    /// Returns the Service of each slice that is there, and whether it is ready.
    fn there(&self) -> Vec<(String, bool)> {
        let slices = self.server.objects(SLICES).into_iter();
        let slices = slices.map(|slice| {
            let service = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
            let ready = &slice["endpoints"][0]["conditions"]["ready"];
            (
                service.as_str().unwrap().to_owned(),
                ready.as_bool().unwrap(),
            )
        });
        slices.collect()
    }

    async fn until_there(&self, slices: &[(&str, bool)]) {
        let slices: Vec<_> = slices
            .iter()
            .map(|(service, ready)| ((*service).to_owned(), *ready))
            .collect();
        until(&format!("{slices:?}"), || self.there() == slices).await;
    }

    /// Returns the path of a Service's slice.
    fn path(&self, service: &str) -> String {
        let slices = self.server.objects(SLICES);
        let slice = slices
            .iter()
            .find(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service);
        path("shop", slice.unwrap()["metadata"]["name"].as_str().unwrap())
    }

    /// Returns how many requests of this method there were.
    fn count(&self, method: &str) -> usize {
        let asked = self.server.asked();
        asked
            .iter()
            .filter(|asked| asked.starts_with(method))
            .count()
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().any(|is| is == line)
    }
}

fn pod(server: &Server, uid: &str, running: bool) {
    let state = if running { "running" } else { "terminated" };
    let pod = json!({
        "metadata": {"name": format!("{uid}-pod"), "namespace": "system", "uid": uid},
        "status": {"containerStatuses": [{"name": "activator", "state": {state: {}}}]},
    });
    server.put(PODS, pod);
}

/// Publishes a slice of the replica `it`.
fn publish_for_it(server: &Server, service: &str) {
    let slice: Value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-of-it"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service, slice::REPLICA: "it"},
            "annotations": {slice::REPLICA_POD: "it-pod"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": true}}],
    });
    server.apply(&path("shop", &format!("{service}-of-it")), slice);
}

#[tokio::test(start_paused = true)]
async fn a_port_is_published_ready_and_unready_and_taken_away() {
    let fixture = Fixture::new();
    fixture.listen("web");
    fixture.until_there(&[("web", true)]).await;
    let name = fixture.path("web");
    let apply = format!("PATCH {name}?&force=true&fieldManager=stillwake-activator");
    assert!(
        fixture.server.asked().contains(&apply),
        "{:?}",
        fixture.server.asked()
    );
    assert!(fixture.metric("stillwake_activator_slices{state=\"ready\"} 1"));
    fixture.serve("web", &[Family::IPv4]);
    fixture.until_there(&[("web", false)]).await;
    assert!(fixture.metric("stillwake_activator_slices{state=\"ready\"} 0"));
    assert!(fixture.metric("stillwake_activator_slices{state=\"unready\"} 1"));
    fixture.handle.withdraw(&port("web"));
    fixture.until_there(&[]).await;
    for_good().await;
    assert_eq!((fixture.count("PATCH"), fixture.count("DELETE")), (2, 1));
    assert!(
        fixture.metric("stillwake_activator_slice_writes_total{verb=\"apply\",outcome=\"done\"} 2")
    );
    assert!(
        fixture
            .metric("stillwake_activator_slice_writes_total{verb=\"delete\",outcome=\"done\"} 1")
    );
    assert!(fixture.metric("stillwake_activator_orphaned_slices_deleted_total 0"));
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_is_tried_again() {
    let fixture = Fixture::new();
    fixture.listen("web");
    fixture.until_there(&[("web", true)]).await;
    let name = fixture.path("web");
    fixture.server.refuse(&name, StatusCode::FORBIDDEN);
    fixture.serve("web", &[Family::IPv4]);
    until("the failure is seen", || {
        fixture.handle.debug_state()["published"][0]["failures"] == 3
    })
    .await;
    assert_eq!(fixture.there(), [("web".to_owned(), true)]);
    fixture.server.allow(&name);
    fixture.until_there(&[("web", false)]).await;
    assert!(
        fixture
            .metric("stillwake_activator_slice_writes_total{verb=\"apply\",outcome=\"failed\"} 3")
    );
}

#[tokio::test(start_paused = true)]
async fn what_somebody_takes_away_comes_back() {
    let fixture = Fixture::new();
    fixture.listen("web");
    fixture.until_there(&[("web", true)]).await;
    for_good().await;
    fixture.server.remove(&fixture.path("web"));
    assert_eq!(fixture.there(), []);
    fixture.until_there(&[("web", true)]).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_until_nothing_is_published() {
    let fixture = Fixture::new();
    for service in ["cart", "web"] {
        fixture.listen(service);
    }
    fixture.until_there(&[("cart", true), ("web", true)]).await;
    let cart = fixture.path("cart");
    fixture
        .server
        .refuse(&cart, StatusCode::SERVICE_UNAVAILABLE);
    fixture.handle.withdraw_all();
    let drained = timeout(Duration::from_secs(20), fixture.handle.drained());
    assert!(drained.await.is_err(), "one is still there");
    assert_eq!(fixture.there(), [("cart".to_owned(), true)]);
    fixture.server.allow(&cart);
    let drained = timeout(PATIENCE, fixture.handle.drained());
    drained.await.expect("it ends");
    assert_eq!(fixture.there(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_already_counts_as_deleted() {
    let fixture = Fixture::new();
    fixture.listen("web");
    fixture.until_there(&[("web", true)]).await;
    for_good().await;
    let name = fixture.path("web");
    let (collection, name) = name.rsplit_once('/').unwrap();
    // No watch tells.
    fixture.server.delete(collection, name);
    fixture.handle.withdraw_all();
    let drained = timeout(Duration::from_secs(1), fixture.handle.drained());
    drained.await.expect("there is nothing to delete");
    assert_eq!(fixture.count("DELETE"), 1);
}

#[tokio::test(start_paused = true)]
async fn slices_of_a_replica_that_died_are_gone_within_seconds() {
    let fixture = Fixture::new();
    pod(&fixture.server, "it", true);
    for service in ["cart", "web"] {
        publish_for_it(&fixture.server, service);
    }
    let mut live = fixture.handle.live_replicas();
    let both = Some(vec!["it".to_owned(), "me".to_owned()]);
    let known = timeout(PATIENCE, live.wait_for(|live| *live == both)).await;
    drop(known.expect("both are known").unwrap());
    for_good().await;
    assert_eq!(fixture.there().len(), 2, "it lives");

    let died = Instant::now();
    pod(&fixture.server, "it", false);
    fixture.until_there(&[]).await;
    assert!(
        died.elapsed() < Duration::from_secs(5),
        "{:?}",
        died.elapsed()
    );
    let pod = format!("GET {PODS}/it-pod?");
    assert!(
        fixture.server.asked().contains(&pod),
        "{:?}",
        fixture.server.asked()
    );
    assert!(fixture.metric("stillwake_activator_orphaned_slices_deleted_total 2"));
    assert_eq!(*live.borrow_and_update(), Some(vec!["me".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_which_no_watch_has_told_keeps_its_slices() {
    let fixture = Fixture::new();
    // Nobody who watches hears of it.
    fixture.server.say(
        &format!("{PODS}/it-pod"),
        &json!({
            "metadata": {"name": "it-pod", "namespace": "system", "uid": "it"},
            "status": {"containerStatuses": [{"name": "activator", "state": {"running": {}}}]},
        })
        .to_string(),
    );
    publish_for_it(&fixture.server, "web");
    until("it is asked about", || {
        let asked = fixture.server.asked();
        asked
            .iter()
            .filter(|asked| asked.contains("/it-pod"))
            .count()
            > 2
    })
    .await;
    fixture.until_there(&[("web", true)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_ports_take_a_write_each_at_the_pace_and_go_within_seconds() {
    let fixture = Fixture::new();
    let begun = Instant::now();
    for number in 0..1000 {
        fixture.listen(&format!("s{number}"));
    }
    let pace = Pace::default();
    let least = pace.interval * (1000 - pace.burst);
    sleep(least.saturating_sub(begun.elapsed() + Duration::from_secs(1))).await;
    assert!(fixture.there().len() < 1000, "too fast");
    for_good().await;
    assert_eq!(fixture.there().len(), 1000);
    assert_eq!(fixture.count("PATCH"), 1000);
    fixture.handle.withdraw_all();
    let left = Instant::now();
    timeout(PATIENCE, fixture.handle.drained())
        .await
        .expect("it ends");
    assert_eq!(fixture.there(), []);
    assert_eq!(fixture.count("DELETE"), 1000);
    let elapsed = left.elapsed();
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_holds_up_nothing_else() {
    let fixture = Fixture::new();
    fixture.listen("web");
    fixture.until_there(&[("web", true)]).await;
    fixture.server.hang(&fixture.path("web"));
    fixture.serve("web", &[Family::IPv4]);
    sleep(Duration::from_secs(3)).await;
    let asked = Instant::now();
    fixture.listen("cart");
    fixture.until_there(&[("cart", true), ("web", true)]).await;
    let elapsed = asked.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    until("it is given up", || {
        fixture.handle.debug_state()["published"][0]["failures"] == 1
    })
    .await;
}
