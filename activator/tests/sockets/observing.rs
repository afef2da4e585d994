//! What the activator tells aggregators, Prometheus and people.

use stillwake_activator::Availability;
use stillwake_proto::report::{HeldReport, Workload, reporter_frame::Kind};
use stillwake_reporting::Session;
use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

fn report(session: &mut dyn Session) -> (HeldReport, u64) {
    let report = session.report();
    match report.kind {
        Kind::Held(held) => (held, report.requests),
        other => panic!("an activator reported {other:?}"),
    }
}

#[tokio::test]
async fn a_session_names_everything_first_and_then_what_changed() {
    let rig = Rig::start().await;
    let other = Workload {
        name: "stock".into(),
        ..workload()
    };
    rig.activator
        .set_workload(other.clone(), Availability::Available);
    let mut session = rig.activator.source().session();
    let (first, requests) = report(&mut *session);
    let named: Vec<_> = first
        .held
        .iter()
        .map(|held| held.workload.clone())
        .collect();
    assert_eq!(named, [Some(workload()), Some(other)]);
    assert_eq!(requests, 0);
    let (second, _) = report(&mut *session);
    assert_eq!(second.held, []);
    assert!(second.elapsed >= first.elapsed);

    let _client = rig.send(GET).await;
    rig.until_held(1).await;
    let (third, requests) = report(&mut *session);
    assert_eq!(requests, 1);
    let [held] = &third.held[..] else {
        panic!("{third:?}");
    };
    assert_eq!(held.workload, Some(workload()));
    let count = held.count.unwrap();
    assert_eq!((count.in_flight, count.requests), (1, 1));
    let (fourth, _) = report(&mut *session);
    assert!(fourth.held[0].count.unwrap().in_flight_time > count.in_flight_time);
}

#[tokio::test]
async fn each_change_of_what_is_held_is_an_edge() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let mut edges = rig.activator.source().edges();
    edges.mark_unchanged();
    let client = rig.send(GET).await;
    timeout(PATIENCE, edges.changed()).await.unwrap().unwrap();
    assert_eq!(rig.held(), 1);
    let second = rig.send(GET).await;
    timeout(PATIENCE, edges.changed()).await.unwrap().unwrap();
    assert_eq!(rig.held(), 2);
    assert!(!edges.has_changed().unwrap(), "nothing changes by itself");
    rig.ready("a", backend.address);
    timeout(PATIENCE, edges.changed()).await.unwrap().unwrap();
    rig.until_held(0).await;
    read_all(client).await;
    read_all(second).await;
}

#[tokio::test]
async fn a_request_that_does_not_wait_is_no_edge_and_not_held_in_reports() {
    let rig = Rig::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.ready("a", backend.local_addr().unwrap());
    let mut session = rig.activator.source().session();
    report(&mut *session);
    let mut edges = rig.activator.source().edges();
    edges.mark_unchanged();
    let _client = rig.send(GET).await;
    let (mut taken, _) = backend.accept().await.unwrap();
    taken.read_u8().await.unwrap();
    assert!(!edges.has_changed().unwrap(), "its sidecar tells of it");
    let (after, requests) = report(&mut *session);
    let count = after.held[0].count.unwrap();
    assert_eq!((count.in_flight, count.in_flight_time), (0, 0));
    assert_eq!((requests, count.requests), (0, 1));
}

#[tokio::test]
async fn a_new_workload_is_reported_soon() {
    let rig = Rig::start().await;
    let mut edges = rig.activator.source().edges();
    edges.mark_unchanged();
    let other = Workload {
        name: "stock".into(),
        ..workload()
    };
    rig.activator.set_workload(other, Availability::Available);
    assert!(edges.has_changed().unwrap());
}

#[tokio::test]
async fn each_wake_is_told_once_with_its_times_in_order() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let mut cold_starts = rig.activator.cold_starts();
    for round in 0..2 {
        let clients = [rig.send(GET).await, rig.send(GET).await];
        rig.until_held(2).await;
        rig.ready(&round.to_string(), backend.address);
        for client in clients {
            read_all(client).await;
        }
        rig.exchange(GET).await;
        rig.gone(&round.to_string());
        let told = timeout(PATIENCE, cold_starts.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(told.workload, workload());
        assert!(told.arrived <= told.ready && told.ready <= told.first_byte);
    }
    assert!(cold_starts.is_empty());
}

#[tokio::test]
async fn metrics_tell_what_is_held_and_how_requests_ended() {
    let rig = Rig::with(|settings| settings.max_held = 1).await;
    let _client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.exchange(GET).await;
    let text = rig.scrape();
    for line in [
        "stillwake_activator_held_requests 1",
        "stillwake_activator_held_bytes 3",
        "stillwake_activator_requests_total{outcome=\"overflow\"} 1",
        "stillwake_activator_requests_total{outcome=\"forwarded\"} 0",
        "stillwake_activator_requests_total{outcome=\"broken\"} 0",
        "stillwake_activator_open_breakers 0",
        "stillwake_activator_retries_total 0",
        "stillwake_activator_cold_start_seconds_count{phase=\"total\"} 0",
        "stillwake_activator_wait_seconds_count 0",
        "stillwake_activator_first_byte_seconds_count 0",
    ] {
        assert!(text.contains(line), "{line} is missing from:\n{text}");
    }
    let backend = Backend::echoing_lines().await;
    rig.ready("a", backend.address);
    rig.until_held(0).await;
    eventually("answered", || {
        let text = rig.scrape();
        text.contains("stillwake_activator_wait_seconds_count 1")
            && text.contains("stillwake_activator_first_byte_seconds_count 1")
            && text.contains("requests_total{outcome=\"forwarded\"} 1")
    })
    .await;
}

#[tokio::test]
async fn the_debug_state_names_workloads_and_endpoints() {
    let rig = Rig::start().await;
    rig.ready("a", "127.0.0.1:15080".parse().unwrap());
    let state = rig.state();
    assert_eq!(state["workload"], "shop/Deployment/cart");
    assert_eq!(state["availability"], "available");
    assert_eq!(state["endpoints"][0]["uid"], "a");
    assert_eq!(state["endpoints"][0]["address"], "127.0.0.1:15080");
}

#[tokio::test]
async fn the_phases_of_a_wake_are_in_histograms() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let counts = |expected: [(&'static str, u32); 4]| {
        let text = rig.scrape();
        expected.iter().all(|(phase, count)| {
            let name = "stillwake_activator_cold_start_seconds_count";
            text.contains(&format!("{name}{{phase=\"{phase}\"}} {count}\n"))
        })
    };
    let mut cold_starts = rig.activator.cold_starts();
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.activator.source().session().report();
    rig.ready("a", backend.address);
    read_all(client).await;
    let told = cold_starts.recv().await.unwrap();
    let signalled = told.signalled.expect("it was reported");
    assert!(told.arrived <= signalled && signalled <= told.ready);
    let once = [("signal", 1), ("ready", 1), ("first_byte", 1), ("total", 1)];
    eventually("all phases are there", || counts(once)).await;

    rig.gone("a");
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.ready("b", backend.address);
    read_all(client).await;
    assert_eq!(cold_starts.recv().await.unwrap().signalled, None);
    let twice = [("signal", 1), ("ready", 2), ("first_byte", 2), ("total", 2)];
    eventually("no signal was needed", || counts(twice)).await;
}
