//! Against a server with TLS on loopback.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{Service as _, ServiceExt as _};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that hands out the head of each request and answers with its version.
struct Server {
    address: SocketAddr,
    root: Vec<u8>,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(listen: &str, certified: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([certified.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust us breaks the handshake off.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let _ = told.send(String::from_utf8(head).unwrap());
                let body = r#"{"major": "1", "minor": "37"}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                // The client may be gone already.
                let _ = stream.shutdown().await;
            }
        });
        let root = cert.der().to_vec();
        Self {
            address,
            root,
            heads,
        }
    }

    fn config(&self, host: &str) -> Config {
        let url = format!("https://{host}:{}", self.address.port());
        let mut config = Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![self.root.clone()]);
        config
    }

    async fn ask(&mut self, host: &str) -> Result<String, String> {
        let client = with_config(self.config(host), "tests").unwrap();
        let request = http::Request::get("/version").body(Vec::new()).unwrap();
        let answer = timeout(PATIENCE, client.request_text(request))
            .await
            .unwrap();
        answer.map_err(|error| format!("{error:?}"))?;
        Ok(self.heads.recv().await.unwrap())
    }
}

#[tokio::test]
async fn a_server_proves_itself_by_the_address_it_is_reached_at() {
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
        let bare = host.trim_matches(['[', ']']);
        let head = Server::start(listen, bare).await.ask(host).await.unwrap();
        let agent = format!(
            "user-agent: stillwake-tests/{}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        assert!(head.to_lowercase().contains(&agent), "{head}");
        assert!(head.starts_with("GET /version HTTP/1.1\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_for_another_address_is_not_believed() {
    let mut server = Server::start("127.0.0.1:0", "127.0.0.2").await;
    let error = server.ask("127.0.0.1").await.unwrap_err();
    assert!(error.contains("NotValidForName"), "{error}");
}

#[tokio::test]
async fn a_server_may_be_given_by_name() {
    let head = Server::start("127.0.0.1:0", "localhost")
        .await
        .ask("localhost")
        .await;
    assert!(head.is_ok(), "{head:?}");
}

#[tokio::test]
async fn a_proxy_is_refused_by_name() {
    let mut config = Config::new("https://127.0.0.1".parse().unwrap());
    config.proxy_url = Some("http://proxy.example.com:3128".parse().unwrap());
    let error = with_config(config, "tests").err().unwrap().to_string();
    assert!(error.contains("proxy.example.com"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_begin_is_given_up() {
    let silent = |(): ()| std::future::pending::<Result<(), BoxError>>();
    let began = Instant::now();
    let answer = bounds().service_fn(silent).oneshot(()).await;
    assert!(answer.unwrap_err().is::<tower::timeout::error::Elapsed>());
    assert_eq!(began.elapsed().as_secs(), ANSWER_LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn requests_past_the_bound_wait() {
    let quick = |(): ()| std::future::ready(Ok::<_, BoxError>(()));
    let mut service = bounds().service_fn(quick);
    let began = Instant::now();
    for _ in 0..2 * REQUESTS {
        service.ready().await.unwrap().call(()).await.unwrap();
    }
    assert_eq!(began.elapsed().as_secs(), 1);
}
