//! Servers that people have, as COMMAND: asleep, woken, loaded, asleep, woken again.
//!
//! `/debug/state`, `/metrics` and the machine's own processes have to agree at each stage. A server that isn't
//! installed is left out, and the test says so.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::ensure;
use http::{Method, StatusCode};
use stillwake_e2e::{
    client::{self, Connection},
    journalled::JournalledApp,
    local::{Options, Stillwake},
    processes, wait,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections of the load.
const CONNECTIONS: usize = 50;

const MAX: usize = 3;

/// For a start, a scaling or a sleep.
const PATIENCE: Duration = Duration::from_mins(1);

/// What all three serve as `page.html`.
fn page() -> String {
    "All work and no sleep makes a dull replica.\n".repeat(450)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_sleeps_wakes_scales_and_sleeps() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let command = [
        "python3",
        "-m",
        "http.server",
        "{port}",
        "--bind=127.0.0.1",
        "--directory",
        path,
    ];
    if is_installed("python3", &["--version"]) {
        live_a_day(&command).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_sleeps_wakes_scales_and_sleeps() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let template = std::env::current_dir()
        .unwrap()
        .join("tests/servers/nginx.conf");
    let script = format!(
        "sed -e s,PORT,{{port}},g -e s,ROOT,{path},g {template} > {path}/{{port}}.conf && \
         exec nginx -e stderr -p {path} -c {path}/{{port}}.conf -g 'daemon off;'",
        template = template.display()
    );
    if is_installed("nginx", &["-v"]) {
        live_a_day(&["sh", "-c", &script]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_sleeps_wakes_scales_and_sleeps() {
    let folder = folder();
    let page = folder.path().join("page.html");
    let server = std::env::current_dir()
        .unwrap()
        .join("tests/servers/server.js");
    if is_installed("node", &["--version"]) {
        live_a_day(&["node", server.to_str().unwrap(), page.to_str().unwrap()]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_start_is_a_start_of_the_command_and_no_replica() {
    let app = JournalledApp::new().unwrap();
    let options = Options::quick().without("--skip-check");
    let stillwake = app.run(options, &[]).await.unwrap();
    assert_eq!(app.record().unwrap().started.len(), 1);
    let state = stillwake.state().await.unwrap();
    assert_eq!((state.started(), state.replicas()), (0, &[][..]), "{state}");
    assert_asleep(&stillwake).await;
    let first = client::get_as(stillwake.address, "/", 1).await.unwrap();
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert!(first.cold_start().is_some(), "{first:?}");
    let record = app.record().unwrap();
    assert_eq!(record.began[&1], record.started[1..], "one process more");
    assert_eq!(stillwake.state().await.unwrap().started(), 1);
    stillwake.stop().await.unwrap();
}

/// A folder that a server run by another user may read as well.
fn folder() -> tempfile::TempDir {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    let readable = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new()
        .permissions(readable)
        .tempdir()
        .unwrap();
    std::fs::write(folder.path().join("page.html"), page()).unwrap();
    folder
}

fn is_installed(program: &str, version: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Past the test runner, which shows what a test that passes prints to nobody.
            let left_out = format!("LEFT OUT: {program} as COMMAND, because it isn't installed\n");
            io::stderr().write_all(left_out.as_bytes()).unwrap();
            false
        }
        status => {
            assert!(status.unwrap().success(), "{program} {version:?} fails");
            true
        }
    }
}

async fn live_a_day(command: &[&str]) {
    // A target that fifty connections exceed several times over, also when the client itself is slow.
    let options = Options::quick()
        .without("--skip-check")
        .with("--max", MAX)
        .with("--target-concurrency", 4);
    let stillwake = Stillwake::run(options, command).await.unwrap();
    let asleep = stillwake.state().await.unwrap();
    assert_eq!((asleep.desired(), asleep.started()), (0, 0));
    assert_asleep(&stillwake).await;

    wake(&stillwake).await;
    let awake = stillwake.state().await.unwrap();
    assert_eq!((awake.started(), awake.replicas().len()), (1, 1), "{awake}");

    load_to_max(&stillwake).await;

    let asleep = stillwake.wait_for_zero(PATIENCE).await.unwrap();
    assert_asleep(&stillwake).await;
    let started = asleep.started();

    wake(&stillwake).await;
    let again = stillwake.state().await.unwrap();
    // One, or more if the load is still in the window.
    assert!(again.started() > started, "{again}");
    stillwake.stop().await.unwrap();
}

/// State, metrics and machine agree that nothing runs and nothing waits.
async fn assert_asleep(stillwake: &Stillwake) {
    assert_eq!(stillwake.processes(), []);
    wait::until("the aggregator to see it", PATIENCE, || async {
        let state = stillwake.state().await?;
        ensure!(
            state.desired() == 0 && state.replicas().is_empty(),
            "state: {state}"
        );
        let metrics = stillwake.metrics().await?;
        for (name, labels) in [
            ("stillwake_activator_held_requests", &[][..]),
            ("stillwake_aggregator_in_flight_requests", &[]),
            ("stillwake_aggregator_reporters", &[("role", "sidecar")]),
        ] {
            let value = metrics.count(name, labels)?;
            ensure!(value == 0, "{name} is {value}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// The first request waits, is answered, and says that it waited; the next one didn't.
async fn wake(stillwake: &Stillwake) {
    let first = client::get(stillwake.address, "/page.html").await.unwrap();
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.text(), page());
    let waited = first
        .cold_start()
        .expect("the first request says how long it waited");
    eprintln!("the first request waited {waited:?}");
    stillwake
        .wait_for("the replica to be ready", PATIENCE, |state| {
            ensure!(state.ready().count() > 0, "none is ready");
            Ok(())
        })
        .await
        .unwrap();
    let next = client::get(stillwake.address, "/page.html").await.unwrap();
    assert_eq!(
        (next.status, next.cold_start()),
        (StatusCode::OK, None),
        "{next:?}"
    );
}

async fn load_to_max(stillwake: &Stillwake) {
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(load(stillwake.address, stop.clone()));
    }
    let state = stillwake
        .wait_for("all replicas", PATIENCE, |state| {
            ensure!(state.ready().count() == MAX, "not {MAX} ready");
            Ok(())
        })
        .await
        .unwrap();
    assert!(
        state.desired() <= MAX as u64 && state.replicas().len() <= MAX,
        "{state}"
    );
    for replica in state.ready() {
        assert!(processes::is_running(replica.pid), "{replica:?}");
        assert!(processes::is_running(replica.sidecar_pid), "{replica:?}");
    }
    wait::until("metrics to tell the load", PATIENCE, || async {
        let metrics = stillwake.metrics().await?;
        let sidecars = metrics.count("stillwake_aggregator_reporters", &[("role", "sidecar")])?;
        ensure!(sidecars == MAX as u64, "{sidecars} sidecars report");
        // Each connection has one request in flight at most.
        let in_flight = metrics.count("stillwake_aggregator_in_flight_requests", &[])?;
        ensure!(
            (1..=CONNECTIONS as u64).contains(&in_flight),
            "{in_flight} in flight"
        );
        let concurrency = metrics.sum("stillwake_aggregator_concurrency_requests", &[])?;
        ensure!(concurrency > 0.0, "concurrency {concurrency}");
        Ok(())
    })
    .await
    .unwrap();
    stop.cancel();
    let answered: u64 = clients
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert!(answered > CONNECTIONS as u64);
    eprintln!("{answered} requests answered over {CONNECTIONS} connections");
}

/// One connection's load; returns how many requests were answered.
async fn load(address: SocketAddr, stop: CancellationToken) -> anyhow::Result<u64> {
    let page = page();
    let mut answered = 0;
    let mut connection = Connection::open(address).await?;
    while !stop.is_cancelled() {
        if !connection.is_reusable().await {
            connection = Connection::open(address).await?;
        }
        let request = client::request(Method::GET, "/page.html", 0, client::whole(""));
        let answer = connection.send(request).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        ensure!(
            answer.text() == page,
            "{} of {} bytes",
            answer.body.len(),
            page.len()
        );
        answered += 1;
    }
    Ok(answered)
}
