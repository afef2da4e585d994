//! Mixed traffic while replicas come and go, in order and by SIGKILL.
//!
//! Shows that scaling loses, cuts, doubles and changes nothing, and what a crash may cost at most.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use rustix::process::Signal;
use stillwake_e2e::{
    journalled::JournalledApp,
    ledger::{Ledger, Outcome},
    load::{Kind, Load},
    local::{Options, Stillwake, Watch},
    processes,
    wait::{self, PATIENCE},
};
use tokio::time::Instant;

/// How often the replicas have to go up, and how often down.
const SCALINGS: usize = 20;

/// For one step up or down.
const STEP_PATIENCE: Duration = Duration::from_mins(1);

const SLOW: Duration = Duration::from_millis(150);

/// One client of each kind but two that wait, and uploads of 5 MB.
fn steady(load: &Load) {
    load.clients(1, Kind::KeepAlive(2_000));
    load.clients(1, Kind::Close(20_000));
    load.clients(1, Kind::Upload(5_000_000));
    load.clients(2, Kind::Slow(SLOW));
    load.clients(1, Kind::WebSocket(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_cut_while_replicas_scale_up_and_down_twenty_times() {
    let app = JournalledApp::new().unwrap();
    let options = Options::quick()
        .with("--target-concurrency", 10)
        .with("--window", "1s")
        .with("--max", 3);
    let stillwake = app.run(options, &[]).await.unwrap();
    let watch = stillwake.watch();
    let ledger = Ledger::default();
    let load = Load::new(stillwake.address, ledger.clone());
    steady(&load);

    while !enough(&watch) {
        let peak = Load::new(stillwake.address, ledger.clone());
        peak.clients(30, Kind::Slow(SLOW));
        step(&stillwake, "more replicas", |ready| ready > 1).await;
        peak.finish().await;
        step(&stillwake, "one replica", |ready| ready == 1).await;
    }
    load.finish().await;

    let verdict = ledger.verdict();
    let (ups, downs) = watch.scalings();
    eprintln!("{ups} times up, {downs} times down; {verdict}");
    verdict.assert_nothing_lost();
    assert_eq!(verdict.kinds.len(), 5, "a kind of request was never sent");
    let record = app.record().unwrap();
    record.assert_none_twice();
    assert_eq!(record.began.len() as u64, verdict.sent());
    stillwake.stop().await.unwrap();
}

fn enough(watch: &Watch) -> bool {
    let (ups, downs) = watch.scalings();
    ups >= SCALINGS && downs >= SCALINGS
}

async fn step(stillwake: &Stillwake, what: &str, reached: impl Fn(usize) -> bool) {
    let check = |state: &stillwake_e2e::local::State| {
        let (ready, all) = (state.ready().count(), state.replicas().len());
        ensure!(reached(ready), "{ready} of {all} replicas are ready");
        Ok(())
    };
    stillwake
        .wait_for(what, STEP_PATIENCE, check)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_costs_only_what_was_in_flight_on_it() {
    let app = JournalledApp::new().unwrap();
    let options = Options::quick().with("--min", 2).with("--max", 2);
    let stillwake = app.run(options, &[]).await.unwrap();
    step(&stillwake, "two replicas", |ready| ready == 2).await;
    let ledger = Ledger::default();
    let load = Load::new(stillwake.address, ledger.clone());
    load.clients(12, Kind::Slow(SLOW));
    load.clients(2, Kind::Close(2_000));

    let victim = wait::until("a replica with requests in flight", PATIENCE, || async {
        let victim = stillwake
            .state()
            .await?
            .ready()
            .next()
            .map(|replica| replica.pid);
        let record = app.record()?;
        let in_flight = record.began.iter().filter(|(id, at)| {
            at.iter().any(|pid| Some(*pid) == victim) && !record.ended.contains(id)
        });
        ensure!(in_flight.count() > 0, "none is in flight on {victim:?}");
        victim.ok_or_else(|| anyhow::anyhow!("no replica is ready"))
    })
    .await
    .unwrap();
    processes::signal(victim, Signal::KILL);
    let noticed = stillwake
        .wait_for(
            "the killed replica to be taken out",
            STEP_PATIENCE,
            |state| {
                ensure!(
                    state.ready().all(|replica| replica.pid != victim),
                    "it is still ready"
                );
                Ok(())
            },
        )
        .await;
    let noticed = noticed.map(|_| Instant::now()).unwrap();
    step(&stillwake, "its replacement", |ready| ready == 2).await;
    let before = ledger.entries().len();
    // Every client gets through several requests on the two that serve now.
    wait::until("further requests", PATIENCE, || async {
        let further = ledger.entries().len() - before;
        ensure!(further > 100, "{further} were sent");
        Ok(())
    })
    .await
    .unwrap();
    load.finish().await;

    let record = app.record().unwrap();
    record.assert_none_twice();
    let mut lost = BTreeSet::new();
    for (id, entry) in ledger.entries() {
        let Some(Outcome::Failed(reason)) = entry.outcome else {
            continue;
        };
        let began = record.began.get(&id).and_then(|at| at.first());
        assert!(
            began.is_none_or(|pid| *pid == victim),
            "request {id} was on {began:?}: {reason}"
        );
        assert!(
            entry.sent <= noticed,
            "request {id} was sent after the replica was gone: {reason}"
        );
        lost.insert(id);
    }
    // The app notes an answer and then writes it, both on its only thread: the kill can come between the two once.
    let answered: Vec<_> = lost.intersection(&record.ended).collect();
    assert!(answered.len() <= 1, "answered and lost: {answered:?}");
    let verdict = ledger.verdict();
    eprintln!("SIGKILL cost {}; {verdict}", lost.len());
    assert!(
        !lost.is_empty(),
        "the kill hit nothing, so nothing was shown"
    );
    // All clients together had no more than this in flight, and half of it was elsewhere.
    assert!(lost.len() <= 14, "lost {lost:?}");
    stillwake.stop().await.unwrap();
}
