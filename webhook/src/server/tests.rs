//! The server over real TLS on loopback, with a certificate that changes under it.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::ClientHello,
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    admission::{Notice, Notices},
    settings::Settings,
    surroundings::{Cluster, View},
};

/// How long anything may take here before the test has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Has no namespace to inject in.
struct Anywhere;

impl Cluster for Anywhere {
    fn surroundings(&self, _: &str) -> View {
        View::NotOurs
    }
}

impl Notices for Anywhere {
    fn publish(&self, _: Notice) {}
}

/// A certificate that can be exchanged.
#[derive(Debug)]
struct Exchangeable(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Exchangeable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock()))
    }
}

fn certificate() -> (Arc<CertifiedKey>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certified = CertifiedKey::from_der(vec![certificate.clone()], key, &provider()).unwrap();
    (Arc::new(certified), certificate)
}

struct Server {
    address: SocketAddr,
    certificates: Arc<Exchangeable>,
    trusted: CertificateDer<'static>,
    registry: Registry,
    stop: CancellationToken,
    served: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let (key, trusted) = certificate();
        let certificates = Arc::new(Exchangeable(Mutex::new(key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut registry = Registry::default();
        let settings = Settings::new("sidecar:1", Vec::new());
        let admission = Admission::new(
            settings,
            Arc::new(Anywhere),
            Arc::new(|| None),
            Arc::new(Anywhere),
            &mut registry,
        );
        let stop = CancellationToken::new();
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificates) as _;
        let served = tokio::spawn(serve(listener, resolver, router(admission), stop.clone()));
        Self {
            address,
            certificates,
            trusted,
            registry,
            stop,
            served,
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn post_to(
    sender: &mut SendRequest<Full<Bytes>>,
    path: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, String) {
    let request = Request::post(path)
        .header("host", "localhost")
        .body(Full::new(body.into()));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// One whose answer has nothing but the uid.
fn review(uid: &str) -> String {
    let resource = serde_json::json!({"group": "", "version": "v1", "resource": "pods"});
    let object = serde_json::json!({"spec": {"containers": []}});
    serde_json::json!({"request": {"uid": uid, "namespace": "shop", "operation": "CREATE", "resource": resource,
        "object": object}})
    .to_string()
}

#[tokio::test]
async fn a_review_is_answered_on_the_path_that_the_api_server_uses() {
    let server = Server::start().await;
    let mut sender = server.connect().await.unwrap();
    for uid in ["u-1", "u-2"] {
        let (status, body) = post_to(&mut sender, "/inject?timeout=3s", review(uid)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(body.contains(&format!("\"uid\":\"{uid}\"")), "{body}");
        assert!(body.contains("\"allowed\":true"), "{body}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_and_counted() {
    let server = Server::start().await;
    let mut sender = server.connect().await.unwrap();
    let (status, body) = post_to(&mut sender, "/inject", "nonsense").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("no AdmissionReview"), "{body}");
    // What the limit leaves room for is read: it fails for being nonsense, not for its length.
    let (status, _) = post_to(&mut sender, "/inject", vec![b' '; LONGEST]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, body) = post_to(&mut sender, "/inject", vec![b' '; LONGEST + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &server.registry).unwrap();
    assert!(
        metrics.contains("reason=\"request_unreadable\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("reason=\"request_broken\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_arrives_is_given_up() {
    let admission = Admission::new(
        Settings::new("sidecar:1", Vec::new()),
        Arc::new(Anywhere),
        Arc::new(|| None),
        Arc::new(Anywhere),
        &mut Registry::default(),
    );
    let never = futures_util::stream::pending::<io::Result<Bytes>>();
    let response = timeout(DEADLINE, answer(State(admission), Body::from_stream(never))).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let mut server = Server::start().await;
    let mut before = server.connect().await.unwrap();
    let (key, trusted) = certificate();
    *server.certificates.0.lock() = key;
    assert!(
        server.connect().await.is_err(),
        "the old certificate is still served"
    );
    server.trusted = trusted;
    let mut after = server.connect().await.unwrap();
    for sender in [&mut before, &mut after] {
        let (status, _) = post_to(sender, "/inject", review("u-1")).await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn plaintext_is_not_answered() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST /inject HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // Closed or reset, whichever the kernel makes of bytes that nobody read.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn it_ends_when_told_to_though_a_connection_is_idle() {
    let server = Server::start().await;
    let mut sender = server.connect().await.unwrap();
    let (status, _) = post_to(&mut sender, "/inject", review("u-1")).await;
    assert_eq!(status, StatusCode::OK);
    server.stop.cancel();
    let ended = timeout(DEADLINE, server.served).await;
    ended.unwrap().unwrap().unwrap();
}
