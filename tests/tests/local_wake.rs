//! Zero to one, twenty times, each time under a hundred simultaneous first requests.
//!
//! Shows that a wake loses nothing, doubles nothing, and starts one process.

use std::time::Duration;

use stillwake_e2e::{
    binaries, client,
    journal::Journal,
    local::{Options, Stillwake},
};
use tokio::task::JoinSet;

const ROUNDS: u64 = 20;
const REQUESTS: u64 = 100;

/// For a cooldown, a drain and a stop.
const SLEEP_PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_first_request_of_twenty_wakes_is_answered_exactly_once_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::new(folder.path().join("journal"));
    let app = binaries::app().unwrap();
    let command = [
        app.to_str().unwrap(),
        "--port={port}",
        "--startup-delay=200ms",
        "--journal",
        journal.path().to_str().unwrap(),
    ];
    // More than a round's requests, so that no load asks for a second replica.
    let options = Options::quick().with("--target-concurrency", 2 * REQUESTS);
    let stillwake = Stillwake::run(options, &command).await.unwrap();

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

        let record = journal.read().unwrap();
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
    let record = journal.read().unwrap();
    assert_eq!(record.began.len() as u64, ROUNDS * REQUESTS);
    eprintln!(
        "{} requests over {ROUNDS} wakes, each answered once",
        record.began.len()
    );
    stillwake.stop().await.unwrap();
}
