//! Heads as large as the app takes them: Node.js, which takes 16 KiB and answers larger ones with 431.

use std::{net::SocketAddr, path::Path};

use sha2::{Digest as _, Sha256};
use stillwake_e2e::{payload::hex, raw::exchange, server::Server, sidecar::Sidecar, tools};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const REQUESTS: usize = 10_000;

const CONNECTIONS: usize = 8;

/// Header fields of a heavy request, and the length of each one's value: a little below Node's limit.
const FIELDS: usize = 90;
const VALUE: usize = 160;

async fn start() -> Option<(Server, Sidecar)> {
    let installed = tools::are_installed(&["node"], "heads at Node.js's limits").await;
    if !installed.unwrap() {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/heads.js");
    let command = ["node", script.to_str().unwrap(), "{port}"].map(String::from);
    let server = Server::start(&command).await.unwrap();
    let sidecar = Sidecar::start(server.address).await.unwrap();
    Some((server, sidecar))
}

/// A request with many fields, all of which say which one it is.
fn heavy(number: usize) -> (String, Vec<String>) {
    let mut fields = vec![
        "Host".to_owned(),
        "a".to_owned(),
        "Connection".to_owned(),
        "keep-alive".to_owned(),
    ];
    for field in 0..FIELDS {
        fields.push(format!("X-Field-{field}"));
        fields.push(format!("{number:0VALUE$}"));
    }
    let lines: Vec<_> = fields
        .chunks(2)
        .map(|field| format!("{}: {}\r\n", field[0], field[1]))
        .collect();
    let lines = lines.concat();
    (format!("GET /{number} HTTP/1.1\r\n{lines}\r\n"), fields)
}

/// What the server says of it.
fn answer(fields: &[String]) -> String {
    let hash = hex(&Sha256::digest(fields.join("\n")));
    let body = format!("{} {hash}", fields.len());
    format!(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn ask(server: SocketAddr, numbers: impl Iterator<Item = usize>) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    for number in numbers {
        let (request, fields) = heavy(number);
        let expected = answer(&fields);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&received), expected, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_with_heavy_heads_arrive_whole() {
    let Some((_server, sidecar)) = start().await else {
        return;
    };
    let mut connections = JoinSet::new();
    for first in 0..CONNECTIONS {
        let numbers = (first..REQUESTS).step_by(CONNECTIONS);
        connections.spawn(ask(sidecar.address, numbers));
    }
    connections.join_all().await;
    sidecar.wait_for_in_flight(0).await.unwrap();
    assert_eq!(sidecar.requests().await.unwrap(), REQUESTS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_apps_own_limit_is_where_it_is_without_the_sidecar() {
    let Some((server, sidecar)) = start().await else {
        return;
    };
    let mut statuses = Vec::new();
    for length in (15_000..17_500).step_by(250) {
        let padding = "a".repeat(length);
        let head =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: {padding}\r\n\r\n");
        let direct = exchange(server.address, &[head.as_bytes()]).await.unwrap();
        let through = exchange(sidecar.address, &[head.as_bytes()]).await.unwrap();
        let [direct, through] = [direct, through].map(|all| String::from_utf8(all).unwrap());
        assert_eq!(direct, through, "{length}");
        statuses.push(direct.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(statuses.first().unwrap(), "200", "{statuses:?}");
    assert_eq!(statuses.last().unwrap(), "431", "{statuses:?}");
    sidecar.wait_for_in_flight(0).await.unwrap();
}
