//! Both kinds of connection on one port, with a certificate made for the test.

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsConnector;

use super::*;

fn certificate() -> (Arc<ServerConfig>, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![made.cert.der().clone()];
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (client, listener.accept().await.unwrap().0)
}

async fn echo_once(acceptor: Acceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut word = [0; 5];
    stream.read_exact(&mut word).await?;
    stream.write_all(&word).await?;
    stream.flush().await
}

async fn says_hello(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
}

#[tokio::test]
async fn the_first_byte_tells_tls_from_plaintext() {
    let (server, client) = certificate();
    let acceptor = Acceptor::tls(server, false);

    let (near, far) = pair().await;
    let served = tokio::spawn(echo_once(acceptor.clone(), far));
    says_hello(near).await;
    served.await.unwrap().unwrap();

    let (near, far) = pair().await;
    let served = tokio::spawn(echo_once(acceptor, far));
    let name = ServerName::try_from("localhost").unwrap();
    let near = TlsConnector::from(Arc::new(client))
        .connect(name, near)
        .await
        .unwrap();
    says_hello(near).await;
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_taken_is_refused_with_the_reason() {
    let (server, _) = certificate();
    let (mut near, far) = pair().await;
    near.write_all(b"hello").await.unwrap();
    let error = Acceptor::tls(server, true).accept(far).await.unwrap_err();
    assert!(error.to_string().contains("requires TLS"), "{error}");

    let (mut near, far) = pair().await;
    near.write_all(&[HANDSHAKE_RECORD, 3, 1]).await.unwrap();
    let error = Acceptor::plaintext().accept(far).await.unwrap_err();
    assert!(
        error.to_string().contains("without a certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_and_leaves_is_told_from_one_that_is_refused() {
    let (server, _) = certificate();
    for acceptor in [Acceptor::tls(server, true), Acceptor::plaintext()] {
        let (near, far) = pair().await;
        drop(near);
        let error = acceptor.accept(far).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_missing_file_is_named() {
    let missing = Path::new("no-such-file.pem");
    let error = server_config(missing, missing).unwrap_err().to_string();
    assert!(error.contains("no-such-file.pem"), "{error}");
}
