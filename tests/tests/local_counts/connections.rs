//! What is none of HTTP's open forms counts by connection: TLS, whatever is inside, and servers that speak first.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use stillwake_e2e::sidecar::Sidecar;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

use crate::{
    calls::{Call, converse},
    http2::Connection,
};

const NAME: &str = "app.test";

/// Both sides of TLS with HTTP/2 inside.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for protocols in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
        protocols.push(b"h2".to_vec());
    }
    (
        TlsAcceptor::from(Arc::new(server)),
        TlsConnector::from(Arc::new(client)),
    )
}

#[tokio::test]
async fn a_tls_connection_counts_one_until_it_is_closed() {
    let (acceptor, connector) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = Sidecar::start(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (sender, mut calls) = mpsc::channel::<Call>(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Fails when the client leaves in the handshake, which none does.
            let stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(converse(stream, sender.clone()));
        }
    });
    let mut open = Vec::new();
    for number in 1..=3 {
        let stream = TcpStream::connect(sidecar.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Connection::open(stream).await;
        // Two calls at once, which nobody outside can tell from one.
        let asked = [client.get(), client.get()];
        let held = [calls.recv().await.unwrap(), calls.recv().await.unwrap()];
        sidecar.wait_for_in_flight(number).await.unwrap();
        for call in held {
            call.finish();
        }
        for pending in asked {
            pending.await.unwrap().unwrap();
        }
        sidecar.wait_for_in_flight(number).await.unwrap();
        open.push(client);
    }
    for left in [2, 1, 0] {
        open.pop();
        sidecar.wait_for_in_flight(left).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_counts_one_until_it_has_said_good_bye() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = Sidecar::start(listener.local_addr().unwrap())
        .await
        .unwrap();
    let mut client = TcpStream::connect(sidecar.address).await.unwrap();
    let (mut app, _) = listener.accept().await.unwrap();
    let script = [
        (false, "220 app.test ready\r\n"),
        (true, "HELO a\r\n"),
        (false, "250 app.test\r\n"),
        (true, "QUIT\r\n"),
        (false, "221 bye\r\n"),
    ];
    for (by_client, line) in script {
        let (from, to) = if by_client {
            (&mut client, &mut app)
        } else {
            (&mut app, &mut client)
        };
        from.write_all(line.as_bytes()).await.unwrap();
        let mut received = vec![0; line.len()];
        to.read_exact(&mut received).await.unwrap();
        assert_eq!(received, line.as_bytes());
        sidecar.wait_for_in_flight(1).await.unwrap();
    }
    app.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    client.shutdown().await.unwrap();
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    sidecar.wait_for_in_flight(0).await.unwrap();
}
