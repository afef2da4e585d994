//! When the keys are fetched.

use http::StatusCode;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::scripted::{Server, next};

fn start(server: &Server) -> (Refresh, UnboundedReceiver<String>, Metrics) {
    let refresh = Refresh::default();
    let metrics = Metrics::register(&mut Registry::default());
    let (tell, told) = unbounded_channel();
    let following = follow(
        server.client(),
        refresh.clone(),
        metrics.clone(),
        move |keys| {
            // The test may have seen enough.
            let _ = tell.send(keys.to_owned());
        },
    );
    tokio::spawn(following);
    (refresh, told, metrics)
}

fn fetches(server: &Server) -> usize {
    server.asked().len()
}

#[tokio::test(start_paused = true)]
async fn keys_are_told_when_they_change() {
    let server = Server::default();
    server.say(PATH, "first");
    let (_, mut told, _) = start(&server);
    let began = Instant::now();
    assert_eq!(next(&mut told).await, "first");
    assert_eq!(server.asked(), ["GET /openid/v1/jwks?"]);
    sleep(3 * PERIOD).await;
    assert!(fetches(&server) >= 3);
    assert!(told.try_recv().is_err(), "they are what they were");
    server.say(PATH, "second");
    assert_eq!(next(&mut told).await, "second");
    assert!(began.elapsed() <= 5 * PERIOD);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_has_them_fetched_but_not_too_often() {
    let server = Server::default();
    server.say(PATH, "first");
    let (refresh, mut told, _) = start(&server);
    next(&mut told).await;
    sleep(APART).await;
    server.say(PATH, "second");
    let asked = Instant::now();
    refresh.ask();
    assert_eq!(next(&mut told).await, "second");
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );

    let before = fetches(&server);
    for _ in 0..600 {
        refresh.ask();
        sleep(Duration::from_millis(100)).await;
    }
    let fetched = fetches(&server) - before;
    assert!((4..=7).contains(&fetched), "{fetched} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_and_tried_again_until_it_works() {
    let server = Server::default();
    server.refuse(PATH, StatusCode::SERVICE_UNAVAILABLE);
    let (_, mut told, metrics) = start(&server);
    sleep(Duration::from_mins(2)).await;
    let failed = metrics.key_failures.get();
    assert!((5..=10).contains(&failed), "{failed} times in two minutes");
    server.allow(PATH);
    server.say(PATH, "keys");
    let began = Instant::now();
    assert_eq!(next(&mut told).await, "keys");
    assert!(began.elapsed() <= LONGEST_PAUSE);
}
