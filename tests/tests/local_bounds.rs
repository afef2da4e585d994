//! What is held is bounded: in number, in bytes and in time, and by the client's own patience.
//!
//! A replica starts when the test says so, hence "at once" needs no clock: an answer that comes while nothing can be
//! ready, and while those that came before it are still held, wasn't waited for.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, ensure};
use http::StatusCode;
use stillwake_e2e::{
    client::{self, Answer},
    journalled::JournalledApp,
    local::{Options, Stillwake},
    wait::{self, PATIENCE},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

/// A run whose replicas listen only once the gate is opened.
struct Gated {
    stillwake: Stillwake,
    app: JournalledApp,
    gate: PathBuf,
}

impl Gated {
    async fn run(options: Options) -> Self {
        let app = JournalledApp::new().unwrap();
        let gate = app.folder().join("gate");
        let waits = ["--wait-for", gate.to_str().unwrap()];
        // Room for everything that is held, so that one replica is enough.
        let options = options.with("--target-concurrency", 5_000);
        let stillwake = app.run(options, &waits).await.unwrap();
        Self {
            stillwake,
            app,
            gate,
        }
    }

    fn address(&self) -> SocketAddr {
        self.stillwake.address
    }

    /// Sends a request in the background.
    fn request(&self, id: u64) -> JoinHandle<anyhow::Result<Answer>> {
        tokio::spawn(client::get_as(self.address(), "/bytes?length=10", id))
    }

    async fn wait_for_held(&self, count: u64) {
        let what = format!("{count} held requests");
        wait::until(&what, PATIENCE, || async {
            let metrics = self.stillwake.metrics().await?;
            let held = metrics.count("stillwake_activator_held_requests", &[])?;
            ensure!(held == count, "{held} are held");
            anyhow::Ok(())
        })
        .await
        .unwrap();
    }

    fn open_gate(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let advice = answer
        .header("retry-after")
        .expect("an overflow says when to come again");
    assert!(advice.parse::<u64>().unwrap() > 0, "{advice}");
    assert!(!answer.body.is_empty(), "an overflow says why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_1001st_held_request_is_refused_at_once_and_the_thousand_are_answered() {
    let gated = Gated::run(Options::quick()).await;
    let requests: Vec<_> = (1..=1000).map(|id| gated.request(id)).collect();
    gated.wait_for_held(1000).await;
    for id in 1001..=1003 {
        assert_refused(&client::get_as(gated.address(), "/", id).await.unwrap());
        gated.wait_for_held(1000).await;
    }
    gated.open_gate();
    for (id, request) in (1..=1000).zip(requests) {
        let answer = request.await.unwrap().unwrap();
        assert_eq!(answer.status, StatusCode::OK, "request {id}: {answer:?}");
        assert_eq!(answer.request_id(), Some(id));
        assert!(
            answer.cold_start().is_some(),
            "request {id} waited and doesn't say so"
        );
    }
    let record = gated.app.record().unwrap();
    record.assert_none_twice();
    assert_eq!(
        record.began.len(),
        1000,
        "a refused request reached the app"
    );
    assert_eq!(record.started.len(), 1);
    gated.stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_beyond_the_byte_bound_are_refused_at_once_and_those_held_are_answered() {
    let gated = Gated::run(Options::quick().with("--max-held-bytes", 30_000)).await;
    let address = gated.address();
    let large = move |id: u64| async move {
        let mut request = client::request(http::Method::GET, "/", id, client::whole(""));
        let padding = "x".repeat(10_000).parse().unwrap();
        request.headers_mut().insert("x-padding", padding);
        client::Connection::open(address).await?.send(request).await
    };
    let (first, second) = (tokio::spawn(large(1)), tokio::spawn(large(2)));
    gated.wait_for_held(2).await;
    assert_refused(&large(3).await.unwrap());
    gated.wait_for_held(2).await;
    // There is still room for a small one.
    let small = gated.request(4);
    gated.wait_for_held(3).await;
    gated.open_gate();
    for request in [first, second, small] {
        assert_eq!(request.await.unwrap().unwrap().status, StatusCode::OK);
    }
    let record = gated.app.record().unwrap();
    assert!(
        !record.began.contains_key(&3),
        "the refused request reached the app"
    );
    gated.stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_lasts_too_long_ends_with_503_and_the_workloads_name() {
    let gated = Gated::run(Options::quick().with("--hold-timeout", "1s")).await;
    // Half of what the deadline would be if it weren't set.
    let answer = tokio::time::timeout(PATIENCE, client::get_as(gated.address(), "/", 1)).await;
    let answer = answer.expect("the hold has a deadline").unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let state = gated.stillwake.state().await.unwrap();
    let workload = state.text("/aggregator/scaled_objects/0/workload").unwrap();
    assert!(
        answer.text().contains(workload),
        "{workload} isn't named in: {}",
        answer.text()
    );
    gated.wait_for_held(0).await;
    gated.open_gate();
    let next = client::get_as(gated.address(), "/", 2).await.unwrap();
    assert_eq!(next.status, StatusCode::OK, "{next:?}");
    let record = gated.app.record().unwrap();
    assert!(
        !record.began.contains_key(&1),
        "a request that was given up reached the app"
    );
    gated.stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_held_frees_its_place_and_is_never_forwarded() {
    let gated = Gated::run(Options::quick().with("--max-held", 1)).await;
    let head =
        "POST / HTTP/1.1\r\nhost: leaving\r\nx-request-id: 1\r\ncontent-length: 100000\r\n\r\n";
    // What nobody has read yet stands between the end of a stream and who looks for it.
    let upload = head.to_owned() + &"x".repeat(50_000);
    for sent in [head, &upload] {
        let mut leaving = TcpStream::connect(gated.address()).await.unwrap();
        leaving.write_all(sent.as_bytes()).await.unwrap();
        gated.wait_for_held(1).await;
        assert_refused(&client::get_as(gated.address(), "/", 2).await.unwrap());
        gated.wait_for_held(1).await;
        drop(leaving);
        gated.wait_for_held(0).await;
    }
    let staying = gated.request(3);
    gated.wait_for_held(1).await;
    gated.open_gate();
    let answer = staying
        .await
        .unwrap()
        .context("the place wasn't freed")
        .unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let record = gated.app.record().unwrap();
    let arrived: Vec<_> = record.began.keys().copied().collect();
    assert_eq!(arrived, [3]);
    gated.stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_held_when_the_run_is_stopped_still_gets_an_answer() {
    let gated = Gated::run(Options::quick().with("--hold-timeout", "3s")).await;
    let request = gated.request(1);
    gated.wait_for_held(1).await;
    gated.stillwake.stop().await.unwrap();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
}
