//! The first request at zero means to the app what it means without us, and so does its answer to the client. What is
//! hop by hop may differ.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use stillwake_e2e::{
    client,
    local::{Options, Stillwake},
    raw::exchange,
    server::Server,
    tools,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

/// What doesn't come by then doesn't.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs at the same time, each with processes of its own.
const AT_ONCE: usize = 3;

/// Conversations, each of which returns what the client has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Events arrive as they are sent, not at the end.
    Events,
    /// Both bodies are under way at once, and trailers follow them.
    Echo,
    /// 103 before the answer.
    Hints,
    /// 100 comes from the app, and before the body is sent.
    Continue,
    /// 417 comes instead of it.
    Refused,
    Http10,
    /// Requests of which only the target or the method is unusual.
    Odd(&'static str),
}

const CASES: [Case; 13] = [
    Case::Events,
    Case::Echo,
    Case::Hints,
    Case::Continue,
    Case::Refused,
    Case::Http10,
    Case::Odd("OPTIONS * HTTP/1.1"),
    Case::Odd("GET http://example.test/a?b HTTP/1.1"),
    Case::Odd("GET /a%2Fb%2f..%5C//c/./../d;e=1?f=%20&&g=?/%00 HTTP/1.1"),
    Case::Odd("DELETE / HTTP/1.1"),
    Case::Odd("PROPFIND /a HTTP/1.1"),
    Case::Odd("M-SEARCH * HTTP/1.1"),
    Case::Odd("HEAD / HTTP/1.1"),
];

impl Case {
    async fn ask(self, server: SocketAddr) -> Vec<String> {
        match self {
            Self::Events => events(server).await,
            Self::Echo => echo(server).await,
            Self::Hints => {
                meaning(
                    server,
                    &["GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"],
                )
                .await
            }
            Self::Continue => {
                let head = "PUT /checked HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Wanted: yes\r\n\
                            Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
                meaning(server, &[head, "body"]).await
            }
            Self::Refused => {
                let head = "PUT /checked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                            Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
                meaning(server, &[head]).await
            }
            Self::Http10 => meaning(server, &["GET /old HTTP/1.0\r\n\r\n"]).await,
            Self::Odd(line) => {
                let head = format!("{line}\r\nHost: example.test\r\nConnection: close\r\n\r\n");
                meaning(server, &[&head]).await
            }
        }
    }
}

/// Exchanges parts as [`exchange`] does, and returns the status lines, the end-to-end fields and the body.
async fn meaning(server: SocketAddr, parts: &[&str]) -> Vec<String> {
    let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
    let answer = exchange(server, &parts).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let mut lines = Vec::new();
    let mut rest = answer.as_str();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        lines.extend(
            head.lines()
                .filter(|line| !is_hop_by_hop(line))
                .map(str::to_lowercase),
        );
        rest = after;
    }
    lines.push(rest.to_owned());
    lines
}

fn is_hop_by_hop(line: &str) -> bool {
    let name = line.split(':').next().unwrap().to_lowercase();
    let ours = name == stillwake_e2e::COLD_START;
    ours || ["connection", "keep-alive", "transfer-encoding", "date"].contains(&name.as_str())
}

async fn events(server: SocketAddr) -> Vec<String> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut received = String::new();
    read_until(&mut stream, &mut received, "data: 1\n\n").await;
    let post = async |path| {
        let request = client::request(http::Method::POST, path, 0, client::whole(""));
        let mut connection = client::Connection::open(server).await.unwrap();
        connection.send(request).await.unwrap().status.to_string()
    };
    let mut statuses = vec![post("/more").await];
    read_until(&mut stream, &mut received, "data: more\n\n").await;
    statuses.push(post("/end").await);
    read_until(&mut stream, &mut received, "\r\n0\r\n\r\n").await;
    statuses
}

async fn echo(server: SocketAddr) -> Vec<String> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let head =
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sent\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut received = String::new();
    for (chunk, comes) in [
        ("3\r\none\r\n", "one"),
        ("3\r\ntwo\r\n", "two"),
        ("5\r\nthree\r\n", "three"),
    ] {
        stream.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut stream, &mut received, comes).await;
    }
    stream.write_all(b"0\r\nX-Sent: sum\r\n\r\n").await.unwrap();
    read_until(&mut stream, &mut received, "0\r\n").await;
    read_until(&mut stream, &mut received, "\r\n\r\n").await;
    let (_, trailers) = received.rsplit_once("\r\n0\r\n").unwrap();
    vec![trailers.to_lowercase()]
}

/// An answer without the version that it is said in: at zero the activator says the client's.
fn without_version(lines: &[String]) -> Vec<String> {
    let versions = ["http/1.0 ", "http/1.1 "];
    let without = |line: &String| {
        let mut stripped = versions
            .iter()
            .filter_map(|version| line.strip_prefix(version));
        stripped.next().unwrap_or(line).to_owned()
    };
    lines.iter().map(without).collect()
}

/// Reads on until `end` has come after what was looked for before; leaves what comes after it.
async fn read_until(stream: &mut TcpStream, received: &mut String, end: &str) {
    let from = received.len();
    let read = async {
        let mut byte = [0];
        while !received[from..].ends_with(end) {
            stream.read_exact(&mut byte).await.unwrap();
            received.push(char::from(byte[0]));
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.unwrap_or_else(|_| panic!("{end:?} doesn't come"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_at_zero_means_what_it_means_without_us() {
    let installed = tools::are_installed(&["node"], "first requests at zero, to Node.js").await;
    if !installed.unwrap() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/streams.js");
    let command = ["node", script.to_str().unwrap(), "{port}"].map(String::from);
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for case in CASES {
        let (command, at_once) = (command.clone(), Arc::clone(&at_once));
        cases.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            let server = Server::start(&command).await.unwrap();
            let direct = case.ask(server.address).await;
            let words: Vec<_> = command.iter().map(String::as_str).collect();
            let options = Options::quick().with("--max", 1).with("--cooldown", "1m");
            let stillwake = Stillwake::run(options, &words).await.unwrap();
            assert_eq!(stillwake.state().await.unwrap().started(), 0);
            let cold = case.ask(stillwake.address).await;
            let warm = case.ask(stillwake.address).await;
            let state = stillwake.state().await.unwrap();
            assert_eq!(state.started(), 1, "{state}");
            stillwake.stop().await.unwrap();
            (case, direct, cold, warm)
        });
    }
    let asked = cases.join_all().await;
    let differ: Vec<_> = asked
        .iter()
        .filter(|(_, direct, cold, warm)| {
            without_version(direct) != without_version(cold) || direct != warm
        })
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
