//! The external scaler of a running `stillwake run`, read by Google's gRPC library for Python.
//!
//! Our own client and server share one gRPC library and would share its mistakes.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};
use stillwake_e2e::{
    binaries, client,
    ledger::Ledger,
    load::{Kind, Load},
    local::{Options, Stillwake},
    wait::{self, PATIENCE},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// What the client's trigger asks for. The whole configuration is in what a client sends, as it is under KEDA, so this
/// need not be what the run's own scaler asks for.
const TARGET: f64 = 25.0;

/// Looks in a row that tell a value that stays from one that passes by.
const LOOKS: usize = 6;

/// Where the Python client is and whom it asks.
struct Scaler {
    python: String,
    reference: [String; 3],
}

impl Scaler {
    async fn of(stillwake: &Stillwake) -> Self {
        let setup = interop("setup.sh");
        let output = Command::new(&setup)
            .stderr(Stdio::inherit())
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{setup} failed; it needs python3 with venv, and PyPI"
        );
        let folder = String::from_utf8(output.stdout).unwrap();
        let state = stillwake.state().await.unwrap();
        let text = |pointer| state.text(pointer).unwrap().to_owned();
        Self {
            python: format!("{}/bin/python", folder.trim()),
            reference: [
                text("/scaler/address"),
                text("/aggregator/scaled_objects/0/namespace"),
                text("/aggregator/scaled_objects/0/name"),
            ],
        }
    }

    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg(interop("grpc_client.py"))
            .arg(mode)
            .args(&self.reference)
            .arg(format!("targetConcurrency={TARGET}"));
        command.kill_on_drop(true).stdout(Stdio::piped());
        command
    }

    async fn read(&self) -> anyhow::Result<Value> {
        let output = self.command("read").output().await?;
        ensure!(
            output.status.success(),
            "the client failed with {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).context("the client's answer is not JSON")
    }

    /// Opens `StreamIsActive`; returns once the server has accepted it.
    async fn stream(&self) -> Stream {
        let mut child = self.command("stream").spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stream = Stream {
            lines,
            _child: child,
        };
        assert_eq!(stream.next().await, json!("open"));
        stream
    }
}

struct Stream {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Stream {
    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line
            .expect("nothing came")
            .unwrap()
            .expect("the stream ended");
        serde_json::from_str(&line).unwrap()
    }
}

fn interop(file: &str) -> String {
    let path = std::env::current_dir().unwrap().join("interop").join(file);
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_reads_the_metrics_and_is_pushed_the_wake() {
    let app = binaries::app().unwrap();
    let options = Options::quick()
        .with("--target-concurrency", 25)
        .with("--max", 2);
    let stillwake = Stillwake::run(options, &[app.to_str().unwrap(), "--port={port}"])
        .await
        .unwrap();
    let scaler = Scaler::of(&stillwake).await;

    let asleep = scaler.read().await.unwrap();
    assert_eq!(asleep["active"], json!(false), "{asleep}");
    let targets = asleep["targets"].as_object().unwrap();
    assert_eq!(targets.len(), 1, "{asleep}");
    let (metric, target) = targets.iter().next().unwrap();
    assert_eq!(target.as_f64(), Some(TARGET), "{asleep}");
    assert_eq!(asleep["values"][metric].as_f64(), Some(0.0), "{asleep}");

    let mut stream = scaler.stream().await;
    let ledger = Ledger::default();
    let load = Load::new(stillwake.address, ledger.clone());
    load.clients(5, Kind::Slow(Duration::from_millis(400)));
    assert_eq!(stream.next().await, json!(true));

    // Five clients with one request each. The average also passes there on its way to somewhere else, hence several
    // looks in a row.
    let in_a_row = AtomicUsize::new(0);
    let busy = wait::until(
        "a concurrency that stays at about five",
        PATIENCE,
        || async {
            let busy = scaler.read().await?;
            let value = busy["values"][metric].as_f64().context("no value")?;
            let is_right = busy["active"] == json!(true) && (3.5..6.0).contains(&value);
            let looks = if is_right {
                in_a_row.load(Ordering::Relaxed) + 1
            } else {
                0
            };
            in_a_row.store(looks, Ordering::Relaxed);
            ensure!(looks == LOOKS, "{busy} at look {looks}");
            anyhow::Ok(busy)
        },
    )
    .await
    .unwrap();
    assert_eq!(
        busy["targets"], asleep["targets"],
        "targets don't move with the load"
    );
    load.finish().await;
    ledger.verdict().assert_nothing_lost();

    stillwake.wait_for_zero(PATIENCE).await.unwrap();
    let asleep = scaler.read().await.unwrap();
    assert_eq!(asleep["active"], json!(false), "{asleep}");
    // The next word on the same stream is a wake again: it never said false.
    let answer = client::get(stillwake.address, "/").await.unwrap();
    assert!(answer.cold_start().is_some(), "{answer:?}");
    assert_eq!(stream.next().await, json!(true));
    stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_shorter_than_the_poll_gap_is_still_seen_by_the_next_poll() {
    let app = binaries::app().unwrap();
    // Long enough that the client's start fits into two of them.
    let options = Options::quick()
        .with("--polling-interval", "10s")
        .with("--min", 1);
    let stillwake = Stillwake::run(options, &[app.to_str().unwrap(), "--port={port}"])
        .await
        .unwrap();
    let scaler = Scaler::of(&stillwake).await;
    wait::until("the replica to be ready", PATIENCE, || async {
        let state = stillwake.state().await?;
        ensure!(state.ready().count() == 1, "it isn't");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let mut connection = client::Connection::open(stillwake.address).await.unwrap();
    let request = client::request(Method::GET, "/bytes?length=1", 1, client::whole(""));
    connection.send(request).await.unwrap();
    drop(connection);
    let seen = scaler.read().await.unwrap();
    assert_eq!(seen["active"], json!(true), "{seen}");
    stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_scaled_object_is_an_error_and_not_zero() {
    let app = binaries::app().unwrap();
    let command = [app.to_str().unwrap(), "--port={port}"];
    let stillwake = Stillwake::run(Options::quick(), &command).await.unwrap();
    let mut scaler = Scaler::of(&stillwake).await;
    scaler.reference[2] = "no-such-object".to_owned();
    let answer = scaler.read().await.unwrap();
    assert!(answer["active"]["error"].is_string(), "{answer}");
    let details = answer["active"]["details"].as_str().unwrap();
    assert!(details.contains("no-such-object"), "{answer}");
    stillwake.stop().await.unwrap();
}
