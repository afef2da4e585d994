//! h2spec, which tries what RFC 9113 demands of a server, against Go's server alone and through the sidecar: each of its
//! cases has to end the same way, also where a side violates the protocol.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Stdio};

use anyhow::Context;
use stillwake_e2e::{sidecar::Sidecar, tools};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// How long h2spec waits for an answer, in seconds: some of its cases are that none comes.
const ANSWER: &str = "5";

/// What h2spec found, by case.
type Outcomes = BTreeMap<String, Outcome>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

#[tokio::test]
async fn every_case_ends_as_it_does_without_the_sidecar() {
    if !tools::are_installed(&["go"], "h2spec").await.unwrap() {
        return;
    }
    let [h2spec, backend] = ["github.com/summerwind/h2spec/cmd/h2spec", "./backend"]
        .map(|package| tools::go_program("h2spec", package));
    let (h2spec, backend) = (h2spec.await.unwrap(), backend.await.unwrap());
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
    let report = std::fs::read_to_string(report);
    outcomes(&report.unwrap_or_else(|error| panic!("no report ({error}); h2spec said:\n{told}")))
}

/// Reads the `JUnit` report that h2spec writes; not a parser for anybody else's.
fn outcomes(report: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for case in report.split("<testcase ").skip(1) {
        let (name, rest) = case.split_once(" time=").unwrap();
        // Up to the next case there may be the end of a suite, which has other elements.
        let content = rest.split("</testcase>").next().unwrap();
        let outcome = if content.contains("<failure") || content.contains("<error") {
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
