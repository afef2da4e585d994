//! Plaintext, TLS, and TLS with client certificates, on each of the two ports, as their operators ask for it.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use stillwake_aggregator::{Aggregator, MembershipEvent, Settings};
use stillwake_certs::{
    authority::Authority,
    leaf::{Leaf, LeafRequest, Purpose},
    resolver::Resolver,
    server::acceptor,
    trust::Bundle,
    verifier::ClientVerifier,
};
use stillwake_proto::report::Role;
use stillwake_runtime::tls::{Acceptor, Trust};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::harness::{Client, Reporter, Rig, eventually, hello, object, pod, within};

const NAME: &str = "stillwake-aggregator.stillwake-system";
const DAY: Duration = Duration::from_hours(24);

fn authority() -> Authority {
    Authority::create(DAY, Timestamp::now()).unwrap()
}

fn leaf(authority: &Authority, purpose: Purpose) -> Leaf {
    let request = LeafRequest::new([NAME.to_owned()], purpose, DAY / 24).unwrap();
    authority.issue(&request, Timestamp::now()).unwrap()
}

fn resolver(authority: &Authority) -> Arc<Resolver> {
    Arc::new(Resolver::new(&leaf(authority, Purpose::Server)).unwrap())
}

fn verifier(authority: &Authority) -> Arc<ClientVerifier> {
    let bundle = Bundle::from_pem(authority.certificate_pem(), "the test").unwrap();
    Arc::new(ClientVerifier::new(&bundle).unwrap())
}

/// A synced aggregator whose port for KEDA takes connections in this way.
async fn serve(keda: Acceptor) -> Rig {
    let aggregator = Aggregator::new(Settings::default());
    let rig = Rig::serve(aggregator, Acceptor::plaintext(), keda).await;
    rig.aggregator.apply(MembershipEvent::Synced);
    rig
}

fn pem(label: &str, content: &[u8]) -> String {
    let text = STANDARD.encode(content);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// KEDA's side: whom it trusts, and who it is; plaintext if it trusts nobody.
#[derive(Clone, Copy, Default)]
struct Keda<'a> {
    trusts: Option<&'a Authority>,
    is: Option<&'a Leaf>,
}

impl Keda<'_> {
    async fn connect(self, rig: &Rig) -> Result<Client, tonic::transport::Error> {
        let Some(authority) = self.trusts else {
            return Client::connect(format!("http://{}", rig.scaler)).await;
        };
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.certificate_pem()))
            .domain_name(NAME);
        if let Some(leaf) = self.is {
            let chain = leaf.chain().iter();
            let chain: String = chain.map(|one| pem("CERTIFICATE", one)).collect();
            let key = pem("PRIVATE KEY", leaf.key().secret_der());
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", rig.scaler)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await?;
        Ok(Client::new(channel))
    }

    /// Whether it gets an answer. With TLS 1.3 a client that is refused may only learn of it with its first call.
    async fn is_answered(self, rig: &Rig) -> bool {
        let call = async {
            let mut client = self.connect(rig).await.ok()?;
            client.is_active(object(&[])).await.ok()
        };
        within(call).await.is_some()
    }
}

fn refused(rig: &Rig) -> u64 {
    rig.metric("scaler_connections_refused_total{reason=\"handshake\"}")
}

#[tokio::test]
async fn by_default_all_kinds_are_taken_on_one_port_and_a_wrong_authority_fails_closed() {
    let (ours, other) = (authority(), authority());
    let rig = serve(acceptor(resolver(&ours), None, &[b"h2"], false).unwrap()).await;
    let trusts = Some(&ours);
    let leaf = leaf(&other, Purpose::Client);
    let plaintext = Keda::default();
    let tls = Keda { trusts, is: None };
    let mutual = Keda {
        trusts,
        is: Some(&leaf),
    };
    for keda in [plaintext, tls, mutual] {
        assert!(keda.is_answered(&rig).await);
    }
    let deceived = Keda {
        trusts: Some(&other),
        is: None,
    };
    assert!(!deceived.is_answered(&rig).await);
    eventually(async || refused(&rig), |count| *count == 1).await;
    assert!(tls.is_answered(&rig).await);
}

#[tokio::test]
async fn where_tls_is_required_plaintext_is_refused() {
    let ours = authority();
    let rig = serve(acceptor(resolver(&ours), None, &[b"h2"], true).unwrap()).await;
    assert!(!Keda::default().is_answered(&rig).await);
    eventually(async || refused(&rig), |count| *count >= 1).await;
    let tls = Keda {
        trusts: Some(&ours),
        is: None,
    };
    assert!(tls.is_answered(&rig).await);
}

#[tokio::test]
async fn where_client_certificates_are_demanded_nobody_is_answered_without_a_right_one() {
    let (ours, clients, other) = (authority(), authority(), authority());
    let verifier = verifier(&clients);
    // Plaintext would be a way around.
    let rig = serve(acceptor(resolver(&ours), Some(verifier), &[b"h2"], false).unwrap()).await;
    let trusts = Some(&ours);
    let right = leaf(&clients, Purpose::Client);
    let of_others = leaf(&other, Purpose::Client);
    let of_a_server = leaf(&clients, Purpose::Server);
    let right = Keda {
        trusts,
        is: Some(&right),
    };
    assert!(right.is_answered(&rig).await);
    assert_eq!(refused(&rig), 0);
    assert!(!Keda::default().is_answered(&rig).await, "plaintext");
    for is in [None, Some(&of_others), Some(&of_a_server)] {
        let before = refused(&rig);
        assert!(!Keda { trusts, is }.is_answered(&rig).await, "{is:?}");
        eventually(async || refused(&rig), |count| *count > before).await;
    }
    assert!(right.is_answered(&rig).await);
}

#[tokio::test]
async fn a_new_certificate_is_presented_from_the_next_connection_on() {
    let (old, new) = (authority(), authority());
    let resolver = resolver(&old);
    let rig = serve(acceptor(Arc::clone(&resolver), None, &[b"h2"], true).unwrap()).await;
    let trusting = |authority| Keda {
        trusts: Some(authority),
        is: None,
    };
    let mut stands = trusting(&old).connect(&rig).await.unwrap();
    assert!(!trusting(&new).is_answered(&rig).await);
    resolver.swap(&leaf(&new, Purpose::Server)).unwrap();
    assert!(trusting(&new).is_answered(&rig).await);
    assert!(!trusting(&old).is_answered(&rig).await);
    within(stands.is_active(object(&[]))).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_those_of_others_are_taken() {
    let aggregator = Aggregator::new(Settings {
        max_scaler_connections_per_address: 2,
        ..Settings::default()
    });
    let rig = Rig::serve(aggregator, Acceptor::plaintext(), Acceptor::plaintext()).await;
    rig.aggregator.apply(MembershipEvent::Synced);
    let from = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        socket.connect(rig.scaler).await.unwrap()
    };
    let (_first, _second, mut third) = (from().await, from().await, from().await);
    within(third.read(&mut [0])).await.ok();
    let count = rig.metric("scaler_connections_refused_total{reason=\"address\"}");
    assert_eq!(count, 1);
    assert!(Keda::default().is_answered(&rig).await);
}

#[tokio::test]
async fn reporters_are_taken_over_tls_only_where_it_is_required() {
    let (ours, other) = (authority(), authority());
    let reports = acceptor(resolver(&ours), None, &[], true).unwrap();
    let aggregator = Aggregator::new(Settings::default());
    let rig = Rig::serve(aggregator, reports, Acceptor::plaintext()).await;
    rig.aggregator.apply(pod("a"));
    rig.aggregator.apply(MembershipEvent::Synced);
    assert!(!Reporter::is_taken(&rig, hello(Role::Sidecar, "a")).await);
    let refused = async || rig.metric("connections_refused_total{reason=\"handshake\"}");
    eventually(refused, |count| *count == 1).await;

    let stream = async || TcpStream::connect(rig.ingest).await.unwrap();
    let trust = |authority: &Authority| Trust::from_pem(authority.certificate_pem()).unwrap();
    let deceived = trust(&other).connect(NAME, stream().await).await;
    assert!(deceived.is_err());
    eventually(refused, |count| *count == 2).await;
    let secured = trust(&ours).connect(NAME, stream().await).await.unwrap();
    let mut reporter = Reporter::over(secured);
    reporter.begin(hello(Role::Sidecar, "a")).await;
    reporter.report(3, 3).await;
    eventually(async || rig.in_flight(), |count| *count == 3).await;
}
