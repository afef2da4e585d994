//! WebSocket with Node's ws, Python's websockets and Go's coder/websocket as client and server in all pairs: text, binary,
//! fragments, 16 MB, pings, close codes, abrupt ends and permessage-deflate end through the sidecar, at zero and warm as
//! they do against the server alone.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use stillwake_e2e::{
    local::{Options, Stillwake},
    server::Server,
    sidecar::Sidecar,
    tools,
};
use tokio::process::Command;

/// Conversations that each client has.
const CASES: usize = 13;

/// Clients that take longer hang.
const PATIENCE: Duration = Duration::from_mins(2);

/// How each conversation ended, in the client's words.
type Outcomes = BTreeMap<String, String>;

/// A program that is the client and the server of one library.
struct Peer {
    library: &'static str,
    command: Vec<String>,
}

/// All three, or nothing where the tools for them aren't installed.
async fn peers() -> Option<[Peer; 3]> {
    let tools = ["go", "node", "npm", "python3"];
    let what = "WebSocket between Go, Node.js and Python";
    if !tools::are_installed(&tools, what).await.unwrap() {
        return None;
    }
    let packages = tools::node_packages("websocket").await.unwrap();
    let node_path = format!("NODE_PATH={}", packages.display());
    let node = ["env".to_owned(), node_path, "node".to_owned()];
    let script = |name: &str| text(tools::interop(&format!("websocket/{name}")));
    Some([
        Peer {
            library: "coder/websocket",
            command: vec![text(
                tools::go_program("websocket", "./peer").await.unwrap(),
            )],
        },
        Peer {
            library: "ws",
            command: node.into_iter().chain([script("peer.js")]).collect(),
        },
        Peer {
            library: "websockets",
            command: vec![text(tools::python().await.unwrap()), script("peer.py")],
        },
    ])
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

impl Peer {
    fn server(&self) -> Vec<String> {
        let arguments = ["server", "{port}"].map(String::from);
        self.command.iter().cloned().chain(arguments).collect()
    }

    /// Has all conversations with `server`, each over a connection of its own.
    async fn ask(&self, server: SocketAddr) -> Outcomes {
        let output = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(["client", &format!("ws://{server}/")])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await;
        let output = output.expect("the client hangs").unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {told}", self.library);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// What the conversations are about has happened, as far as it has the same words for all clients.
fn assert_well(outcomes: &Outcomes) {
    assert_eq!(outcomes.len(), CASES, "{outcomes:?}");
    for case in [
        "text",
        "binary",
        "empty",
        "fragments",
        "fragments_back",
        "large",
    ] {
        assert!(
            outcomes[case].starts_with("the same, 1000"),
            "{case}: {outcomes:?}"
        );
    }
    assert!(
        outcomes["deflate"].starts_with("permessage-deflate"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes["server_closes"], "closed with 4001 good bye");
    assert_eq!(outcomes["client_closes"], "4002 done");
    assert!(outcomes["pinged"].starts_with("ponged"), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pairs_meet_through_the_sidecar_as_without_it() {
    let Some(peers) = peers().await else { return };
    for server in &peers {
        let app = Server::start(&server.server()).await.unwrap();
        let sidecar = Sidecar::start(app.address).await.unwrap();
        let mut counted = 0;
        for client in &peers {
            let direct = client.ask(app.address).await;
            assert_well(&direct);
            let through = client.ask(sidecar.address).await;
            let (client, server) = (client.library, server.library);
            assert_eq!(direct, through, "{client} asks {server}");
            sidecar.wait_for_in_flight(0).await.unwrap();
            counted += CASES as u64;
            let requests = sidecar.requests().await.unwrap();
            assert_eq!(requests, counted, "each socket is one request");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pairs_meet_at_zero_and_warm() {
    let Some(peers) = peers().await else { return };
    for server in &peers {
        let command = server.server();
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let app = Server::start(&command).await.unwrap();
        for client in &peers {
            let direct = client.ask(app.address).await;
            assert_well(&direct);
            // Stays up until the same client has come again.
            let options = Options::quick().with("--max", 1).with("--cooldown", "1m");
            let stillwake = Stillwake::run(options, &words).await.unwrap();
            assert_eq!(stillwake.state().await.unwrap().started(), 0);
            let cold = client.ask(stillwake.address).await;
            let warm = client.ask(stillwake.address).await;
            let (client, server) = (client.library, server.library);
            assert_eq!(cold, direct, "{client} asks {server} at zero");
            assert_eq!(warm, direct, "{client} asks {server}");
            let state = stillwake.state().await.unwrap();
            assert_eq!(state.started(), 1, "at zero once, and once not: {state}");
            stillwake.stop().await.unwrap();
        }
    }
}
