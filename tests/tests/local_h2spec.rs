//! h2spec, which tries what RFC 9113 demands of a server, against Go's server alone and through the sidecar: each of its
//! cases has to end the same way, also where a side violates the protocol.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use stillwake_e2e::{
    binaries, client,
    wait::{self, PATIENCE},
};
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
    if !go_is_installed().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let h2spec = build(folder.path(), "github.com/summerwind/h2spec/cmd/h2spec").await;
    let backend = build(folder.path(), "./backend").await;
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

    wait::until("nothing in flight", PATIENCE, || async {
        let in_flight = sidecar
            .metric("stillwake_sidecar_requests_in_flight")
            .await?;
        ensure!(in_flight == 0, "{in_flight} are in flight");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let requests = sidecar
        .metric("stillwake_sidecar_requests_total")
        .await
        .unwrap();
    assert!(requests > 100, "{requests} were counted");
}

struct Sidecar {
    address: SocketAddr,
    admin: SocketAddr,
    _process: Child,
}

impl Sidecar {
    /// Starts one before `app` and waits until it answers.
    async fn start(app: SocketAddr) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let process = Command::new(binaries::sidecar()?)
            .env(
                "STILLWAKE_SIDECAR_PORTS",
                format!("{}:{}", address.port(), app.port()),
            )
            .env("STILLWAKE_SIDECAR_ADDRESS", "127.0.0.1")
            .env("STILLWAKE_SIDECAR_ADMIN", admin.to_string())
            .env("STILLWAKE_SIDECAR_LOG", "warn")
            .kill_on_drop(true)
            .spawn()?;
        let sidecar = Self {
            address,
            admin,
            _process: process,
        };
        let ready = "stillwake_sidecar_app_ready";
        wait::until("the sidecar", PATIENCE, || async {
            ensure!(sidecar.metric(ready).await? == 1, "the app is not ready");
            anyhow::Ok(())
        })
        .await?;
        Ok(sidecar)
    }

    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let page = client::get(self.admin, "/metrics").await?.text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("{name} is not in {page}"))?;
        Ok(value.parse()?)
    }
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

/// An address at which nobody listens, so far.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
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

/// Builds a program of the Go module in `interop/h2spec`, from Go's cache if it was built before.
async fn build(folder: &Path, package: &str) -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/h2spec");
    let program = folder.join(package.rsplit('/').next().unwrap());
    let built = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .status()
        .await
        .unwrap();
    assert!(built.success(), "go build of {package} failed");
    program
}

async fn go_is_installed() -> bool {
    match Command::new("go").arg("version").output().await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Past the test runner, which shows what a test that passes prints to nobody.
            let left_out = b"LEFT OUT: h2spec, because Go isn't installed\n";
            io::stderr().write_all(left_out).unwrap();
            false
        }
        version => {
            assert!(version.unwrap().status.success(), "go version fails");
            true
        }
    }
}
