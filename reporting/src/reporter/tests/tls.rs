//! Reports over TLS, to aggregators that are who they should be and to others, with certificates as the control plane
//! makes them.

use jiff::Timestamp;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use stillwake_certs::{
    authority::Authority,
    leaf::{LeafRequest, Purpose},
};
use stillwake_runtime::tls::{Trust, provider};

use super::*;

const HOST: &str = "reports.system.svc.test";
const DAY: Duration = Duration::from_hours(24);

fn authority() -> Authority {
    Authority::create(DAY, Timestamp::now()).unwrap()
}

/// Returns an aggregator that proves to be `host` by a leaf of `authority` and by `more` certificates behind it.
async fn aggregator(
    authority: &Authority,
    host: &str,
    more: &[CertificateDer<'static>],
) -> Aggregator {
    let request = LeafRequest::new([host.to_owned()], Purpose::Server, DAY).unwrap();
    let leaf = authority.issue(&request, Timestamp::now()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert([leaf.chain(), more].concat(), leaf.key())
        .unwrap();
    Aggregator {
        acceptor: Acceptor::tls(Arc::new(server), true),
        ..Aggregator::start().await
    }
}

/// Begins to report to `aggregator` by the name that it should have, trusting `authorities`.
fn start(aggregator: &Aggregator, authorities: &[&Authority]) -> Running {
    let address = aggregator.address;
    let bundle: String = authorities
        .iter()
        .map(|one| one.certificate_pem())
        .collect();
    let mut config = config(&[]);
    // With a last dot, as whoever spares the search list writes it.
    config.aggregators = vec![format!("{HOST}.:{}", address.port())];
    config.trust = Some(Trust::from_pem(&bundle).unwrap());
    Running::start(config, move |reporter| {
        reporter.lookup = Box::new(move |_| Box::pin(async move { Ok(vec![address]) }));
    })
}

#[tokio::test]
async fn an_aggregator_of_any_authority_in_the_bundle_is_told_to_the_end() {
    let (other, ours) = (authority(), authority());
    let aggregator = aggregator(&ours, HOST, &[]).await;
    let running = start(&aggregator, &[&other, &ours]);
    let mut connection = aggregator.connection().await;
    assert_eq!(connection.report().await, (2, true));
    running.source.edge(3);
    connection.until(3).await;
    running.source.set(8);
    let heard = async move {
        connection.until(8).await;
        assert_eq!(next(&mut connection.frames).await, None);
    };
    tokio::join!(running.stop(), heard);
}

#[tokio::test]
async fn a_new_authority_is_trusted_for_its_link_to_the_old_one() {
    let old = authority();
    let (new, link) = old.succeed(DAY, Timestamp::now()).unwrap();
    let link = CertificateDer::from_pem_slice(link.as_bytes()).unwrap();
    let aggregator = aggregator(&new, HOST, &[link]).await;
    for authorities in [[&old], [&new]] {
        let running = start(&aggregator, &authorities);
        assert_eq!(aggregator.connection().await.report().await, (2, true));
        running.stop().await;
    }
}

#[tokio::test]
async fn an_aggregator_that_cannot_prove_who_it_is_is_told_nothing() {
    let (ours, theirs) = (authority(), authority());
    for (aggregator, why) in [
        (
            aggregator(&theirs, HOST, &[]).await,
            "no authority that is trusted",
        ),
        (
            aggregator(&ours, "elsewhere.test", &[]).await,
            "elsewhere.test",
        ),
    ] {
        let running = start(&aggregator, &[&ours]);
        // Twice: the second attempt is no more credulous.
        for _ in 0..2 {
            aggregator.accept().await.unwrap_err();
        }
        running
            .status_becomes(|status| {
                let error = status.addresses()[0].last_error.clone();
                error.is_some_and(|error| error.contains(HOST) && error.contains(why))
            })
            .await;
        let totals = running.status.totals();
        assert_eq!((totals.connections, totals.reports), (0, 0));
        running.stop().await;
    }
}

#[tokio::test]
async fn an_aggregator_without_tls_is_told_nothing() {
    let aggregator = Aggregator::start().await;
    let running = start(&aggregator, &[&authority()]);
    let error = aggregator.accept().await.unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    running
        .status_becomes(|status| status.totals().failures > 0)
        .await;
    assert_eq!(running.status.totals().connections, 0);
    running.stop().await;
}
