//! gRPC's interoperability tests, with grpc-go and Google's library for Python as client and server in all pairs: each
//! case ends through the sidecar, at zero and warm as it does against the server alone.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use stillwake_e2e::{
    local::{Options, Stillwake},
    server::Server,
    sidecar::Sidecar,
    tools,
};
use tokio::{process::Command, sync::Semaphore, task::JoinSet};

/// What grpc-go's client asks of a server, apart from what takes credentials, more than one server, or ORCA's reports,
/// which neither server sends as the client wants them.
const CASES: [&str; 16] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
];

/// Those whose client leaves at once, so that at zero it may have left before anybody is woken for it.
const LEAVING: [&str; 2] = ["timeout_on_sleeping_server", "cancel_after_begin"];

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs at the same time, each with processes of its own.
const AT_ONCE: usize = 3;

/// How cases ended, in words that don't depend on where the server was.
type Outcomes = BTreeMap<String, String>;

/// Both libraries' programs.
#[derive(Clone)]
struct Peers {
    go_client: String,
    go_server: String,
    python: String,
    script: String,
}

#[derive(Clone, Copy, Debug)]
enum Language {
    Go,
    Python,
}

impl Peers {
    /// Both, or nothing where the tools for them aren't installed.
    async fn install() -> Option<Self> {
        let tools = ["go", "python3"];
        if !tools::are_installed(&tools, "gRPC's interoperability tests")
            .await
            .unwrap()
        {
            return None;
        }
        let module = "google.golang.org/grpc/interop";
        let [go_client, go_server] = ["client", "server"].map(|program| async move {
            let package = format!("{module}/{program}");
            text(tools::go_program("grpc", &package).await.unwrap())
        });
        Some(Self {
            go_client: go_client.await,
            go_server: go_server.await,
            python: text(tools::python().await.unwrap()),
            script: text(tools::interop("grpc_peer.py")),
        })
    }

    fn server(&self, language: Language) -> Vec<String> {
        match language {
            Language::Go => vec![self.go_server.clone(), "--port={port}".to_owned()],
            Language::Python => [&self.python, &self.script, "server", "{port}"]
                .map(String::from)
                .to_vec(),
        }
    }

    /// Runs all cases of the client in `language` against `server`.
    async fn ask(&self, language: Language, server: SocketAddr) -> Outcomes {
        match language {
            Language::Go => {
                let mut outcomes = Outcomes::new();
                for case in CASES {
                    outcomes.insert(case.to_owned(), self.ask_one(server, case).await);
                }
                outcomes
            }
            Language::Python => {
                let output = run(Command::new(&self.python)
                    .arg(&self.script)
                    .args(["client", &server.to_string()]))
                .await;
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "the Python client: {told}");
                serde_json::from_slice(&output.stdout).unwrap()
            }
        }
    }

    /// Runs one case of grpc-go's client.
    async fn ask_one(&self, server: SocketAddr, case: &str) -> String {
        let output = run(Command::new(&self.go_client)
            .arg("--server_host=127.0.0.1")
            .arg(format!("--server_port={}", server.port()))
            // Their bounds are on speed, which is not what is shown here.
            .arg("--soak_per_iteration_max_acceptable_latency_ms=60000")
            .arg("--soak_overall_timeout_seconds=60")
            .arg(format!("--test_case={case}")))
        .await;
        if output.status.success() {
            "passed".to_owned()
        } else {
            String::from_utf8_lossy(&output.stderr).into_owned()
        }
    }
}

fn text(path: std::path::PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

async fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    output.expect("the client hangs").unwrap()
}

/// All that passed; a server without health checks says so, which is the only other end there is.
fn assert_passed(outcomes: &Outcomes) {
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome != "passed")
        .collect();
    let no_health_check = ("health_check".to_owned(), "UNIMPLEMENTED".to_owned());
    let allowed = [(&no_health_check.0, &no_health_check.1)];
    assert!(
        failed.is_empty() || failed == allowed,
        "without us: {failed:?}"
    );
    assert!(outcomes.len() >= CASES.len(), "{outcomes:?}");
}

async fn through_the_sidecar(server: Language) {
    let Some(peers) = Peers::install().await else {
        return;
    };
    let app = Server::start(&peers.server(server)).await.unwrap();
    let sidecar = Sidecar::start(app.address).await.unwrap();
    let mut counted = 0;
    for client in [Language::Go, Language::Python] {
        let direct = peers.ask(client, app.address).await;
        assert_passed(&direct);
        let through = peers.ask(client, sidecar.address).await;
        assert_eq!(direct, through, "{client:?} asks {server:?}");
        sidecar.wait_for_in_flight(0).await.unwrap();
        let requests = sidecar.requests().await.unwrap() - counted;
        // Most cases are more than one call; connections would be fewer.
        assert!(
            requests > direct.len() as u64,
            "{requests} calls of {client:?} were counted"
        );
        counted += requests;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_meet_the_same_go_server_through_the_sidecar() {
    through_the_sidecar(Language::Go).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_meet_the_same_python_server_through_the_sidecar() {
    through_the_sidecar(Language::Python).await;
}

/// A run that is at zero, where clients are to meet the server in `language`.
async fn asleep(peers: &Peers, language: Language) -> Stillwake {
    let server = peers.server(language);
    let words: Vec<_> = server.iter().map(String::as_str).collect();
    // Stays up for as long as the same clients come again.
    let options = Options::quick().with("--max", 1).with("--cooldown", "1m");
    let stillwake = Stillwake::run(options, &words).await.unwrap();
    assert_eq!(stillwake.state().await.unwrap().started(), 0);
    stillwake
}

/// Ends a run which `client` has asked twice.
async fn stop(stillwake: Stillwake) {
    let state = stillwake.state().await.unwrap();
    assert_eq!(
        state.started(),
        1,
        "the second time it was not warm: {state}"
    );
    stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes_as_the_first_call_at_zero_and_warm() {
    let Some(peers) = Peers::install().await else {
        return;
    };
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for case in CASES {
        let (peers, at_once) = (peers.clone(), Arc::clone(&at_once));
        cases.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            let stillwake = asleep(&peers, Language::Go).await;
            let cold = peers.ask_one(stillwake.address, case).await;
            if LEAVING.contains(&case) {
                let wake = peers.ask_one(stillwake.address, "empty_unary").await;
                assert_eq!(wake, "passed", "after {case}");
            }
            let warm = peers.ask_one(stillwake.address, case).await;
            stop(stillwake).await;
            (case, cold, warm)
        });
    }
    let passed = || "passed".to_owned();
    for (case, cold, warm) in cases.join_all().await {
        assert_eq!((cold, warm), (passed(), passed()), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_and_go_meet_at_zero_and_warm() {
    let Some(peers) = Peers::install().await else {
        return;
    };
    for (client, server) in [
        (Language::Go, Language::Python),
        (Language::Python, Language::Go),
        (Language::Python, Language::Python),
    ] {
        let stillwake = asleep(&peers, server).await;
        let cold = peers.ask(client, stillwake.address).await;
        assert_passed(&cold);
        let warm = peers.ask(client, stillwake.address).await;
        assert_eq!(cold, warm, "{client:?} asks {server:?}");
        stop(stillwake).await;
    }
}
