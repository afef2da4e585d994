//! What passes unread, TLS with whatever is inside and a database that speaks first, wakes its app, works cold and warm,
//! counts one a connection, and lets the app sleep once the connections end.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use stillwake_e2e::{
    local::{Options, Stillwake},
    tools,
    wait::{self, PATIENCE},
};
use tokio::{net::TcpStream, process::Command};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

const NAME: &str = "app.test";

/// What a client uploads, so that more than a handshake passes.
const UPLOAD: usize = 1_000_000;

/// A run at zero, of one replica at most: what clients find there is one app or none.
async fn asleep(command: &[String]) -> Stillwake {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    let options = Options::quick().with("--max", 1);
    let stillwake = Stillwake::run(options, &words).await.unwrap();
    assert_eq!(stillwake.state().await.unwrap().started(), 0);
    stillwake
}

async fn in_flight(stillwake: &Stillwake) -> anyhow::Result<u64> {
    let metrics = stillwake.metrics().await?;
    metrics.count("stillwake_aggregator_in_flight_requests", &[])
}

async fn until_in_flight(stillwake: &Stillwake, expected: u64) {
    wait::until("the connections to be counted", PATIENCE, || async {
        let count = in_flight(stillwake).await?;
        ensure!(count == expected, "{count} are in flight, not {expected}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

/// A client that trusts the app's certificate and would speak what `alpn` says.
fn connector(roots: &RootCertStore, alpn: &[u8]) -> TlsConnector {
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    client.alpn_protocols.push(alpn.to_vec());
    TlsConnector::from(Arc::new(client))
}

async fn open(address: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let open = tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await;
    open.expect("no handshake").unwrap()
}

fn upload() -> Request<Full<Bytes>> {
    Request::post(format!("https://{NAME}/"))
        .header(http::header::HOST, NAME)
        .body(Full::from(vec![7; UPLOAD]))
        .unwrap()
}

/// A connection with HTTP/2 on which one request has been answered; it lasts until it drops.
async fn ask_http2(
    address: SocketAddr,
    roots: &RootCertStore,
) -> (String, http2::SendRequest<Full<Bytes>>) {
    let stream = open(address, &connector(roots, b"h2")).await;
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(upload()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), sender)
}

async fn ask_http1(address: SocketAddr, roots: &RootCertStore) -> String {
    let stream = open(address, &connector(roots, b"http/1.1")).await;
    let connected = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(upload()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_with_tls_of_its_own_wakes_and_sleeps() {
    let installed = tools::are_installed(&["node"], "TLS at zero, to Node.js").await;
    if !installed.unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let [key, certificate] = ["key", "certificate"].map(|name| folder.path().join(name));
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    std::fs::write(&certificate, cert.pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/secure.js");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let command = [
        "node".to_owned(),
        path(&script),
        "{port}".to_owned(),
        path(&key),
        path(&certificate),
    ];
    let stillwake = asleep(&command).await;

    // The first of them waits for the app in the midst of its handshake.
    let mut open = Vec::new();
    for number in 1..=2 {
        let (answer, connection) = ask_http2(stillwake.address, &roots).await;
        assert_eq!(answer, format!("2.0 {UPLOAD}"));
        open.push(connection);
        until_in_flight(&stillwake, number).await;
    }
    let answer = ask_http1(stillwake.address, &roots).await;
    assert_eq!(answer, format!("1.1 {UPLOAD}"));
    until_in_flight(&stillwake, 2).await;
    let state = stillwake.state().await.unwrap();
    assert_eq!(state.started(), 1, "{state}");
    drop(open);
    stillwake.wait_for_zero(PATIENCE).await.unwrap();
    let answer = ask_http1(stillwake.address, &roots).await;
    assert_eq!(answer, format!("1.1 {UPLOAD}"), "at zero once more");
    stillwake.stop().await.unwrap();
}

/// The database's client, asking one thing over a connection of its own.
fn query(address: SocketAddr, statement: &str) -> Command {
    let mut command = Command::new("mariadb");
    command
        .arg("--no-defaults")
        .arg(format!("--host={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(["--protocol=tcp", "--skip-ssl", "--skip-column-names"])
        .arg(format!("--execute={statement}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn answer(mut query: Command) -> anyhow::Result<String> {
    let output = tokio::time::timeout(PATIENCE, query.output()).await;
    let output = output.context("the database's client hangs")??;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_speaks_first_wakes_and_sleeps() {
    let tools = ["mariadbd", "mariadb"];
    let installed = tools::are_installed(&tools, "a server that speaks first, MariaDB").await;
    if !installed.unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // It has no users and few files, and listens when it can be asked.
    let server = format!(
        "exec mariadbd --no-defaults --user=$(id -un) --datadir={} --port={{port}} --bind-address=127.0.0.1 --socket= \
         --skip-grant-tables --skip-networking=0 --innodb-buffer-pool-size=8M --innodb-log-file-size=4M",
        folder.path().display()
    );
    let stillwake = asleep(&["sh".to_owned(), "-c".to_owned(), server]).await;
    let address = stillwake.address;

    let cold = query(
        address,
        "create database a; create table a.b (c int); insert a.b values (42); select c from a.b",
    );
    assert_eq!(answer(cold).await.unwrap(), "42");
    let warm = query(address, "select c + 1 from a.b");
    assert_eq!(answer(warm).await.unwrap(), "43");
    // Longer than the run takes to sleep, and nothing passes meanwhile.
    let long = tokio::spawn(answer(query(address, "select sleep(5), c from a.b")));
    until_in_flight(&stillwake, 1).await;
    assert_eq!(long.await.unwrap().unwrap(), "0\t42");
    let state = stillwake.state().await.unwrap();
    assert_eq!(state.started(), 1, "it slept in the midst of it: {state}");
    stillwake.wait_for_zero(PATIENCE).await.unwrap();
    let again = query(address, "select c + 2 from a.b");
    assert_eq!(answer(again).await.unwrap(), "44", "at zero once more");
    stillwake.stop().await.unwrap();
}
