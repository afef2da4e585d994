//! What is published, and what is not.

use http::StatusCode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::time::sleep;

use super::*;
use crate::scripted::{PATIENCE, Server};

const SHOP: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

fn queue() -> (Events, Publisher, Metrics) {
    let metrics = Metrics::register(&mut Registry::default());
    let (events, publisher) = events(&metrics);
    (events, publisher, metrics)
}

fn notice(note: &str) -> Notice {
    let regarding = ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some("Deployment".to_owned()),
        name: Some("web".to_owned()),
        namespace: Some("shop".to_owned()),
        ..ObjectReference::default()
    };
    Notice {
        regarding,
        severity: Severity::Warning,
        reason: "PortNotCounted".to_owned(),
        action: "Inject".to_owned(),
        note: note.to_owned(),
    }
}

fn run(publisher: Publisher, server: &Server) {
    let component = "stillwake-webhook".to_owned();
    tokio::spawn(publisher.run(server.client(), component, "webhook-1".to_owned()));
}

async fn written(server: &Server, count: usize) -> Vec<Value> {
    let look = async {
        loop {
            let written = server.written();
            if written.len() >= count {
                return written;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, look).await.expect("too few are written")
}

#[tokio::test(start_paused = true)]
async fn a_notice_becomes_an_event_and_its_repeat_counts() {
    let server = Server::default();
    let (events, publisher, _) = queue();
    run(publisher, &server);
    events.publish(notice("port 9000 is UDP"));
    events.publish(notice("port 9000 is UDP"));
    let written = written(&server, 2).await;
    let event = &written[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "PortNotCounted");
    assert_eq!(event["action"], "Inject");
    assert_eq!(event["note"], "port 9000 is UDP");
    assert_eq!(event["regarding"]["name"], "web");
    assert_eq!(event["reportingController"], "stillwake-webhook");
    assert_eq!(event["reportingInstance"], "webhook-1");
    assert_eq!(written[1]["series"]["count"], 2);
    let asked = server.asked();
    assert!(asked[0].starts_with(&format!("POST {SHOP}?")), "{asked:?}");
    assert!(
        asked[1].starts_with(&format!("PATCH {SHOP}/web.")),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_too_long_is_cut_at_a_character() {
    let server = Server::default();
    let (events, publisher, _) = queue();
    run(publisher, &server);
    events.publish(notice(&"ä".repeat(LONGEST_NOTE)));
    events.publish(notice(&format!("a{}", "ä".repeat(LONGEST_NOTE))));
    let written = written(&server, 1).await;
    assert_eq!(written[0]["note"], "ä".repeat(LONGEST_NOTE / 2));
    let (event, _) = notice(&format!("a{}", "ä".repeat(LONGEST_NOTE))).into_event();
    assert_eq!(event.note.unwrap().len(), LONGEST_NOTE - 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_queue_is_dropped_and_counted_without_waiting() {
    let (events, _publisher, metrics) = queue();
    for _ in 0..QUEUE + 3 {
        events.publish(notice("n"));
    }
    assert_eq!(metrics.events_lost("full").get(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_is_counted_and_the_next_is_tried() {
    let server = Server::default();
    server.refuse(SHOP, StatusCode::FORBIDDEN);
    let (events, publisher, metrics) = queue();
    run(publisher, &server);
    events.publish(notice("first"));
    let refused = async {
        while metrics.events_lost("refused").get() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refused)
        .await
        .expect("the refusal is counted");
    server.allow(SHOP);
    events.publish(notice("second"));
    assert_eq!(written(&server, 1).await[0]["note"], "second");
}

#[tokio::test(start_paused = true)]
async fn events_come_a_few_a_second() {
    let server = Server::default();
    let (events, publisher, _) = queue();
    let began = Instant::now();
    for _ in 0..QUEUE {
        events.publish(notice("n"));
    }
    run(publisher, &server);
    written(&server, QUEUE).await;
    assert!(began.elapsed() >= APART * u32::try_from(QUEUE - 1).unwrap());
}
