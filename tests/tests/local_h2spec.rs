//! h2spec, which tries what RFC 9113 demands of a server, against Go's server alone and through the sidecar: each of its
//! cases has to end the same way, also where a side violates the protocol. And against the activator, which is an HTTP/2
//! server of its own: each case passes, or is named here.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use stillwake_activator::{Activator, Availability, EndpointEvent, PortPair, Route, Settings};
use stillwake_e2e::{sidecar::Sidecar, tools};
use stillwake_proto::report::Workload;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

/// How long h2spec waits for an answer, in seconds: some of its cases are that none comes.
const ANSWER: &str = "5";

/// What h2spec found, by case.
type Outcomes = BTreeMap<String, Outcome>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// A PING of the server's own was taken for the answer to h2spec's, which looks at no more than the first that comes. The
    /// activator, which has handed a request over, says GOAWAY with one (RFC 9113 §6.8).
    Pinged,
    Skipped,
}

/// Cases that do not pass against the activator, each with its reason.
const NAMED: [(&str, &str); 1] = [(
    r#"package="http2/3.5" classname="Sends invalid connection preface""#,
    "what does not begin with the preface is HTTP/1.1, spoken on the same port, and is answered with 400",
)];

/// h2spec and the server that it asks, or nothing where Go isn't installed.
async fn programs() -> Option<[PathBuf; 2]> {
    if !tools::are_installed(&["go"], "h2spec").await.unwrap() {
        return None;
    }
    let [h2spec, backend] = ["github.com/summerwind/h2spec/cmd/h2spec", "./backend"]
        .map(|package| tools::go_program("h2spec", package));
    Some([h2spec.await.unwrap(), backend.await.unwrap()])
}

#[tokio::test]
async fn every_case_ends_as_it_does_without_the_sidecar() {
    let Some([h2spec, backend]) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_backend, app) = start_backend(&backend).await.unwrap();
    let sidecar = Sidecar::start(app).await.unwrap();

    let direct = run(&h2spec, app, &folder.path().join("direct.xml")).await;
    let through = run(&h2spec, sidecar.address, &folder.path().join("through.xml")).await;
    let passed = direct
        .values()
        .filter(|outcome| **outcome == Outcome::Passed);
    assert!(passed.count() > 100, "h2spec did not get far: {direct:?}");
    let differ = direct
        .iter()
        .filter(|(case, outcome)| through.get(*case) != Some(outcome));
    let differ: Vec<_> = differ.collect();
    assert!(
        differ.is_empty(),
        "through the sidecar these end otherwise: {differ:?}"
    );
    assert_eq!(direct.len(), through.len());

    sidecar.wait_for_in_flight(0).await.unwrap();
    let requests = sidecar.requests().await.unwrap();
    assert!(requests > 100, "{requests} were counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes_against_the_activator_or_is_named() {
    let Some([h2spec, backend]) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_backend, app) = start_backend(&backend).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let abort = CancellationToken::new();
    let activator = tokio::spawn(serve(listener, app, abort.clone()));

    let outcomes = run(&h2spec, address, &folder.path().join("report.xml")).await;
    abort.cancel();
    activator.await.unwrap();
    assert!(outcomes.len() > 100, "h2spec did not get far: {outcomes:?}");
    let failed = outcomes.iter();
    let failed = failed.filter(|(_, outcome)| **outcome == Outcome::Failed);
    let failed = failed.map(|(case, _)| case.as_str());
    let failed: Vec<_> = failed.collect();
    let named = NAMED.map(|(case, _)| case);
    assert_eq!(failed, named);
}

/// Runs an activator for a workload that is awake at `app`.
async fn serve(listener: TcpListener, app: SocketAddr, abort: CancellationToken) {
    let workload = Workload {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: "cart".to_owned(),
    };
    let activator = Activator::new(Settings {
        // h2spec opens connections before it has anything to say. What is silent for longer is joined to the app unread.
        first_byte_wait: Duration::from_mins(1),
        ..Settings::default()
    });
    activator.set_workload(workload.clone(), Availability::Available);
    activator.apply(EndpointEvent::Ready {
        workload: workload.clone(),
        uid: "awake".to_owned(),
        address: app.ip(),
        ports: vec![PortPair {
            listen: app.port(),
            app: app.port(),
        }],
    });
    let drain = CancellationToken::new();
    activator
        .serve(listener, Route::only(workload), drain, abort)
        .await;
}

async fn start_backend(program: &Path) -> anyhow::Result<(Child, SocketAddr)> {
    let mut process = Command::new(program)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = process.stdout.take().context("its output is piped")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let address = line.context("the backend has ended")?.parse()?;
    Ok((process, address))
}

async fn run(h2spec: &Path, server: SocketAddr, report: &Path) -> Outcomes {
    let output = Command::new(h2spec)
        .args(["--host", "127.0.0.1", "--port", &server.port().to_string()])
        .args(["--timeout", ANSWER, "--junit-report"])
        .arg(report)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    // Its status says whether all passed, which is the server's business.
    let told = String::from_utf8_lossy(&output.stdout);
    // It quotes what it was sent, whatever bytes these are.
    let report = std::fs::read(report).map(|report| String::from_utf8_lossy(&report).into_owned());
    outcomes(&report.unwrap_or_else(|error| panic!("no report ({error}); h2spec said:\n{told}")))
}

/// Reads the `JUnit` report that h2spec writes; not a parser for anybody else's.
fn outcomes(report: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for case in report.split("<testcase ").skip(1) {
        let (name, rest) = case.split_once(" time=").unwrap();
        // Up to the next case there may be the end of a suite, which has other elements.
        let content = rest.split("</testcase>").next().unwrap();
        let actual = content.split("Actual:").nth(1).unwrap_or_default();
        let outcome = if actual.contains("PING Frame") && actual.contains("flags:0x00") {
            Outcome::Pinged
        } else if content.contains("<failure") || content.contains("<error") {
            Outcome::Failed
        } else if content.contains("<skipped") {
            Outcome::Skipped
        } else {
            Outcome::Passed
        };
        let before = outcomes.insert(name.to_owned(), outcome);
        assert_eq!(before, None, "two cases are called {name}");
    }
    outcomes
}
