//! However `stillwake run` ends, by Ctrl-C with a request that nobody can answer or by SIGKILL, it ends in time and
//! leaves no process behind.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::path::PathBuf;

use anyhow::ensure;
use http::StatusCode;
use stillwake_e2e::{
    binaries, client,
    journalled::JournalledApp,
    local::{Options, Stillwake},
    processes,
    wait::{self, PATIENCE},
};

/// How often the run is killed in the middle of a start.
const KILLS: u64 = 20;

/// Starts a run of an app that never listens, or not before the file that is returned is there.
async fn run_deaf(app: &JournalledApp, options: Options) -> (Stillwake, PathBuf) {
    let gate = app.folder().join("gate");
    let waits = ["--wait-for", gate.to_str().unwrap()];
    (app.run(options, &waits).await.unwrap(), gate)
}

async fn wait_for_starts(app: &JournalledApp, count: usize) {
    let what = format!("{count} starts of the app");
    wait::until(&what, PATIENCE, || async {
        let started = app.record()?.started.len();
        ensure!(started >= count, "{started} so far");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

async fn wait_for_held(stillwake: &Stillwake, count: u64) {
    let what = format!("{count} held requests");
    wait::until(&what, PATIENCE, || async {
        let metrics = stillwake.metrics().await?;
        let held = metrics.count("stillwake_activator_held_requests", &[])?;
        ensure!(held == count, "{held} are held");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_gives_held_requests_the_grace_and_no_longer_when_no_replica_comes_up() {
    let app = JournalledApp::new().unwrap();
    // Both default to much more than what the end may take below.
    let options = Options::quick().with("--grace", "2s");
    let (stillwake, _) = run_deaf(&app, options).await;
    let held = tokio::spawn(client::get_as(stillwake.address, "/", 1));
    wait_for_held(&stillwake, 1).await;
    wait_for_starts(&app, 1).await;
    stillwake.stop_within(PATIENCE).await.unwrap();
    // It was held, so it deserves a word and not only a closed connection.
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(app.record().unwrap().began.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_while_a_request_waits_for_a_replica_that_does_come_up_lets_it_through() {
    let app = JournalledApp::new().unwrap();
    let (stillwake, gate) = run_deaf(&app, Options::quick()).await;
    let held = tokio::spawn(client::get_as(stillwake.address, "/", 1));
    wait_for_held(&stillwake, 1).await;
    let admin = stillwake.admin;
    let stopping = tokio::spawn(stillwake.stop());
    wait::until("the run to have heard it", PATIENCE, || async {
        let ready = client::get(admin, "/ready").await?.status;
        ensure!(ready == StatusCode::SERVICE_UNAVAILABLE, "/ready: {ready}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    std::fs::write(&gate, "").unwrap();
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_of_the_run_takes_ready_replicas_with_it() {
    let app = JournalledApp::new().unwrap();
    let options = Options::quick().with("--min", 2);
    let stillwake = app.run(options, &[]).await.unwrap();
    stillwake
        .wait_for("two replicas", PATIENCE, |state| {
            ensure!(state.ready().count() == 2, "not two are ready");
            Ok(())
        })
        .await
        .unwrap();
    // Each is an app and a sidecar.
    assert_eq!(stillwake.processes().len(), 4);
    stillwake.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_of_the_run_takes_what_an_app_started_with_an_environment_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let noted = folder.path().join("child");
    let script = format!(
        "env -i sleep 600 & echo $! >{}; exec {} --port={{port}}",
        noted.display(),
        binaries::app().unwrap().display()
    );
    let options = Options::quick().with("--min", 1);
    let stillwake = Stillwake::run(options, &["sh", "-c", &script])
        .await
        .unwrap();
    let child = std::fs::read_to_string(noted).unwrap();
    let child = child.trim().parse().unwrap();
    assert!(processes::is_running(child));
    stillwake.kill().await.unwrap();
    wait::until("the app's child to be gone", PATIENCE, || async {
        ensure!(!processes::is_running(child), "{child} still runs");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_of_the_run_in_the_middle_of_a_start_takes_what_was_started() {
    for kill in 1..=KILLS {
        let app = JournalledApp::new().unwrap();
        let stillwake = app.run(Options::quick(), &[]).await.unwrap();
        let waking = tokio::spawn(client::get_as(stillwake.address, "/", kill));
        // The first of them is there, the others are about to be.
        let first = async {
            while stillwake.processes().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, first).await.unwrap();
        stillwake.kill().await.unwrap();
        waking.abort();
    }
}
