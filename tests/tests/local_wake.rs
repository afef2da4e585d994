//! Zero to one, twenty times, each time under a hundred simultaneous first requests.
//!
//! Shows that a wake loses nothing, doubles nothing, and starts one process.

use std::{pin::pin, time::Duration};

use stillwake_e2e::{
    binaries, client,
    journalled::JournalledApp,
    ledger::Ledger,
    load::{Client, Kind},
    local::{Options, Stillwake},
};
use tokio::task::JoinSet;

const ROUNDS: u64 = 20;
const REQUESTS: u64 = 100;

/// Requests that are still in flight long after they woke the workload.
const LONG_REQUESTS: u32 = 20;

/// More than the window, so that the average reaches the requests in flight.
const LONG: Duration = Duration::from_secs(4);

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// For a cooldown, a drain and a stop.
const SLEEP_PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_first_request_of_twenty_wakes_is_answered_exactly_once_by_one_process() {
    let app = JournalledApp::new().unwrap();
    // More than a round's requests, so that no load asks for a second replica; less than twice as many, so that
    // requests that are counted twice do.
    let options = Options::quick().with("--target-concurrency", REQUESTS * 5 / 4);
    let slow_start = ["--startup-delay=200ms"];
    let stillwake = app.run(options, &slow_start).await.unwrap();

    for round in 0..ROUNDS {
        let ids = round * REQUESTS + 1..=(round + 1) * REQUESTS;
        let mut requests = JoinSet::new();
        for id in ids.clone() {
            requests.spawn(client::get_as(stillwake.address, "/bytes?length=100", id));
        }
        let answers = requests.join_all().await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let mut answered: Vec<_> = answers
            .iter()
            .filter_map(client::Answer::request_id)
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, ids.clone().collect::<Vec<_>>(), "round {round}");
        assert!(
            answers.iter().all(|answer| answer.status == 200),
            "round {round}: {answers:?}"
        );
        let waited = answers
            .iter()
            .filter(|answer| answer.cold_start().is_some())
            .count();
        // Requests that came once the replica was ready go to it directly; the first can't have.
        assert!(waited > 0, "round {round}: nobody waited");

        let record = app.record().unwrap();
        record.assert_none_twice();
        assert!(
            ids.clone().all(|id| record.ended.contains(&id)),
            "round {round}"
        );
        assert_eq!(
            record.started.len() as u64,
            round + 1,
            "processes started by round {round}"
        );
        let state = stillwake.wait_for_zero(SLEEP_PATIENCE).await.unwrap();
        assert_eq!(
            state.started(),
            round + 1,
            "replicas started by round {round}"
        );
    }
    let record = app.record().unwrap();
    assert_eq!(record.began.len() as u64, ROUNDS * REQUESTS);
    eprintln!(
        "{} requests over {ROUNDS} wakes, each answered once",
        record.began.len()
    );
    stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_were_held_are_counted_once_while_the_replica_has_them() {
    let app = binaries::app().unwrap();
    let command = [
        app.to_str().unwrap(),
        "--port={port}",
        // Long enough that all of them are held, and reported, before the replica is ready.
        "--startup-delay=1500ms",
    ];
    let options = Options::quick().with("--max", 1);
    let stillwake = Stillwake::run(options, &command).await.unwrap();
    let ledger = Ledger::default();
    let load: JoinSet<_> = (0..LONG_REQUESTS)
        .map(|_| {
            let mut client = Client::new(stillwake.address, ledger.clone());
            async move { client.once(Kind::Slow(LONG)).await }
        })
        .collect();
    let mut finished = pin!(load.join_all());
    let mut most = 0.0;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let mut read = async || {
        looks.tick().await;
        let metrics = stillwake.metrics().await?;
        metrics.sum("stillwake_aggregator_concurrency_requests", &[])
    };
    loop {
        tokio::select! {
            _ = &mut finished => break,
            concurrency = read() => most = f64::max(most, concurrency.unwrap()),
        }
    }
    ledger.verdict().assert_nothing_lost();
    let all = f64::from(LONG_REQUESTS);
    eprintln!("concurrency of {LONG_REQUESTS} requests was at most {most}");
    // From their arrival to their end, through both hands; a little more as each hand's clock may be read late.
    assert!((0.8 * all..=1.1 * all).contains(&most), "{most} of {all}");
    stillwake.stop().await.unwrap();
}
