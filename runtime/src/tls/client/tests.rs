//! Servers that a client trusts and those that it does not, with certificates made for the test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::tls::Acceptor;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Takes TLS as `name`, with a certificate that ends with the year.
    fn acceptor(&self, name: &str, year: i32) -> Acceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Acceptor::tls(Arc::new(config), true)
    }
}

/// Far in the future, for servers whose time is not what a test is about.
const LONG: i32 = 2999;

/// Returns what comes of a client that takes `acceptor` for `localhost`; a word has passed if it is a connection.
async fn meet(trust: &Trust, acceptor: Acceptor) -> Result<MaybeTls, ConnectError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = trust.connect("localhost", stream).await?;
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
    serving.await.unwrap().unwrap();
    Ok(stream)
}

async fn refusal(trust: &Trust, acceptor: Acceptor) -> String {
    meet(trust, acceptor).await.unwrap_err().to_string()
}

#[tokio::test]
async fn servers_of_every_authority_in_the_bundle_are_trusted() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let trust = Trust::from_pem(&format!("{}{}", one.pem, other.pem)).unwrap();
    for authority in [one, other] {
        meet(&trust, authority.acceptor("localhost", LONG))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_with_the_reason() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let trust = Trust::from_pem(&ours.pem).unwrap();
    let refused = refusal(&trust, theirs.acceptor("localhost", LONG)).await;
    assert!(
        refused.contains("no authority that is trusted"),
        "{refused}"
    );
    let refused = refusal(&trust, ours.acceptor("elsewhere", LONG)).await;
    assert!(
        refused.contains("\"localhost\"") && refused.contains("elsewhere"),
        "{refused}"
    );
    let refused = refusal(&trust, ours.acceptor("localhost", 2020)).await;
    assert!(refused.contains("expired"), "{refused}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut served, _) = listener.accept().await.unwrap();
    served.write_all(b"220 hello\r\n").await.unwrap();
    let trust = Trust::from_pem(&Authority::new("ours").pem).unwrap();
    let error = trust.connect("localhost", stream).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTls), "{error}");
}

#[tokio::test]
async fn what_can_be_no_name_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let trust = Trust::from_pem(&Authority::new("ours").pem).unwrap();
    let error = trust.connect("not a name", stream).await.unwrap_err();
    assert!(error.to_string().contains("\"not a name\""), "{error}");
}

#[test]
fn a_bundle_needs_certificates_and_nothing_but_usable_ones() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    for without in ["", "some text", &key] {
        let error = Trust::from_pem(without).unwrap_err();
        assert!(matches!(error, TrustError::Empty), "{error}");
    }
    let good = Authority::new("ours").pem;
    let block = |content: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
    };
    for bad in ["%%%%", "AAAA"] {
        let error = Trust::from_pem(&format!("{good}{}", block(bad))).unwrap_err();
        assert!(error.to_string().contains("certificate 2 "), "{error}");
    }
    assert_eq!(
        Trust::from_pem(&good).unwrap(),
        Trust::from_pem(&format!("{key}{good}")).unwrap()
    );
}
