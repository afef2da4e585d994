//! Real handshakes while certificates and bundles are swapped.

use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::{
    authorities::{Authorities, Phase},
    authority::Authority,
    leaf::{Leaf, LeafRequest, Purpose},
    rotation::{Observed, Settings, step},
    testing::{HOUR, NAME, request},
    trust::Bundle,
};
use jiff::Timestamp;

/// These handshakes are judged by the machine's clock.
fn authority() -> Authority {
    Authority::create(HOUR * 24, Timestamp::now()).unwrap()
}

fn leaf(authority: &Authority) -> Leaf {
    let issued = authority.issue(&request(HOUR), Timestamp::now());
    issued.unwrap()
}

fn bundle(authorities: &[&Authority]) -> Bundle {
    let pem: String = authorities
        .iter()
        .map(|one| one.certificate_pem())
        .collect();
    Bundle::from_pem(&pem, "the test").unwrap()
}

/// Without an identity it never resumes a session, so that it sees the certificate of each moment.
fn client(trusts: &Bundle, identity: Option<&Leaf>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusts.roots().unwrap());
    Arc::new(match identity {
        None => {
            let mut config = builder.with_no_client_auth();
            config.resumption = Resumption::disabled();
            config
        }
        Some(leaf) => builder
            .with_client_auth_cert(leaf.chain().to_vec(), leaf.key())
            .unwrap(),
    })
}

type Pair = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

/// Shakes hands and exchanges a byte each way: with TLS 1.3 a refused client learns of it only then.
async fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> std::io::Result<Pair> {
    let (near, far) = duplex(16 * 1024);
    let name = ServerName::try_from(NAME).unwrap();
    let accept = async {
        let mut served = TlsAcceptor::from(server.clone()).accept(far).await?;
        served.write_all(b"!").await?;
        served.flush().await?;
        let mut answer = [0];
        served.read_exact(&mut answer).await?;
        Ok(served)
    };
    let connect = async {
        let mut connected = TlsConnector::from(client.clone())
            .connect(name, near)
            .await?;
        let mut greeting = [0];
        connected.read_exact(&mut greeting).await?;
        connected.write_all(b"?").await?;
        connected.flush().await?;
        Ok(connected)
    };
    tokio::try_join!(connect, accept)
}

fn presented(pair: &Pair) -> CertificateDer<'static> {
    let (_, connection) = pair.0.get_ref();
    connection.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn the_next_handshake_shows_the_new_leaf_and_old_connections_stand() {
    let authority = authority();
    let (first, second) = (leaf(&authority), leaf(&authority));
    let resolver = Arc::new(Resolver::new(&first).unwrap());
    let server = Arc::new(server_config(resolver.clone(), None, &[]).unwrap());
    let client = client(&bundle(&[&authority]), None);

    let mut before = meet(&server, &client).await.unwrap();
    assert_eq!(presented(&before), first.chain()[0]);
    resolver.swap(&second).unwrap();
    let after = meet(&server, &client).await.unwrap();
    assert_eq!(presented(&after), second.chain()[0]);

    before.0.write_all(b"still here").await.unwrap();
    before.0.flush().await.unwrap();
    let mut word = [0; 10];
    before.1.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_handshake_fails_while_authorities_rotate() {
    let now = Timestamp::now();
    let settings = Settings {
        settle: std::time::Duration::ZERO,
        ..Settings::default()
    };
    let mut state = Authorities::new(authority());
    // The client was injected before any rotation, and is never told of one.
    let client = client(&state.bundle().unwrap(), None);
    let first = state.issue(&request(HOUR), now).unwrap();
    let resolver = Arc::new(Resolver::new(&first).unwrap());
    let server = Arc::new(server_config(resolver.clone(), None, &[]).unwrap());
    let handshakes: Vec<_> = (0..4)
        .map(|_| {
            let (server, client) = (server.clone(), client.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..25 {
                    let met = meet(&server, &client).await;
                    seen.push(presented(&met.unwrap()));
                }
                seen
            })
        })
        .collect();

    // Announced, trusted, switched; and many new leaves on the way.
    while !matches!(state.phase(), Phase::Overlapping(_)) {
        let observed = Observed {
            published: Some(state.trusted()),
            held: None,
            retire: Some(state.current().certificate().fingerprint().clone()),
        };
        (state, _) = step(&settings, &state, &observed, now).unwrap().unwrap();
        for _ in 0..10 {
            resolver
                .swap(&state.issue(&request(HOUR), now).unwrap())
                .unwrap();
            tokio::task::yield_now().await;
        }
    }
    for handshake in handshakes {
        handshake.await.unwrap();
    }
    let last = meet(&server, &client).await.unwrap();
    assert_eq!(presented(&last), resolver.presented().cert[0]);
    assert_ne!(presented(&last), first.chain()[0]);
}

#[tokio::test]
async fn a_client_is_verified_by_the_bundle_of_the_moment() {
    let (serving, old, new) = (authority(), authority(), authority());
    let resolver = Arc::new(Resolver::new(&leaf(&serving)).unwrap());
    let verifier = Arc::new(ClientVerifier::new(&bundle(&[&old])).unwrap());
    let server = Arc::new(server_config(resolver, Some(verifier.clone()), &[]).unwrap());
    let trusts = bundle(&[&serving]);
    let identity = |authority: &Authority| {
        let names = [NAME.to_owned()];
        let request = LeafRequest::new(names, Purpose::Client, HOUR).unwrap();
        authority.issue(&request, Timestamp::now()).unwrap()
    };
    let of_old = client(&trusts, Some(&identity(&old)));
    let of_new = client(&trusts, Some(&identity(&new)));
    let nobody = client(&trusts, None);
    // A server's certificate does not prove who a client is.
    let of_server = client(&trusts, Some(&leaf(&old)));

    meet(&server, &of_old).await.unwrap();
    for refused in [&of_new, &nobody, &of_server] {
        meet(&server, refused).await.unwrap_err();
    }
    verifier.swap(&bundle(&[&old, &new])).unwrap();
    meet(&server, &of_old).await.unwrap();
    meet(&server, &of_new).await.unwrap();
    verifier.swap(&bundle(&[&new])).unwrap();
    meet(&server, &of_new).await.unwrap();
    // This client has met the server before, so it would resume a session if the server let it.
    meet(&server, &of_old).await.unwrap_err();
}

#[test]
fn protocols_are_offered_in_their_order() {
    let resolver = Arc::new(Resolver::new(&leaf(&authority())).unwrap());
    let config = server_config(resolver, None, &[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
}
